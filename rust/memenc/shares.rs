// SPDX-License-Identifier: GPL-2.0

//! How the pool is divided, so that no device can starve another.
//!
//! A share is a limit: so much a device may hold of a pool that is as large as it can be. What is *kept* is a promise: so
//! much the pool has free at any time, also while it is small, for devices whose drivers lose what cannot be mapped.

use crate::pool::{Rank, CHUNK_BYTES};

/// The largest packet a network device is given at once, with its headers: `GSO_MAX_SIZE` in Linux, rounded up.
pub const LARGEST_PACKET: u64 = 68 << 10;

/// How a pool is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes it always has; a multiple of `unit`, two units at least.
    pub min: u64,
    /// Bytes it never goes beyond; a multiple of `unit`.
    pub max: u64,
    /// Bytes it grows and shrinks by, which is also its largest block; a power of two.
    pub unit: u64,
}

/// Bytes of a small unit: one large page.
const SMALL_UNIT: u64 = 2 << 20;
/// Bytes of a large unit: what the kernel's page allocator gives at most.
const LARGE_UNIT: u64 = 4 << 20;

impl Bounds {
    /// Those of a pool between `min` and `max` MiB; zero as maximum stands for a quarter of `ram` (bytes), and 1 GiB
    /// at most. What is too small for two units is made larger.
    pub fn new(min_mib: u32, max_mib: u32, ram: u64) -> Self {
        let max = match u64::from(max_mib) << 20 {
            0 => (ram / 4).min(1 << 30),
            max => max,
        };
        let unit = if max >= 2 * LARGE_UNIT {
            LARGE_UNIT
        } else {
            SMALL_UNIT
        };
        let whole = |bytes: u64| (bytes >> unit.trailing_zeros()).max(2) * unit;
        let max = whole(max);
        let min = whole(u64::from(min_mib) << 20).min(max);
        Bounds { min, max, unit }
    }

    /// Units at most.
    pub fn units(&self) -> u64 {
        self.max >> self.unit.trailing_zeros()
    }

    /// Whether the unit with this index is for large blocks only, which come and go: so that what stays for long
    /// cannot keep the largest ones out for ever.
    pub fn is_for_large(index: u64) -> bool {
        index % 4 == 1
    }

    /// Bytes of the units that are for blocks of all sizes, when the pool is as large as it can be.
    pub fn for_all(&self) -> u64 {
        let large = (self.units() + 2) / 4;
        (self.units() - large) * self.unit
    }

    /// Bytes of each of so many shares, when so much is kept. A sixteenth is nobody's: rings live there.
    pub fn share(&self, shares: u64, kept: u64) -> u64 {
        let all = self.for_all();
        each(all - all / 16 - most_kept(kept, all), shares)
    }

    /// Bytes the pool has while so much is to be kept.
    pub fn least(&self, kept: u64) -> u64 {
        // Never 0: said so that there is no panic, of which objtool would not know that it does not return.
        let units = kept.div_ceil(self.unit.max(1)).min(self.units());
        (self.min + units * self.unit).min(self.max)
    }
}

/// What is kept at most of what there is for blocks of all sizes: the others need the rest.
pub fn most_kept(wanted: u64, for_all: u64) -> u64 {
    wanted.min(for_all / 3)
}

/// How many shares a device has, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// What it reads and what it writes comes and goes, by request, and waits when there is no room: one pot for both.
    Together(u64),
    /// What a network card writes lies in wait, for which it has shares. What it reads is lost if there is no room: that
    /// is kept, and its share are so many MiB of it.
    Card {
        /// Kept for buffers it reads.
        kept: u64,
        /// For buffers it writes.
        receive: u64,
    },
    /// One for what it reads and one for what it writes. Some wait, some lose it, but none needs much.
    Apart,
}

/// Bytes that are kept for a device whose driver may lose something and that needs little: requests of a page or two.
const KEPT_OF_OTHERS: u64 = 4 * CHUNK_BYTES as u64;

impl Shares {
    /// Those of a kind of device, in a machine with so many processors.
    pub fn of(id: u32, cpus: u64) -> Self {
        match id {
            // Disks and file systems.
            2 | 8 | 9 | 26 => Shares::Together(2),
            // Rings full of buffers of up to a page. There may be a queue for each processor.
            1 => Shares::Card {
                kept: cpus.clamp(4, 16),
                receive: 2,
            },
            _ => Shares::Apart,
        }
    }

    /// How many in all.
    pub fn count(self) -> u64 {
        match self {
            Shares::Together(count) => count,
            Shares::Card { receive, .. } => receive,
            Shares::Apart => 2,
        }
    }

    /// Bytes that are to be kept for it.
    pub fn kept(self) -> u64 {
        match self {
            Shares::Together(_) => 0,
            Shares::Card { kept, .. } => kept << 20,
            Shares::Apart => KEPT_OF_OTHERS,
        }
    }

    /// What it leaves for others when it asks for buffers that it reads, and for others.
    pub fn ranks(self) -> (Rank, Rank) {
        match self {
            Shares::Together(_) => (Rank::Second, Rank::Second),
            Shares::Card { .. } => (Rank::First, Rank::Third),
            Shares::Apart => (Rank::First, Rank::First),
        }
    }
}

/// Bytes that a single request to a device with [`Shares::Together`] may have, so that it fits into its two shares: its
/// pieces take up to twice their length in the pool, and what it holds are whole chunks.
pub fn largest_request(share: u64) -> u64 {
    let chunk = CHUNK_BYTES as u64;
    (2 * share & !(chunk - 1)) / 2
}

/// What each of so many gets; all of it if there are none.
fn each(all: u64, count: u64) -> u64 {
    all.checked_div(count).unwrap_or(all)
}

/// Bytes that a network device's queue may hold of its `share`, if `queues` draw on it; 0 lets one packet at a time.
///
/// Packets take up to twice their length in the pool, a share is held by whole chunks, and the stack stops after the
/// packet that reaches the limit. Half of what would fit then is left for gaps that are too small for what comes: a
/// margin, not a proof.
pub fn queue_limit(share: u64, queues: u64) -> u64 {
    let chunks = share & !(CHUNK_BYTES as u64 - 1);
    each(chunks, 4 * queues).saturating_sub(LARGEST_PACKET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_usual_bounds() {
        let bounds = Bounds::new(8, 0, 2048 * MIB);
        assert_eq!(bounds.min, 8 * MIB);
        assert_eq!(bounds.max, 512 * MIB);
        assert_eq!(bounds.unit, 4 * MIB);
        assert_eq!(Bounds::new(8, 0, 64 << 30).max, 1 << 30);
    }

    #[test]
    fn small_pools_have_small_units() {
        let bounds = Bounds::new(8, 7, 1 << 30);
        assert_eq!(
            (bounds.min, bounds.max, bounds.unit),
            (6 * MIB, 6 * MIB, 2 * MIB)
        );
        let bounds = Bounds::new(0, 1, 1 << 30);
        assert_eq!(
            (bounds.min, bounds.max, bounds.unit),
            (4 * MIB, 4 * MIB, 2 * MIB)
        );
        let bounds = Bounds::new(0, 8, 1 << 30);
        assert_eq!(
            (bounds.min, bounds.max, bounds.unit),
            (8 * MIB, 8 * MIB, 4 * MIB)
        );
    }

    #[test]
    fn a_request_fits_whatever_its_pieces_are() {
        let Shares::Together(count) = Shares::of(2, 1) else {
            panic!("a disk is a disk");
        };
        for share in [0, 4095, 32 << 10, 245_760, 1 << 20, (1 << 20) + 5000] {
            let chunks = count * share / CHUNK_BYTES as u64;
            let most = chunks * CHUNK_BYTES as u64;
            assert!(2 * largest_request(share) <= most, "{share}");
            assert_eq!(largest_request(share) % 4096, 0);
        }
        assert_eq!(Shares::of(1, 1).count(), 2);
        assert_eq!(Shares::of(4, 1).count(), 2);
    }

    #[test]
    fn more_is_kept_for_cards_with_more_queues() {
        assert_eq!(Shares::of(1, 2).kept(), 4 * MIB);
        assert_eq!(Shares::of(1, 8).kept(), 8 * MIB);
        assert_eq!(Shares::of(1, 300).kept(), 16 * MIB);
        assert_eq!(Shares::of(2, 8).kept(), 0);
        assert_eq!(Shares::of(16, 8).kept(), 256 << 10);
        // A queue for each processor may hold several packets then.
        for cpus in [1, 2, 4, 8, 16] {
            assert!(queue_limit(Shares::of(1, cpus).kept(), cpus) >= 2 * LARGEST_PACKET);
        }
    }

    #[test]
    fn what_is_kept_makes_the_pool_larger() {
        let bounds = Bounds::new(8, 0, 2048 * MIB);
        assert_eq!(bounds.least(0), 8 * MIB);
        assert_eq!(bounds.least(1), 12 * MIB);
        assert_eq!(bounds.least(8 * MIB), 16 * MIB);
        assert_eq!(bounds.least(u64::MAX), 512 * MIB);
        assert_eq!(Bounds::new(8, 8, 1 << 30).least(4 * MIB), 8 * MIB);
    }

    #[test]
    fn a_packet_more_than_the_limit_still_fits() {
        assert_eq!(queue_limit((1 << 20) + 1, 2), (1 << 17) - LARGEST_PACKET);
        assert_eq!(queue_limit(1000, 4), 0);
    }

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn shares_fit(min: u32, max in 0u32..4096, ram in 0u64..1 << 40, shares in 1u64..400, kept in 0u64..1 << 32) {
            let bounds = Bounds::new(min, max, ram);
            prop_assert!(bounds.min <= bounds.max);
            prop_assert!(bounds.min >= 2 * bounds.unit);
            prop_assert_eq!(bounds.max % bounds.unit, 0);
            let large = (0..bounds.units()).filter(|index| Bounds::is_for_large(*index)).count() as u64;
            prop_assert!(large >= 1);
            prop_assert_eq!(bounds.for_all() + large * bounds.unit, bounds.max);
            let all = bounds.for_all();
            prop_assert!(shares * bounds.share(shares, kept) + most_kept(kept, all) < all);
            prop_assert!((bounds.min..=bounds.max).contains(&bounds.least(kept)));
            prop_assert_eq!(bounds.least(kept) % bounds.unit, 0);
        }

        #[test]
        fn queues_stay_within_their_share(share in 0u64..1 << 32, queues in 1u64..64) {
            let limit = queue_limit(share, queues);
            // Below that a single packet may be more than the share.
            prop_assume!(limit > 0);
            prop_assert!(4 * queues * (limit + LARGEST_PACKET) <= share);
        }
    }
}
