// SPDX-License-Identifier: GPL-2.0

//! A buddy allocator in a word: free pieces are bits, and free neighbours are one run without more ado.

/// Where runs of `1 << order` bits may start, by order.
const STARTS: [u64; 7] = [
    u64::MAX,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    1,
];

/// The bits of a run: `1 << order` of them, from bit `first` on. `order` is 6 at most.
#[inline]
pub(super) const fn run(order: u32, first: u32) -> u64 {
    (u64::MAX >> (64 - (1u32 << order))) << first
}

/// The first bits of all aligned runs of `1 << order` free bits.
#[inline]
fn starts(free: u64, order: u32) -> u64 {
    let mut runs = free;
    for half in 0..order {
        runs &= runs >> (1u32 << half);
    }
    runs & STARTS.get(order as usize).unwrap_or(&0)
}

/// Where to take a run of `1 << order` bits: the smallest free run that holds one, so that larger ones
/// stay whole; of several the lowest. `None` if there is none.
///
/// In `0b1111_1011`, order 0: bit 2 is taken, so bit 3 has no free buddy and is nobody's half.
#[inline]
pub(super) fn best_fit(free: u64, order: u32) -> Option<u32> {
    fit::<6>(free, order)
}

/// The same for the lower 16 bits, the others are 0: for cells, where it is asked most.
#[inline]
pub(super) fn best_fit_of_16(free: u64, order: u32) -> Option<u32> {
    fit::<4>(free, order)
}

/// For words of `1 << LARGEST` bits. It is this form that the compiler unrolls.
#[inline(always)]
fn fit<const LARGEST: usize>(free: u64, order: u32) -> Option<u32> {
    let mut runs = free;
    let mut now = 0;
    for twice in STARTS.iter().skip(1).take(LARGEST) {
        let size = 1u32 << now;
        let pairs = runs & (runs >> size) & twice;
        let single = runs & !(pairs | pairs << size);
        if now >= order && single != 0 {
            return Some(single.trailing_zeros());
        }
        if pairs == 0 {
            return None;
        }
        runs = pairs;
        now += 1;
    }
    // All of it is one run.
    (now >= order).then_some(0)
}

/// The largest order of which there is a free run; `None` if nothing is free.
pub(super) fn largest(free: u64) -> Option<u32> {
    (0..=6).rev().find(|&order| starts(free, order) != 0)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    /// The order of the largest aligned run of free bits that holds this one, found by trying.
    fn around(free: u64, bit: u32) -> Option<u32> {
        let whole = |order: &u32| {
            let first = bit >> order << order;
            (first..first + (1 << order)).all(|bit| free >> bit & 1 == 1)
        };
        (0..=6).rev().find(whole)
    }

    #[test]
    fn the_smallest_run_that_will_do_is_taken() {
        assert_eq!(best_fit(0b1111_1011, 0), Some(3));
        assert_eq!(best_fit(0b1111_1011, 1), Some(0));
        assert_eq!(best_fit(0b1111_1011, 2), Some(4));
        assert_eq!(best_fit(0b1111_1011, 3), None);
        assert_eq!(best_fit(u64::MAX, 6), Some(0));
        assert_eq!(best_fit(u64::MAX, 0), Some(0));
        assert_eq!(best_fit(u64::MAX >> 1, 6), None);
        assert_eq!(
            (largest(0), largest(1), largest(u64::MAX)),
            (None, Some(0), Some(6))
        );
    }

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn best_fit_is_what_trying_all_places_finds(words: [u64; 3], order in 0u32..=6) {
            // Many runs; few; very few.
            for free in [words[0] | words[1] | words[2], words[0] | words[1] << 9, words[0] & words[2]] {
                let free = free | words[1] & 0xffff_0000;
                let starts = (0..64u32).step_by(1 << order);
                let fits = starts.filter_map(|first| {
                    around(free, first).filter(|&whole| whole >= order).map(|whole| (whole, first))
                });
                let wanted = fits.min().map(|(_, first)| first);
                prop_assert_eq!(best_fit(free, order), wanted);
                let half = free & 0xffff;
                prop_assert_eq!(best_fit_of_16(half, order), best_fit(half, order));
                let most = (0..64).filter_map(|bit| around(free, bit)).max();
                prop_assert_eq!(largest(free), most);
            }
        }
    }
}
