// SPDX-License-Identifier: GPL-2.0
//! PCI configuration space: bytes, and which of their bits a driver may change.
//!
//! QEMU emulates BAR registers and interrupt tables itself and takes only types, sizes and
//! capabilities from here.

/// Size of configuration space in bytes.
pub const CONFIG_LEN: usize = 256;

/// Offsets in configuration space.
pub mod offset {
    pub const COMMAND: usize = 0x04;
    pub const STATUS: usize = 0x06;
    pub const REVISION: usize = 0x08;
    pub const CLASS: usize = 0x0a;
    pub const BAR0: usize = 0x10;
    pub const SUBSYSTEM: usize = 0x2c;
    pub const CAPABILITIES: usize = 0x34;
    pub const INTERRUPT_LINE: usize = 0x3c;
}

/// Memory space and bus master, and INTx disable.
pub const COMMAND_WRITABLE: u16 = (1 << 1) | (1 << 2) | (1 << 10);
/// There is a list of capabilities.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Capability MSI-X.
pub const CAP_MSIX: u8 = 0x11;
/// Capability of the vendor's own.
pub const CAP_VENDOR: u8 = 0x09;
/// Enable and function mask.
pub const MSIX_CONTROL_WRITABLE: u16 = (1 << 15) | (1 << 14);

/// Configuration space and which of its bits a driver may change.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: [u8; CONFIG_LEN],
    writable: [u8; CONFIG_LEN],
}

impl ConfigSpace {
    /// That of a function with this identity, without BARs and capabilities.
    #[must_use]
    pub fn new(vendor: u16, device: u16) -> Self {
        let mut config = Self {
            bytes: [0; CONFIG_LEN],
            writable: [0; CONFIG_LEN],
        };
        config.set(0, &vendor.to_le_bytes());
        config.set(2, &device.to_le_bytes());
        config.allow(offset::COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        config.set(offset::SUBSYSTEM, &vendor.to_le_bytes());
        config.set(offset::SUBSYSTEM + 2, &device.to_le_bytes());
        config.allow(offset::INTERRUPT_LINE, &[0xff]);
        config
    }

    /// Makes BAR number `bar` one of 32 bits, memory, of `len` bytes, which is a power of two.
    pub fn bar(&mut self, bar: usize, len: u64) {
        let mask = !0u32 << len.trailing_zeros();
        self.allow(offset::BAR0 + 4 * bar, &mask.to_le_bytes());
    }

    /// Adds the capability MSI-X at `at`, followed by that at `next`: so many vectors, their table at the
    /// beginning of a BAR and the pending bits at `pending` in it.
    pub fn msix(&mut self, at: usize, next: u8, vectors: u16, bar: u8, pending: u32) {
        self.set(at, &[CAP_MSIX, next]);
        self.set(at + 2, &vectors.saturating_sub(1).to_le_bytes());
        self.allow(at + 2, &MSIX_CONTROL_WRITABLE.to_le_bytes());
        self.set(at + 4, &u32::from(bar).to_le_bytes());
        self.set(at + 8, &(pending | u32::from(bar)).to_le_bytes());
    }

    /// Sets what is read at an offset.
    ///
    /// # Panics
    ///
    /// When it does not fit.
    pub fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Lets a driver change these bits.
    ///
    /// # Panics
    ///
    /// When they do not fit.
    pub fn allow(&mut self, offset: usize, mask: &[u8]) {
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
