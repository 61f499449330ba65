// SPDX-License-Identifier: GPL-2.0

//! INIT, SHUTDOWN, and what needs one of them first.

use super::{Driver, Given, InitError, NotReady};
use crate::cmd::platform::{DfFlush, Init, InitEx, PlatformReset, Shutdown};
use crate::cmd::{CmdId, Command};
use crate::error::{CmdError, Errno, WithHint};
use crate::host::{Host, Level, Memory};
use crate::nv;
use crate::platform::{prepare, PlatformState, Prepare};
use crate::status::FwStatus;
use crate::uapi::NO_FW_CALL;

impl<H: Host> Driver<H> {
    /// Initialises the platform if it is not, or not by this driver: SHUTDOWN, INIT or INIT_EX, WBINVD on
    /// all CPUs, DF_FLUSH.
    ///
    /// # Errors
    ///
    /// What failed. If the flush failed, the next call tries it again. `ENODEV` after
    /// [`retire`](Self::retire), `EBUSY` during [`rest`](Self::rest), `EAGAIN` if [`wants_nv`](Self::wants_nv),
    /// or what [`miss_nv`](Self::miss_nv) was told.
    pub fn init(&mut self) -> Result<(), InitError> {
        let no_call = |cause| InitError {
            cause,
            fw_error: NO_FW_CALL,
        };
        if let Some(errno) = self.closed {
            return Err(no_call(errno.into()));
        }
        if self.state().map_err(no_call)? != PlatformState::Uninit && self.given == Given::No {
            // TMR and non-volatile data that somebody else gave the firmware are ordinary memory now.
            self.shutdown().map_err(|cause| InitError {
                cause,
                fw_error: cause.fw_error().unwrap_or(NO_FW_CALL),
            })?;
        }
        if self.state == Some(PlatformState::Uninit) {
            self.init_command()?;
        }
        if !self.flush_owed {
            return Ok(());
        }
        // The first guest must not find write-backs of whoever had its ASID before.
        self.host.flush_caches();
        if let Err(cause) = self.call(DfFlush) {
            self.log_failure(CmdId::DfFlush, cause);
            return Err(InitError {
                cause,
                fw_error: FwStatus::SUCCESS.code().into(),
            });
        }
        if let Some(v) = self.version {
            self.host.log(
                Level::Info,
                format_args!("SEV API:{}.{} build:{}", v.major, v.minor, v.build),
            );
        }
        Ok(())
    }

    /// INIT or INIT_EX, and once more if the firmware had to discard its persistent data.
    fn init_command(&mut self) -> Result<(), InitError> {
        if let Some(nv) = self.nv.as_ref().filter(|nv| !nv.loaded) {
            return Err(InitError {
                cause: nv.unreadable.unwrap_or(Errno::EAGAIN).into(),
                fw_error: NO_FW_CALL,
            });
        }
        match &self.tmr {
            Some(tmr) => tmr.flush(),
            None => self.host.log(
                Level::Warning,
                format_args!("SEV: TMR allocation failed, SEV-ES support unavailable"),
            ),
        }
        let mut outcome = self.try_init();
        if outcome == Err(CmdError::Firmware(FwStatus::SECURE_DATA_INVALID)) {
            self.host.log(
                Level::Error,
                format_args!(
                    "SEV: retrying INIT command because of SECURE_DATA_INVALID error. \
                     Retrying once to reset PSP SEV state."
                ),
            );
            if let Some(nv) = &mut self.nv {
                nv.rejected = true;
            }
            outcome = self.try_init();
        }
        outcome.map_err(|cause| {
            self.log_failure(self.init_id(), cause);
            if matches!(cause, CmdError::Firmware(_)) {
                // Refused, says the firmware: whether it has TMR and non-volatile data all the same, it
                // says here. If it does not, that stays open.
                let _ = self.status();
            }
            InitError {
                cause,
                fw_error: cause.fw_error().unwrap_or(NO_FW_CALL),
            }
        })
    }

    pub(super) fn init_id(&self) -> CmdId {
        match self.nv {
            Some(_) => CmdId::InitEx,
            None => CmdId::Init,
        }
    }

    fn try_init(&mut self) -> Result<(), CmdError> {
        self.without_tmr = self.tmr.is_none();
        // TMR and non-volatile data are not lent but the platform's, for as long as it is initialised.
        let tmr = self.tmr.as_ref().map(Memory::pa);
        match &self.nv {
            Some(nv) => {
                let cmd = InitEx::new(tmr, nv.mem.psp_addr());
                self.call(cmd)
            }
            None => self.call(Init::new(tmr)),
        }
    }

    /// Shuts the platform down if it is not.
    ///
    /// # Errors
    ///
    /// What failed; TMR and non-volatile data then stay with the firmware.
    pub fn shutdown(&mut self) -> Result<(), CmdError> {
        if self.state == Some(PlatformState::Uninit) {
            return Ok(());
        }
        if let Err(cause) = self.call(Shutdown) {
            self.host.log(
                Level::Error,
                format_args!("SEV: failed to SHUTDOWN {}", WithHint(cause)),
            );
            return Err(cause);
        }
        // The TMR was encrypted; what the caches hold of it must not be written back over it.
        self.host.flush_caches();
        Ok(())
    }

    /// Runs `body` on a platform that is in a state `C` is taken in; whoever found it shut down
    /// leaves it so. The failure of the closing SHUTDOWN is logged, not returned: `body` is done.
    ///
    /// # Errors
    ///
    /// [`NotReady`] if it could not be brought there; `body` did not run.
    pub fn prepared<C: Command, R>(
        &mut self,
        may_init: bool,
        body: impl FnOnce(&mut Self) -> R,
    ) -> Result<R, NotReady> {
        let failed = |cause: CmdError| NotReady::Failed {
            cause,
            // The state is only asked for when an INIT may be needed.
            fw_error: cause.fw_error().or(Some(NO_FW_CALL)),
        };
        let mut plan = prepare(C::STATES, self.state().map_err(failed)?);
        if matches!(plan, Prepare::Shutdown | Prepare::Refuse) {
            // Guests may have come or gone since anybody looked.
            plan = prepare(C::STATES, self.status().map_err(failed)?.state);
        }
        match plan {
            Prepare::Nothing => Ok(body(self)),
            Prepare::InitThenShutdown if !may_init => Err(NotReady::ReadOnly),
            Prepare::InitThenShutdown => {
                if let Err(InitError { cause, fw_error }) = self.init() {
                    // INIT may be done, and the flush after it failed.
                    if self.given == Given::Yes {
                        let _ = self.shutdown();
                    }
                    return Err(NotReady::Failed {
                        cause,
                        fw_error: Some(fw_error),
                    });
                }
                let result = body(self);
                let _ = self.shutdown();
                Ok(result)
            }
            Prepare::Shutdown => {
                self.shutdown()?;
                Ok(body(self))
            }
            Prepare::Refuse => Err(NotReady::GuestsActive),
        }
    }

    /// Returns the platform to its self-owned state with fresh keys.
    ///
    /// # Errors
    ///
    /// [`NotReady::GuestsActive`] while there are any, else what failed.
    pub fn factory_reset(&mut self) -> Result<(), NotReady> {
        // Guests may have come since anybody looked, so ask.
        match self.status()?.state {
            PlatformState::Working => return Err(NotReady::GuestsActive),
            PlatformState::Init => self.shutdown()?,
            PlatformState::Uninit => {}
        }
        self.call(PlatformReset)?;
        // In UNINIT the firmware does not know where its data are, so they are erased for it.
        if let Some(nv) = &mut self.nv {
            nv.mem.fill(nv::ERASED);
            nv.loaded = true;
        }
        Ok(())
    }
}
