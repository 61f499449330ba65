// SPDX-License-Identifier: GPL-2.0
//! VMSAs, the register state of SEV-ES guests, and their checksums in the TMR.
//!
//! When the firmware takes a VMSA it writes the address of the VMSA's checksum into it. On hardware the
//! processor keeps the checksum up to date whenever the guest exits; nothing here does, so that a VMSA
//! is checked only as long as no CPU can change it: while private memory is encrypted.

use super::{platform::Tmr, Done, Status};
use sha2::{Digest, Sha256};

/// Length of a VMSA in bytes.
pub(super) const LEN: usize = 4096;
/// Reserved, zeroed by the firmware.
const RESERVED: std::ops::Range<usize> = 0x380..0x388;
/// Address of the checksum.
const CHECKSUM_PADDR: std::ops::Range<usize> = 0x388..0x390;
/// What the checksum covers.
const CHECKED: std::ops::Range<usize> = 0..0xfc0;

/// Length of a checksum's place in the TMR in bytes.
const SLOT_LEN: u64 = 64;

/// The places for checksums: the second half of the TMR, which only the firmware can access. The checksums
/// themselves are with the guests.
pub(super) struct ChecksumPool {
    free: Vec<u64>,
}

impl ChecksumPool {
    /// All places of a TMR; none without SEV-ES.
    pub(super) fn new(tmr: Option<Tmr>) -> Self {
        let half = |tmr: Tmr| {
            let places = tmr.second_half();
            let mut free: Vec<u64> = places.step_by(SLOT_LEN as usize).collect();
            free.reverse();
            free
        };
        Self {
            free: tmr.map(half).unwrap_or_default(),
        }
    }

    /// Whether no place is left.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes back the places of a guest that is gone.
    pub(super) fn release(&mut self, vmsas: Vmsas) {
        self.free.extend(vmsas.0.iter().map(|vmsa| vmsa.addr));
    }
}

/// A VMSA the firmware has taken.
struct Vmsa {
    /// Of the checksum.
    addr: u64,
    checksum: [u8; 32],
}

/// The VMSAs of one guest.
#[derive(Default)]
pub(super) struct Vmsas(Vec<Vmsa>);

impl Vmsas {
    /// Takes a VMSA: notes its checksum, and the address of that in the VMSA.
    ///
    /// # Errors
    ///
    /// RESOURCE_LIMIT when the TMR has no place left; INVALID_LEN when it is not one page.
    pub(super) fn take(&mut self, vmsa: &mut [u8], pool: &mut ChecksumPool) -> Done {
        if vmsa.len() != LEN {
            return Err(Status::INVALID_LEN);
        }
        let addr = pool.free.pop().ok_or(Status::RESOURCE_LIMIT)?;
        vmsa[RESERVED].fill(0);
        vmsa[CHECKSUM_PADDR].copy_from_slice(&addr.to_le_bytes());
        let checksum = Sha256::digest(&vmsa[CHECKED]).into();
        self.0.push(Vmsa { addr, checksum });
        Ok(())
    }

    /// Checks that a page holds one of the VMSAs, unchanged if `checked`.
    ///
    /// # Errors
    ///
    /// INVALID_LEN, INVALID_ADDRESS or BAD_MEASUREMENT.
    pub(super) fn check(&self, page: &[u8], checked: bool) -> Done {
        if page.len() != LEN {
            return Err(Status::INVALID_LEN);
        }
        let known = self
            .0
            .iter()
            .find(|vmsa| page[CHECKSUM_PADDR] == vmsa.addr.to_le_bytes());
        let vmsa = known.ok_or(Status::INVALID_ADDRESS)?;
        if checked && vmsa.checksum[..] != Sha256::digest(&page[CHECKED])[..] {
            return Err(Status::BAD_MEASUREMENT);
        }
        Ok(())
    }
}
