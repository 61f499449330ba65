// SPDX-License-Identifier: GPL-2.0
//! The PCI function: configuration space and where the registers are (virtio 1.3, section 4.1).
//!
//! ```text
//! BAR 0   0x0000  common configuration    BAR 1   0x0000  MSI-X table
//!         0x1000  interrupt status                0x1000  pending bits
//!         0x2000  the kind's configuration
//!         0x3000  notifications, 4 bytes for each queue
//! ```

use vfio_device::config::{offset, ConfigSpace, CAP_VENDOR, STATUS_CAPABILITIES};

/// Length in bytes of BAR 0.
pub const BAR0_LEN: u64 = 0x4000;
/// Length in bytes of BAR 1.
pub const BAR1_LEN: u64 = 0x2000;
/// The areas of BAR 0.
pub const COMMON: u64 = 0;
pub const ISR: u64 = 0x1000;
pub const KIND: u64 = 0x2000;
pub const NOTIFY: u64 = 0x3000;
/// Bytes from one queue's notification register to the next's.
pub const NOTIFY_STEP: u64 = 4;

const VENDOR: u16 = 0x1af4;
/// Modern devices: this and the device's type.
const FIRST_DEVICE: u16 = 0x1040;
const REVISION: u8 = 1;

const MSIX: usize = 0x98;
const MSIX_BAR: u8 = 1;
const MSIX_PENDING: u32 = 0x1000;

/// Types of the vendor's capabilities (section 4.1.4).
const CAP_COMMON: u8 = 1;
const CAP_NOTIFY: u8 = 2;
const CAP_ISR: u8 = 3;
const CAP_KIND: u8 = 4;

/// Configuration space of a device of this type with so many interrupt vectors.
#[must_use]
pub fn config(device_type: u16, class: u16, vectors: u16) -> ConfigSpace {
    let mut config = ConfigSpace::new(VENDOR, FIRST_DEVICE + device_type);
    config.set(offset::STATUS, &STATUS_CAPABILITIES.to_le_bytes());
    config.set(offset::REVISION, &[REVISION]);
    config.set(offset::CLASS, &class.to_le_bytes());
    config.bar(0, BAR0_LEN);
    config.bar(MSIX_BAR.into(), BAR1_LEN);
    // Where, what, which area, and how long that is.
    let capabilities = [
        (0x40, CAP_COMMON, COMMON, 0x1000),
        (0x50, CAP_ISR, ISR, 0x1000),
        (0x60, CAP_KIND, KIND, 0x1000),
        (0x70, CAP_NOTIFY, NOTIFY, BAR0_LEN - NOTIFY),
    ];
    let mut next = offset::CAPABILITIES;
    for (at, kind, area, len) in capabilities {
        let cap_len = if kind == CAP_NOTIFY { 20 } else { 16 };
        config.set(next, &[at]);
        let at = usize::from(at);
        config.set(at, &[CAP_VENDOR, 0, cap_len, kind, 0]);
        // CAST: an offset and a length in a BAR of 16 KiB.
        config.set(at + 8, &(area as u32).to_le_bytes());
        config.set(at + 12, &(len as u32).to_le_bytes());
        if kind == CAP_NOTIFY {
            config.set(at + 16, &(NOTIFY_STEP as u32).to_le_bytes());
        }
        next = at + 1;
    }
    // CAST: an offset in 256 bytes.
    config.set(next, &[MSIX as u8]);
    config.msix(MSIX, 0, vectors, MSIX_BAR, MSIX_PENDING);
    config
}
