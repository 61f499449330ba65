// SPDX-License-Identifier: GPL-2.0

//! The contents of the device's attributes; called by `sysfs.c`.

use kernel::{
    bindings,
    ffi::{
        c_int,
        c_uint, //
    },
    prelude::*, //
};
use psp::cmd::CMD_BUF_LEN;

use crate::{
    fw_buf::FwBuf,
    fw_update,
    psp_dev::{
        to_error,
        Psp, //
    },
    registry, //
};

fn to_c(result: Result<c_int>) -> c_int {
    result.unwrap_or_else(|error| error.to_errno())
}

fn of_device(device: *const bindings::device, serve: impl FnOnce(&Psp) -> Result<c_int>) -> c_int {
    to_c(registry::of_device(device).and_then(|psp| serve(&psp)))
}

/// The same for what sends commands.
fn in_use(device: *const bindings::device, serve: impl FnOnce(&Psp) -> Result<c_int>) -> c_int {
    to_c(registry::in_use(device).and_then(|psp| serve(&psp)))
}

/// A bit of the capability register.
#[no_mangle]
extern "C" fn ccp_sev_security_bit(device: *mut bindings::device, bit: c_uint) -> c_int {
    of_device(device, |psp| {
        // CAST: 0 or 1.
        Ok((psp.capabilities.raw() >> (bit & 31) & 1) as c_int)
    })
}

/// The boot loader's version.
///
/// # Safety
///
/// `version` is valid for writing four bytes.
#[no_mangle]
unsafe extern "C" fn ccp_sev_bootloader_version(
    device: *mut bindings::device,
    version: *mut [u8; 4],
) -> c_int {
    of_device(device, |psp| {
        let read = psp.shared.regs.bootloader().map_err(|_| ENODEV)?;
        // SAFETY: By this function's own requirements.
        unsafe { version.write(read.ok_or(ENODEV)?) };
        Ok(0)
    })
}

/// `sev_reset`: tries to have a PSP back that has stopped answering.
#[no_mangle]
extern "C" fn ccp_sev_reset(device: *mut bindings::device) -> c_int {
    in_use(device, |psp| {
        let cmd_buf = FwBuf::new(CMD_BUF_LEN)?;
        psp.lock_killable()?.recover(cmd_buf).map_err(to_error)?;
        Ok(0)
    })
}

/// `sev_update_firmware`: looks for a firmware file as at probe.
#[no_mangle]
extern "C" fn ccp_sev_update_firmware(device: *mut bindings::device) -> c_int {
    in_use(device, |psp| fw_update::update(psp).map(|()| 0))
}
