// SPDX-License-Identifier: GPL-2.0
//! What the firmware knows of the guest, and what the guest is given of it.

use super::generation::Generation;
use crate::crypto::{new_key, Random};
use sha2::{Digest, Sha384};
use zeroize::Zeroizing;

/// Length in bytes of a page.
pub const PAGE_LEN: usize = 4096;
/// Length in bytes of a VMPCK.
pub const VMPCK_LEN: usize = 32;

/// Version of the secrets page.
const SECRETS_VERSION: u32 = 3;
/// Offsets in the secrets page (SNP-ABI, "Secrets Page Format").
const SECRETS_SIGNATURE: usize = 0x08;
const SECRETS_VMPCKS: usize = 0x20;
const SECRETS_TSC_FACTOR: usize = 0x160;

/// Guest policy: SMT allowed, and a bit that is always one.
const POLICY: u64 = 1 << 16 | 1 << 17;

/// One guest, from its launch on.
pub struct Guest {
    pub(super) vmpcks: [Zeroizing<[u8; VMPCK_LEN]>; 4],
    /// Number of the last message under each key.
    pub(super) counters: [u64; 4],
    /// The VM root key.
    pub(super) vmrk: Zeroizing<[u8; 32]>,
    pub(super) report_id: [u8; 32],
    pub(super) measurement: [u8; 48],
    pub(super) policy: u64,
    /// What the identity block says: there is none.
    pub(super) guest_svn: u32,
    pub(super) family_id: [u8; 16],
    pub(super) image_id: [u8; 16],
    pub(super) host_data: [u8; 32],
}

impl Guest {
    /// A guest that is launched now.
    ///
    /// What it was launched from is not known to the emulator, so the measurement is always the same.
    #[must_use]
    pub fn launch(random: &mut dyn Random) -> Self {
        let mut report_id = [0; 32];
        random.fill_bytes(&mut report_id);
        Self {
            vmpcks: std::array::from_fn(|_| new_key(random)),
            counters: [0; 4],
            vmrk: new_key(random),
            report_id,
            measurement: Sha384::digest("psp-emu: nobody has measured this guest").into(),
            policy: POLICY,
            guest_svn: 0,
            family_id: [0; 16],
            image_id: [0; 16],
            host_data: *b"psp-emu: emulated, not by AMD\0\0\0",
        }
    }

    /// The page in which the guest finds its keys.
    #[must_use]
    pub fn secrets_page(&self, generation: &Generation) -> Zeroizing<[u8; PAGE_LEN]> {
        let mut page = Zeroizing::new([0; PAGE_LEN]);
        page[..4].copy_from_slice(&SECRETS_VERSION.to_le_bytes());
        page[SECRETS_SIGNATURE..][..4].copy_from_slice(&generation.signature.to_le_bytes());
        for (at, key) in (SECRETS_VMPCKS..).step_by(VMPCK_LEN).zip(&self.vmpcks) {
            page[at..][..VMPCK_LEN].copy_from_slice(&key[..]);
        }
        page[SECRETS_TSC_FACTOR..][..4].copy_from_slice(&generation.tsc_factor.to_le_bytes());
        page
    }
}
