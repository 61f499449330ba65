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
    let mut runs = starts(free, order);
    if runs == 0 {
        return None;
    }
    for (order, twice) in (order..).zip(STARTS.iter().skip(order as usize + 1)) {
        let size = 1u32 << order;
        let pairs = runs & (runs >> size) & twice;
        let single = runs & !(pairs | pairs << size);
        if single != 0 {
            return Some(single.trailing_zeros());
        }
        runs = pairs;
    }
    Some(runs.trailing_zeros())
}

/// The largest order of which there is a free run; `None` if nothing is free.
pub(super) fn largest(free: u64) -> Option<u32> {
    (0..=6).rev().find(|&order| starts(free, order) != 0)
}
