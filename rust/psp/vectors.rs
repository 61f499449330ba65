// SPDX-License-Identifier: GPL-2.0

//! Golden bytes, written down by hand from the specification.
//!
//! Whoever builds and reads messages with the same types never notices a wrong offset. These vectors
//! do, as do a C program against the kernel's headers and an emulator with definitions of its own.
//! [`check_all`] runs under cargo and, with the kernel's compiler flags, as a KUnit case.

use zerocopy::{FromBytes, IntoBytes};

use crate::cert::{Algorithm, EcPublicKey, SevCert, Usage, CURVE_P384};
use crate::cmd::platform::{FwVersion, STATUS_FLAG_ES, STATUS_FLAG_OWNED};
use crate::cmd::platform::{
    GetId, Init, InitEx, PdhCertExport, PdhLens, PekCertImport, PekCsr, PlatformStatus, Status,
};
use crate::cmd::{CmdId, Command};
use crate::cmdresp::CmdResp;
use crate::guest_msg;
use crate::platform::PlatformState;
use crate::status::FwStatus;
use crate::uapi::{Blob, IssueCmd, TwoBlobs};

/// A vector that did not match: its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch(pub &'static str);

pub(crate) fn expect(name: &'static str, holds: bool) -> Result<(), Mismatch> {
    if holds {
        Ok(())
    } else {
        Err(Mismatch(name))
    }
}

/// Checks every vector.
///
/// # Errors
///
/// The first that does not match.
pub fn check_all() -> Result<(), Mismatch> {
    mailbox()?;
    init()?;
    status()?;
    buffers()?;
    certificate()?;
    uapi()?;
    guest_msg::vectors::check()
}

fn mailbox() -> Result<(), Mismatch> {
    // Bit 0 IOC, bits 26:16 command; bit 31 response, bits 15:0 status.
    let cmd = CmdResp::command(CmdId::PlatformStatus, true);
    expect("CMDRESP command", cmd.raw() == 0x0004_0001)?;
    let cmd = CmdResp::command(CmdId::InitEx, false);
    expect("CMDRESP command without IOC", cmd.raw() == 0x000d_0000)?;
    let response = CmdResp::from_raw(0x8004_0018);
    expect(
        "CMDRESP response",
        response.status() == Some(FwStatus::SECURE_DATA_INVALID),
    )
}

fn init() -> Result<(), Mismatch> {
    #[rustfmt::skip]
    let bytes: [u8; 20] = [
        0x01, 0, 0, 0,                         // 0x00 ES
        0, 0, 0, 0,                            // 0x04 reserved
        0x00, 0x00, 0x50, 0x34, 0x12, 0, 0, 0, // 0x08 TMR_PADDR
        0x00, 0x00, 0x10, 0x00,                // 0x10 TMR_LENGTH
    ];
    expect(
        "INIT",
        Init::new(Some(0x12_3450_0000)).as_bytes() == bytes.as_slice(),
    )?;
    expect("INIT without ES", Init::new(None).as_bytes() == [0; 20])?;

    #[rustfmt::skip]
    let bytes: [u8; 36] = [
        36, 0, 0, 0,                           // 0x00 LENGTH
        0x01, 0, 0, 0,                         // 0x04 ES
        0x00, 0x00, 0x50, 0x34, 0x12, 0, 0, 0, // 0x08 TMR_PADDR
        0x00, 0x00, 0x10, 0x00,                // 0x10 TMR_LENGTH
        0, 0, 0, 0,                            // 0x14 reserved
        0x00, 0x80, 0x00, 0x00, 0, 0, 0, 0x08, // 0x18 NV_PADDR
        0x00, 0x80, 0x00, 0x00,                // 0x20 NV_LENGTH
    ];
    let cmd = InitEx::new(Some(0x12_3450_0000), 0x0800_0000_0000_8000);
    expect("INIT_EX", cmd.as_bytes() == bytes.as_slice())
}

fn status() -> Result<(), Mismatch> {
    #[rustfmt::skip]
    let bytes: [u8; 12] = [
        1, 55, 2,               // 0x00 API_MAJOR, API_MINOR, STATE
        0x01, 0x01, 0x00, 0x00, // 0x03 OWNER, 0x04 CONFIG.ES
        42,                     // 0x07 BUILD
        7, 1, 0, 0,             // 0x08 GUEST_COUNT
    ];
    let Ok(raw) = PlatformStatus::read_from_bytes(&bytes) else {
        return Err(Mismatch("PLATFORM_STATUS length"));
    };
    expect(
        "PLATFORM_STATUS flags",
        raw.flags.get() == STATUS_FLAG_OWNED | STATUS_FLAG_ES,
    )?;
    let want = Status {
        version: FwVersion {
            major: 1,
            minor: 55,
            build: 42,
        },
        state: PlatformState::Working,
        owned: true,
        es: true,
        guest_count: 263,
    };
    expect("PLATFORM_STATUS", raw.reply(&raw) == Ok(want))
}

fn buffers() -> Result<(), Mismatch> {
    #[rustfmt::skip]
    let one: [u8; 12] = [
        0x00, 0x10, 0x00, 0x00, 0, 0, 0, 0x08, // 0x00 PADDR with C-bit 59
        0x24, 0x08, 0x00, 0x00,                // 0x08 LENGTH 2084
    ];
    let (paddr, len) = (0x0800_0000_0000_1000, 2084);
    expect(
        "PEK_CSR",
        PekCsr::new(paddr, len).as_bytes() == one.as_slice(),
    )?;
    expect(
        "GET_ID",
        GetId::new(paddr, len).as_bytes() == one.as_slice(),
    )?;

    #[rustfmt::skip]
    let two: [u8; 28] = [
        0x00, 0x10, 0x00, 0x00, 0, 0, 0, 0x08, // 0x00 first PADDR
        0x24, 0x08, 0x00, 0x00,                // 0x08 first LENGTH
        0, 0, 0, 0,                            // 0x0c reserved
        0x00, 0x20, 0x00, 0x00, 0, 0, 0, 0x08, // 0x10 second PADDR
        0x6c, 0x18, 0x00, 0x00,                // 0x18 second LENGTH 6252
    ];
    let second = (0x0800_0000_0000_2000, 6252);
    let import = PekCertImport::new((paddr, len), second);
    expect("PEK_CERT_IMPORT", import.as_bytes() == two.as_slice())?;
    let export = PdhCertExport::new((paddr, len), second);
    expect("PDH_CERT_EXPORT", export.as_bytes() == two.as_slice())?;
    let lens = PdhLens {
        pdh: 2084,
        chain: 6252,
    };
    expect("PDH_CERT_EXPORT reply", export.reply(&export) == Ok(lens))
}

fn certificate() -> Result<(), Mismatch> {
    let key = EcPublicKey::new(CURVE_P384, [0xaa; 72], [0xbb; 72]);
    let cert = SevCert::unsigned((1, 55), Usage::PDH, Algorithm::ECDH_SHA256, key);
    let bytes = cert.as_bytes();
    #[rustfmt::skip]
    let front: [u8; 20] = [
        1, 0, 0, 0,             // 0x00 VERSION
        1, 55, 0, 0,            // 0x04 API_MAJOR, API_MINOR, reserved
        0x03, 0x10, 0x00, 0x00, // 0x08 PUBKEY_USAGE PDH
        0x03, 0x00, 0x00, 0x00, // 0x0c PUBKEY_ALGO ECDH-SHA256
        2, 0, 0, 0,             // 0x10 CURVE P-384
    ];
    expect("SEV certificate front", bytes[..20] == front)?;
    expect("SEV certificate QX", bytes[0x14..0x5c] == [0xaa; 72])?;
    expect("SEV certificate QY", bytes[0x5c..0xa4] == [0xbb; 72])?;
    expect("SEV certificate padding", bytes[0xa4..0x414] == [0; 0x370])?;
    // Unused slots say "no key", 0x1000, and algorithm 0.
    let none = [0x00, 0x10, 0, 0, 0, 0, 0, 0];
    expect("SEV certificate SIG1", bytes[0x414..0x41c] == none)?;
    expect("SEV certificate SIG2", bytes[0x61c..0x624] == none)?;
    expect("SEV certificate length", bytes.len() == 0x824)
}

fn uapi() -> Result<(), Mismatch> {
    #[rustfmt::skip]
    let issue: [u8; 16] = [
        3, 0, 0, 0,                                     // 0 cmd
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // 4 data
        0xff, 0xff, 0xff, 0xff,                         // 12 error
    ];
    let Ok(cmd) = IssueCmd::read_from_bytes(&issue) else {
        return Err(Mismatch("sev_issue_cmd length"));
    };
    expect(
        "sev_issue_cmd",
        cmd.cmd.get() == 3
            && cmd.data.get() == 0x1122_3344_5566_7788
            && cmd.error.get() == crate::uapi::NO_FW_CALL,
    )?;
    let blob = Blob {
        address: 0x1000.into(),
        length: 2084.into(),
    };
    let two = TwoBlobs {
        first: blob,
        second: blob,
    };
    #[rustfmt::skip]
    let bytes: [u8; 24] = [
        0, 0x10, 0, 0, 0, 0, 0, 0, 0x24, 0x08, 0, 0, // 0 first address, 8 first length
        0, 0x10, 0, 0, 0, 0, 0, 0, 0x24, 0x08, 0, 0, // 12 second address, 20 second length
    ];
    expect("pdh_cert_export", two.as_bytes() == bytes.as_slice())
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_vectors_match() {
        assert_eq!(super::check_all(), Ok(()));
    }
}
