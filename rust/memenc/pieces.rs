// SPDX-License-Identifier: GPL-2.0

//! In which pieces much memory is asked for, when it may be scattered.

/// What is still to be allocated, and how large the next piece is to be: a unit at first, and half of that each time
/// there is no piece of the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    missing: usize,
    size: usize,
    unit: usize,
}

impl Pieces {
    /// For so many pages, in units of `unit` pages, a power of two.
    pub fn new(pages: usize, unit: usize) -> Self {
        Pieces {
            missing: pages,
            size: unit,
            unit,
        }
    }

    /// Pages of the next piece; `None` when there is enough. The last unit is no smaller than the others, or its
    /// rest would have to be split off; smaller pieces are split off in any case.
    pub fn next_pages(&self) -> Option<usize> {
        let pages = match self.size < self.unit {
            true => self.missing.min(self.size),
            false => self.size,
        };
        (self.missing > 0).then_some(pages)
    }

    /// There is one more piece, of so many pages.
    pub fn made(&mut self, pages: usize) {
        self.missing = self.missing.saturating_sub(pages);
    }

    /// There is no memory of that size in one piece. False if there are no smaller pieces.
    pub fn halve(&mut self) -> bool {
        let can = self.size > 1;
        if can {
            self.size /= 2;
        }
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    /// The pieces there are where those of more than `largest` pages are not.
    fn pieces(pages: usize, largest: usize) -> Option<Vec<usize>> {
        let mut pieces = Pieces::new(pages, 512);
        let mut made = Vec::new();
        while let Some(size) = pieces.next_pages() {
            if size <= largest {
                pieces.made(size);
                made.push(size);
            } else if !pieces.halve() {
                return None;
            }
        }
        Some(made)
    }

    #[test]
    fn units_are_whole() {
        assert_eq!(pieces(0, 512), Some(Vec::new()));
        assert_eq!(pieces(1, 512), Some(std::vec![512]));
        assert_eq!(pieces(513, 512), Some(std::vec![512, 512]));
    }

    #[test]
    fn smaller_pieces_are_as_small_as_they_may_be() {
        assert_eq!(pieces(300, 511), Some(std::vec![256, 44]));
        assert_eq!(pieces(3, 1), Some(std::vec![1, 1, 1]));
        assert_eq!(pieces(3, 0), None);
    }

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn there_is_as_much_as_is_wanted(pages in 0usize..4096, largest in 1usize..512) {
            let made = pieces(pages, largest).unwrap();
            prop_assert_eq!(made.iter().sum::<usize>(), pages);
            prop_assert!(made.iter().all(|piece| *piece <= largest));
        }
    }
}
