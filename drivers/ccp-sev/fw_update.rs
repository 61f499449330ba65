// SPDX-License-Identifier: GPL-2.0

//! Newer firmware from the file system: when a PSP is taken into use, and on request.
//!
//! It lasts until the machine is reset. Nothing here is fatal: the firmware that came with the BIOS
//! works.

use kernel::{
    device::Device,
    firmware::Firmware,
    prelude::*, //
};
use psp::{
    driver::NotReady,
    error::{
        CmdError,
        Errno,
        WithHint, //
    },
    host::Patience,
    image::{
        file_names,
        FileName, //
    },
    ledger::Update, //
};

use crate::{
    ffi,
    fw_buf::FwBuf,
    psp_dev::{
        to_error,
        Psp, //
    },
};

/// Looks for an image for this processor and has the firmware run it.
///
/// # Errors
///
/// `ENOENT` if there is none, `EBUSY` while guests exist, else what failed; the log says it too, except
/// that there is no file, which is the usual case.
///
/// # Context
///
/// Sleeps: reads files, and sends commands.
pub(crate) fn update(psp: &Psp) -> Result {
    let dev = &*psp.shared.dev;
    let Some((file, image)) = find(dev) else {
        psp.shared.ledger(|ledger| ledger.update = Update::NoFile);
        return Err(ENOENT);
    };
    let size = image.size();
    let failed = |cause: CmdError| {
        let update = Update::Failed { file, size, cause };
        psp.shared.ledger(|ledger| ledger.update = update);
    };
    let mut lent = Some(
        FwBuf::from_slice(image.data())
            .inspect_err(|error| failed(CmdError::from(Errno(-error.to_errno()))))?,
    );
    let ran = psp.with_init(Patience::Killable, |core| {
        let before = core.version();
        (before, core.update(&mut lent, size))
    })?;
    let (before, outcome) = ran.value;
    match outcome {
        Ok(after) => {
            psp.shared
                .ledger(|ledger| ledger.update = Update::Done { file, size });
            match before {
                Ok(before) if before != after => {
                    dev_info!(
                        dev,
                        "SEV firmware updated {}\n",
                        core::format_args!("from {before} to {after}")
                    );
                }
                Ok(_) | Err(_) => {
                    dev_dbg!(dev, "SEV: the firmware file has the running version\n");
                }
            }
            Ok(())
        }
        Err(NotReady::GuestsActive) => {
            failed(CmdError::from(Errno::EBUSY));
            dev_err!(
                dev,
                "SEV: firmware not updated: guests exist, end them first\n"
            );
            Err(EBUSY)
        }
        Err(NotReady::Failed { cause, .. }) => {
            failed(cause);
            log_failure(dev, cause);
            Err(to_error(cause))
        }
        // It is never asked to only read.
        Err(NotReady::ReadOnly) => Err(EPERM),
    }
}

fn log_failure(dev: &Device, cause: CmdError) {
    match cause {
        CmdError::Prepare(Errno::EOPNOTSUPP) => {
            dev_info!(dev, "SEV: firmware not updated: it is too old to be\n");
        }
        _ => dev_warn!(
            dev,
            "SEV: firmware not updated: DOWNLOAD_FIRMWARE failed {}\n",
            core::format_args!("{}", WithHint(cause))
        ),
    }
}

/// The most specific image there is for this processor.
fn find(dev: &Device) -> Option<(FileName, Firmware)> {
    let (family, model) = ffi::cpu_family_model();
    file_names(family, model).into_iter().find_map(|name| {
        let image = Firmware::request_nowarn(name.as_c_str(), dev).ok()?;
        Some((name, image))
    })
}
