// SPDX-License-Identifier: GPL-2.0
//! PCI configuration space of the emulator's functions: identity, BARs, MSI and MSI-X.
//!
//! QEMU emulates BAR registers and interrupt tables itself and takes only types, sizes and
//! capabilities from here.

use crate::model::{Interrupts, Model};

/// Size of configuration space in bytes.
pub const CONFIG_LEN: usize = 256;
/// The registers: BAR 2, as on every generation.
pub const BAR2_LEN: u64 = 1 << 20;
/// The MSI-X table and pending bits: BAR 5, present when MSI-X is.
pub const BAR5_LEN: u64 = 1 << 13;
/// Vectors offered: the PSP's, and the one of the crypto engine that hardware has beside it.
pub const VECTORS: u32 = 2;

const VENDOR_AMD: u16 = 0x1022;
const CLASS_ENCRYPTION_CONTROLLER: u16 = 0x1080;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const CLASS: usize = 0x0a;
const BAR0: usize = 0x10;
const BAR2: usize = 0x18;
const BAR5: usize = 0x24;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const MSI: usize = 0xa0;
const MSIX: usize = 0xc0;

/// Memory space and bus master, and INTx disable.
const COMMAND_WRITABLE: u16 = (1 << 1) | (1 << 2) | (1 << 10);
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAP_MSI: u8 = 0x05;
const CAP_MSIX: u8 = 0x11;
/// 64-bit address capable, two vectors.
const MSI_CONTROL: u16 = (1 << 7) | (1 << 1);
/// Enable, and number of vectors enabled.
const MSI_CONTROL_WRITABLE: u16 = 1 | (0x7 << 4);
/// Address (64 bits) and data (16 bits).
const MSI_MESSAGE_LEN: usize = 10;
/// Enable and function mask.
const MSIX_CONTROL_WRITABLE: u16 = (1 << 15) | (1 << 14);
const MSIX_PBA_OFFSET: u32 = 0x1000;
const MSIX_BIR: u32 = 5;

/// Configuration space and which of its bits a driver may change.
#[derive(Clone)]
pub struct PciConfig {
    bytes: [u8; CONFIG_LEN],
    writable: [u8; CONFIG_LEN],
}

impl PciConfig {
    /// Configuration space after power-on.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let mut config = Self {
            bytes: [0; CONFIG_LEN],
            writable: [0; CONFIG_LEN],
        };
        config.set(0, &VENDOR_AMD.to_le_bytes());
        config.set(2, &model.device_id.to_le_bytes());
        config.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        config.set(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        config.set(CLASS, &CLASS_ENCRYPTION_CONTROLLER.to_le_bytes());
        config.set(SUBSYSTEM, &VENDOR_AMD.to_le_bytes());
        config.set(SUBSYSTEM + 2, &model.device_id.to_le_bytes());
        config.allow(BAR2, &(!0u32 << BAR2_LEN.trailing_zeros()).to_le_bytes());
        config.allow(INTERRUPT_LINE, &[0xff]);
        // CAST: the offset of a capability fits a byte, configuration space being 256 bytes.
        config.set(CAPABILITIES, &[MSI as u8]);
        let next = match model.interrupts {
            Interrupts::Msi => 0,
            Interrupts::MsiAndMsix => MSIX as u8,
        };
        config.set(MSI, &[CAP_MSI, next]);
        config.set(MSI + 2, &MSI_CONTROL.to_le_bytes());
        config.allow(MSI + 2, &MSI_CONTROL_WRITABLE.to_le_bytes());
        config.allow(MSI + 4, &[0xff; MSI_MESSAGE_LEN]);
        if model.interrupts == Interrupts::MsiAndMsix {
            config.allow(BAR5, &(!0u32 << BAR5_LEN.trailing_zeros()).to_le_bytes());
            config.set(MSIX, &[CAP_MSIX, 0]);
            // CAST: a table size of two.
            config.set(MSIX + 2, &(VECTORS as u16 - 1).to_le_bytes());
            config.allow(MSIX + 2, &MSIX_CONTROL_WRITABLE.to_le_bytes());
            config.set(MSIX + 4, &MSIX_BIR.to_le_bytes());
            config.set(MSIX + 8, &(MSIX_PBA_OFFSET | MSIX_BIR).to_le_bytes());
        }
        config
    }

    /// Configuration space of a function that has one BAR of 32 bits, the first, and no interrupt.
    #[must_use]
    pub fn plain(vendor: u16, device: u16, class: u32, revision: u8, bar_len: u64) -> Self {
        let mut config = Self {
            bytes: [0; CONFIG_LEN],
            writable: [0; CONFIG_LEN],
        };
        config.set(0, &vendor.to_le_bytes());
        config.set(2, &device.to_le_bytes());
        config.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        config.set(REVISION, &[revision]);
        config.set(REVISION + 1, &class.to_le_bytes()[..3]);
        config.set(SUBSYSTEM, &vendor.to_le_bytes());
        config.set(SUBSYSTEM + 2, &device.to_le_bytes());
        config.allow(BAR0, &(!0u32 << bar_len.trailing_zeros()).to_le_bytes());
        config.allow(INTERRUPT_LINE, &[0xff]);
        config
    }

    fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, offset: usize, mask: &[u8]) {
        self.writable[offset..offset + mask.len()].copy_from_slice(mask);
    }

    /// Reads any length at any offset; what lies outside reads as all ones.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, byte) in data.iter_mut().enumerate() {
            let index = start.checked_add(at);
            *byte = index
                .and_then(|index| self.bytes.get(index))
                .copied()
                .unwrap_or(0xff);
        }
    }

    /// Writes any length at any offset; bits that are not writable keep their value.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, byte) in data.iter().enumerate() {
            let Some(index) = start.checked_add(at).filter(|&index| index < CONFIG_LEN) else {
                return;
            };
            let mask = self.writable[index];
            self.bytes[index] = self.bytes[index] & !mask | byte & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MILAN, NAPLES};

    fn read<const N: usize>(config: &PciConfig, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        config.read(offset, &mut data);
        data
    }

    /// Offsets of the capabilities, by walking the list as a driver does.
    fn capabilities(config: &PciConfig) -> Vec<u8> {
        let mut found = Vec::new();
        let [mut next] = read(config, 0x34);
        while next != 0 {
            let [id, following] = read(config, next.into());
            found.push(id);
            next = following;
        }
        found
    }

    #[test]
    fn identity_is_amds() {
        assert_eq!(read(&PciConfig::new(&MILAN), 0), [0x22, 0x10, 0x86, 0x14]);
        assert_eq!(read(&PciConfig::new(&NAPLES), 0), [0x22, 0x10, 0x56, 0x14]);
        assert_eq!(read(&PciConfig::new(&MILAN), 0x0a), [0x80, 0x10]);
    }

    #[test]
    fn interrupt_capabilities_follow_the_model() {
        assert_eq!(capabilities(&PciConfig::new(&MILAN)), [0x05, 0x11]);
        assert_eq!(capabilities(&PciConfig::new(&NAPLES)), [0x05]);
    }

    #[test]
    fn only_writable_bits_change() {
        let mut config = PciConfig::new(&MILAN);
        config.write(0, &[0xff; CONFIG_LEN]);
        assert_eq!(read(&config, 0), [0x22, 0x10, 0x86, 0x14]);
        assert_eq!(read(&config, 4), [0x06, 0x04, 0x10, 0x00]);
        assert_eq!(read(&config, 0x18), 0xfff0_0000_u32.to_le_bytes());
        assert_eq!(read(&config, 0x24), 0xffff_e000_u32.to_le_bytes());
    }

    #[test]
    fn accesses_outside_are_harmless() {
        let mut config = PciConfig::new(&MILAN);
        config.write(0xfe, &[0xff; 8]);
        config.write(u64::MAX, &[0xff]);
        config.write(u64::MAX - 1, &[0xff; 1]);
        assert_eq!(read(&config, 0xfc), [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(read(&config, u64::MAX - 8), [0xff; 2]);
    }
}
