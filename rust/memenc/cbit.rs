// SPDX-License-Identifier: GPL-2.0

//! The bit that tells private from shared memory, in physical addresses and in page-table entries.

/// Lowest position such a bit can have: below it, it would take away 32-bit addresses.
pub const LOWEST: u32 = 32;

/// Highest position: an entry of a page table has no more address bits (APM2 5.3).
pub const HIGHEST: u32 = 51;

/// Where the bit is and what it means.
///
/// It sits at the same place in an address and in an entry of a page table, so the same functions
/// serve both. One example, with the C-bit at 47: the private page at 0x1234000 has the address
/// 0x8000_0123_4000 and, writable, the entry 0x8000_0123_4003.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// The bit.
    mask: u64,
    /// What the bit is in private memory: the whole mask or zero.
    private: u64,
}

impl Encoding {
    const fn bit(position: u32) -> Option<u64> {
        if position < LOWEST || position > HIGHEST {
            None
        } else {
            Some(1 << position)
        }
    }

    /// A C-bit: set means private. `None` if there can be none at this position.
    pub const fn c_bit(position: u32) -> Option<Self> {
        match Self::bit(position) {
            Some(mask) => Some(Encoding {
                mask,
                private: mask,
            }),
            None => None,
        }
    }

    /// vTOM at 2 to the power of `position`: set means shared (APM2 15.36.8). `None` if there can be
    /// none at this position.
    pub const fn vtom(position: u32) -> Option<Self> {
        match Self::bit(position) {
            Some(mask) => Some(Encoding { mask, private: 0 }),
            None => None,
        }
    }

    /// The bit alone.
    pub const fn mask(self) -> u64 {
        self.mask
    }

    /// The number of the bit.
    pub const fn position(self) -> u32 {
        self.mask.trailing_zeros()
    }

    /// Whether the bit's meaning is inverted: set means shared.
    pub const fn is_vtom(self) -> bool {
        self.private == 0
    }

    /// The address or entry, private.
    pub const fn mk_private(self, value: u64) -> u64 {
        self.strip(value) | self.private
    }

    /// The address or entry, shared.
    pub const fn mk_shared(self, value: u64) -> u64 {
        self.strip(value) | (self.private ^ self.mask)
    }

    /// The address or entry, private or not.
    pub const fn mk(self, value: u64, private: bool) -> u64 {
        if private {
            self.mk_private(value)
        } else {
            self.mk_shared(value)
        }
    }

    /// Whether the address or entry says private.
    pub const fn is_private(self, value: u64) -> bool {
        value & self.mask == self.private
    }

    /// The address or entry without the bit: of an address, the GPA.
    pub const fn strip(self, value: u64) -> u64 {
        value & !self.mask
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_c_bit_says_private_and_a_vtom_bit_shared() {
        let c_bit = Encoding::c_bit(47).unwrap();
        assert_eq!(c_bit.mk_private(0x123_4003), 0x8000_0123_4003);
        assert_eq!(c_bit.mk_shared(0x8000_0123_4003), 0x123_4003);
        let vtom = Encoding::vtom(47).unwrap();
        assert_eq!(vtom.mk_shared(0x123_4003), 0x8000_0123_4003);
        assert_eq!(vtom.mk_private(0x8000_0123_4003), 0x123_4003);
        assert_eq!(
            (c_bit.position(), c_bit.is_vtom(), vtom.is_vtom()),
            (47, false, true)
        );
    }

    #[test]
    fn no_bit_where_an_entry_has_no_high_address() {
        for position in [0, 12, 31, 52, 63, 64, u32::MAX] {
            assert_eq!(Encoding::c_bit(position), None);
            assert_eq!(Encoding::vtom(position), None);
        }
        for position in LOWEST..=HIGHEST {
            assert_eq!(Encoding::c_bit(position).unwrap().mask(), 1 << position);
        }
    }

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn only_the_bit_changes(position in LOWEST..=HIGHEST, inverted: bool, value: u64) {
            let encoding = if inverted {
                Encoding::vtom(position).unwrap()
            } else {
                Encoding::c_bit(position).unwrap()
            };
            let (private, shared) = (encoding.mk_private(value), encoding.mk_shared(value));
            prop_assert_eq!(private ^ shared, 1 << position);
            prop_assert!(value == private || value == shared);
            prop_assert!(encoding.is_private(private) && !encoding.is_private(shared));
            prop_assert_eq!(encoding.mk(shared, true), private);
            prop_assert_eq!(encoding.mk(private, false), shared);
            prop_assert_eq!(encoding.strip(private), encoding.strip(shared));
            prop_assert_eq!(encoding.strip(value), value & !(1 << position));
        }
    }
}
