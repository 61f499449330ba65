// SPDX-License-Identifier: GPL-2.0

//! Keeps the books: what each command's end tells about the platform, and what the log says.

use super::{Driver, Given};
use crate::cmd::CmdId;
use crate::error::{CmdError, WithHint};
use crate::host::{Host, Level, Memory};
use crate::ledger::{Failure, InitKind};
use crate::mailbox::Fault;
use crate::platform::PlatformState;
use crate::status::FwStatus;

impl<H: Host> Driver<H> {
    /// Keeps the books, and what is known about the platform in step with the commands that change it.
    pub(super) fn note(&mut self, id: CmdId, outcome: Result<FwStatus, CmdError>) {
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

    pub(super) fn note_status(&mut self, id: CmdId, status: FwStatus) {
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
    pub(super) fn note_silence(&mut self, id: CmdId) {
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
    pub(super) fn note_init(&mut self, id: CmdId) {
        self.state = Some(PlatformState::Init);
        self.given = Given::Yes;
        self.flush_owed = true;
        let kind = match id {
            CmdId::InitEx => InitKind::InitEx,
            _ => InitKind::Init,
        };
        let tmr = self.tmr.as_ref().filter(|_| !self.without_tmr);
        let tmr_len = tmr.map(Memory::len);
        self.host.ledger(|ledger| {
            ledger.init = Some(kind);
            ledger.tmr_len = tmr_len;
        });
    }

    /// The platform is in UNINIT: what the firmware had is the driver's again.
    pub(super) fn note_uninit(&mut self) {
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
    pub(super) fn log_failure(&self, what: CmdId, cause: CmdError) {
        let repeated = self.host.ledger(|ledger| {
            let same = |failure: &&Failure| failure.id == what && failure.cause == cause;
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
}

/// Commands that change the platform's state.
const fn changes_state(id: CmdId) -> bool {
    matches!(
        id,
        CmdId::Init | CmdId::InitEx | CmdId::Shutdown | CmdId::PlatformReset
    )
}

/// Commands that change the persistent data (`SEV-API` chapter 5; as Linux' C driver has them).
pub(super) const fn changes_nv(id: CmdId) -> bool {
    matches!(
        id,
        CmdId::InitEx | CmdId::PlatformReset | CmdId::PekGen | CmdId::PekCertImport | CmdId::PdhGen
    )
}
