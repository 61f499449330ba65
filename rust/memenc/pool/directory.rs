// SPDX-License-Identifier: GPL-2.0

//! Which arena an address lies in: a hash table of units of 2 MiB.
//!
//! One entry is one word: the unit's number and, in the low bits, the arena's plus one. Readers need no
//! lock; writers come one at a time. Each entry is in the first slot that was free, from where its hash
//! says; a reader stops at a slot that is empty. So a removed entry leaves a mark where others may be behind it.

use core::ops::Deref;

use super::word::Word;

/// log2 of the bytes of a unit.
pub(super) const UNIT_SHIFT: u32 = 21;
/// Bits of an entry that are the arena's number plus one. The number of a unit has the 43 above.
const ARENA_BITS: u32 = 20;
const ARENA_MASK: u64 = (1 << ARENA_BITS) - 1;
const EMPTY: u64 = 0;
/// Was in use. Its arena would be 0 - 1, so it is no entry.
const REMOVED: u64 = 1 << 63;

/// Arenas above this number cannot be entered.
pub(super) const MOST_ARENAS: usize = (1 << ARENA_BITS) - 2;

fn entry(unit: u64, arena: usize) -> u64 {
    // CAST: usize has 64 bits at most, and the callers see to it that it is small.
    unit << ARENA_BITS | (arena as u64 + 1) & ARENA_MASK
}

/// Where a unit is looked for first. Neighbours are far from one another (Knuth's multiplicative hash), so that
/// runs of units do not pile up.
#[inline]
fn hash(unit: u64) -> usize {
    // CAST: the upper half of the product, which fits.
    (unit.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

/// The table.
#[derive(Debug)]
pub(super) struct Directory<S>(S);

impl<W: Word, S: Deref<Target = [W]>> Directory<S> {
    /// Made of words that are zero; their number is a power of two.
    pub(super) fn new(slots: S) -> Option<Self> {
        slots.len().is_power_of_two().then_some(Directory(slots))
    }

    /// The slots in the order in which a unit is looked for.
    fn slots(&self, unit: u64) -> impl Iterator<Item = &W> {
        let mask = self.0.len().wrapping_sub(1);
        let start = hash(unit);
        (0..=mask).filter_map(move |step| self.0.get(start.wrapping_add(step) & mask))
    }

    /// The arena of a unit.
    #[inline]
    pub(super) fn find(&self, unit: u64) -> Option<usize> {
        let mut place = hash(unit);
        for _ in 0..self.0.len() {
            let found = self.0.get(place & self.0.len().wrapping_sub(1))?.load();
            place = place.wrapping_add(1);
            if found == EMPTY {
                return None;
            }
            let arena = (found & ARENA_MASK).checked_sub(1);
            if let (true, Some(arena)) = (found >> ARENA_BITS == unit, arena) {
                return usize::try_from(arena).ok();
            }
        }
        None
    }

    /// Enters a unit that is not there. `None` if there is no room.
    pub(super) fn insert(&self, unit: u64, arena: usize) -> Option<()> {
        let slot = self
            .slots(unit)
            .find(|slot| matches!(slot.load(), EMPTY | REMOVED))?;
        slot.store(entry(unit, arena));
        Some(())
    }

    /// Removes a unit, if it is there.
    pub(super) fn remove(&self, unit: u64, arena: usize) {
        let wanted = entry(unit, arena);
        if let Some(slot) = self.slots(unit).find(|slot| slot.load() == wanted) {
            slot.store(REMOVED);
        }
        self.tidy();
    }

    /// Marks in front of an empty slot are not needed: nobody goes past that slot.
    fn tidy(&self) {
        // Twice around, as the run of marks may begin before the end.
        let mut empty = false;
        for slot in self.0.iter().rev().chain(self.0.iter().rev()) {
            match slot.load() {
                EMPTY => empty = true,
                REMOVED if empty => slot.store(EMPTY),
                _ => empty = false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::sync::atomic::AtomicU64;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn slots(count: usize) -> Vec<AtomicU64> {
        std::iter::repeat_with(AtomicU64::default)
            .take(count)
            .collect()
    }

    #[test]
    fn the_number_of_slots_is_a_power_of_two() {
        for (count, good) in [(0, false), (1, true), (3, false), (64, true)] {
            assert_eq!(Directory::new(slots(count)).is_some(), good);
        }
    }

    #[test]
    fn what_is_removed_is_gone_even_if_the_table_was_full() {
        let directory = Directory::new(slots(8)).unwrap();
        for unit in 0..8 {
            assert_eq!(directory.insert(unit, 5), Some(()));
        }
        assert_eq!(directory.insert(8, 5), None);
        for unit in 0..7 {
            directory.remove(unit, 5);
        }
        assert_eq!((directory.find(6), directory.find(7)), (None, Some(5)));
        directory.remove(7, 5);
        assert_eq!(directory.find(7), None);
        assert_eq!(
            directory.insert(u64::MAX >> UNIT_SHIFT, MOST_ARENAS),
            Some(())
        );
        assert_eq!(directory.find(u64::MAX >> UNIT_SHIFT), Some(MOST_ARENAS));
    }

    #[test]
    fn no_marks_are_left_when_all_is_removed() {
        let directory = Directory::new(slots(8)).unwrap();
        for unit in 0..7 {
            directory.insert(unit, 0).unwrap();
        }
        for unit in 0..7 {
            directory.remove(unit, 0);
        }
        assert!(directory.0.iter().all(|slot| Word::load(slot) == EMPTY));
    }

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u64..20, 0usize..9, any::<bool>()), 1..200)) {
            let directory = Directory::new(slots(16)).unwrap();
            let mut map = BTreeMap::new();
            for (unit, arena, insert) in steps {
                match (insert, map.get(&unit)) {
                    (true, None) => {
                        let there = directory.insert(unit, arena).is_some();
                        prop_assert_eq!(there, map.len() < 16);
                        if there {
                            map.insert(unit, arena);
                        }
                    }
                    (false, Some(&arena)) => {
                        directory.remove(unit, arena);
                        map.remove(&unit);
                    }
                    _ => {}
                }
                for unit in 0..20 {
                    prop_assert_eq!(directory.find(unit), map.get(&unit).copied());
                }
            }
        }
    }
}
