// SPDX-License-Identifier: GPL-2.0

//! The attestation report (`SNP-ABI` 7.3, table "ATTESTATION_REPORT").

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a report.
pub const REPORT_LEN: usize = 0x4a0;

/// Bytes that the signature covers.
pub const REPORT_SIGNED_LEN: usize = 0x2a0;

/// A TCB version, as its eight bytes lie: which security version each part of the firmware has.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct TcbVersion(pub [u8; 8]);

/// What a [`TcbVersion`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcbParts {
    /// Of the firmware of the trusted memory region; from Turin on.
    pub fmc: Option<u8>,
    /// Of the boot loader.
    pub boot_loader: u8,
    /// Of the PSP's operating system.
    pub tee: u8,
    /// Of the SNP firmware.
    pub snp: u8,
    /// Of the microcode.
    pub microcode: u8,
}

impl TcbVersion {
    /// Taken apart; from family 0x1a on (Turin) the order is another.
    pub const fn parts(self, family: u8) -> TcbParts {
        let [a, b, c, d, _, _, snp, microcode] = self.0;
        if family >= 0x1a {
            TcbParts {
                fmc: Some(a),
                boot_loader: b,
                tee: c,
                snp: d,
                microcode,
            }
        } else {
            TcbParts {
                fmc: None,
                boot_loader: a,
                tee: b,
                snp,
                microcode,
            }
        }
    }
}

/// An attestation report, byte for byte.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AttestationReport {
    /// Version of this layout: 2 to 5.
    pub version: U32,
    /// The guest's SVN, from its identity block.
    pub guest_svn: U32,
    /// The guest policy.
    pub policy: U64,
    /// Family id, from the identity block.
    pub family_id: [u8; 16],
    /// Image id, from the identity block.
    pub image_id: [u8; 16],
    /// The VMPL that was asked for.
    pub vmpl: U32,
    /// 1: ECDSA on P-384 with SHA-384.
    pub signature_algo: U32,
    /// The TCB version that runs.
    pub current_tcb: TcbVersion,
    /// Properties of the platform, one per bit: SMT, TSME, ECC and so on.
    pub platform_info: U64,
    /// Bit 0: an author key is there. Bit 1: chip id is masked. Bits 4:2: who signed, 0 VCEK, 1 VLEK, 7
    /// nobody.
    pub key_info: U32,
    reserved: U32,
    /// What the request said.
    pub report_data: [u8; 64],
    /// Measurement of what the guest started with.
    pub measurement: [u8; 48],
    /// What the host said at launch.
    pub host_data: [u8; 32],
    /// Digest of the key that signed the identity block.
    pub id_key_digest: [u8; 48],
    /// Digest of the key that signed the former.
    pub author_key_digest: [u8; 48],
    /// Identifies the guest for its lifetime.
    pub report_id: [u8; 32],
    /// That of its migration agent.
    pub report_id_ma: [u8; 32],
    /// The TCB version that the signing key is made for.
    pub reported_tcb: TcbVersion,
    /// CPUID family; from version 3 on, as the next two.
    pub cpuid_family: u8,
    /// CPUID model.
    pub cpuid_model: u8,
    /// CPUID stepping.
    pub cpuid_stepping: u8,
    reserved2: [u8; 21],
    /// Identifies the chip; zero if masked.
    pub chip_id: [u8; 64],
    /// The TCB version that the firmware never goes back behind.
    pub committed_tcb: TcbVersion,
    /// Firmware that runs: build, minor, major, and a reserved byte.
    pub current_version: [u8; 4],
    /// Firmware that is committed: build, minor, major, and a reserved byte.
    pub committed_version: [u8; 4],
    /// The TCB version when the guest was launched.
    pub launch_tcb: TcbVersion,
    reserved3: [u8; 168],
    /// R of the signature, little-endian.
    pub r: [u8; 72],
    /// S of the signature, little-endian.
    pub s: [u8; 72],
    reserved4: [u8; 368],
}

const _: () = {
    assert!(size_of::<AttestationReport>() == REPORT_LEN);
    assert!(offset_of!(AttestationReport, policy) == 0x08);
    assert!(offset_of!(AttestationReport, family_id) == 0x10);
    assert!(offset_of!(AttestationReport, image_id) == 0x20);
    assert!(offset_of!(AttestationReport, vmpl) == 0x30);
    assert!(offset_of!(AttestationReport, signature_algo) == 0x34);
    assert!(offset_of!(AttestationReport, current_tcb) == 0x38);
    assert!(offset_of!(AttestationReport, platform_info) == 0x40);
    assert!(offset_of!(AttestationReport, key_info) == 0x48);
    assert!(offset_of!(AttestationReport, report_data) == 0x50);
    assert!(offset_of!(AttestationReport, measurement) == 0x90);
    assert!(offset_of!(AttestationReport, host_data) == 0xc0);
    assert!(offset_of!(AttestationReport, id_key_digest) == 0xe0);
    assert!(offset_of!(AttestationReport, author_key_digest) == 0x110);
    assert!(offset_of!(AttestationReport, report_id) == 0x140);
    assert!(offset_of!(AttestationReport, report_id_ma) == 0x160);
    assert!(offset_of!(AttestationReport, reported_tcb) == 0x180);
    assert!(offset_of!(AttestationReport, cpuid_family) == 0x188);
    assert!(offset_of!(AttestationReport, chip_id) == 0x1a0);
    assert!(offset_of!(AttestationReport, committed_tcb) == 0x1e0);
    assert!(offset_of!(AttestationReport, current_version) == 0x1e8);
    assert!(offset_of!(AttestationReport, committed_version) == 0x1ec);
    assert!(offset_of!(AttestationReport, launch_tcb) == 0x1f0);
    assert!(offset_of!(AttestationReport, r) == REPORT_SIGNED_LEN);
    assert!(offset_of!(AttestationReport, s) == 0x2e8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turin_has_the_parts_of_its_tcb_in_another_order() {
        let tcb = TcbVersion([1, 2, 3, 4, 5, 6, 7, 8]);
        let milan = tcb.parts(0x19);
        assert_eq!((milan.fmc, milan.boot_loader, milan.tee), (None, 1, 2));
        assert_eq!((milan.snp, milan.microcode), (7, 8));
        let turin = tcb.parts(0x1a);
        assert_eq!((turin.fmc, turin.boot_loader, turin.tee), (Some(1), 2, 3));
        assert_eq!((turin.snp, turin.microcode), (4, 8));
    }
}
