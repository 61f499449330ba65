// SPDX-License-Identifier: GPL-2.0

//! Newer firmware from the file system, downloaded when the PSP is bound.
//!
//! It lasts until the machine is reset. Nothing here is fatal: the firmware that came with the BIOS
//! works.

use kernel::{
    device::Device,
    firmware::Firmware,
    prelude::*, //
};
use psp::{
    cmd::platform::{
        DownloadFirmware,
        FwVersion,
        Status, //
    },
    image::{
        downloads,
        file_names, //
    },
    platform::PlatformState, //
};

use crate::{
    error::CmdError,
    ffi,
    fw_buf::FwBuf,
    psp_dev::{
        Psp,
        Session, //
    },
};

/// Looks for an image for this processor and has the firmware run it.
///
/// # Context
///
/// Sleeps: reads files, and sends commands.
pub(crate) fn update(dev: &Device, psp: &Psp, running: Status) {
    if ffi::is_kdump() {
        // The crashed kernel's guests are still with the firmware.
        return;
    }
    let before = running.version;
    let times = downloads(before);
    if times == 0 {
        dev_dbg!(dev, "SEV: the firmware cannot be updated\n");
        return;
    }
    if running.state != PlatformState::Uninit {
        dev_info!(
            dev,
            "SEV: firmware in use by a kernel before this one, not updated\n"
        );
        return;
    }
    let Some(image) = find(dev) else {
        dev_dbg!(dev, "SEV: no firmware file present\n");
        return;
    };
    match psp.lock().download(&image, times) {
        Ok(after) if after != before => {
            let FwVersion {
                major,
                minor,
                build,
            } = before;
            dev_info!(
                dev,
                "SEV firmware updated from {}.{}.{} to {}.{}.{}\n",
                major,
                minor,
                build,
                after.major,
                after.minor,
                after.build
            );
        }
        Ok(_) => dev_dbg!(dev, "SEV: the firmware file has the running version\n"),
        Err(cause) => dev_warn!(
            dev,
            "SEV: firmware not updated: DOWNLOAD_FIRMWARE failed {}\n",
            cause
        ),
    }
}

/// The most specific image there is for this processor. No file is the usual case, and no warning.
fn find(dev: &Device) -> Option<Firmware> {
    let (family, model) = ffi::cpu_family_model();
    file_names(family, model)
        .iter()
        .find_map(|name| Firmware::request_nowarn(name.as_c_str(), dev).ok())
}

impl Session<'_> {
    /// DOWNLOAD_FIRMWARE, so many times; the version that runs then.
    fn download(&mut self, image: &Firmware, times: usize) -> Result<FwVersion, CmdError> {
        let mut lent = [Some(
            FwBuf::from_slice(image.data()).map_err(CmdError::Prepare)?,
        )];
        for _ in 0..times {
            let [Some(buf)] = &lent else {
                return Err(CmdError::Prepare(EBUSY));
            };
            let cmd = DownloadFirmware {
                paddr: buf.psp_addr().into(),
                // CAST: an allocation of so many contiguous pages is below 4 GiB.
                len: (image.size() as u32).into(),
            };
            self.send(cmd, &mut lent)?.reply()?;
        }
        Ok(self.status()?.version)
    }
}
