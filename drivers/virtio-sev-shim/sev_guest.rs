// SPDX-License-Identifier: GPL-2.0

//! The device node `/dev/sev-guest`, with the ioctls of the C driver.

use kernel::{
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*, //
};
use psp::guest_msg::{
    uapi::{
        ExtReportReq,
        GuestCall,
        GuestIoctl, //
    },
    Exit,
    Request, //
};
use zerocopy::{
    FromBytes,
    IntoBytes, //
};

use crate::{
    ffi,
    guest::{
        self,
        Guest, //
    },
    transport::{
        to_error,
        NoAnswer, //
    },
    user, //
};

/// An open `/dev/sev-guest`. It holds nothing, so a file outlives the way to the firmware.
pub(crate) struct SevGuest;

/// Name of the node, in `/dev` and in `/sys/class/misc`.
pub(crate) const OPTIONS: MiscDeviceOptions = MiscDeviceOptions { name: c"sev-guest" };

#[vtable]
impl MiscDevice for SevGuest {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Ok(KBox::new(SevGuest, GFP_KERNEL)?)
    }

    fn ioctl(_device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let mut call = user::read::<GuestCall, 32>(arg)?;
        let outcome = call
            .check(cmd)
            .map_err(to_error)
            .and_then(|ioctl| serve(ioctl, &mut call));
        if call.is_copied_out() {
            user::write::<_, 32>(arg, &call)?;
        }
        outcome.map(|()| 0)
    }
}

fn serve(ioctl: GuestIoctl, call: &mut GuestCall) -> Result {
    let guest = guest::active()?;
    // CAST: user addresses are as wide as the kernel's.
    let request = user::read_bytes(call.req_data.get() as usize, ioctl.request_len())?;
    let mut answer = KVec::from_elem(0, ioctl.response_len(), GFP_KERNEL)?;
    let outcome = match ioctl {
        GuestIoctl::GetExtReport => ext_report(&guest, call, &request, &mut answer),
        GuestIoctl::GetReport | GuestIoctl::GetDerivedKey => {
            let request = message(ioctl, call, &request, Exit::Request);
            settle(call, guest.ask(&request, 0, &mut answer)).map(|_| ())
        }
    };
    // CAST: as above.
    let outcome = outcome.and_then(|()| user::write_bytes(call.resp_data.get() as usize, &answer));
    // It may hold a derived key.
    answer.fill(0);
    core::hint::black_box(&mut answer);
    outcome
}

fn message<'a>(ioctl: GuestIoctl, call: &GuestCall, payload: &'a [u8], exit: Exit) -> Request<'a> {
    Request {
        msg_type: ioctl.msg_type(),
        msg_version: call.msg_version,
        payload,
        exit,
    }
}

/// Notes what the host said.
fn settle<T>(call: &mut GuestCall, outcome: Result<T, NoAnswer>) -> Result<T> {
    match outcome {
        Ok(answer) => {
            call.exitinfo2 = 0.into();
            Ok(answer)
        }
        Err(failure) => {
            if let Some(exitinfo2) = failure.exitinfo2 {
                call.exitinfo2 = exitinfo2.0.into();
            }
            Err(failure.errno)
        }
    }
}

fn ext_report(guest: &Guest, call: &mut GuestCall, request: &[u8], out: &mut [u8]) -> Result {
    let mut request = ExtReportReq::read_from_bytes(request).map_err(|_| EINVAL)?;
    let pages = request.certs_pages().map_err(to_error)?;
    // CAST: as above.
    let certs_at = request.certs_address.get() as usize;
    // CAST: at most 16 KiB.
    if pages > 0 && !ffi::is_user_range(certs_at, request.certs_len.get() as usize) {
        return Err(EFAULT);
    }
    let payload = request.report;
    let message = message(
        GuestIoctl::GetExtReport,
        call,
        payload.as_bytes(),
        Exit::Extended,
    );
    let outcome = guest.ask(&message, pages, out);
    if let Err(NoAnswer {
        pages: Some(needed),
        ..
    }) = outcome
    {
        request.set_needed(needed);
        // CAST: as above.
        let copied = user::write::<_, 112>(call.req_data.get() as usize, &request);
        return settle(call, outcome).map(|_| ()).and(copied);
    }
    let certs = settle(call, outcome)?;
    user::write_bytes(certs_at, &certs)
}
