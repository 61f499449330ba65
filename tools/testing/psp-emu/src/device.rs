// SPDX-License-Identifier: GPL-2.0
//! The PSP's PCI function: registers, mailbox, interrupt, faults.
//!
//! Pure: time comes in as an argument, interrupts and finished commands go out as return values. A
//! command runs when it is written to the mailbox; a late one is run then too and published when
//! [`Device::tick`] is called after its time. In ring buffer mode a command runs when the one before it has
//! been published.

pub mod fault;
pub mod latency;
mod outcome;
mod pci_config;
mod ring;

pub use outcome::{Accesses, Outcome, Record};
pub(crate) use pci_config::plain as plain_config;
pub use pci_config::{BAR2_LEN, BAR5_LEN, VECTORS};
pub use ring::Queue;

use crate::{
    firmware::{Firmware, Status},
    memory::GuestMemory,
    model::Model,
};
use fault::{Effect, Faults, Kind};
use latency::Latency;
use ring::{Entry, Next, Ring};
use std::{collections::BTreeSet, time::Duration};
use vfio_device::config::ConfigSpace;

/// CMDRESP, request view: interrupt on completion.
const REQUEST_IOC: u32 = 1 << 0;
/// CMDRESP, request view: command id, 11 bits.
const REQUEST_COMMAND_SHIFT: u32 = 16;
const REQUEST_COMMAND_MASK: u32 = 0x7ff;
/// CMDRESP, response view: the command has completed and the low half is its status.
const RESPONSE: u32 = 1 << 31;
/// INTEN and INTSTS: a mailbox command has completed.
const INT_COMMAND_COMPLETE: u32 = 1 << 1;
/// The time between an interrupt and the second one of [`Kind::DoubleIrq`], and between one that comes too early and
/// the completion.
const BETWEEN_INTERRUPTS: Duration = Duration::from_millis(1);

/// Where a command came from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Mailbox,
    Queue(Entry),
}

/// When a completion's interrupt comes.
#[derive(Clone, Copy, Debug)]
struct Interrupts {
    /// So long after the completion.
    late: Duration,
    /// And once more.
    again: bool,
}

/// A command that is taken and not yet completed.
#[derive(Clone, Copy, Debug)]
struct Running {
    source: Source,
    status: Status,
    interrupt: bool,
    /// What the response register holds afterwards instead of the status.
    garbage: Option<u32>,
    interrupts: Interrupts,
    /// `None`: never.
    due: Option<Duration>,
}

/// Reads any length at any offset of a region of 32-bit registers.
pub(crate) fn read_registers(offset: u64, data: &mut [u8], register: impl Fn(u64) -> u32) {
    for (at, byte) in data.iter_mut().enumerate() {
        let address = offset.wrapping_add(at as u64);
        // CAST: two bits.
        *byte = register(address & !3).to_le_bytes()[(address & 3) as usize];
    }
}

/// The PCI function with the firmware behind it.
pub struct Device {
    model: &'static Model,
    firmware: Firmware,
    /// Faults of the device; may be changed at any time.
    pub faults: Faults,
    /// How long commands take; may be changed at any time.
    pub latency: Latency,
    config: ConfigSpace,
    cmdresp: u32,
    addr_lo: u32,
    addr_hi: u32,
    inten: u32,
    intsts: u32,
    running: Option<Running>,
    /// When interrupts come apart from completions.
    stray_interrupts: BTreeSet<Duration>,
    /// In ring buffer mode.
    ring: Option<Ring>,
    /// Not there any more, by [`Kind::Vanish`].
    vanished: bool,
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
            config: pci_config::psp(model),
            cmdresp: RESPONSE,
            addr_lo: 0,
            addr_hi: 0,
            inten: 0,
            intsts: 0,
            running: None,
            stray_interrupts: BTreeSet::new(),
            ring: None,
            vanished: false,
            accesses: Accesses::default(),
        }
    }

    /// A power cycle: registers, configuration space and firmware start afresh. Faults and latency stay.
    pub fn reset(&mut self) {
        self.firmware.reset();
        self.config = pci_config::psp(self.model);
        self.cmdresp = RESPONSE;
        (self.addr_lo, self.addr_hi, self.inten, self.intsts) = (0, 0, 0, 0);
        self.running = None;
        self.stray_interrupts.clear();
        self.ring = None;
        self.vanished = false;
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
        match self.vanished {
            true => data.fill(0xff),
            false => self.config.read(offset, data),
        }
    }

    /// Writes configuration space.
    pub fn config_write(&mut self, offset: u64, data: &[u8]) {
        if !self.vanished {
            self.config.write(offset, data);
        }
    }

    /// Reads BAR 2: any length at any offset. What is no register reads as zero.
    pub fn bar2_read(&mut self, offset: u64, data: &mut [u8]) {
        self.accesses.reads += 1;
        read_registers(offset, data, |register| self.register(register));
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
        if offset % 4 != 0 || !matches!(data.len(), 4 | 8) || self.hides() {
            return outcome;
        }
        for (index, word) in data.chunks_exact(4).enumerate() {
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let offset = offset.wrapping_add(4 * index as u64);
            outcome.add(self.write_register(offset, value, memory, now));
        }
        outcome
    }

    /// When [`Device::tick`] has something to do next.
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        let due = self.running.and_then(|running| running.due);
        due.into_iter()
            .chain(self.stray_interrupts.first().copied())
            .min()
    }

    /// Lets time pass: publishes a late command whose time has come, and in ring buffer mode goes on with
    /// those after it.
    pub fn tick(&mut self, now: Duration, memory: &mut dyn GuestMemory) -> Outcome {
        let mut outcome = Outcome::default();
        // It ends: nobody moves a queue's tail meanwhile, and each round moves its head on.
        while let Some((running, due)) = self.running.and_then(|running| {
            let due = running.due.filter(|&due| due <= now)?;
            Some((running, due))
        }) {
            self.running = None;
            self.complete(running, memory);
            if running.interrupt {
                let Interrupts { late, again } = running.interrupts;
                let at = due.saturating_add(late);
                self.stray_interrupts.insert(at);
                if again {
                    self.stray_interrupts
                        .insert(at.saturating_add(BETWEEN_INTERRUPTS));
                }
            }
            if matches!(running.source, Source::Queue(_)) {
                outcome.add(self.take_next(memory, due));
            }
        }
        while self.stray_interrupts.first().is_some_and(|&due| due <= now) {
            self.stray_interrupts.pop_first();
            outcome.interrupt |= self.raise();
        }
        outcome
    }

    /// Whether nobody answers at the registers' addresses.
    fn hides(&self) -> bool {
        self.vanished || self.faults.has(Kind::AllOnes)
    }

    fn register(&self, offset: u64) -> u32 {
        if self.hides() {
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
                ..Outcome::default()
            };
        } else if offset == map.intsts {
            self.intsts &= !value;
        } else if offset == map.cmdresp {
            return self.write_cmdresp(value, memory, now);
        }
        Outcome::default()
    }

    /// In ring buffer mode a write lets the queues go on. Otherwise one with the response bit clear is a
    /// command, and while one is running none is taken.
    fn write_cmdresp(
        &mut self,
        value: u32,
        memory: &mut dyn GuestMemory,
        now: Duration,
    ) -> Outcome {
        let busy = self.running.is_some();
        if self.faults.has(Kind::StuckBusy) || (busy && self.ring.is_none()) {
            return Outcome::default();
        }
        self.cmdresp = value;
        if busy {
            return Outcome::default();
        }
        let mut outcome = self.take_next(memory, now);
        outcome.add(self.tick(now, memory));
        outcome
    }

    /// Takes the command that CMDRESP or the queues have, if any.
    fn take_next(&mut self, memory: &mut dyn GuestMemory, now: Duration) -> Outcome {
        let Some(ring) = &mut self.ring else {
            return match self.cmdresp & RESPONSE {
                0 => self.take(Source::Mailbox, memory, now),
                _ => Outcome::default(),
            };
        };
        if !Ring::goes_on(self.cmdresp) {
            return self.leave_ring(now);
        }
        let next = ring.next(self.cmdresp, self.addr_hi, memory);
        self.addr_lo = ring.heads();
        match next {
            Next::Command(entry) => self.take(Source::Queue(entry), memory, now),
            Next::Nothing { interrupt } => Outcome {
                interrupt: interrupt && self.raise(),
                ..Outcome::default()
            },
        }
    }

    /// Runs a command, which completes when its time has come.
    fn take(&mut self, source: Source, memory: &mut dyn GuestMemory, now: Duration) -> Outcome {
        let (id, addr, queue) = match source {
            Source::Mailbox => (self.request(), self.address(), None),
            Source::Queue(entry) => (entry.id, entry.addr, Some(entry.queue)),
        };
        let effect = self.faults.apply(id);
        if effect.state_loss || effect.forgotten {
            self.firmware.reset();
        }
        let completes = !(effect.no_response || effect.forgotten || effect.vanish);
        let status = completes.then(|| self.firmware.execute(id, addr, memory, effect.over));
        let interrupt = status.is_some_and(|status| match source {
            Source::Mailbox => self.cmdresp & REQUEST_IOC != 0,
            Source::Queue(entry) => entry.interrupts(status),
        });
        let interrupt = interrupt && !effect.lost_irq;
        let record = Record {
            time: now,
            id,
            addr,
            status,
            interrupt,
            queue,
            accesses: std::mem::take(&mut self.accesses),
        };
        if effect.forgotten {
            // The queues are what has been lost, the registers are not the firmware's.
            self.ring = None;
        } else {
            self.running = Some(Running {
                source,
                status: status.unwrap_or(Status::SUCCESS),
                interrupt,
                garbage: effect.garbage,
                interrupts: Interrupts {
                    late: effect.late_irq,
                    again: effect.double_irq,
                },
                due: status.map(|_| now.saturating_add(self.duration(id, &effect))),
            });
        }
        if effect.vanish {
            self.vanished = true;
            self.stray_interrupts.clear();
        }
        let early = effect.early_irq && self.raise();
        let spurious = effect.spurious_irq && self.inten & INT_COMMAND_COMPLETE != 0;
        Outcome {
            interrupt: early || spurious,
            records: vec![record],
        }
    }

    /// How long the command takes that has just been run.
    fn duration(&self, id: u16, effect: &Effect) -> Duration {
        let moved = self.firmware.moved();
        let usual = match effect.slow {
            None => self.latency.of(id, moved),
            Some(factor) => self.latency.or_hardware().of(id, moved) * factor,
        };
        let least = match effect.early_irq || effect.spurious_irq {
            true => BETWEEN_INTERRUPTS,
            false => Duration::ZERO,
        };
        (usual + effect.delay).max(least)
    }

    /// Command id in CMDRESP.
    fn request(&self) -> u16 {
        // CAST: masked to 11 bits.
        ((self.cmdresp >> REQUEST_COMMAND_SHIFT) & REQUEST_COMMAND_MASK) as u16
    }

    /// What the address registers hold.
    fn address(&self) -> u64 {
        (u64::from(self.addr_hi) << 32) | u64::from(self.addr_lo)
    }

    /// Publishes a completed command.
    fn complete(&mut self, running: Running, memory: &mut dyn GuestMemory) {
        match (running.source, &mut self.ring) {
            (Source::Queue(entry), Some(ring)) => {
                ring.finish(entry, running.status, memory);
                self.addr_lo = ring.heads();
            }
            _ => self.respond(running.status),
        }
        if let Some(word) = running.garbage {
            self.cmdresp = word;
        }
        // RING_BUFFER begins the mode, SHUTDOWN ends it.
        match (self.firmware.ring_buffer(), &self.ring) {
            (Some(queues), None) => {
                let ring = Ring::new(queues);
                (self.addr_hi, self.addr_lo) = (0, ring.heads());
                self.ring = Some(ring);
            }
            (None, Some(_)) => self.ring = None,
            _ => {}
        }
    }

    /// Ends the ring buffer mode because of what CMDRESP holds. A mailbox command there is not run.
    fn leave_ring(&mut self, now: Duration) -> Outcome {
        self.ring = None;
        self.firmware.leave_ring_buffer();
        let status = Status::RB_MODE_EXITED;
        let interrupt = self.cmdresp & REQUEST_IOC != 0;
        let mut records = Vec::new();
        if self.cmdresp & RESPONSE == 0 {
            records.push(Record {
                time: now,
                id: self.request(),
                addr: self.address(),
                status: Some(status),
                interrupt,
                queue: None,
                accesses: std::mem::take(&mut self.accesses),
            });
        }
        self.respond(status);
        Outcome {
            interrupt: interrupt && self.raise(),
            records,
        }
    }

    fn respond(&mut self, status: Status) {
        self.cmdresp = RESPONSE | u32::from(status.0);
    }

    /// Marks the interrupt pending; true when it is to be raised.
    fn raise(&mut self) -> bool {
        self.intsts |= INT_COMMAND_COMPLETE;
        self.inten & INT_COMMAND_COMPLETE != 0
    }
}
