// SPDX-License-Identifier: GPL-2.0
//! What the firmware may use, as a driver can know it that sees nothing but CMDRESP.
//!
//! From the moment a command is rung until a response was *read*, everything the command points to is the
//! firmware's; that the answer may have come unseen does not count. TMR and persistent data are from INIT on,
//! whatever it answers, until the firmware has said that the platform is in UNINIT.

use super::ram::{Owner, Ram};
use psp::{cmd::CmdId, cmdresp::CmdResp};
use psp_emu::firmware::Status;
use std::ops::Range;

/// A command whose answer nobody has seen.
#[derive(Clone, Debug)]
pub struct Unanswered {
    pub id: u16,
    /// Its buffer, and what that points to.
    lent: Vec<Range<u64>>,
    /// What it was taken for; `None` if the device has not taken it, or never completes it.
    status: Option<Status>,
    /// Its caller has gone.
    pub abandoned: bool,
    /// It is not the driver's own: nobody but its caller reads its buffer.
    foreign: bool,
}

/// What the firmware may use.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    unanswered: Option<Unanswered>,
    /// TMR and persistent data.
    kept: Vec<Range<u64>>,
    /// Commands are somebody else's, who passes them on to the driver as bytes.
    pub foreign: bool,
    /// The driver has reason to think that what is unanswered does not run any more.
    pub forgiven: bool,
    /// INIT was done, and not the flush that must follow.
    pub flush_due: bool,
    /// Answers that came after their caller had gone.
    pub late_answers: u32,
}

/// Where commands of the driver have addresses and lengths of buffers (SEV-API chapter 5).
fn pointers(id: u16) -> &'static [(u64, u64)] {
    match id {
        0x006 | 0x00b | 0x00c => &[(0x0, 0x8)],
        0x007 | 0x008 => &[(0x0, 0x8), (0x10, 0x18)],
        _ => &[],
    }
}

/// The same for what INIT and INIT_EX leave with the firmware, and the flag that says whether there is a TMR.
fn keepsakes(id: u16) -> Option<(u64, &'static [(u64, u64)])> {
    match id {
        0x001 => Some((0x0, &[(0x8, 0x10)])),
        0x00d => Some((0x4, &[(0x8, 0x10), (0x18, 0x20)])),
        _ => None,
    }
}

fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Watch {
    /// The command whose answer nobody has seen.
    pub fn unanswered(&self) -> Option<&Unanswered> {
        self.unanswered.as_ref()
    }

    /// The caller of the command that is unanswered, if any, has gone.
    pub fn abandon(&mut self) {
        if let Some(unanswered) = &mut self.unanswered {
            unanswered.abandoned = true;
        }
    }

    /// The caller of the command that is unanswered is killed, or whoever waits for it.
    ///
    /// # Panics
    ///
    /// When the command does more than ask: somebody has to see whether it was done.
    pub(super) fn leave(&mut self) {
        if let Some(unanswered) = &self.unanswered {
            let asks = matches!(unanswered.id, 0x004 | 0x006 | 0x008 | 0x00c);
            let id = unanswered.id;
            assert!(asks || unanswered.abandoned, "{id:#x} left by its caller");
        }
        self.abandon();
    }

    /// The driver has gone: what it has given up is nobody's any more.
    pub fn disown(&mut self) {
        self.kept.clear();
    }

    /// The machine was switched off and on: nobody has anything any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The driver starts a command.
    ///
    /// # Panics
    ///
    /// When another one runs, unless the driver has given up all of its memory; when a buffer is not the driver's.
    pub(super) fn rings(&mut self, id: u16, addr: u64, ram: &Ram) {
        if let Some(before) = &self.unanswered {
            let mut lent = before.lent.iter();
            let leaked = lent.all(|range| ram.all(range, Owner::Leaked));
            let given_up = leaked && (self.forgiven || !before.lent.is_empty());
            assert!(given_up, "{id:#x} rung while {:#x} runs", before.id);
        }
        let addr = ram.plain(addr);
        let known = CmdId::try_from(id).expect("a command that exists");
        let mut lent = Vec::new();
        if known.buffer_len() > 0 {
            lent.push(addr..addr + known.buffer_len() as u64);
        }
        let range = |at: u64, len: u64| {
            let start = ram.plain(u64::from_le_bytes(ram.peek(addr + at)));
            start..start + u64::from(u32::from_le_bytes(ram.peek(addr + len)))
        };
        if !self.foreign {
            lent.extend(pointers(id).iter().map(|&(at, len)| range(at, len)));
        }
        if let Some((flags, at)) = keepsakes(id) {
            let es = ram.peek::<1>(addr + flags)[0] & 1 != 0;
            let kept = at.iter().enumerate().filter(|(i, _)| *i > 0 || es);
            let before = self.kept.len();
            self.kept.extend(kept.map(|(_, &(at, len))| range(at, len)));
            for kept in &self.kept[before..] {
                assert!(ram.all(kept, Owner::Driver), "{id:#x} is given {kept:x?}");
            }
        }
        lent.retain(|range| !range.is_empty());
        for range in &lent {
            assert!(
                ram.all(range, Owner::Driver),
                "{id:#x} points to {range:x?}"
            );
        }
        self.unanswered = Some(Unanswered {
            id,
            lent,
            status: None,
            abandoned: false,
            foreign: self.foreign,
        });
    }

    /// The device has taken the command, and will answer it so.
    pub(super) fn taken(&mut self, id: u16, status: Option<Status>) {
        let Some(unanswered) = &mut self.unanswered else {
            return;
        };
        if unanswered.id == id {
            unanswered.status = status;
        }
        match (id, status) {
            (0x001 | 0x00d, Some(Status::SUCCESS)) => self.flush_due = true,
            (0x002 | 0x003 | 0x00a, Some(Status::SUCCESS)) => self.flush_due = false,
            _ => {}
        }
    }

    /// The driver has read CMDRESP.
    pub(super) fn saw(&mut self, cmdresp: CmdResp, ram: &Ram) {
        if cmdresp.is_all_ones() || cmdresp.status().is_none() {
            return;
        }
        let Some(answered) = self.unanswered.take() else {
            return;
        };
        self.late_answers += u32::from(answered.abandoned);
        self.forgiven = false;
        let lies = cmdresp.status().map(|status| status.code()) != Some(0);
        if answered.status != Some(Status::SUCCESS) || lies {
            return;
        }
        let state = |buffer: &Range<u64>| ram.peek::<1>(buffer.start + 2)[0];
        let uninit = || answered.lent.first().map(state) == Some(0);
        match answered.id {
            // An answer that came too late, or that is not the driver's, tells it nothing.
            0x002 | 0x003 if !answered.abandoned => self.kept.clear(),
            0x004 if !answered.foreign && !answered.abandoned && uninit() => self.kept.clear(),
            _ => {}
        }
    }

    /// Where the firmware keeps its persistent data, as far as the driver may know.
    pub fn persistent_data(&self) -> Option<Range<u64>> {
        let len = |range: &&Range<u64>| range.end - range.start == 32 << 10;
        self.kept.iter().find(len).cloned()
    }

    fn lends(&self, range: &Range<u64>) -> bool {
        let mut lent = self
            .unanswered
            .iter()
            .flat_map(|unanswered| &unanswered.lent);
        lent.any(|lent| overlaps(lent, range))
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        self.kept.iter().any(|kept| overlaps(kept, range))
    }

    pub(super) fn check_access(&self, what: &str, range: &Range<u64>) {
        let unanswered = self.unanswered.as_ref().map(|unanswered| unanswered.id);
        assert!(
            !self.lends(range),
            "{range:x?} {what} while {unanswered:x?} runs"
        );
        // INIT_EX and what changes keys write the persistent data.
        let writes = matches!(unanswered, Some(0x00d | 0x005 | 0x007 | 0x009));
        assert!(
            !(writes && self.keeps(range)),
            "{range:x?} {what} while {unanswered:x?} runs"
        );
    }

    pub(super) fn check_write(&self, range: &Range<u64>) {
        assert!(!self.keeps(range), "{range:x?} changed under the firmware");
    }

    pub(super) fn check_free(&self, range: &Range<u64>) {
        self.check_access("freed", range);
        assert!(
            !self.keeps(range),
            "{range:x?} freed while the firmware has it"
        );
    }

    pub(super) fn check_leak(&self, range: &Range<u64>) {
        assert!(
            self.lends(range) || self.keeps(range),
            "{range:x?} leaked without need"
        );
    }
}
