// SPDX-License-Identifier: GPL-2.0
//! The PSP's PCI function: registers, mailbox, interrupt, faults.
//!
//! Pure: time comes in as an argument, interrupts and finished commands go out as return values. A
//! command runs when it is written to the mailbox; a late one is run then too and published when
//! [`Device::tick`] is called after its time.

pub mod fault;
pub mod latency;
mod pci_config;

pub use pci_config::{PciConfig, BAR2_LEN, BAR5_LEN, CONFIG_LEN, VECTORS};

use crate::{
    firmware::{Firmware, Status},
    memory::GuestMemory,
    model::Model,
};
use fault::{Faults, Kind};
use latency::Latency;
use std::time::Duration;

/// CMDRESP, request view: interrupt on completion.
const REQUEST_IOC: u32 = 1 << 0;
/// CMDRESP, request view: command id, 11 bits.
const REQUEST_COMMAND_SHIFT: u32 = 16;
const REQUEST_COMMAND_MASK: u32 = 0x7ff;
/// CMDRESP, response view: the command has completed and the low half is its status.
const RESPONSE: u32 = 1 << 31;
/// INTEN and INTSTS: a mailbox command has completed.
const INT_COMMAND_COMPLETE: u32 = 1 << 1;

/// Number of accesses to BAR 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    pub reads: u64,
    pub writes: u64,
}

/// One mailbox command, as the trace shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the command was written.
    pub time: Duration,
    pub id: u16,
    /// Contents of the address registers.
    pub addr: u64,
    /// `None` when the command never completes.
    pub status: Option<Status>,
    /// Whether completion raises the interrupt.
    pub interrupt: bool,
    /// Accesses since the previous command, the write of this one included.
    pub accesses: Accesses,
}

/// What an access or the passing of time has led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Raise the interrupt, once.
    pub interrupt: bool,
    /// A command was taken.
    pub record: Option<Record>,
}

/// A command that is taken and not yet completed.
#[derive(Clone, Copy, Debug)]
struct Running {
    response: u32,
    interrupt: bool,
    /// `None`: never.
    due: Option<Duration>,
}

/// The PCI function with the firmware behind it.
pub struct Device {
    model: &'static Model,
    firmware: Firmware,
    /// Faults of the device; may be changed at any time.
    pub faults: Faults,
    /// How long commands take; may be changed at any time.
    pub latency: Latency,
    config: PciConfig,
    cmdresp: u32,
    addr_lo: u32,
    addr_hi: u32,
    inten: u32,
    intsts: u32,
    running: Option<Running>,
    accesses: Accesses,
}

impl Device {
    /// A device after power-on.
    #[must_use]
    pub fn new(model: &'static Model, firmware: Firmware, faults: Faults) -> Self {
        Self {
            model,
            firmware,
            faults,
            latency: Latency::NONE,
            config: PciConfig::new(model),
            cmdresp: RESPONSE,
            addr_lo: 0,
            addr_hi: 0,
            inten: 0,
            intsts: 0,
            running: None,
            accesses: Accesses::default(),
        }
    }

    /// A power cycle: registers, configuration space and firmware start afresh. Faults and latency stay.
    pub fn reset(&mut self) {
        self.firmware.reset();
        self.config = PciConfig::new(self.model);
        self.cmdresp = RESPONSE;
        (self.addr_lo, self.addr_hi, self.inten, self.intsts) = (0, 0, 0, 0);
        self.running = None;
        self.accesses = Accesses::default();
    }

    /// The model this device is of.
    #[must_use]
    pub fn model(&self) -> &'static Model {
        self.model
    }

    /// Accesses to BAR 2 since the last command.
    #[must_use]
    pub fn accesses(&self) -> Accesses {
        self.accesses
    }

    /// Reads configuration space.
    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    /// Writes configuration space.
    pub fn config_write(&mut self, offset: u64, data: &[u8]) {
        self.config.write(offset, data);
    }

    /// Reads BAR 2: any length at any offset. What is no register reads as zero.
    pub fn bar2_read(&mut self, offset: u64, data: &mut [u8]) {
        self.accesses.reads += 1;
        for (at, byte) in data.iter_mut().enumerate() {
            let address = offset.wrapping_add(at as u64);
            let register = self.register(address & !3).to_le_bytes();
            // CAST: two bits.
            *byte = register[(address & 3) as usize];
        }
    }

    /// Writes BAR 2. Registers take whole, aligned 32-bit words (two of them in a 64-bit access);
    /// anything else is ignored, as is a write to what is no register.
    pub fn bar2_write(
        &mut self,
        offset: u64,
        data: &[u8],
        memory: &mut dyn GuestMemory,
        now: Duration,
    ) -> Outcome {
        self.accesses.writes += 1;
        let mut outcome = Outcome::default();
        if offset % 4 != 0 || !matches!(data.len(), 4 | 8) || self.faults.has(Kind::AllOnes) {
            return outcome;
        }
        for (index, word) in data.chunks_exact(4).enumerate() {
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let part =
                self.write_register(offset.wrapping_add(4 * index as u64), value, memory, now);
            outcome.interrupt |= part.interrupt;
            outcome.record = part.record.or(outcome.record);
        }
        outcome
    }

    /// When [`Device::tick`] has something to do next.
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        self.running.and_then(|running| running.due)
    }

    /// Lets time pass: publishes a late command whose time has come.
    pub fn tick(&mut self, now: Duration) -> Outcome {
        let due = self
            .running
            .filter(|running| running.due.is_some_and(|due| due <= now));
        let interrupt = due.is_some_and(|running| self.complete(running));
        Outcome {
            interrupt,
            record: None,
        }
    }

    fn register(&self, offset: u64) -> u32 {
        if self.faults.has(Kind::AllOnes) {
            return u32::MAX;
        }
        let map = &self.model.registers;
        match offset {
            at if at == map.cmdresp && self.faults.has(Kind::StuckBusy) => self.cmdresp & !RESPONSE,
            at if at == map.cmdresp => self.cmdresp,
            at if at == map.addr_lo => self.addr_lo,
            at if at == map.addr_hi => self.addr_hi,
            at if at == map.bootloader => self.model.bootloader,
            at if at == map.capability => self.model.capability,
            at if at == map.inten => self.inten,
            at if at == map.intsts => self.intsts,
            _ => 0,
        }
    }

    fn write_register(
        &mut self,
        offset: u64,
        value: u32,
        memory: &mut dyn GuestMemory,
        now: Duration,
    ) -> Outcome {
        let map = &self.model.registers;
        if offset == map.addr_lo {
            self.addr_lo = value;
        } else if offset == map.addr_hi {
            self.addr_hi = value;
        } else if offset == map.inten {
            let newly_enabled = value & !self.inten & self.intsts;
            self.inten = value;
            return Outcome {
                interrupt: newly_enabled != 0,
                record: None,
            };
        } else if offset == map.intsts {
            self.intsts &= !value;
        } else if offset == map.cmdresp {
            return self.write_cmdresp(value, memory, now);
        }
        Outcome::default()
    }

    /// A write with the response bit clear is a command. While one is running none is taken.
    fn write_cmdresp(
        &mut self,
        value: u32,
        memory: &mut dyn GuestMemory,
        now: Duration,
    ) -> Outcome {
        if self.running.is_some() || self.faults.has(Kind::StuckBusy) {
            return Outcome::default();
        }
        self.cmdresp = value;
        if value & RESPONSE != 0 {
            return Outcome::default();
        }
        // CAST: masked to 11 bits.
        let id = ((value >> REQUEST_COMMAND_SHIFT) & REQUEST_COMMAND_MASK) as u16;
        let addr = (u64::from(self.addr_hi) << 32) | u64::from(self.addr_lo);
        let effect = self.faults.apply(id);
        let status =
            (!effect.no_response).then(|| self.firmware.execute(id, addr, memory, effect.over));
        let delay = effect.delay + self.latency.of(id, self.firmware.moved());
        let running = Running {
            response: RESPONSE | u32::from(status.unwrap_or(Status::SUCCESS).0),
            interrupt: value & REQUEST_IOC != 0 && !effect.lost_irq,
            due: status.map(|_| now.saturating_add(delay)),
        };
        self.running = Some(running);
        let record = Record {
            time: now,
            id,
            addr,
            status,
            interrupt: status.is_some() && running.interrupt,
            accesses: std::mem::take(&mut self.accesses),
        };
        let outcome = self.tick(now);
        Outcome {
            record: Some(record),
            ..outcome
        }
    }

    /// Publishes a completed command; true when the interrupt is to be raised.
    fn complete(&mut self, running: Running) -> bool {
        self.running = None;
        self.cmdresp = running.response;
        if running.interrupt {
            self.intsts |= INT_COMMAND_COMPLETE;
        }
        running.interrupt && self.inten & INT_COMMAND_COMPLETE != 0
    }
}
