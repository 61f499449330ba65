// SPDX-License-Identifier: GPL-2.0

//! Newer firmware.

use super::{Driver, NotReady};
use crate::cmd::platform::{DownloadFirmware, FwVersion};
use crate::error::{CmdError, Errno};
use crate::host::{Host, Memory};
use crate::image::downloads;
use crate::platform::PlatformState;

impl<H: Host> Driver<H> {
    /// Has the firmware run the image of `size` bytes in `image`. A platform that is initialised and has
    /// no guests is shut down for it and initialised again.
    ///
    /// # Errors
    ///
    /// [`NotReady::GuestsActive`] while there are any; `EOPNOTSUPP` if the firmware cannot be updated;
    /// else what failed. A failure to initialise it again is only logged: the update is done.
    pub fn update(
        &mut self,
        image: &mut Option<H::Memory>,
        size: usize,
    ) -> Result<FwVersion, NotReady> {
        let before = self.status()?;
        if before.state == PlatformState::Working || before.guest_count > 0 {
            return Err(NotReady::GuestsActive);
        }
        let times = downloads(before.version);
        if times == 0 {
            return Err(CmdError::from(Errno::EOPNOTSUPP).into());
        }
        if before.state == PlatformState::Init {
            self.shutdown()?;
        }
        let mut after = Ok(before);
        for _ in 0..times {
            // After each: when a later one fails, another firmware may run already.
            after = self.download(image, size).and_then(|()| self.status());
            if after.is_err() {
                break;
            }
        }
        // Also after a failure: whoever needs the platform needs it with the old firmware, too.
        if before.state == PlatformState::Init {
            // A failure has been logged.
            let _ = self.init();
        }
        if after.is_ok() || self.version.is_some_and(|now| now != before.version) {
            self.host
                .ledger(|ledger| ledger.version_before = Some(before.version));
        }
        Ok(after?.version)
    }

    fn download(&mut self, image: &mut Option<H::Memory>, size: usize) -> Result<(), CmdError> {
        // Gone if an earlier download was not answered.
        let buf = image.as_ref().ok_or(Errno::EBUSY)?;
        let cmd = DownloadFirmware {
            paddr: buf.psp_addr().into(),
            // CAST: contiguous memory is below 4 GiB.
            len: (size as u32).into(),
        };
        self.send(cmd, core::slice::from_mut(image))?.reply()?;
        Ok(())
    }
}
