// SPDX-License-Identifier: GPL-2.0
//! ATTESTATION (SEV-API, table "Attestation Report").
//!
//! ```text
//! 0x00   16  MNONCE of the request
//! 0x10   32  launch digest
//! 0x30    4  policy
//! 0x34    4  usage of the key that signs: PEK
//! 0x38    4  its algorithm
//! 0x3c    4  reserved
//! 0x40  144  signature over all before 0x34: r and s of ECDSA, 72 bytes each, little-endian
//! ```

use super::{command::CommandBuffer, guest::Phase, Done, Firmware, Status};
use crate::{
    cert::{sev::put_signature, Algo, Usage},
    memory::GuestMemory,
};

/// Offsets in the command buffer.
mod at {
    pub(super) const HANDLE: usize = 0x0;
    pub(super) const PADDR: usize = 0x8;
    pub(super) const MNONCE: usize = 0x10;
    pub(super) const LENGTH: usize = 0x20;
}

const SIGNED_LEN: usize = 0x34;
const SIGNATURE: usize = 0x40;
/// Length of a report in bytes.
const LEN: usize = 0xd0;

/// ATTESTATION (0x036): what the guest was launched from, signed by the platform. From LAUNCH_MEASURE on, not
/// in a guest that is being received.
pub(super) fn attestation(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let session = fw.session()?;
    let guest = session.guest(buffer.u32(at::HANDLE))?;
    if matches!(
        guest.phase,
        Phase::LaunchUpdate { .. } | Phase::ReceiveUpdate { .. }
    ) {
        return Err(Status::INVALID_GUEST_STATE);
    }
    buffer.offer(at::LENGTH, LEN)?;
    let mut report = Vec::with_capacity(LEN);
    report.extend_from_slice(&buffer.array::<16>(at::MNONCE));
    report.extend_from_slice(&guest.launch_digest);
    report.extend_from_slice(&guest.policy.0.to_le_bytes());
    debug_assert_eq!(report.len(), SIGNED_LEN);
    let algo = Algo::ECDSA_SHA256;
    let signature = session.identity.pek().sign(algo.hash, &report);
    report.extend_from_slice(&Usage::Pek.code().to_le_bytes());
    report.extend_from_slice(&algo.code().to_le_bytes());
    report.resize(LEN, 0);
    put_signature(&mut report[SIGNATURE..], &signature);
    Ok(memory.write(buffer.address(at::PADDR), &report)?)
}
