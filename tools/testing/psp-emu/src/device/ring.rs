// SPDX-License-Identifier: GPL-2.0
//! The ring buffer mode: commands come from two queues in RAM, one of high and one of low priority.
//!
//! CMDRESP becomes the control register and CMDBUFADDR_HI holds the tails, both written by the x86;
//! CMDBUFADDR_LO holds the heads and status bits, written by the firmware. Layouts and behaviour are those
//! of the firmware sources AMD published for Genoa (`sev_ring_buffer.h`, `sev_ring_buffer.c`).
//!
//! Pure: what the registers hold comes in as arguments.

use crate::{
    firmware::{QueuePages, RingBuffer, Status},
    memory::GuestMemory,
};

/// Control: forget the status bits.
const CONTROL_CLEAR: u32 = 1 << 29;
/// Control: the x86 has written a control word of this mode. Anything else ends the mode.
const CONTROL_IN_MODE: u32 = (1 << 31) | (1 << 30);

/// Heads: there was nothing to do.
const HEAD_ALL_EMPTY: u32 = 1 << 28;
/// Heads: a command with [`FLAG_INTERRUPT`] has completed.
const HEAD_COMMAND_DONE: u32 = 1 << 29;
/// Heads: a queue was paused by a command that failed.
const HEAD_PAUSED: u32 = 1 << 30;
/// Heads: a queue is near empty.
const HEAD_NEAR_EMPTY: u32 = 1 << 31;
/// Heads, in a queue's half: the queue is running.
const HEAD_RUNNING: u32 = 1 << 11;

/// Command entry: interrupt on completion.
const FLAG_INTERRUPT: u16 = 1 << 0;
/// Command entry: go on after an error.
const FLAG_CONTINUE: u16 = 1 << 1;

/// Length in bytes of an entry of either kind; a page holds 256.
const ENTRY_LEN: u64 = 16;
/// Offset of the error stack in a status entry.
const ERROR_STACK: u64 = 8;

/// A queue, by its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    High,
    Low,
}

impl Queue {
    /// Its name in the trace.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
        }
    }

    /// Position of its half in the tails and heads.
    fn shift(self) -> u32 {
        match self {
            Self::High => 16,
            Self::Low => 0,
        }
    }

    /// Control: interrupt when it is near empty.
    fn near_empty_enable(self) -> u32 {
        match self {
            Self::High => 1 << 1,
            Self::Low => 1 << 0,
        }
    }

    /// Control: let it run again. It does once this bit is clear again.
    fn resume(self) -> u32 {
        match self {
            Self::High => 1 << 9,
            Self::Low => 1 << 8,
        }
    }
}

/// A command taken from a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) queue: Queue,
    pub(super) id: u16,
    /// Address of the command buffer.
    pub(super) addr: u64,
    flags: u16,
    /// An interrupt for a queue near empty goes with the command's completion.
    near_empty: bool,
}

impl Entry {
    /// Whether completion with this status raises the interrupt.
    pub(super) fn interrupts(self, status: Status) -> bool {
        self.near_empty || self.flags & FLAG_INTERRUPT != 0 || self.pauses(status)
    }

    fn pauses(self, status: Status) -> bool {
        status != Status::SUCCESS && self.flags & FLAG_CONTINUE == 0
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Command(Entry),
    /// Nothing before the next write to the control register; `interrupt` says whether to raise one.
    Nothing {
        interrupt: bool,
    },
}

/// A queue and how far it is.
struct Lane {
    queue: Queue,
    pages: QueuePages,
    /// Index of the next command; 256 entries, so it wraps around by itself.
    head: u8,
    running: bool,
}

impl Lane {
    fn new(queue: Queue, pages: QueuePages) -> Self {
        Self {
            queue,
            pages,
            head: 0,
            running: true,
        }
    }

    /// Index behind the last command.
    fn tail(&self, tails: u32) -> u8 {
        // CAST: its half's low byte.
        (tails >> self.queue.shift()) as u8
    }

    fn near_empty(&self, tails: u32) -> bool {
        u16::from(self.tail(tails).wrapping_sub(self.head)) < self.pages.threshold
    }

    fn status_entry(&self) -> u64 {
        self.pages.statuses + ENTRY_LEN * u64::from(self.head)
    }

    /// Reads the next command. `None` when the queue is no longer RAM: its status could not be told.
    fn fetch(&self, near_empty: bool, memory: &dyn GuestMemory) -> Option<Entry> {
        let mut entry = [0; ENTRY_LEN as usize];
        let addr = self.pages.commands + ENTRY_LEN * u64::from(self.head);
        memory.read(addr, &mut entry).ok()?;
        if !memory.is_writable(self.status_entry(), ENTRY_LEN) {
            return None;
        }
        // Bytes 4 to 7 are the software's own.
        let [id0, id1, flags0, flags1, _, _, _, _, addr @ ..] = entry;
        Some(Entry {
            queue: self.queue,
            id: u16::from_le_bytes([id0, id1]),
            addr: u64::from_le_bytes(addr),
            flags: u16::from_le_bytes([flags0, flags1]),
            near_empty,
        })
    }

    /// Its half of the heads.
    fn bits(&self) -> u32 {
        let running = if self.running { HEAD_RUNNING } else { 0 };
        (u32::from(self.head) | running) << self.queue.shift()
    }
}

/// The ring buffer mode, from RING_BUFFER to whatever ends it.
pub(super) struct Ring {
    /// In the order in which they are served.
    lanes: Vec<Lane>,
    interrupt_on_empty: bool,
    /// Status bits of the heads.
    pending: u32,
}

impl Ring {
    pub(super) fn new(queues: RingBuffer) -> Self {
        let high = queues.high.map(|pages| Lane::new(Queue::High, pages));
        let low = Lane::new(Queue::Low, queues.low);
        Self {
            lanes: high.into_iter().chain([low]).collect(),
            interrupt_on_empty: queues.interrupt_on_empty,
            pending: 0,
        }
    }

    /// Whether what was written to CMDRESP leaves the mode on.
    pub(super) fn goes_on(control: u32) -> bool {
        control & CONTROL_IN_MODE == CONTROL_IN_MODE
    }

    /// What CMDBUFADDR_LO is to hold.
    pub(super) fn heads(&self) -> u32 {
        let lanes = self.lanes.iter().map(Lane::bits);
        lanes.fold(self.pending, |heads, lane| heads | lane)
    }

    /// Follows the control register, then takes the first command of the first queue that has one.
    pub(super) fn next(&mut self, control: u32, tails: u32, memory: &dyn GuestMemory) -> Next {
        if control & CONTROL_CLEAR != 0 {
            self.pending = 0;
        }
        for lane in &mut self.lanes {
            lane.running |= control & lane.queue.resume() != 0;
        }
        let mut near_empty = false;
        for lane in &self.lanes {
            if !lane.running || control & lane.queue.resume() != 0 {
                continue;
            }
            if control & lane.queue.near_empty_enable() != 0 && lane.near_empty(tails) {
                self.pending |= HEAD_NEAR_EMPTY;
                near_empty = true;
            }
            if lane.head != lane.tail(tails) {
                let interrupt = near_empty;
                let entry = lane.fetch(near_empty, memory);
                return entry.map_or(Next::Nothing { interrupt }, Next::Command);
            }
        }
        if self.interrupt_on_empty {
            self.pending |= HEAD_ALL_EMPTY;
        }
        Next::Nothing {
            interrupt: near_empty || self.interrupt_on_empty,
        }
    }

    /// A command has completed: tells its status and goes on to the next, or pauses the queue.
    pub(super) fn finish(&mut self, entry: Entry, status: Status, memory: &mut dyn GuestMemory) {
        for lane in &mut self.lanes {
            if lane.queue != entry.queue {
                continue;
            }
            // The reserved bytes between the two stay. The error stack names places in AMD's sources: none here.
            // RAM that has gone since the command was taken has no readers.
            let _ = memory.write(lane.status_entry(), &status.0.to_le_bytes());
            let _ = memory.write(lane.status_entry() + ERROR_STACK, &[0; 8]);
            lane.head = lane.head.wrapping_add(1);
            lane.running &= !entry.pauses(status);
        }
        if entry.pauses(status) {
            self.pending |= HEAD_PAUSED;
        }
        if entry.flags & FLAG_INTERRUPT != 0 {
            self.pending |= HEAD_COMMAND_DONE;
        }
    }
}
