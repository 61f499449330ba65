// SPDX-License-Identifier: GPL-2.0

//! What protects this VM: asked of the processor once, when the module is loaded.

use kernel::{
    prelude::*,
    sync::SetOnce, //
};
use memenc::status::{
    Contradiction,
    EncryptionLeaf,
    Protection,
    SevStatus,
    MSR_SEV_STATUS, //
};

use crate::ffi;

/// What the processor said, or the host in its place.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// SEV_STATUS; zero if there is no such register.
    pub(crate) status: SevStatus,
    /// What follows, unless it makes no sense.
    pub(crate) protection: Result<Protection, Contradiction>,
    /// The privilege level of a SEV-SNP guest.
    pub(crate) vmpl: Option<u8>,
}

static FACTS: SetOnce<Facts> = SetOnce::new();

/// Asks the processor, and tells the log.
pub(crate) fn find_out() {
    let leaf =
        ffi::encryption_leaf().map(|[eax, ebx, ecx, edx]| EncryptionLeaf { eax, ebx, ecx, edx });
    // Without the leaf there is no such register. With it there may be none all the same, on
    // emulated processors.
    let status = leaf.and_then(|_| ffi::read_msr(MSR_SEV_STATUS).ok());
    let status = SevStatus::from_raw(status.unwrap_or(0));
    let snp = status.contains(SevStatus::SEV_SNP);
    let facts = Facts {
        status,
        protection: Protection::new(leaf, status),
        vmpl: snp.then(ffi::vmpl),
    };
    tell(&facts);
    FACTS.populate(facts);
}

/// What [`find_out`] found.
pub(crate) fn facts() -> Option<&'static Facts> {
    FACTS.as_ref()
}

fn tell(facts: &Facts) {
    match facts.protection {
        Ok(Protection::None) if ffi::memory_is_encrypted() => {
            pr_info!("not a SEV guest, but another kind of confidential VM\n")
        }
        Ok(Protection::None) => pr_info!("not a SEV guest: nothing is encrypted\n"),
        Ok(protection) => {
            pr_info!(
                "{} (SEV_STATUS {:#x}: {})\n",
                core::format_args!("{protection}"),
                facts.status.raw(),
                core::format_args!("{}", facts.status.bits())
            );
            if !ffi::memory_is_encrypted() {
                pr_err!("the kernel does not know of this encryption, and shares everything\n");
            }
        }
        Err(contradiction) => pr_err!(
            "cannot tell what protects this VM: {}\n",
            core::format_args!("{contradiction}")
        ),
    }
}
