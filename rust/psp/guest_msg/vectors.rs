// SPDX-License-Identifier: GPL-2.0

//! Golden bytes of guest messages; see [`vectors`](crate::vectors).

use core::mem::offset_of;

use zerocopy::{FromBytes, IntoBytes};

use super::uapi::{ExtReportReq, GuestCall};
use super::wire::iv;
use super::{Header, KeyRequest, MsgType, ReportRequest, SecretsPage, VmpckId};
use crate::vectors::{expect, Mismatch};

/// Checks every vector of guest messages.
pub(crate) fn check() -> Result<(), Mismatch> {
    header()?;
    requests()?;
    secrets()?;
    uapi()
}

fn header() -> Result<(), Mismatch> {
    #[rustfmt::skip]
    let bytes: [u8; 96] = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 0x00 AUTHTAG
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0,             // 0x20 MSG_SEQNO
        0, 0, 0, 0, 0, 0, 0, 0,                         // 0x28 reserved
        1, 1, 0x60, 0x00,                               // 0x30 ALGO, HDR_VERSION, HDR_SIZE
        5, 1, 0x60, 0x00,                               // 0x34 MSG_TYPE, MSG_VERSION, MSG_SIZE
        0, 0, 0, 0,                                     // 0x38 reserved
        2, 0, 0, 0,                                     // 0x3c MSG_VMPCK, reserved
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 0x40 reserved
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let header = Header::request(0x0102_0304, MsgType::REPORT_REQ, 1, 96, 2);
    expect(
        "guest message header",
        header.as_bytes() == bytes.as_slice(),
    )?;
    expect("guest message AAD", header.aad() == bytes[0x30..])?;
    let want = [4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    expect("guest message IV", iv(0x0102_0304) == want)
}

fn requests() -> Result<(), Mismatch> {
    let mut bytes = [0xaa; 96];
    bytes[64..].fill(0);
    bytes[64] = 3; // 0x40 VMPL
    let request = ReportRequest::new([0xaa; 64], 3);
    expect("MSG_REPORT_REQ", request.as_bytes() == bytes.as_slice())?;

    #[rustfmt::skip]
    let bytes: [u8; 32] = [
        1, 0, 0, 0, 0, 0, 0, 0,    // 0x00 ROOT_KEY_SELECT, reserved
        0x3f, 0, 0, 0, 0, 0, 0, 0, // 0x08 GUEST_FIELD_SELECT
        2, 0, 0, 0,                // 0x10 VMPL
        4, 3, 2, 1,                // 0x14 GUEST_SVN
        8, 7, 6, 5, 4, 3, 2, 1,    // 0x18 TCB_VERSION
    ];
    let Ok(request) = KeyRequest::read_from_bytes(&bytes) else {
        return Err(Mismatch("MSG_KEY_REQ length"));
    };
    expect(
        "MSG_KEY_REQ",
        request.root_key_select.get() == 1
            && request.guest_field_select.get() == 0x3f
            && request.vmpl.get() == 2
            && request.guest_svn.get() == 0x0102_0304
            && request.tcb_version.get() == 0x0102_0304_0506_0708,
    )
}

fn secrets() -> Result<(), Mismatch> {
    let places = VmpckId::ALL.map(|id| (id.key_offset(), id.counter_offset()));
    let want = [(0x20, 0xa0), (0x40, 0xa4), (0x60, 0xa8), (0x80, 0xac)];
    expect("secrets page", places == want)?;
    let svsm = offset_of!(SecretsPage, svsm_base);
    expect("secrets page SVSM", svsm == 0x140)
}

fn uapi() -> Result<(), Mismatch> {
    #[rustfmt::skip]
    let bytes: [u8; 32] = [
        1, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee,    // 0 msg_version, padding
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // 8 req_data
        0x00, 0x10, 0, 0, 0, 0, 0, 0,                   // 16 resp_data
        0x16, 0, 0, 0, 2, 0, 0, 0,                      // 24 fw_error, vmm_error
    ];
    let Ok(call) = GuestCall::read_from_bytes(&bytes) else {
        return Err(Mismatch("snp_guest_request_ioctl length"));
    };
    let exitinfo2 = super::ExitInfo2(call.exitinfo2.get());
    expect(
        "snp_guest_request_ioctl",
        call.msg_version == 1
            && call.req_data.get() == 0x1122_3344_5566_7788
            && call.resp_data.get() == 0x1000
            && (exitinfo2.fw(), exitinfo2.vmm()) == (0x16, 2),
    )?;

    let mut bytes = [0; 112];
    bytes[96..98].copy_from_slice(&[0x00, 0x20]); // 0x60 certs_address
    bytes[104..106].copy_from_slice(&[0x00, 0x40]); // 0x68 certs_len
    let Ok(request) = ExtReportReq::read_from_bytes(&bytes) else {
        return Err(Mismatch("snp_ext_report_req length"));
    };
    expect(
        "snp_ext_report_req",
        request.certs_address.get() == 0x2000 && request.certs_pages() == Ok(4),
    )
}
