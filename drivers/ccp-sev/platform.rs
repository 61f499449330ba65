// SPDX-License-Identifier: GPL-2.0

//! The platform's life: status, INIT, SHUTDOWN, and the sequences around them.

use core::slice;

use kernel::prelude::*;
use psp::{
    cmd::{
        platform::{
            DfFlush,
            FwVersion,
            Init,
            PlatformStatus,
            Shutdown,
            Status,
            TMR_LEN, //
        },
        CmdId,
        Command,
        Completed, //
    },
    mailbox::Fault,
    platform::{
        prepare,
        PlatformState,
        Prepare, //
    },
    status::FwStatus,
    uapi::NO_FW_CALL, //
};

use crate::{
    error::CmdError,
    ffi,
    fw_buf::FwBuf,
    mailbox::Lent,
    psp_dev::Session, //
};

/// What is known about the platform between commands.
pub(crate) struct Platform {
    /// What PLATFORM_STATUS last said.
    version: Option<FwVersion>,
    /// The state as of the last command; `None` when only the firmware knows. Guests come and go
    /// through KVM, so INIT stands for WORKING too.
    state: Option<PlatformState>,
    /// Memory that the firmware has since INIT.
    tmr: Option<FwBuf>,
    /// INIT was done, but the flush after it is still owed.
    flush_owed: bool,
}

impl Platform {
    pub(crate) const fn new() -> Self {
        Platform {
            version: None,
            state: None,
            tmr: None,
            flush_owed: false,
        }
    }
}

/// Why an INIT failed, with what its caller's `error` field gets.
#[derive(Clone, Copy)]
pub(crate) struct InitError {
    pub(crate) cause: CmdError,
    pub(crate) fw_error: u32,
}

impl Session<'_> {
    /// Sends a command; see [`Exchange::send`](crate::mailbox::Exchange::send).
    ///
    /// # Errors
    ///
    /// [`CmdError::Mailbox`] if the firmware did not answer.
    pub(crate) fn send<C: Command>(
        &mut self,
        cmd: C,
        lent: Lent<'_>,
    ) -> Result<Completed<C>, CmdError> {
        let completed = self.inner.exchange.send(self.bell, cmd, lent);
        let status = completed.as_ref().map(|done| done.status).map_err(|e| *e);
        self.note(C::ID, status);
        completed
    }

    /// Sends a command that points to no buffer and returns its reply.
    ///
    /// # Errors
    ///
    /// Whatever went wrong.
    pub(crate) fn call<C: Command>(&mut self, cmd: C) -> Result<C::Reply, CmdError> {
        Ok(self.send(cmd, &mut [])?.reply()?)
    }

    /// Sends a command that somebody else made, as bytes.
    ///
    /// # Errors
    ///
    /// [`CmdError::Mailbox`] if the firmware did not answer, `EINVAL` for a wrong length.
    pub(crate) fn send_raw(&mut self, id: CmdId, bytes: &mut [u8]) -> Result<FwStatus, CmdError> {
        let status = self.inner.exchange.send_raw(self.bell, id, bytes, &mut []);
        self.note(id, status);
        status
    }

    /// Keeps what is known about the platform in step with the commands that change it.
    fn note(&mut self, id: CmdId, status: Result<FwStatus, CmdError>) {
        let platform = &mut self.inner.platform;
        match (id, status) {
            (CmdId::Init | CmdId::InitEx, Ok(FwStatus::SUCCESS)) => {
                platform.state = Some(PlatformState::Init);
                platform.flush_owed = true;
            }
            (CmdId::Shutdown | CmdId::PlatformReset, Ok(FwStatus::SUCCESS)) => {
                platform.state = Some(PlatformState::Uninit);
                platform.flush_owed = false;
            }
            (CmdId::DfFlush, Ok(FwStatus::SUCCESS)) => platform.flush_owed = false,
            // Whether it changed the state before it fell silent, nobody knows.
            (
                CmdId::Init | CmdId::InitEx | CmdId::Shutdown | CmdId::PlatformReset,
                Err(CmdError::Mailbox(Fault::Timeout | Fault::Gone)),
            )
            | (_, Ok(FwStatus::INVALID_PLATFORM_STATE)) => platform.state = None,
            (_, Ok(_) | Err(_)) => {}
        }
    }

    /// Asks the firmware for its status.
    ///
    /// # Errors
    ///
    /// Whatever went wrong.
    pub(crate) fn status(&mut self) -> Result<Status, CmdError> {
        let status = self.call(PlatformStatus::default())?;
        self.inner.platform.version = Some(status.version);
        self.inner.platform.state = Some(status.state);
        Ok(status)
    }

    /// The platform's state: as known, else as the firmware says.
    ///
    /// # Errors
    ///
    /// Those of [`status`](Self::status).
    pub(crate) fn state(&mut self) -> Result<PlatformState, CmdError> {
        match self.inner.platform.state {
            Some(state) => Ok(state),
            None => Ok(self.status()?.state),
        }
    }

    /// The firmware's version: as known, else as the firmware says.
    ///
    /// # Errors
    ///
    /// Those of [`status`](Self::status).
    pub(crate) fn version(&mut self) -> Result<FwVersion, CmdError> {
        match self.inner.platform.version {
            Some(version) => Ok(version),
            None => Ok(self.status()?.version),
        }
    }

    /// Whether the platform was initialised and not shut down, as far as is known.
    pub(crate) fn is_initialised(&self) -> bool {
        matches!(
            self.inner.platform.state,
            Some(PlatformState::Init | PlatformState::Working)
        )
    }

    /// Initialises the platform if it is not: INIT, WBINVD on all CPUs, DF_FLUSH.
    ///
    /// # Errors
    ///
    /// What failed. If the flush failed, the next call tries it again.
    ///
    /// # Context
    ///
    /// Sleeps; interrupts every CPU.
    pub(crate) fn init(&mut self) -> Result<(), InitError> {
        let no_call = |cause| InitError {
            cause,
            fw_error: NO_FW_CALL,
        };
        if self.state().map_err(no_call)? == PlatformState::Uninit {
            self.init_command()?;
        }
        if !self.inner.platform.flush_owed {
            return Ok(());
        }
        // The first guest must not find write-backs of whoever had its ASID before.
        ffi::wbinvd_on_all_cpus();
        if let Err(cause) = self.call(DfFlush) {
            self.log_failure("DF_FLUSH", cause);
            return Err(InitError {
                cause,
                fw_error: FwStatus::SUCCESS.code().into(),
            });
        }
        let version = self.inner.platform.version;
        if let Some(v) = version {
            dev_info!(
                &*self.inner.dev,
                "SEV API:{}.{} build:{}\n",
                v.major,
                v.minor,
                v.build
            );
        }
        Ok(())
    }

    /// INIT, and once more if the firmware had to discard its persistent data.
    fn init_command(&mut self) -> Result<(), InitError> {
        self.provide_tmr();
        let mut outcome = self.try_init();
        if outcome == Err(CmdError::Firmware(FwStatus::SECURE_DATA_INVALID)) {
            dev_err!(
                &*self.inner.dev,
                "SEV: retrying INIT command because of SECURE_DATA_INVALID error. \
                 Retrying once to reset PSP SEV state.\n"
            );
            outcome = self.try_init();
        }
        outcome.map_err(|cause| {
            self.log_failure("INIT", cause);
            InitError {
                cause,
                fw_error: cause.fw_error().unwrap_or(NO_FW_CALL),
            }
        })
    }

    fn try_init(&mut self) -> Result<(), CmdError> {
        let mut tmr = self.inner.platform.tmr.take();
        let cmd = Init::new(tmr.as_ref().map(FwBuf::pa));
        let completed = self.send(cmd, slice::from_mut(&mut tmr));
        self.inner.platform.tmr = tmr;
        Ok(completed?.reply()?)
    }

    /// Without a TMR there is no SEV-ES, but SEV works.
    fn provide_tmr(&mut self) {
        if self.inner.platform.tmr.is_some() {
            return;
        }
        // CAST: 1 MiB.
        match FwBuf::new(TMR_LEN as usize) {
            Ok(tmr) => {
                tmr.clflush();
                self.inner.platform.tmr = Some(tmr);
            }
            Err(_) => dev_warn!(
                &*self.inner.dev,
                "SEV: TMR allocation failed, SEV-ES support unavailable\n"
            ),
        }
    }

    /// Shuts the platform down if it is not, and takes the TMR back.
    ///
    /// # Errors
    ///
    /// What failed; the TMR then stays with the firmware.
    pub(crate) fn shutdown(&mut self) -> Result<(), CmdError> {
        if self.inner.platform.state != Some(PlatformState::Uninit) {
            if let Err(cause) = self.call(Shutdown) {
                dev_err!(&*self.inner.dev, "SEV: failed to SHUTDOWN {}\n", cause);
                return Err(cause);
            }
        }
        if let Some(tmr) = self.inner.platform.tmr.take() {
            // It was encrypted; what the caches hold of it must not be written back over it.
            ffi::wbinvd_on_all_cpus();
            drop(tmr);
        }
        Ok(())
    }

    /// Runs `body` on a platform that is in a state `C` is taken in; whoever found it shut down
    /// leaves it so. The failure of the closing SHUTDOWN is logged, not returned: `body` is done.
    ///
    /// # Errors
    ///
    /// [`NotReady`] if it could not be brought there; `body` did not run.
    pub(crate) fn prepared<C: Command, R>(
        &mut self,
        may_init: bool,
        body: impl FnOnce(&mut Self) -> R,
    ) -> Result<R, NotReady> {
        let state = self.state().map_err(|cause| NotReady::Failed {
            cause,
            // The state is only asked for when an INIT may be needed.
            fw_error: cause.fw_error().or(Some(NO_FW_CALL)),
        })?;
        match prepare(C::STATES, state) {
            Prepare::Nothing => Ok(body(self)),
            Prepare::InitThenShutdown if !may_init => Err(NotReady::ReadOnly),
            Prepare::InitThenShutdown => {
                if let Err(InitError { cause, fw_error }) = self.init() {
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
                self.shutdown().map_err(|cause| NotReady::Failed {
                    cause,
                    fw_error: cause.fw_error(),
                })?;
                Ok(body(self))
            }
            Prepare::Refuse => Err(NotReady::GuestsActive),
        }
    }

    fn log_failure(&self, what: &str, cause: CmdError) {
        dev_err!(&*self.inner.dev, "SEV: {} failed {}\n", what, cause);
    }

    /// The device goes away: leave the platform shut down and let nobody start anything.
    pub(crate) fn retire(&mut self) {
        if self.is_initialised() {
            let _ = self.shutdown();
        }
        if let Some(tmr) = self.inner.platform.tmr.take() {
            if self.inner.platform.state == Some(PlatformState::Uninit) {
                return;
            }
            dev_err!(
                &*self.inner.dev,
                "SEV: leaking the TMR, the firmware did not give it back\n"
            );
            // LEAK: SHUTDOWN failed, so the firmware still uses it.
            tmr.leak();
        }
    }
}

/// Why a platform could not be brought into a state that a command needs.
pub(crate) enum NotReady {
    /// It would have to be initialised, and the caller may only read.
    ReadOnly,
    /// It would have to be shut down, and guests exist.
    GuestsActive,
    /// A command on the way failed.
    Failed {
        /// How.
        cause: CmdError,
        /// What the caller's `error` field gets.
        fw_error: Option<u32>,
    },
}
