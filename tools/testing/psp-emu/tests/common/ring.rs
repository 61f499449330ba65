// SPDX-License-Identifier: GPL-2.0
//! A driver of the ring buffer mode: bytes in queues and registers, by hand from AMD's published sources.

use super::{
    id,
    machine::{Machine, READY},
    COMMAND,
};
use crate::buffer;
use psp_emu::{
    device::{Outcome, Queue},
    memory::GuestMemory,
    model::{Model, GENOA},
};

pub const LOW_COMMANDS: u64 = 0x4_0000;
pub const LOW_STATUSES: u64 = 0x4_1000;
pub const HIGH_COMMANDS: u64 = 0x4_2000;
pub const HIGH_STATUSES: u64 = 0x4_3000;

/// Control: x86 in control, mode active.
pub const GO: u32 = 0xc000_0000;
pub const CLEAR: u32 = 0x2000_0000;
pub const RESUME_LOW: u32 = 0x100;
pub const RESUME_HIGH: u32 = 0x200;
pub const LOW_NEAR_EMPTY: u32 = 1;
pub const HIGH_NEAR_EMPTY: u32 = 2;

/// Heads: which queues run.
pub const BOTH: u32 = 0x0800_0800;
pub const LOW_ONLY: u32 = 0x0000_0800;
pub const HIGH_ONLY: u32 = 0x0800_0000;
/// Heads: why there was an interrupt.
pub const ALL_EMPTY: u32 = 0x1000_0000;
pub const DONE: u32 = 0x2000_0000;
pub const PAUSED: u32 = 0x4000_0000;
pub const NEAR_EMPTY: u32 = 0x8000_0000;

/// Entry flags.
pub const INTERRUPT: u16 = 1;
pub const CONTINUE: u16 = 2;

/// A status entry nobody has written to.
pub const UNTOLD: u16 = 0xeeee;

/// The command buffer of RING_BUFFER.
#[derive(Clone, Copy)]
pub struct Parameters {
    pub low: [u64; 2],
    pub high: [u64; 2],
    pub sizes: [u8; 2],
    pub low_threshold: u16,
    pub high_threshold: u16,
    pub int_on_empty: u16,
}

pub const PARAMETERS: Parameters = Parameters {
    low: [LOW_COMMANDS, LOW_STATUSES],
    high: [HIGH_COMMANDS, HIGH_STATUSES],
    sizes: [1, 1],
    low_threshold: 0,
    high_threshold: 0,
    int_on_empty: 0,
};

impl Parameters {
    pub fn bytes(self) -> Vec<u8> {
        buffer![
            self.low[0],
            self.low[1],
            self.high[0],
            self.high[1],
            self.sizes[0],
            self.sizes[1],
            self.low_threshold,
            self.high_threshold,
            self.int_on_empty,
        ]
    }
}

/// A driver in ring buffer mode.
pub struct Host {
    pub machine: Machine,
    pub low_tail: u8,
    pub high_tail: u8,
}

impl Host {
    /// After INIT and RING_BUFFER, interrupts enabled.
    pub fn new(parameters: Parameters) -> Self {
        let mut host = Self::without_mode(&GENOA);
        assert_eq!(host.enter(parameters), READY);
        host
    }

    /// After INIT.
    pub fn without_mode(model: &'static Model) -> Self {
        let mut machine = Machine::new(model, &[]);
        machine.enable_interrupts();
        machine.ram.write(COMMAND, &[0; 20]).unwrap();
        machine.command(id::INIT, 0);
        assert_eq!(machine.response(), READY);
        Self {
            machine,
            low_tail: 0,
            high_tail: 0,
        }
    }

    /// Sends RING_BUFFER; the response register.
    pub fn enter(&mut self, parameters: Parameters) -> u32 {
        for page in [LOW_STATUSES, HIGH_STATUSES] {
            self.machine.ram.write(page, &[0xee; 0x1000]).unwrap();
        }
        self.machine
            .ram
            .write(COMMAND, &parameters.bytes())
            .unwrap();
        self.machine.command(id::RING_BUFFER, 0);
        (self.low_tail, self.high_tail) = (0, 0);
        self.machine.response()
    }

    /// Puts a command behind the last one of a queue, with its buffer at [`COMMAND`].
    pub fn queue(&mut self, queue: Queue, id: u16, flags: u16) {
        let (page, tail) = match queue {
            Queue::High => (HIGH_COMMANDS, &mut self.high_tail),
            Queue::Low => (LOW_COMMANDS, &mut self.low_tail),
        };
        let entry = buffer![id, flags, 0x5057_u32, COMMAND];
        self.machine
            .ram
            .write(page + 16 * u64::from(*tail), &entry)
            .unwrap();
        *tail = tail.wrapping_add(1);
    }

    pub fn low(&mut self, id: u16, flags: u16) {
        self.queue(Queue::Low, id, flags);
    }

    pub fn high(&mut self, id: u16, flags: u16) {
        self.queue(Queue::High, id, flags);
    }

    pub fn write_tails(&mut self) {
        let tails = u32::from(self.low_tail) | (u32::from(self.high_tail) << 16);
        let register = self.machine.device.model().registers.addr_hi;
        self.machine.write(register, tails);
    }

    pub fn control(&mut self, control: u32) -> Outcome {
        let register = self.machine.device.model().registers.cmdresp;
        self.machine.write(register, control)
    }

    /// Tells the PSP of what was queued.
    pub fn go(&mut self, control: u32) -> Outcome {
        self.write_tails();
        self.control(GO | control)
    }

    pub fn heads(&mut self) -> u32 {
        let register = self.machine.device.model().registers.addr_lo;
        self.machine.read(register)
    }

    pub fn status(&self, queue: Queue, index: u8) -> u16 {
        let page = match queue {
            Queue::High => HIGH_STATUSES,
            Queue::Low => LOW_STATUSES,
        };
        let mut status = [0; 2];
        let at = page + 16 * u64::from(index);
        self.machine.ram.read(at, &mut status).unwrap();
        u16::from_le_bytes(status)
    }

    pub fn low_status(&self, index: u8) -> u16 {
        self.status(Queue::Low, index)
    }

    pub fn high_status(&self, index: u8) -> u16 {
        self.status(Queue::High, index)
    }

    pub fn fault(&mut self, fault: &str) {
        self.machine.device.faults.add(fault.parse().unwrap());
    }

    /// Runs NOP through the mailbox.
    pub fn mailbox_works(&mut self) {
        self.machine.command(id::NOP, 0);
        assert_eq!(self.machine.response(), READY);
    }
}

/// Ids of what was taken.
pub fn ids(outcome: &Outcome) -> Vec<u16> {
    outcome.records.iter().map(|record| record.id).collect()
}

/// Which of them raise an interrupt.
pub fn interrupts(outcome: &Outcome) -> Vec<bool> {
    outcome
        .records
        .iter()
        .map(|record| record.interrupt)
        .collect()
}
