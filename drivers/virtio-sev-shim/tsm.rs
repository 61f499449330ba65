// SPDX-License-Identifier: GPL-2.0

//! Reports for configfs (`/sys/kernel/config/tsm/report`); called by `tsm.c`.

use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_uint, //
    },
    prelude::*, //
};
use psp::guest_msg::{
    CertTable,
    Exit,
    MsgType,
    ReportRequest,
    ReportResponseHeader,
    Request, //
};
use zerocopy::IntoBytes;

use crate::{
    ffi,
    guest::{
        self,
        CERTS_PAGES, //
    },
    transport::to_error, //
};

/// Gets a report about `inblob` and the certificates that come with it; the lengths become theirs.
///
/// # Safety
///
/// `inblob` is valid for reading 64 bytes, `out` and `aux` for writing as many as their lengths say.
#[no_mangle]
unsafe extern "C" fn sev_shim_report(
    inblob: *const [u8; 64],
    privlevel: c_uint,
    out: *mut u8,
    out_len: &mut usize,
    aux: *mut u8,
    aux_len: &mut usize,
) -> c_int {
    // SAFETY: By this function's own requirements.
    let (inblob, out, aux) = unsafe {
        (
            *inblob,
            core::slice::from_raw_parts_mut(out, *out_len),
            core::slice::from_raw_parts_mut(aux, *aux_len),
        )
    };
    from_result(|| {
        (*out_len, *aux_len) = report(inblob, privlevel, out, aux)?;
        Ok(0)
    })
}

fn report(
    inblob: [u8; 64],
    privlevel: u32,
    out: &mut [u8],
    aux: &mut [u8],
) -> Result<(usize, usize)> {
    let guest = guest::active()?;
    let payload = ReportRequest::new(inblob, privlevel);
    let request = Request {
        msg_type: MsgType::REPORT_REQ,
        msg_version: 1,
        payload: payload.as_bytes(),
        exit: Exit::Extended,
    };
    let certs = guest
        .ask(&request, CERTS_PAGES, out)
        .map_err(|failure| failure.errno)?;
    let len = match ReportResponseHeader::report(out) {
        Ok(report) => report.len(),
        Err(refused) => return Err(to_error(refused.errno())),
    };
    // Without the header: the report alone.
    let start = size_of::<ReportResponseHeader>();
    out.copy_within(start..start + len, 0);

    let extent = CertTable::new(&certs).extent();
    if let Some(oddity) = extent.oddity {
        ffi::log_certificates(oddity);
    }
    let certs = certs.get(..extent.len).ok_or(EIO)?;
    aux.get_mut(..extent.len).ok_or(EIO)?.copy_from_slice(certs);
    Ok((len, extent.len))
}
