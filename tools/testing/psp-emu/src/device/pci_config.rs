// SPDX-License-Identifier: GPL-2.0
//! PCI configuration space of the emulator's functions: identity, BARs, MSI and MSI-X.

use crate::model::{Interrupts, Model};
use vfio_device::config::{offset, ConfigSpace, STATUS_CAPABILITIES};

/// The registers: BAR 2, as on every generation.
pub const BAR2_LEN: u64 = 1 << 20;
/// The MSI-X table and pending bits: BAR 5, present when MSI-X is.
pub const BAR5_LEN: u64 = 1 << 13;
/// Vectors offered: the PSP's, and the one of the crypto engine that hardware has beside it.
pub const VECTORS: u32 = 2;

const VENDOR_AMD: u16 = 0x1022;
const CLASS_ENCRYPTION_CONTROLLER: u16 = 0x1080;

const MSI: usize = 0xa0;
const MSIX: usize = 0xc0;

const CAP_MSI: u8 = 0x05;
/// 64-bit address capable, two vectors.
const MSI_CONTROL: u16 = (1 << 7) | (1 << 1);
/// Enable, and number of vectors enabled.
const MSI_CONTROL_WRITABLE: u16 = 1 | (0x7 << 4);
/// Address (64 bits) and data (16 bits).
const MSI_MESSAGE_LEN: usize = 10;
const MSIX_PBA_OFFSET: u32 = 0x1000;
const MSIX_BAR: u8 = 5;

/// Configuration space of a PSP after power-on.
pub(super) fn psp(model: &Model) -> ConfigSpace {
    let mut config = ConfigSpace::new(VENDOR_AMD, model.device_id);
    config.set(offset::STATUS, &STATUS_CAPABILITIES.to_le_bytes());
    config.set(offset::CLASS, &CLASS_ENCRYPTION_CONTROLLER.to_le_bytes());
    config.bar(2, BAR2_LEN);
    // CAST: the offset of a capability fits a byte, configuration space being 256 bytes.
    config.set(offset::CAPABILITIES, &[MSI as u8]);
    let next = match model.interrupts {
        Interrupts::Msi => 0,
        Interrupts::MsiAndMsix => MSIX as u8,
    };
    config.set(MSI, &[CAP_MSI, next]);
    config.set(MSI + 2, &MSI_CONTROL.to_le_bytes());
    config.allow(MSI + 2, &MSI_CONTROL_WRITABLE.to_le_bytes());
    config.allow(MSI + 4, &[0xff; MSI_MESSAGE_LEN]);
    if model.interrupts == Interrupts::MsiAndMsix {
        config.bar(MSIX_BAR.into(), BAR5_LEN);
        // CAST: two.
        config.msix(MSIX, 0, VECTORS as u16, MSIX_BAR, MSIX_PBA_OFFSET);
    }
    config
}

/// Configuration space of a function that has one BAR, the first, and no interrupt.
pub(crate) fn plain(
    vendor: u16,
    device: u16,
    class: u32,
    revision: u8,
    bar_len: u64,
) -> ConfigSpace {
    let mut config = ConfigSpace::new(vendor, device);
    config.set(offset::REVISION, &[revision]);
    config.set(offset::REVISION + 1, &class.to_le_bytes()[..3]);
    config.bar(0, bar_len);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MILAN, NAPLES};
    use vfio_device::config::CONFIG_LEN;

    fn read<const N: usize>(config: &ConfigSpace, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        config.read(offset, &mut data);
        data
    }

    /// Offsets of the capabilities, by walking the list as a driver does.
    fn capabilities(config: &ConfigSpace) -> Vec<u8> {
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
        assert_eq!(read(&psp(&MILAN), 0), [0x22, 0x10, 0x86, 0x14]);
        assert_eq!(read(&psp(&NAPLES), 0), [0x22, 0x10, 0x56, 0x14]);
        assert_eq!(read(&psp(&MILAN), 0x0a), [0x80, 0x10]);
    }

    #[test]
    fn interrupt_capabilities_follow_the_model() {
        assert_eq!(capabilities(&psp(&MILAN)), [0x05, 0x11]);
        assert_eq!(capabilities(&psp(&NAPLES)), [0x05]);
    }

    #[test]
    fn only_writable_bits_change() {
        let mut config = psp(&MILAN);
        config.write(0, &[0xff; CONFIG_LEN]);
        assert_eq!(read(&config, 0), [0x22, 0x10, 0x86, 0x14]);
        assert_eq!(read(&config, 4), [0x06, 0x04, 0x10, 0x00]);
        assert_eq!(read(&config, 0x18), 0xfff0_0000_u32.to_le_bytes());
        assert_eq!(read(&config, 0x24), 0xffff_e000_u32.to_le_bytes());
    }

    #[test]
    fn accesses_outside_are_harmless() {
        let mut config = psp(&MILAN);
        config.write(0xfe, &[0xff; 8]);
        config.write(u64::MAX, &[0xff]);
        config.write(u64::MAX - 1, &[0xff; 1]);
        assert_eq!(read(&config, 0xfc), [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(read(&config, u64::MAX - 8), [0xff; 2]);
    }
}
