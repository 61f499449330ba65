// SPDX-License-Identifier: GPL-2.0

//! The secrets page: what the firmware puts into a guest when it is launched (`SNP-ABI` 8.17.2.6; area of
//! the operating system: `GHCB` 2.7).

use core::hint::black_box;
use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::Errno;

/// Bytes of a VMPCK.
pub const VMPCK_LEN: usize = 32;

/// Which VMPCK: 0 to 3. The firmware takes it to be the VMPL that speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VmpckId(u8);

impl VmpckId {
    /// Every one.
    pub const ALL: [VmpckId; 4] = [VmpckId(0), VmpckId(1), VmpckId(2), VmpckId(3)];

    /// The number.
    pub const fn index(self) -> u8 {
        self.0
    }

    /// Where its key is in the secrets page.
    pub const fn key_offset(self) -> usize {
        // CAST: widening.
        offset_of!(SecretsPage, vmpcks) + self.0 as usize * VMPCK_LEN
    }

    /// Where its counter is in the secrets page: 32 bits.
    pub const fn counter_offset(self) -> usize {
        // CAST: widening.
        offset_of!(SecretsPage, counters) + self.0 as usize * size_of::<U32>()
    }
}

impl TryFrom<u32> for VmpckId {
    type Error = Errno;

    /// `EINVAL` if there is none with this number.
    fn try_from(raw: u32) -> Result<Self, Errno> {
        match u8::try_from(raw) {
            Ok(index @ 0..=3) => Ok(VmpckId(index)),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// A copy of a VMPCK. It is zero when it is dropped.
pub struct Vmpck([u8; VMPCK_LEN]);

impl Vmpck {
    /// Takes a key out of `from`, which is zero afterwards.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is zero: destroyed, or never given to this guest.
    pub fn take(from: &mut [u8; VMPCK_LEN]) -> Result<Self, Errno> {
        let key = Vmpck(*from);
        from.fill(0);
        black_box(from);
        if key.0.iter().all(|&byte| byte == 0) {
            Err(Errno::EINVAL)
        } else {
            Ok(key)
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; VMPCK_LEN] {
        &self.0
    }
}

impl Drop for Vmpck {
    fn drop(&mut self) {
        self.0.fill(0);
        // Or the compiler might see that nobody reads them again.
        black_box(&mut self.0);
    }
}

/// The secrets page, byte for byte. It has keys inside, so there is no `Debug`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SecretsPage {
    /// Version of this layout.
    pub version: U32,
    /// Bit 0: a migration agent is there.
    pub flags: U32,
    /// Family, model and stepping, as CPUID 1 EAX.
    pub fms: U32,
    reserved: U32,
    /// What the hypervisor said at launch.
    pub gosvw: [u8; 16],
    /// The keys.
    pub vmpcks: [[u8; VMPCK_LEN]; 4],
    /// The number of the last message under each key; firmware leaves it to the guest.
    pub counters: [U32; 4],
    /// Physical address of the AP jump table.
    pub ap_jump_table: U64,
    reserved2: [u8; 40],
    guest_usage: [u8; 32],
    /// Which quadwords of the VMSA are tweaked.
    pub vmsa_tweak_bitmap: [u8; 64],
    /// Base address of the SVSM.
    pub svsm_base: U64,
    /// Bytes of the SVSM.
    pub svsm_len: U64,
    /// Calling area of the SVSM.
    pub svsm_caa: U64,
    /// Newest protocol that the SVSM speaks.
    pub svsm_max_version: U32,
    /// VMPL below the SVSM.
    pub svsm_guest_vmpl: u8,
    reserved3: [u8; 3],
    /// By how much the mean TSC frequency is below the nominal one, in hundred-thousandths.
    pub tsc_factor: U32,
    reserved4: [u8; 3740],
}

const _: () = {
    assert!(size_of::<SecretsPage>() == 4096);
    assert!(offset_of!(SecretsPage, flags) == 0x04);
    assert!(offset_of!(SecretsPage, fms) == 0x08);
    assert!(offset_of!(SecretsPage, gosvw) == 0x10);
    assert!(offset_of!(SecretsPage, vmpcks) == 0x20);
    assert!(offset_of!(SecretsPage, counters) == 0xa0);
    assert!(offset_of!(SecretsPage, ap_jump_table) == 0xb0);
    assert!(offset_of!(SecretsPage, vmsa_tweak_bitmap) == 0x100);
    assert!(offset_of!(SecretsPage, svsm_base) == 0x140);
    assert!(offset_of!(SecretsPage, svsm_len) == 0x148);
    assert!(offset_of!(SecretsPage, svsm_caa) == 0x150);
    assert!(offset_of!(SecretsPage, svsm_max_version) == 0x158);
    assert!(offset_of!(SecretsPage, svsm_guest_vmpl) == 0x15c);
    assert!(offset_of!(SecretsPage, tsc_factor) == 0x160);
    assert!(VmpckId(3).key_offset() == 0x80);
    assert!(VmpckId(3).counter_offset() == 0xac);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_zero_is_none() {
        let mut nothing = [0; VMPCK_LEN];
        assert_eq!(Vmpck::take(&mut nothing).err(), Some(Errno::EINVAL));

        let mut key = [0; VMPCK_LEN];
        key[31] = 1;
        let taken = Vmpck::take(&mut key).unwrap();
        assert_eq!(taken.bytes()[31], 1);
        assert_eq!(key, [0; VMPCK_LEN], "the copy is not left behind");
    }

    #[test]
    fn there_are_four_keys() {
        assert_eq!(VmpckId::try_from(3), Ok(VmpckId::ALL[3]));
        for raw in [4, 256, u32::MAX] {
            assert_eq!(VmpckId::try_from(raw), Err(Errno::EINVAL), "{raw}");
        }
    }
}
