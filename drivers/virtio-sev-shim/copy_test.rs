// SPDX-License-Identifier: GPL-2.0

//! KUnit: what is copied between private and shared memory, which C does in steps of its own.

use kernel::prelude::*;

use crate::ffi;

#[kunit_tests(sev_shim_copy)]
mod tests {
    use super::*;

    /// Two steps and a rest, at least.
    const LONGEST: usize = 700;
    /// What there is before the copy and behind it.
    const MARGIN: usize = 16;

    /// Bytes of which no two are alike that are less than 251 apart.
    fn pattern(len: usize) -> Result<KVec<u8>> {
        let mut bytes = KVec::with_capacity(len, GFP_KERNEL)?;
        for index in 0..len {
            // CAST: below 251.
            bytes.push((index % 251) as u8, GFP_KERNEL)?;
        }
        Ok(bytes)
    }

    #[test]
    fn a_copy_is_whole_at_any_length_and_alignment_and_no_longer() -> Result {
        let from = pattern(LONGEST + MARGIN)?;
        let mut to = KVec::from_elem(0xff, LONGEST + 2 * MARGIN, GFP_KERNEL)?;
        for (skip, before) in [(0, MARGIN), (1, MARGIN), (0, MARGIN - 3), (5, MARGIN - 6)] {
            for len in 0..=LONGEST {
                to.fill(0xff);
                let end = before + len;
                let (source, target) = (&from[skip..skip + len], &mut to[before..end]);
                // SAFETY: They are this long, and two allocations.
                unsafe { ffi::copy(target.as_mut_ptr(), source.as_ptr(), len) };
                assert_eq!(&to[before..end], source);
                assert!(to[..before].iter().all(|&byte| byte == 0xff));
                assert!(to[end..].iter().all(|&byte| byte == 0xff));
            }
        }
        Ok(())
    }
}
