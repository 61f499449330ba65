// SPDX-License-Identifier: GPL-2.0

//! The file that has the platform's persistent data when INIT_EX is used.
//!
//! [`NV_LEN`](crate::cmd::platform::NV_LEN) bytes, sealed by the firmware and for it alone; the format is the
//! firmware's, so that the file can be handed on between drivers.

use core::fmt;

/// What a byte of erased storage reads as.
pub const ERASED: u8 = 0xff;

/// What was found in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No file, or an empty one: the firmware starts afresh.
    Nothing,
    /// As many bytes as there should be.
    Whole,
    /// So many bytes, which are too few.
    Short(usize),
    /// So many bytes, which are too many.
    Long(u64),
}

impl Found {
    /// Judges a file of `len` bytes, of which the first are at the front of `area`, and makes the rest of
    /// `area` erased.
    pub fn judge(area: &mut [u8], len: u64) -> Found {
        // CAST: the smaller of the two, and one of them is a usize.
        let read = len.min(area.len() as u64) as usize;
        let found = match read {
            0 => Found::Nothing,
            read if read < area.len() => Found::Short(read),
            _ if len > area.len() as u64 => Found::Long(len),
            _ => Found::Whole,
        };
        if let Some(rest) = area.get_mut(read..) {
            rest.fill(ERASED);
        }
        found
    }
}

/// What to tell the operator, after the name of the file.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Nothing => f.write_str("does not exist and will be created later."),
            Found::Whole => f.write_str("read"),
            Found::Short(len) => write!(f, "has only {len} bytes, and will not be accepted"),
            Found::Long(len) => write!(f, "has {len} bytes, of which only the first are used"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_missing_is_erased() {
        for (len, found, erased) in [
            (0, Found::Nothing, 4),
            (1, Found::Short(1), 3),
            (4, Found::Whole, 0),
            (5, Found::Long(5), 0),
            (u64::MAX, Found::Long(u64::MAX), 0),
        ] {
            let mut area = [1; 4];
            assert_eq!(Found::judge(&mut area, len), found);
            assert_eq!(area.iter().filter(|&&byte| byte == ERASED).count(), erased);
        }
    }
}
