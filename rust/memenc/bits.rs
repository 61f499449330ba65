// SPDX-License-Identifier: GPL-2.0

//! Words whose bits have names: features that CPUID lists, and those that are on.

use core::fmt;

/// A bit that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit {
    /// Its number, 0 to 63.
    pub index: u32,
    /// Its name, as Linux prints it where Linux does.
    pub name: &'static str,
    /// Its name for file names: lower case, digits and `_`.
    pub sysfs: &'static str,
}

/// A bit that is set, whether it has a name or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetBit {
    /// Its number, 0 to 63.
    pub index: u32,
    /// Its names; `None` for a bit this version does not know.
    pub known: Option<&'static Bit>,
}

/// `SEV-ES`, or `bit 13 (unknown)`.
impl fmt::Display for SetBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known {
            Some(bit) => f.write_str(bit.name),
            None => write!(f, "bit {} (unknown)", self.index),
        }
    }
}

/// The bits of a word that are set, lowest first; see `bits` of the words.
#[derive(Clone, Debug)]
pub struct SetBits {
    left: u64,
    table: &'static [Bit],
}

impl SetBits {
    /// Those of `raw`, named as in `table`.
    pub const fn new(raw: u64, table: &'static [Bit]) -> Self {
        SetBits { left: raw, table }
    }
}

impl Iterator for SetBits {
    type Item = SetBit;

    fn next(&mut self) -> Option<SetBit> {
        if self.left == 0 {
            return None;
        }
        let index = self.left.trailing_zeros();
        self.left &= self.left - 1;
        Some(SetBit {
            index,
            known: self.table.iter().find(|bit| bit.index == index),
        })
    }
}

/// The names with blanks between them, `none` if no bit is set.
impl fmt::Display for SetBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left == 0 {
            return f.write_str("none");
        }
        for (position, bit) in self.clone().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            bit.fmt(f)?;
        }
        Ok(())
    }
}

/// A word as a type: a constant for each bit, and one table of them all.
macro_rules! word {
    ($(#[doc = $about:literal])+ $word:ident {
        $($(#[doc = $doc:literal])+ $bit:ident = $index:literal, $name:literal, $sysfs:literal;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $word(u64);

        impl $word {
            $($(#[doc = $doc])+ pub const $bit: $word = $word(1 << $index);)+

            /// Every bit that has a name, lowest first.
            pub const BITS: &'static [$crate::bits::Bit] = &[
                $($crate::bits::Bit { index: $index, name: $name, sysfs: $sysfs }),+
            ];

            /// Takes the register's value.
            pub const fn from_raw(raw: u64) -> Self {
                $word(raw)
            }

            /// The register's value.
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// Whether all bits of `other` are set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The bits that are set and have no name.
            pub const fn unknown(self) -> u64 {
                self.0 & !(0 $(| 1 << $index)+)
            }

            /// The bits that are set, with or without a name. As text: their names.
            pub const fn bits(self) -> $crate::bits::SetBits {
                $crate::bits::SetBits::new(self.0, Self::BITS)
            }
        }
    };
}

pub(crate) use word;

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::{format, vec::Vec};

    const TABLE: &[Bit] = &[
        Bit {
            index: 0,
            name: "Low",
            sysfs: "low",
        },
        Bit {
            index: 63,
            name: "High",
            sysfs: "high",
        },
    ];

    #[test]
    fn every_set_bit_is_named_once_and_unknown_ones_are_kept() {
        let bits = SetBits::new(1 << 63 | 1 << 13 | 1, TABLE);
        assert_eq!(format!("{bits}"), "Low bit 13 (unknown) High");
        let indices: Vec<_> = bits.map(|bit| (bit.index, bit.known.is_some())).collect();
        assert_eq!(indices, [(0, true), (13, false), (63, true)]);
        assert_eq!(SetBits::new(u64::MAX, TABLE).count(), 64);
        assert_eq!(format!("{}", SetBits::new(0, TABLE)), "none");
    }
}
