// SPDX-License-Identifier: GPL-2.0

//! Page-state changes: how a SEV-SNP guest tells its host which pages become private or shared.
//!
//! The guest writes a batch of entries into its GHCB's shared buffer, and the host works on them from the
//! first on, in as many rounds as it likes (GHCB 4.1.6; Linux: `struct snp_psc_desc`). The host writes its
//! progress into the same buffer, so none of what stands there afterwards is believed: it is compared
//! with what was sent.

use core::iter::{Fuse, Peekable};

use crate::entry::PageSize;

mod answer;

pub use answer::{HostError, Progress};

/// Entries that Linux puts into one batch (`VMGEXIT_PSC_MAX_ENTRY`).
pub const LINUX_MAX: usize = 64;

/// Entries that the shared buffer has room for (`VMGEXIT_PSC_MAX_COUNT`).
pub const MAX: usize = 253;

/// Pages of 4 KiB in a large entry.
const LARGE: u64 = 512;

/// Bits of a frame number.
const GFN_BITS: u32 = 40;

/// What pages become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Assigned to the guest.
    Private = 1,
    /// The host's as well.
    Shared = 2,
}

/// Some pages of 4 KiB, next to each other: at least one, and no frame number above 40 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    first: u64,
    end: u64,
}

impl Frames {
    /// `pages` pages from frame `first` on, the GPA divided by 4096. `None` if it is none, or too many.
    pub const fn new(first: u64, pages: u64) -> Option<Self> {
        match first.checked_add(pages) {
            Some(end) if pages > 0 && end <= 1 << GFN_BITS => Some(Frames { first, end }),
            _ => None,
        }
    }

    /// The first frame.
    pub const fn first(self) -> u64 {
        self.first
    }

    /// How many.
    pub const fn pages(self) -> u64 {
        self.end - self.first
    }
}

/// An entry as it is in the shared buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wire(u64);

impl Wire {
    /// How many pages of the entry the host has done.
    const CUR_PAGE: u64 = 0xfff;

    const fn new(first: u64, state: PageState, size: PageSize) -> Self {
        let large = matches!(size, PageSize::Size2M);
        // CAST: the values of an enum and a bool, widened in a const context.
        Wire(first << 12 | (state as u64) << 52 | (large as u64) << 56)
    }

    const fn frames(self) -> Frames {
        let first = (self.0 >> 12) & ((1 << GFN_BITS) - 1);
        let pages = if self.0 & 1 << 56 == 0 { 1 } else { LARGE };
        Frames {
            first,
            end: first + pages,
        }
    }
}

/// Splits pages into batches with as few entries as can be.
pub struct Batches<I: Iterator<Item = Frames>> {
    frames: Peekable<Fuse<I>>,
    /// What is left of the frames at hand.
    left: Option<Frames>,
    state: PageState,
    large: bool,
}

impl<I: Iterator<Item = Frames>> Batches<I> {
    /// `frames` are to become `state`. Neighbours that follow each other are merged, however they come.
    /// `large` allows entries of 2 MiB; without it each page has its own (PVALIDATE may demand that).
    pub fn new(frames: I, state: PageState, large: bool) -> Self {
        Batches {
            frames: frames.fuse().peekable(),
            left: None,
            state,
            large,
        }
    }

    /// The next batch, full unless it is the last one; `None` when there is nothing left. `N` is 1 to
    /// [`MAX`].
    pub fn next_batch<const N: usize>(&mut self) -> Option<Batch<N>> {
        const { assert!(N > 0 && N <= MAX) };
        let mut batch = Batch {
            entries: [Wire(0); N],
            len: 0,
            cur: 0,
            cur_page: 0,
        };
        for slot in &mut batch.entries {
            let Some(entry) = self.entry() else {
                break;
            };
            *slot = entry;
            batch.len += 1;
        }
        (batch.len > 0).then_some(batch)
    }

    fn entry(&mut self) -> Option<Wire> {
        let mut left = self.left.take().or_else(|| self.frames.next())?;
        // As far as a large entry could reach, or all of it.
        while left.pages() < LARGE {
            let Some(next) = self.frames.next_if(|next| next.first == left.end) else {
                break;
            };
            left.end = next.end;
        }
        let size = if self.large && left.first % LARGE == 0 && left.pages() >= LARGE {
            PageSize::Size2M
        } else {
            PageSize::Size4K
        };
        let wire = Wire::new(left.first, self.state, size);
        let end = wire.frames().end;
        self.left = (end < left.end).then_some(Frames { first: end, ..left });
        Some(wire)
    }
}

/// Entries that are sent together, and how far the host has got with them.
#[derive(Clone, Debug)]
pub struct Batch<const N: usize> {
    entries: [Wire; N],
    /// How many there are, the one the host is at, and the pages of it that are done.
    len: u16,
    cur: u16,
    cur_page: u64,
}

impl<const N: usize> Batch<N> {
    /// Index of the last entry.
    const fn end(&self) -> u16 {
        self.len.saturating_sub(1)
    }

    /// What to write into the shared buffer, eight bytes little-endian each: the header, then the entries.
    /// Once, before the first exit; in between the host's progress has to stay.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let header = u64::from(self.cur) | u64::from(self.end()) << 16;
        let entries = self.entries.iter().take(self.len.into());
        core::iter::once(header).chain(entries.map(|entry| entry.0))
    }

    /// What the entries name: for PVALIDATE, and for who wants to know. An entry has one page or 512.
    pub fn frames(&self) -> impl Iterator<Item = Frames> + '_ {
        let entries = self.entries.iter().take(self.len.into());
        entries.map(|entry| entry.frames())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn frames(first: u64, pages: u64) -> Frames {
        Frames::new(first, pages).unwrap()
    }

    fn batch(first: u64, pages: u64) -> Batch<64> {
        Batches::new([frames(first, pages)].into_iter(), PageState::Shared, true)
            .next_batch()
            .unwrap()
    }

    #[test]
    fn words_are_those_of_the_specification() {
        let words: Vec<_> = batch(0x123_45ff, 0x202).words().collect();
        assert_eq!(
            words,
            // Header: entry 0 to 2. Entries: frame at bit 12, operation at 52, size at 56.
            [
                0x0002_0000,
                0x0020_0012_345f_f000,
                0x0120_0012_3460_0000,
                0x0020_0012_3480_0000
            ]
        );
        assert_eq!(
            batch(0x400, 512).words().collect::<Vec<_>>(),
            [0, 0x0120_0000_0040_0000]
        );
        let private = Batches::new([frames(1, 1)].into_iter(), PageState::Private, true)
            .next_batch::<1>()
            .unwrap();
        assert_eq!(
            private.words().collect::<Vec<_>>(),
            [0, 0x0010_0000_0000_1000]
        );
    }

    #[test]
    fn no_frame_is_beyond_what_an_entry_can_name() {
        assert_eq!(Frames::new(1, 0), None);
        assert_eq!(Frames::new(u64::MAX, 1), None);
        assert_eq!(Frames::new(1 << 40, 1), None);
        assert_eq!(Frames::new((1 << 40) - 1, 2), None);
        assert_eq!(Frames::new((1 << 40) - 1, 1).map(Frames::pages), Some(1));
    }

    /// Takes an entry apart by its bytes.
    fn entry(word: u64) -> (u64, u64, u8) {
        let bytes = word.to_le_bytes();
        assert_eq!((bytes[0], bytes[1] & 0xf), (0, 0), "cur_page");
        let mut frame = [0; 8];
        frame[..6].copy_from_slice(&bytes[1..7]);
        let first = (u64::from_le_bytes(frame) >> 4) & 0xff_ffff_ffff;
        (first, [1, 512][usize::from(bytes[7])], bytes[6] >> 4)
    }

    /// Longest and most ranges: Miri is slow.
    const RANGES: (u64, usize) = if cfg!(miri) { (530, 3) } else { (1500, 8) };

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn the_pages_named_are_the_ranges_in_as_few_entries_as_can_be(
            start in 0u64..2000,
            parts in prop::collection::vec((prop_oneof![2 => Just(0u64), 1 => 1u64..700], prop_oneof![1u64..4, 1u64..RANGES.0]), 1..RANGES.1),
            private: bool,
            large: bool,
        ) {
            let (mut ranges, mut pages, mut next) = (Vec::new(), BTreeSet::new(), start);
            for (gap, len) in parts {
                ranges.push(frames(next + gap, len));
                pages.extend(next + gap..next + gap + len);
                next += gap + len;
            }
            let state = if private { PageState::Private } else { PageState::Shared };
            let mut batches = Batches::new(ranges.into_iter(), state, large);
            let (mut named, mut entries, mut last_len) = (Vec::new(), 0, 64);
            while let Some(batch) = batches.next_batch::<64>() {
                prop_assert_eq!(last_len, 64, "a batch that is not full is the last one");
                let words: Vec<_> = batch.words().collect();
                last_len = words.len() - 1;
                entries += last_len;
                prop_assert_eq!(words[0], (last_len as u64 - 1) << 16);
                for (&word, frames) in words[1..].iter().zip(batch.frames()) {
                    let (first, len, operation) = entry(word);
                    prop_assert_eq!((frames.first(), frames.pages()), (first, len));
                    prop_assert_eq!(operation, if private { 1 } else { 2 });
                    prop_assert!(len == 1 || first % 512 == 0);
                    named.extend(first..first + len);
                }
            }
            prop_assert_eq!(&named, &pages.iter().copied().collect::<Vec<_>>());
            // Each aligned block of 512 pages that is wanted as a whole is one entry.
            let blocks: BTreeSet<_> = pages.iter().map(|page| page / 512).collect();
            let whole = |block: &&u64| large && (**block * 512..**block * 512 + 512).all(|page| pages.contains(&page));
            let whole = blocks.iter().filter(whole).count();
            prop_assert_eq!(entries, pages.len() - whole * 511);
        }
    }
}
