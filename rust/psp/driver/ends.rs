// SPDX-License-Identifier: GPL-2.0

//! What happens when the PSP falls silent, the device goes, or the machine sleeps or panics.

use super::{Driver, NotReady};
use crate::cmd::platform::Status;
use crate::cmd::CmdId;
use crate::error::{CmdError, Errno};
use crate::host::{Host, Level, Patience};
use crate::mailbox::Fault;
use crate::platform::PlatformState;

impl<H: Host> Driver<H> {
    /// Tries to have a PSP back that did not answer in time: if it still does not, what it owes is given
    /// up, and it is asked for its status. Commands go through `cmd_buf` then.
    ///
    /// # Errors
    ///
    /// What the firmware says, or does not say.
    pub fn recover(&mut self, cmd_buf: H::Memory) -> Result<Status, CmdError> {
        // One that has started again sends none.
        if self.closed != Some(Errno::ENODEV) {
            self.host.enable_interrupts();
        }
        match self.status() {
            Err(CmdError::Mailbox(Fault::Dead)) => {}
            // CMDRESP holds nonsense if the device is there all the same.
            Err(CmdError::Mailbox(Fault::Gone)) if self.host.is_there() => {}
            answered => return answered,
        }
        let bytes = self.exchange.give_up(cmd_buf);
        if bytes > 0 {
            self.host.log(
                Level::Warning,
                format_args!(
                    "SEV: reset: leaking {bytes} bytes that an unanswered command may still write to"
                ),
            );
        }
        self.state = None;
        let status = self.status();
        match status {
            Ok(_) => self.host.log(
                Level::Info,
                format_args!("SEV: reset: the PSP answers again"),
            ),
            Err(cause) => self
                .host
                .log(Level::Error, format_args!("SEV: reset: no success {cause}")),
        }
        status
    }

    /// Brings the platform to rest before the device or the machine goes away: shuts it down, and lets
    /// nobody initialise it again.
    pub fn retire(&mut self) {
        if self.may_be_initialised() && self.state() != Ok(PlatformState::Uninit) {
            let _ = self.shutdown();
        }
        self.closed = Some(Errno::ENODEV);
    }

    /// Brings the platform to rest before the machine sleeps, and lets nobody initialise it until
    /// [`wake`](Self::wake): the PSP forgets what it knows.
    ///
    /// # Errors
    ///
    /// [`NotReady::GuestsActive`] if guests would lose their keys, else what failed. A PSP that does not
    /// answer is no reason to stay awake.
    pub fn rest(&mut self) -> Result<(), NotReady> {
        if self.may_be_initialised() && !self.is_dead() {
            if self.status()?.guest_count > 0 {
                return Err(NotReady::GuestsActive);
            }
            self.shutdown()?;
        }
        self.closed = self.closed.or(Some(Errno::EBUSY));
        Ok(())
    }

    /// Ends [`rest`](Self::rest): a PSP that was without power sends interrupts again.
    pub fn wake(&mut self) {
        if self.closed == Some(Errno::EBUSY) {
            self.closed = None;
            self.state = None;
            self.host.enable_interrupts();
        }
    }

    /// The machine panics and may start another kernel: SHUTDOWN, if that can be done at once. Takes no
    /// lock and no memory.
    pub fn panic(&mut self) {
        if self.may_be_initialised() && self.exchange.owed().is_none() {
            let _ = self.exchange.send_raw(
                &mut self.host,
                CmdId::Shutdown,
                &mut [],
                &mut [],
                Patience::Endless,
            );
        }
    }
}
