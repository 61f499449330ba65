// SPDX-License-Identifier: GPL-2.0

//! Which pages are shared: ranges that never touch each other, in order, in storage of the caller's.

use core::fmt;

/// Page numbers from `first` to `end`, which is not included; never empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first page.
    pub first: u64,
    /// The one behind the last.
    pub end: u64,
}

impl Range {
    /// How many pages.
    pub const fn pages(self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// How many pages are in both.
    fn overlap(self, other: Range) -> u64 {
        self.end
            .min(other.end)
            .saturating_sub(self.first.max(other.first))
    }
}

/// A list that may be unable to grow: a vector of the kernel's, or [`Slots`].
pub trait Storage {
    /// What is in it.
    fn ranges(&self) -> &[Range];
    /// The same, to be changed.
    fn ranges_mut(&mut self) -> &mut [Range];
    /// Makes room, so that the next `more` can be appended. `None` if there cannot be: then nothing has
    /// changed.
    fn reserve(&mut self, more: usize) -> Option<()>;
    /// Appends one. `None` if there is no room: then nothing has changed.
    fn push(&mut self, range: Range) -> Option<()>;
    /// Removes the last one, if there is one.
    fn pop(&mut self);
}

/// Room for a fixed number of ranges.
#[derive(Debug)]
pub struct Slots<'a> {
    slots: &'a mut [Range],
    used: usize,
}

impl<'a> Slots<'a> {
    /// All of `slots`, whatever is in there, as room.
    pub fn new(slots: &'a mut [Range]) -> Self {
        Slots { slots, used: 0 }
    }
}

impl Storage for Slots<'_> {
    fn ranges(&self) -> &[Range] {
        self.slots.get(..self.used).unwrap_or(&[])
    }

    fn ranges_mut(&mut self) -> &mut [Range] {
        self.slots.get_mut(..self.used).unwrap_or(&mut [])
    }

    fn reserve(&mut self, more: usize) -> Option<()> {
        let left = self.slots.len().checked_sub(self.used)?;
        (left >= more).then_some(())
    }

    fn push(&mut self, range: Range) -> Option<()> {
        *self.slots.get_mut(self.used)? = range;
        self.used += 1;
        Some(())
    }

    fn pop(&mut self) {
        self.used = self.used.saturating_sub(1);
    }
}

/// Why a set of ranges did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// The range is empty.
    Empty,
    /// The storage cannot grow.
    Full,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RangeError::Empty => "the range is empty",
            RangeError::Full => "no room for one more range",
        })
    }
}

/// A set of pages. Ranges that touch or overlap are one.
#[derive(Debug)]
pub struct Ranges<S: Storage> {
    storage: S,
    pages: u64,
    most: u64,
}

impl<S: Storage> Ranges<S> {
    /// An empty set; what is in the storage is removed.
    pub fn new(mut storage: S) -> Self {
        for _ in 0..storage.ranges().len() {
            storage.pop();
        }
        Ranges::empty(storage)
    }

    /// An empty set in storage that is empty; for statics.
    pub const fn empty(storage: S) -> Self {
        Ranges {
            storage,
            pages: 0,
            most: 0,
        }
    }

    /// The ranges, lowest first. Between any two there is a page that is in neither.
    pub fn ranges(&self) -> &[Range] {
        self.storage.ranges()
    }

    /// How many pages there are.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// How many there were at most.
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// How many pages of a range are in the set.
    pub fn count(&self, first: u64, end: u64) -> u64 {
        let wanted = Range { first, end };
        let from = self.ranges().partition_point(|range| range.end <= first);
        let ranges = self.ranges().iter().skip(from);
        ranges
            .take_while(|range| range.first < end)
            .map(|range| range.overlap(wanted))
            .sum()
    }

    /// Makes room for `most` ranges in all. Whoever inserts pieces that do not overlap, and removes them as
    /// they were inserted, never lacks room for as many pieces: there are no more ranges than pieces.
    ///
    /// # Errors
    ///
    /// Nothing has changed.
    pub fn reserve(&mut self, most: usize) -> Result<(), RangeError> {
        let more = most.saturating_sub(self.storage.ranges().len());
        self.storage.reserve(more).ok_or(RangeError::Full)
    }

    /// Adds pages; returns how many were not in the set before.
    ///
    /// # Errors
    ///
    /// Nothing has changed.
    pub fn insert(&mut self, first: u64, end: u64) -> Result<u64, RangeError> {
        if first >= end {
            return Err(RangeError::Empty);
        }
        let new = Range { first, end }.pages() - self.count(first, end);
        let ranges = self.storage.ranges();
        // Those from `low` on reach to the new one, those from `high` on are behind it.
        let low = ranges.partition_point(|range| range.end < first);
        let high = ranges.partition_point(|range| range.first <= end);
        match ranges.get(low..high) {
            Some([lowest, ..]) => {
                let highest = ranges.get(high - 1).unwrap_or(lowest);
                let merged = Range {
                    first: first.min(lowest.first),
                    end: end.max(highest.end),
                };
                self.set(low, merged);
                self.drop_from(low + 1, high - low - 1);
            }
            _ => self.put(low, Range { first, end })?,
        }
        self.pages += new;
        self.most = self.most.max(self.pages);
        Ok(new)
    }

    /// Removes pages; returns how many were in the set.
    ///
    /// # Errors
    ///
    /// Nothing has changed. There can be no room, when a range is cut in two.
    pub fn remove(&mut self, first: u64, end: u64) -> Result<u64, RangeError> {
        if first >= end {
            return Err(RangeError::Empty);
        }
        let gone = self.count(first, end);
        let ranges = self.storage.ranges();
        let mut low = ranges.partition_point(|range| range.end <= first);
        let mut high = ranges.partition_point(|range| range.first < end);
        if let (Some(&lowest), Some(&highest)) = (ranges.get(low), ranges.get(high.wrapping_sub(1)))
        {
            let front = (low < high && lowest.first < first).then_some(Range {
                end: first,
                ..lowest
            });
            let back = (low < high && highest.end > end).then_some(Range {
                first: end,
                ..highest
            });
            match (front, back) {
                (Some(front), Some(back)) if low + 1 == high => {
                    self.put(high, back)?;
                    self.set(low, front);
                    low += 1;
                }
                (front, back) => {
                    if let Some(front) = front {
                        self.set(low, front);
                        low += 1;
                    }
                    if let Some(back) = back {
                        high -= 1;
                        self.set(high, back);
                    }
                }
            }
            self.drop_from(low, high.saturating_sub(low));
        }
        self.pages -= gone;
        Ok(gone)
    }

    fn set(&mut self, index: usize, range: Range) {
        if let Some(slot) = self.storage.ranges_mut().get_mut(index) {
            *slot = range;
        }
    }

    /// Makes room at `index` and puts a range there.
    fn put(&mut self, index: usize, range: Range) -> Result<(), RangeError> {
        self.storage.push(range).ok_or(RangeError::Full)?;
        if let Some(behind) = self.storage.ranges_mut().get_mut(index..) {
            behind.rotate_right(1);
        }
        Ok(())
    }

    /// Removes `count` ranges from `index` on.
    fn drop_from(&mut self, index: usize, count: usize) {
        if let Some(behind) = self.storage.ranges_mut().get_mut(index..) {
            behind.rotate_left(count.min(behind.len()));
        }
        for _ in 0..count {
            self.storage.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// What the set should be, from the pages one by one.
    fn model(pages: &BTreeSet<u64>) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        for &page in pages {
            match ranges.last_mut() {
                Some(last) if last.end == page => last.end += 1,
                _ => ranges.push(Range {
                    first: page,
                    end: page + 1,
                }),
            }
        }
        ranges
    }

    #[test]
    fn the_whole_of_all_numbers_is_a_range() {
        let mut slots = [Range::default(); 2];
        let mut set = Ranges::new(Slots::new(&mut slots));
        assert_eq!(set.insert(0, u64::MAX), Ok(u64::MAX));
        assert_eq!(set.insert(5, u64::MAX), Ok(0));
        assert_eq!(set.remove(7, 8), Ok(1));
        assert_eq!(set.remove(0, u64::MAX), Ok(u64::MAX - 1));
        assert_eq!(
            (set.pages(), set.most(), set.ranges()),
            (0, u64::MAX, &[][..])
        );
    }

    #[test]
    fn what_is_empty_is_refused() {
        let mut set = Ranges::new(Slots::new(&mut []));
        for (first, end) in [(0, 0), (5, 4), (u64::MAX, 0)] {
            assert_eq!(set.insert(first, end), Err(RangeError::Empty));
            assert_eq!(set.remove(first, end), Err(RangeError::Empty));
        }
        assert_eq!(set.insert(1, 2), Err(RangeError::Full));
        assert_eq!(set.remove(1, 2), Ok(0));
    }

    #[test]
    fn what_the_storage_held_before_is_forgotten() {
        let mut slots = [Range { first: 3, end: 9 }; 3];
        let mut storage = Slots::new(&mut slots);
        storage.push(Range { first: 1, end: 2 }).unwrap();
        assert_eq!(Ranges::new(storage).ranges(), &[]);
    }

    #[test]
    fn room_is_there_or_it_is_said_that_it_is_not() {
        let mut slots = [Range::default(); 2];
        let mut set = Ranges::new(Slots::new(&mut slots));
        set.insert(1, 2).unwrap();
        assert_eq!(set.reserve(2), Ok(()));
        assert_eq!(set.reserve(3), Err(RangeError::Full));
        assert_eq!(set.reserve(0), Ok(()));
    }

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn pieces_that_are_removed_as_they_were_inserted_never_lack_reserved_room(
            steps in prop::collection::vec(0usize..12, 1..200),
        ) {
            let mut slots = [Range::default(); 12];
            let mut set = Ranges::new(Slots::new(&mut slots));
            let mut there = [false; 12];
            for piece in steps {
                // Twelve pieces side by side, of one to three pages.
                let first = (0..piece).map(|before| 1 + before as u64 % 3).sum::<u64>();
                let end = first + 1 + piece as u64 % 3;
                let pieces = there.iter().filter(|there| **there).count();
                let outcome = if there[piece] {
                    set.remove(first, end)
                } else {
                    set.reserve(pieces + 1).unwrap();
                    set.insert(first, end)
                };
                prop_assert_eq!(outcome, Ok(end - first));
                there[piece] = !there[piece];
                prop_assert!(set.ranges().len() <= pieces + 1);
            }
        }

        #[test]
        fn it_is_a_set_of_pages_or_has_not_changed(
            room in 0usize..6,
            steps in prop::collection::vec((any::<bool>(), 0u64..40, 0u64..12), 1..60),
        ) {
            let mut slots = std::vec![Range::default(); room];
            let mut set = Ranges::new(Slots::new(&mut slots));
            let (mut pages, mut most) = (BTreeSet::new(), 0);
            for (insert, first, len) in steps {
                let (before, range) = (pages.clone(), first..first + len);
                let there = pages.range(range.clone()).count() as u64;
                prop_assert_eq!(set.count(range.start, range.end), there);
                let (outcome, changed) = if insert {
                    pages.extend(range.clone());
                    (set.insert(range.start, range.end), len - there)
                } else {
                    pages.retain(|page| !range.contains(page));
                    (set.remove(range.start, range.end), there)
                };
                match outcome {
                    Ok(count) => prop_assert_eq!(count, changed),
                    Err(RangeError::Empty) => prop_assert_eq!(len, 0),
                    Err(RangeError::Full) => {
                        prop_assert!(model(&pages).len() > room);
                        pages = before;
                    }
                }
                most = most.max(pages.len() as u64);
                prop_assert_eq!(set.ranges(), model(&pages));
                prop_assert_eq!((set.pages(), set.most()), (pages.len() as u64, most));
            }
        }
    }
}
