// SPDX-License-Identifier: GPL-2.0

//! The driver core: the platform's life and the sequences around commands.
//!
//! One [`Driver`] serves one PSP. What is known about the platform follows from the commands that went
//! through; truth lives in the firmware, and is asked for when something does not fit.

use crate::cmd::platform::{
    DfFlush, DownloadFirmware, FwVersion, Init, InitEx, PlatformReset, PlatformStatus, Shutdown,
    Status,
};
use crate::cmd::{CmdId, Command, Completed, ReplyError};
use crate::error::{CmdError, Errno, WithHint};
use crate::exchange::{Exchange, Lent};
use crate::host::{Host, Level, Memory, Patience};
use crate::image::downloads;
use crate::ledger::InitKind;
use crate::mailbox::Fault;
use crate::nv;
use crate::platform::{prepare, PlatformState, Prepare};
use crate::status::FwStatus;
use crate::uapi::NO_FW_CALL;

/// The non-volatile data of INIT_EX.
struct Nv<M> {
    mem: M,
    /// Somebody has read the file since the platform was last left to itself.
    loaded: bool,
    /// A command that changes them succeeded since they were last taken.
    changed: bool,
    /// The firmware threw away what was in the file.
    rejected: bool,
}

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

/// What [`Driver::take_nv`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvTaken {
    /// The firmware could not use what was in the file: keep that file under another name.
    pub rejected: bool,
}

impl<H: Host> Driver<H> {
    /// A driver whose commands go through `cmd_buf`. Without `tmr` there will be no SEV-ES. With `nv`
    /// ([`NV_LEN`] bytes) the platform's persistent data live in the host, and INIT_EX is used.
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
                changed: false,
                rejected: false,
            }),
            given: Given::No,
            without_tmr: true,
            flush_owed: false,
            closed: None,
            refused: 0,
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

    /// Sends a command that somebody else made, as bytes.
    ///
    /// # Errors
    ///
    /// [`CmdError::Mailbox`] if the firmware did not answer, `EINVAL` for a wrong length.
    pub fn send_raw(&mut self, id: CmdId, bytes: &mut [u8]) -> Result<FwStatus, CmdError> {
        let status = self
            .exchange
            .send_raw(&mut self.host, id, bytes, &mut [], Patience::Endless);
        self.note(id, status);
        status
    }

    /// Keeps the books, and what is known about the platform in step with the commands that change it.
    fn note(&mut self, id: CmdId, outcome: Result<FwStatus, CmdError>) {
        let now = self.host.now_us();
        let us = now.saturating_sub(self.exchange.began_us());
        let sent = self.exchange.was_sent();
        self.host.trace(id, outcome, us);
        self.host
            .ledger(|ledger| ledger.count(id, outcome, sent, us, now));
        match outcome {
            Ok(status) => self.note_status(id, status),
            Err(CmdError::Mailbox(_)) if sent => self.note_silence(id),
            Err(CmdError::Mailbox(Fault::Dead)) => self.log_refused(id, now),
            Err(cause @ CmdError::Malformed(_)) => self.log_failure(id, cause),
            Err(CmdError::Mailbox(_) | CmdError::Firmware(_) | CmdError::Prepare(_)) => {}
        }
    }

    fn note_status(&mut self, id: CmdId, status: FwStatus) {
        self.refused = 0;
        match (id, status) {
            (CmdId::Init | CmdId::InitEx, FwStatus::SUCCESS) => self.note_init(id),
            (CmdId::Init | CmdId::InitEx, _) => self.note_silence(id),
            (CmdId::Shutdown | CmdId::PlatformReset, FwStatus::SUCCESS) => self.note_uninit(),
            (CmdId::DfFlush, FwStatus::SUCCESS) => self.flush_owed = false,
            (_, FwStatus::INVALID_PLATFORM_STATE) => self.state = None,
            _ => {}
        }
        if let (Some(nv), FwStatus::SUCCESS) = (&mut self.nv, status) {
            nv.changed |= changes_nv(id);
        }
    }

    /// Whether the command did what it should before the firmware fell silent, nobody knows.
    fn note_silence(&mut self, id: CmdId) {
        if changes_state(id) {
            self.state = None;
        }
        if matches!(id, CmdId::Init | CmdId::InitEx) {
            if self.given == Given::No {
                self.given = Given::Perhaps;
            }
        } else if let Some(nv) = &mut self.nv {
            nv.changed |= changes_nv(id);
        }
    }

    /// The platform was initialised by `id`.
    fn note_init(&mut self, id: CmdId) {
        self.state = Some(PlatformState::Init);
        self.given = Given::Yes;
        self.flush_owed = true;
        let kind = match id {
            CmdId::InitEx => InitKind::InitEx,
            _ => InitKind::Init,
        };
        self.host.ledger(|ledger| ledger.init = Some(kind));
    }

    /// The platform is in UNINIT: what the firmware had is the driver's again.
    fn note_uninit(&mut self) {
        self.state = Some(PlatformState::Uninit);
        self.given = Given::No;
        self.flush_owed = false;
    }

    /// "Later commands fail at once": says why, the first time and then ever more rarely.
    fn log_refused(&mut self, id: CmdId, now_us: u64) {
        self.refused = self.refused.saturating_add(1);
        let Some(owed) = self.exchange.owed() else {
            return;
        };
        if !self.refused.is_power_of_two() {
            return;
        }
        self.host.log(
            Level::Error,
            format_args!(
                "SEV: {} not sent: the PSP has not answered {} for {} s ({} refused so far); \
                 it is used again as soon as it answers; else write 1 to sev_reset of its device, \
                 or power-cycle",
                id.name(),
                owed.id.name(),
                now_us.saturating_sub(owed.since_us) / 1_000_000,
                self.refused
            ),
        );
    }

    /// Says what failed and what can be done; the first time and then ever more rarely.
    fn log_failure(&self, what: CmdId, cause: CmdError) {
        let repeated = self.host.ledger(|ledger| {
            let same =
                |failure: &&crate::ledger::Failure| failure.id == what && failure.cause == cause;
            let count = ledger.failures().find(same).map(|failure| failure.count);
            count.unwrap_or(1)
        });
        if !repeated.is_power_of_two() {
            return;
        }
        let (name, cause) = (what.name(), WithHint(cause));
        self.host
            .log(Level::Error, format_args!("SEV: {name} failed {cause}"));
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
            // Somebody else initialised it, who may not have come to the flush.
            (_, Given::No) => self.flush_owed |= !self.is_initialised(),
            (_, Given::Yes) => {}
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

    /// Whether somebody has to read the file of the non-volatile data before the platform can be
    /// initialised; see [`load_nv`](Self::load_nv).
    pub fn wants_nv(&self) -> bool {
        match &self.nv {
            Some(nv) => !nv.loaded || (!self.may_be_initialised() && !nv.changed),
            None => false,
        }
    }

    /// Whether the firmware may use TMR and non-volatile data, or the platform is initialised without.
    fn may_be_initialised(&self) -> bool {
        self.is_initialised() || self.given != Given::No
    }

    /// Takes the contents of the file of the non-volatile data, [`NV_LEN`] bytes. Does nothing while the
    /// firmware uses those it has, or when they are newer than the file.
    pub fn load_nv(&mut self, file: &[u8]) {
        if !self.wants_nv() {
            return;
        }
        if let Some(nv) = &mut self.nv {
            nv.loaded = nv.mem.write(file).is_ok();
            nv.rejected = false;
        }
    }

    /// Copies the non-volatile data out if a command has changed them since the last time, unless one
    /// that may be changing them has not been answered.
    pub fn take_nv(&mut self, out: &mut [u8]) -> Option<NvTaken> {
        if self.exchange.owed().is_some_and(|owed| changes_nv(owed.id)) {
            return None;
        }
        let nv = self.nv.as_mut().filter(|nv| nv.changed)?;
        nv.mem.read(out).ok()?;
        nv.changed = false;
        Some(NvTaken {
            rejected: core::mem::take(&mut nv.rejected),
        })
    }

    /// Gives back what [`take_nv`](Self::take_nv) said: it could not be stored.
    pub fn untake_nv(&mut self, taken: NvTaken) {
        if let Some(nv) = &mut self.nv {
            nv.changed = true;
            nv.rejected |= taken.rejected;
        }
    }

    /// Takes memory for a TMR, if there is none yet.
    pub fn give_tmr(&mut self, tmr: H::Memory) {
        if self.tmr.is_none() {
            self.host.ledger(|ledger| ledger.tmr_len = Some(tmr.len()));
            self.tmr = Some(tmr);
        }
    }

    /// Whether there is a TMR.
    pub fn has_tmr(&self) -> bool {
        self.tmr.is_some()
    }

    /// Initialises the platform if it is not: INIT or INIT_EX, WBINVD on all CPUs, DF_FLUSH.
    ///
    /// # Errors
    ///
    /// What failed. If the flush failed, the next call tries it again. `ENODEV` after
    /// [`retire`](Self::retire), `EBUSY` during [`rest`](Self::rest), `EAGAIN` if [`wants_nv`](Self::wants_nv).
    pub fn init(&mut self) -> Result<(), InitError> {
        let no_call = |cause| InitError {
            cause,
            fw_error: NO_FW_CALL,
        };
        if let Some(errno) = self.closed {
            return Err(no_call(errno.into()));
        }
        if self.state().map_err(no_call)? == PlatformState::Uninit {
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
        if matches!(&self.nv, Some(nv) if !nv.loaded) {
            return Err(InitError {
                cause: Errno::EAGAIN.into(),
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

    fn init_id(&self) -> CmdId {
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
                format_args!("SEV: failed to SHUTDOWN {cause}"),
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
                self.shutdown().map_err(|cause| NotReady::Failed {
                    cause,
                    fw_error: cause.fw_error(),
                })?;
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
        let failed = |cause: CmdError| NotReady::Failed {
            cause,
            fw_error: cause.fw_error(),
        };
        // Guests may have come since anybody looked, so ask.
        match self.status().map_err(failed)?.state {
            PlatformState::Working => return Err(NotReady::GuestsActive),
            PlatformState::Init => self.shutdown().map_err(failed)?,
            PlatformState::Uninit => {}
        }
        self.call(PlatformReset).map_err(failed)?;
        // In UNINIT the firmware does not know where its data are, so they are erased for it.
        if let Some(nv) = &mut self.nv {
            nv.mem.fill(nv::ERASED);
            nv.loaded = true;
        }
        Ok(())
    }

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
        let failed = |cause: CmdError| NotReady::Failed {
            cause,
            fw_error: cause.fw_error(),
        };
        let before = self.status().map_err(failed)?;
        if before.state == PlatformState::Working || before.guest_count > 0 {
            return Err(NotReady::GuestsActive);
        }
        let times = downloads(before.version);
        if times == 0 {
            return Err(failed(Errno::EOPNOTSUPP.into()));
        }
        if before.state == PlatformState::Init {
            self.shutdown().map_err(failed)?;
        }
        let outcome = (0..times).try_for_each(|_| self.download(image, size));
        // Also after a failure: whoever needs the platform needs it with the old firmware, too.
        let after = outcome.and_then(|()| self.status());
        if before.state == PlatformState::Init {
            // A failure has been logged.
            let _ = self.init();
        }
        let after = after.map_err(failed)?.version;
        self.host
            .ledger(|ledger| ledger.version_before = Some(before.version));
        Ok(after)
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

    /// Tries to have a PSP back that did not answer in time: if it still does not, what it owes is given
    /// up, and it is asked for its status. Commands go through `cmd_buf` then.
    ///
    /// # Errors
    ///
    /// What the firmware says, or does not say.
    pub fn recover(&mut self, cmd_buf: H::Memory) -> Result<Status, CmdError> {
        match self.status() {
            Err(CmdError::Mailbox(Fault::Dead)) => {}
            answered => return answered,
        }
        let bytes = self.exchange.give_up(cmd_buf);
        self.host.log(
            Level::Warning,
            format_args!(
                "SEV: reset: leaking {bytes} bytes that an unanswered command may still write to"
            ),
        );
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
        let failed = |cause: CmdError| NotReady::Failed {
            cause,
            fw_error: cause.fw_error(),
        };
        if self.may_be_initialised() && !self.is_dead() {
            if self.status().map_err(failed)?.guest_count > 0 {
                return Err(NotReady::GuestsActive);
            }
            self.shutdown().map_err(failed)?;
        }
        self.closed = self.closed.or(Some(Errno::EBUSY));
        Ok(())
    }

    /// Ends [`rest`](Self::rest).
    pub fn wake(&mut self) {
        if self.closed == Some(Errno::EBUSY) {
            self.closed = None;
            self.state = None;
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

/// Commands that change the platform's state.
const fn changes_state(id: CmdId) -> bool {
    matches!(
        id,
        CmdId::Init | CmdId::InitEx | CmdId::Shutdown | CmdId::PlatformReset
    )
}

/// Commands that change the persistent data (`SEV-API` chapter 5; as Linux' C driver has them).
const fn changes_nv(id: CmdId) -> bool {
    matches!(
        id,
        CmdId::InitEx | CmdId::PlatformReset | CmdId::PekGen | CmdId::PekCertImport | CmdId::PdhGen
    )
}
