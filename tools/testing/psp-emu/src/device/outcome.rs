// SPDX-License-Identifier: GPL-2.0
//! What an access to the device leads to: interrupts and finished commands, for whoever drives it.

use super::Queue;
use crate::firmware::Status;
use std::time::Duration;

/// Number of accesses to BAR 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    pub reads: u64,
    pub writes: u64,
}

/// One command, as the trace shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the command was written, or taken from its queue.
    pub time: Duration,
    pub id: u16,
    /// Address of the command buffer.
    pub addr: u64,
    /// `None` when the command never completes.
    pub status: Option<Status>,
    /// Whether completion raises the interrupt.
    pub interrupt: bool,
    /// Where it came from in ring buffer mode.
    pub queue: Option<Queue>,
    /// Accesses since the previous command, the write of this one included.
    pub accesses: Accesses,
}

/// What an access or the passing of time has led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Raise the interrupt, once.
    pub interrupt: bool,
    /// Commands that were taken.
    pub records: Vec<Record>,
}

impl Outcome {
    pub(super) fn add(&mut self, more: Self) {
        self.interrupt |= more.interrupt;
        self.records.extend(more.records);
    }
}
