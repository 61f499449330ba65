// SPDX-License-Identifier: GPL-2.0
//! A device in a machine, with time made up.

use super::{COMMAND, RAM_LEN};
use psp_emu::{
    device::{fault::Faults, Device, Outcome},
    firmware::{Chip, Firmware, VecFlash},
    memory::VecMemory,
    model::Model,
};
use std::time::Duration;

pub const READY: u32 = 1 << 31;
pub const IOC: u32 = 1;
pub const COMPLETE: u32 = 2;
pub const NOW: Duration = Duration::from_secs(1);

/// A device in a machine.
pub struct Machine {
    pub device: Device,
    pub ram: VecMemory,
    pub now: Duration,
}

impl Machine {
    pub fn new(model: &'static Model, faults: &[&str]) -> Self {
        let flash = Box::new(VecFlash::default());
        let firmware = Firmware::new(model, Chip::from_secret([7; 32]), flash);
        let faults: Vec<_> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let device = Device::new(model, firmware, Faults::from(faults));
        Self {
            device,
            ram: VecMemory::new(0, RAM_LEN),
            now: NOW,
        }
    }

    pub fn read(&mut self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.device.bar2_read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    pub fn write(&mut self, offset: u64, value: u32) -> Outcome {
        self.device
            .bar2_write(offset, &value.to_le_bytes(), &mut self.ram, self.now)
    }

    /// Lets time pass until then.
    pub fn tick(&mut self, now: Duration) -> Outcome {
        self.device.tick(now, &mut self.ram)
    }

    /// Writes a command with its address, low half first.
    pub fn command(&mut self, id: u16, flags: u32) -> Outcome {
        let map = self.device.model().registers;
        self.write(map.addr_lo, COMMAND as u32);
        self.write(map.addr_hi, 0);
        self.write(map.cmdresp, (u32::from(id) << 16) | flags)
    }

    pub fn enable_interrupts(&mut self) {
        let inten = self.device.model().registers.inten;
        self.write(inten, u32::MAX);
    }

    pub fn response(&mut self) -> u32 {
        let cmdresp = self.device.model().registers.cmdresp;
        self.read(cmdresp)
    }
}
