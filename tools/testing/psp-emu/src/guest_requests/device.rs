// SPDX-License-Identifier: GPL-2.0
//! The PCI function that a guest's driver finds: registers for what a GHCB would carry.
//!
//! ```text
//! 0x00        R   MAGIC, "SEVL"            0x04  R  VERSION, 1
//! 0x08, 0x0c  RW  REQUEST, address         0x10, 0x14  RW  RESPONSE, address
//! 0x18, 0x1c  RW  DATA, address            0x20  RW  DATA_PAGES: offered, then needed
//! 0x24        W   EXITCODE: carries the request out
//! 0x28        R   EXITINFO2, low: the firmware's status
//! 0x2c        R   EXITINFO2, high: the host's error
//! 0x30, 0x34  R   SECRETS, address
//! ```

use super::{
    fault::Kind,
    host::{Answer, Host, Places},
};
use crate::{
    device::{plain_config, read_registers},
    memory::GuestMemory,
};
use vfio_device::config::ConfigSpace;

/// Length in bytes of BAR 0.
pub const BAR0_LEN: u64 = 1 << 12;
/// PCI vendor, device, class and revision.
pub const VENDOR_ID: u16 = 0x1234;
pub const DEVICE_ID: u16 = 0x5e50;
pub const CLASS: u32 = 0x08_8000;
pub const REVISION: u8 = 1;

const MAGIC: u32 = 0x4c56_4553;
const VERSION: u32 = 1;

/// A request that was carried out, for the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub exit_code: u32,
    pub places: Places,
    pub answer: Answer,
    pub fault: Option<Kind>,
}

/// The PCI function.
pub struct Device {
    config: ConfigSpace,
    /// The host behind it; its faults may be changed at any time.
    pub host: Host,
    places: Places,
    answer: Answer,
    secrets: u64,
}

fn set_low(word: &mut u64, value: u32) {
    *word = *word >> 32 << 32 | u64::from(value);
}

fn set_high(word: &mut u64, value: u32) {
    *word = u64::from(value) << 32 | *word & u64::from(u32::MAX);
}

impl Device {
    /// A device after power-on, for a guest whose secrets page is at `secrets`.
    #[must_use]
    pub fn new(host: Host, secrets: u64) -> Self {
        Self {
            config: config(),
            host,
            places: Places::default(),
            answer: Answer::default(),
            secrets,
        }
    }

    /// A power cycle: the guest starts again with the secrets page it had.
    pub fn reset(&mut self) {
        self.config = config();
        self.places = Places::default();
        self.answer = Answer::default();
        self.host.restart_guest();
    }

    /// Reads configuration space.
    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    /// Writes configuration space.
    pub fn config_write(&mut self, offset: u64, data: &[u8]) {
        self.config.write(offset, data);
    }

    /// Reads BAR 0: any length at any offset. What is no register reads as zero.
    pub fn bar0_read(&self, offset: u64, data: &mut [u8]) {
        read_registers(offset, data, |register| self.register(register));
    }

    /// Writes BAR 0. Registers take whole, aligned 32-bit words (two of them in a 64-bit access); anything
    /// else is ignored, as is a write to what is no register.
    pub fn bar0_write(
        &mut self,
        offset: u64,
        data: &[u8],
        memory: &mut dyn GuestMemory,
    ) -> Option<Record> {
        if offset % 4 != 0 || !matches!(data.len(), 4 | 8) {
            return None;
        }
        let mut record = None;
        for (index, word) in data.chunks_exact(4).enumerate() {
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            match offset.wrapping_add(4 * index as u64) {
                0x08 => set_low(&mut self.places.request, value),
                0x0c => set_high(&mut self.places.request, value),
                0x10 => set_low(&mut self.places.response, value),
                0x14 => set_high(&mut self.places.response, value),
                0x18 => set_low(&mut self.places.data, value),
                0x1c => set_high(&mut self.places.data, value),
                0x20 => self.places.pages = value,
                0x24 => record = Some(self.exit(value, memory)),
                _ => {}
            }
        }
        record
    }

    fn exit(&mut self, exit_code: u32, memory: &mut dyn GuestMemory) -> Record {
        let places = self.places;
        let (answer, fault) = self.host.request(exit_code, places, memory);
        self.answer = answer;
        if let Some(pages) = answer.pages {
            self.places.pages = pages;
        }
        Record {
            exit_code,
            places,
            answer,
            fault,
        }
    }

    fn register(&self, offset: u64) -> u32 {
        // CAST: halves.
        let low = |word: u64| word as u32;
        let high = |word: u64| (word >> 32) as u32;
        match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => low(self.places.request),
            0x0c => high(self.places.request),
            0x10 => low(self.places.response),
            0x14 => high(self.places.response),
            0x18 => low(self.places.data),
            0x1c => high(self.places.data),
            0x20 => self.places.pages,
            0x28 => self.answer.firmware,
            0x2c => self.answer.vmm,
            0x30 => low(self.secrets),
            0x34 => high(self.secrets),
            _ => 0,
        }
    }
}

fn config() -> ConfigSpace {
    plain_config(VENDOR_ID, DEVICE_ID, CLASS, REVISION, BAR0_LEN)
}
