// SPDX-License-Identifier: GPL-2.0
//! MSG_REPORT_REQ: attestation reports (SNP-ABI, "Attestation").
//!
//! The request has 64 bytes of REPORT_DATA, at 0x40 the VMPL, at 0x44 in bits 1:0 KEY_SEL.

use super::{
    firmware::{key_for, number, Endorsement, Signers},
    generation::Generation,
    guest::Guest,
};
use crate::{
    crypto::{put_le, Hash},
    firmware::Status,
    model::Version,
};

/// Length in bytes of the request.
pub(super) const REQUEST_LEN: usize = 0x60;
/// Length in bytes of a report.
pub(super) const LEN: usize = 0x4a0;
/// Length in bytes of what is signed.
const SIGNED_LEN: usize = 0x2a0;
/// Length in bytes of each half of the signature.
const HALF_LEN: usize = 72;
/// SIGNATURE_ALGO: ECDSA on P-384 over SHA-384.
const ECDSA_P384_SHA384: u32 = 1;

/// What the chip says of itself in reports.
pub(super) struct Platform<'a> {
    pub(super) generation: &'a Generation,
    pub(super) version: Version,
    pub(super) chip_id: [u8; 64],
}

/// A signed report.
///
/// # Errors
///
/// `INVALID_PARAM` and `INVALID_KEY`, as the firmware's.
pub(super) fn make(
    request: &[u8; REQUEST_LEN],
    vmpck: u8,
    guest: &Guest,
    platform: &Platform<'_>,
    signers: &Signers,
) -> Result<[u8; LEN], Status> {
    let vmpl = u32::from_le_bytes(number(request, 0x40));
    let select = u32::from_le_bytes(number(request, 0x44));
    if select >> 2 != 0 || request[0x48..].iter().any(|&byte| byte != 0) {
        return Err(Status::INVALID_PARAM);
    }
    let signer = key_for(signers, select & 3)?;
    if vmpl < vmpck.into() || vmpl > 3 {
        return Err(Status::INVALID_PARAM);
    }
    let tcb = platform.generation.tcb.to_bytes();
    let Version {
        major,
        minor,
        build,
    } = platform.version;
    let signing_key: u32 = match signer.endorsement {
        Endorsement::Vcek => 0,
        Endorsement::Vlek => 1,
    };

    let mut report = [0; LEN];
    let mut put = |at: usize, bytes: &[u8]| report[at..][..bytes.len()].copy_from_slice(bytes);
    put(0x000, &platform.generation.report_version.to_le_bytes());
    put(0x004, &guest.guest_svn.to_le_bytes());
    put(0x008, &guest.policy.to_le_bytes());
    put(0x010, &guest.family_id);
    put(0x020, &guest.image_id);
    put(0x030, &vmpl.to_le_bytes());
    put(0x034, &ECDSA_P384_SHA384.to_le_bytes());
    put(0x038, &tcb); // CURRENT_TCB
    put(0x040, &1u64.to_le_bytes()); // PLATFORM_INFO: SMT is on
    put(0x048, &(signing_key << 2).to_le_bytes());
    put(0x050, &request[..0x40]);
    put(0x090, &guest.measurement);
    put(0x0c0, &guest.host_data);
    put(0x140, &guest.report_id);
    put(0x160, &[0xff; 32]); // REPORT_ID_MA: no migration agent
    put(0x180, &tcb); // REPORTED_TCB
    if platform.generation.report_version >= 3 {
        put(0x188, &platform.generation.cpuid);
    }
    put(0x1a0, &platform.chip_id);
    put(0x1e0, &tcb); // COMMITTED_TCB
    put(0x1e8, &[build, minor, major]); // CURRENT
    put(0x1ec, &[build, minor, major]); // COMMITTED
    put(0x1f0, &tcb); // LAUNCH_TCB

    let signature = signer.key.sign(Hash::Sha384, &report[..SIGNED_LEN]);
    put_le(&mut report[SIGNED_LEN..][..HALF_LEN], &signature.r);
    put_le(
        &mut report[SIGNED_LEN + HALF_LEN..][..HALF_LEN],
        &signature.s,
    );
    Ok(report)
}
