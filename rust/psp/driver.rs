// SPDX-License-Identifier: GPL-2.0

//! The driver core: the platform's life and the sequences around commands.
//!
//! One [`Driver`] serves one PSP. What is known about the platform follows from the commands that went
//! through; truth lives in the firmware, and is asked for when something does not fit.

mod books;
mod data;
mod ends;
mod guests;
mod init;
mod update;

pub use data::NvTaken;

use data::Nv;
use guests::Guests;

use crate::cmd::platform::{FwVersion, PlatformStatus, Status};
use crate::cmd::subject::Subject;
use crate::cmd::{CmdId, Command, Completed, ReplyError};
use crate::error::{CmdError, Errno};
use crate::exchange::{Exchange, Lent};
use crate::host::{Host, Level, Memory, Patience};
use crate::platform::PlatformState;
use crate::status::FwStatus;

/// Whether the firmware has what INIT gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// No: there was no INIT, or the firmware has said since that the platform is in UNINIT.
    No,
    /// INIT was sent and did not succeed, as far as anybody has seen. What it did, PLATFORM_STATUS tells.
    Perhaps,
    /// INIT succeeded.
    Yes,
}

/// One PSP.
pub struct Driver<H: Host> {
    host: H,
    exchange: Exchange<H::Memory>,
    /// What PLATFORM_STATUS last said.
    version: Option<FwVersion>,
    /// The state as of the last command; `None` when only the firmware knows. Guests come and go
    /// through KVM, so INIT stands for WORKING too.
    state: Option<PlatformState>,
    tmr: Option<H::Memory>,
    nv: Option<Nv<H::Memory>>,
    /// Whether the firmware has TMR and non-volatile data.
    given: Given,
    /// The last INIT was without a TMR: one that has come since is not the firmware's.
    without_tmr: bool,
    /// INIT was done, but the flush after it is still owed.
    flush_owed: bool,
    /// Why the platform is not to be initialised now, if it is not.
    closed: Option<Errno>,
    /// Commands that were refused since the PSP fell silent.
    refused: u32,
    guests: Guests,
}

/// Why an INIT failed, with what its caller's `error` field gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitError {
    /// Why.
    pub cause: CmdError,
    /// For the `error` field.
    pub fw_error: u32,
}

/// Why a platform could not be brought into a state that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
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

impl From<CmdError> for NotReady {
    fn from(cause: CmdError) -> Self {
        NotReady::Failed {
            cause,
            fw_error: cause.fw_error(),
        }
    }
}

impl<H: Host> Driver<H> {
    /// A driver whose commands go through `cmd_buf`. Without `tmr` there will be no SEV-ES. With `nv`
    /// ([`NV_LEN`](crate::cmd::platform::NV_LEN) bytes) the platform's persistent data live in the host,
    /// and INIT_EX is used.
    pub fn new(host: H, cmd_buf: H::Memory, tmr: Option<H::Memory>, nv: Option<H::Memory>) -> Self {
        host.ledger(|ledger| ledger.tmr_len = tmr.as_ref().map(Memory::len));
        Driver {
            host,
            exchange: Exchange::new(cmd_buf),
            version: None,
            state: None,
            tmr,
            nv: nv.map(|mem| Nv {
                mem,
                loaded: false,
                unreadable: None,
                changed: false,
                rejected: false,
            }),
            given: Given::No,
            without_tmr: true,
            flush_owed: false,
            closed: None,
            refused: 0,
            guests: Guests::new(),
        }
    }

    /// The world it works in.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The same, to change it.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// Whether the PSP did not answer in time and has not answered since.
    pub fn is_dead(&self) -> bool {
        self.exchange.is_dead()
    }

    /// Sends a command; waits as long as it takes.
    ///
    /// # Errors
    ///
    /// [`CmdError::Mailbox`] if the firmware did not answer.
    pub fn send<C: Command>(
        &mut self,
        cmd: C,
        lent: Lent<'_, H::Memory>,
    ) -> Result<Completed<C>, CmdError> {
        // A caller that is killed may leave only if nothing is lost with the answer.
        let patience = if C::ONLY_ASKS {
            Patience::Killable
        } else {
            Patience::Endless
        };
        let completed = self.exchange.send(&mut self.host, cmd, lent, patience);
        let outcome = match &completed {
            // An answer that makes no sense is a failure of the firmware's, whatever its status.
            Ok(done) => match done.reply() {
                Err(ReplyError::Malformed(what)) => Err(CmdError::Malformed(what)),
                Ok(_) | Err(ReplyError::Firmware(_)) => Ok(done.status),
            },
            Err(cause) => Err(*cause),
        };
        self.note(C::ID, outcome);
        completed
    }

    /// Sends a command that points to no buffer and returns its reply.
    ///
    /// # Errors
    ///
    /// Whatever went wrong.
    pub fn call<C: Command>(&mut self, cmd: C) -> Result<C::Reply, CmdError> {
        Ok(self.send(cmd, &mut [])?.reply()?)
    }

    /// Sends a command that somebody else made, as bytes; `lent` is memory that it points to and that is kept
    /// while the firmware is silent.
    ///
    /// # Errors
    ///
    /// [`CmdError::Mailbox`] if the firmware did not answer, `EINVAL` for a wrong length.
    pub fn send_raw(
        &mut self,
        id: CmdId,
        bytes: &mut [u8],
        lent: Lent<'_, H::Memory>,
    ) -> Result<FwStatus, CmdError> {
        // The answer overwrites parts of it.
        let subject = Subject::of(id, bytes);
        let status = self
            .exchange
            .send_raw(&mut self.host, id, bytes, lent, Patience::Endless);
        self.note(id, status);
        if let Ok(status) = status {
            self.note_guest(id, subject, status);
        }
        status
    }

    /// Asks the firmware for its status.
    ///
    /// # Errors
    ///
    /// Whatever went wrong.
    pub fn status(&mut self) -> Result<Status, CmdError> {
        let status = self.call(PlatformStatus::default())?;
        self.version = Some(status.version);
        match (status.state, self.given) {
            (PlatformState::Uninit, Given::No) => self.note_uninit(),
            (PlatformState::Uninit, _) => {
                self.note_uninit();
                // As after SHUTDOWN.
                self.host.flush_caches();
            }
            (_, Given::Perhaps) => {
                self.note_init(self.init_id());
                if let Some(nv) = &mut self.nv {
                    nv.changed = true;
                }
            }
            // Given::No: somebody else initialised it; init() does it anew.
            (_, Given::No | Given::Yes) => {}
        }
        self.state = Some(status.state);
        self.host
            .ledger(|ledger| ledger.version = Some(status.version));
        Ok(status)
    }

    /// The platform's state: as known, else as the firmware says.
    ///
    /// # Errors
    ///
    /// Those of [`status`](Self::status).
    pub fn state(&mut self) -> Result<PlatformState, CmdError> {
        match self.state {
            Some(state) => Ok(state),
            None => Ok(self.status()?.state),
        }
    }

    /// The firmware's version: as known, else as the firmware says.
    ///
    /// # Errors
    ///
    /// Those of [`status`](Self::status).
    pub fn version(&mut self) -> Result<FwVersion, CmdError> {
        match self.version {
            Some(version) => Ok(version),
            None => Ok(self.status()?.version),
        }
    }

    /// Whether the platform was initialised and not shut down, as far as is known.
    pub fn is_initialised(&self) -> bool {
        matches!(
            self.state,
            Some(PlatformState::Init | PlatformState::Working)
        )
    }
}

impl<H: Host> Drop for Driver<H> {
    fn drop(&mut self) {
        if self.given == Given::No {
            return;
        }
        let nv = self.nv.as_mut().map(|nv| &mut nv.mem);
        let tmr = self.tmr.as_mut().filter(|_| !self.without_tmr);
        for mem in tmr.into_iter().chain(nv) {
            // LEAK: the firmware still uses it.
            mem.leak();
            let bytes = mem.len();
            self.host.log(
                Level::Error,
                format_args!("SEV: leaking {bytes} bytes that the firmware did not give back"),
            );
        }
    }
}
