// SPDX-License-Identifier: GPL-2.0

//! What the log says of KVM's commands that the firmware refuses: which guest, which ASID, which memory.

use super::Driver;
use crate::cmd::subject::Subject;
use crate::cmd::{guest, CmdId};
use crate::error::CmdError;
use crate::host::{Host, Level};
use crate::status::FwStatus;

/// So many guests' ASIDs are remembered: a launch has few commands after its ACTIVATE.
const REMEMBERED: usize = 32;

/// At most so many lines in [`SPELL_US`]; whoever may open `/dev/kvm` can have commands refused.
const LINES: u32 = 10;
const SPELL_US: u64 = 5_000_000;

/// What is kept for it.
pub(super) struct Guests {
    /// The last that were activated: handle and ASID.
    activated: [Option<(u32, u32)>; REMEMBERED],
    next: usize,
    /// When the current spell began, and what it has said and kept to itself.
    spell_us: u64,
    lines: u32,
    unsaid: u32,
}

impl Guests {
    pub(super) const fn new() -> Self {
        Guests {
            activated: [None; REMEMBERED],
            next: 0,
            spell_us: 0,
            lines: 0,
            unsaid: 0,
        }
    }

    fn asid(&self, handle: u32) -> Option<u32> {
        let mut known = self.activated.iter().flatten();
        Some(known.find(|(of, _)| *of == handle)?.1)
    }

    fn activate(&mut self, handle: u32, asid: u32) {
        self.deactivate(handle);
        if let Some(slot) = self.activated.get_mut(self.next) {
            *slot = Some((handle, asid));
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    fn deactivate(&mut self, handle: u32) {
        let of = |slot: &&mut Option<(u32, u32)>| slot.is_some_and(|(known, _)| known == handle);
        if let Some(slot) = self.activated.iter_mut().find(of) {
            *slot = None;
        }
    }

    /// Whether there may be a line, and how many there were not since the last.
    fn may_say(&mut self, now_us: u64) -> Option<u32> {
        if now_us.saturating_sub(self.spell_us) >= SPELL_US {
            (self.spell_us, self.lines) = (now_us, 0);
        }
        if self.lines == LINES {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(core::mem::take(&mut self.unsaid))
    }
}

impl<H: Host> Driver<H> {
    /// A guest's command was answered with `status`.
    pub(super) fn note_guest(&mut self, id: CmdId, subject: Option<Subject>, status: FwStatus) {
        let Some(mut subject) = subject else {
            return;
        };
        match (id, status, subject.asid) {
            (CmdId::Activate, FwStatus::SUCCESS, Some(asid)) => {
                self.guests.activate(subject.handle, asid);
            }
            (CmdId::Deactivate | CmdId::Decommission, FwStatus::SUCCESS, _) => {
                self.guests.deactivate(subject.handle);
            }
            (_, FwStatus::SUCCESS, _) => {}
            // How KVM's callers ask for a length.
            (_, FwStatus::INVALID_LEN, _) if !guest::outputs(id).is_empty() => {}
            _ => {
                subject.asid = subject.asid.or_else(|| self.guests.asid(subject.handle));
                self.log_guest(id, subject, status);
            }
        }
    }

    /// Without a hint: those are about the platform.
    fn log_guest(&mut self, id: CmdId, subject: Subject, status: FwStatus) {
        let Some(unsaid) = self.guests.may_say(self.host.now_us()) else {
            return;
        };
        if unsaid > 0 {
            self.host.log(
                Level::Error,
                format_args!("SEV: {unsaid} refusals of guests' commands were not logged"),
            );
        }
        let (name, cause) = (id.name(), CmdError::Firmware(status));
        self.host.log(
            Level::Error,
            format_args!("SEV: {name} of {subject} failed {cause}"),
        );
    }
}
