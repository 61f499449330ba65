// SPDX-License-Identifier: GPL-2.0

//! What the host makes of a batch: how far it has got, and how it must not answer.

use core::fmt;

use super::{Batch, Wire};

/// How far the host has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All pages are changed.
    Done,
    /// The guest has to exit once more. A host may come back without having done anything, for ever if it
    /// wants; the caller decides how often is too often.
    Again {
        /// Whether it did something.
        moved: bool,
    },
}

/// What a host must not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// It refused; SW_EXITINFO2.
    Refused(u64),
    /// Bits of the header are set that must be zero.
    Reserved(u32),
    /// The number of entries is another one than was sent.
    EndChanged {
        /// Index of the last entry that was sent.
        sent: u16,
        /// What the host makes of it.
        found: u16,
    },
    /// It went back.
    MovedBack {
        /// The entry it was at.
        from: u16,
        /// The entry it says it is at.
        to: u16,
    },
    /// It is behind the last entry, and not by one.
    Beyond {
        /// The entry it says it is at.
        cur: u16,
        /// Index of the last entry.
        end: u16,
    },
    /// The entry it is at is not the one that was sent, or has more pages done than it has, or fewer than
    /// before.
    EntryChanged {
        /// Its index.
        index: u16,
    },
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            HostError::Refused(code) => {
                let name = match code {
                    0x0000_0001_0000_0001 => " (invalid header)",
                    0x0000_0001_0000_0002 => " (invalid entry)",
                    0x0000_0100_0000_0000 => " (generic error)",
                    _ => "",
                };
                write!(f, "the host refused the page-state change: {code:#x}{name}")
            }
            HostError::Reserved(bits) => {
                write!(f, "the host set reserved bits {bits:#x} of the header")
            }
            HostError::EndChanged { sent, found } => {
                write!(f, "the host changed the last entry from {sent} to {found}")
            }
            HostError::MovedBack { from, to } => {
                write!(f, "the host went back from entry {from} to {to}")
            }
            HostError::Beyond { cur, end } => {
                write!(f, "the host is at entry {cur}, the last one is {end}")
            }
            HostError::EntryChanged { index } => write!(f, "the host changed entry {index}"),
        }
    }
}

impl<const N: usize> Batch<N> {
    /// What became of an exit: `exit_info_2` is SW_EXITINFO2, and `read` gives the words of the shared
    /// buffer, as [`Batch::words`] counts them. Each is read once at most.
    ///
    /// # Errors
    ///
    /// The host refused or cheats. Which pages have changed is unknown then.
    pub fn progress(
        &mut self,
        exit_info_2: u64,
        mut read: impl FnMut(usize) -> u64,
    ) -> Result<Progress, HostError> {
        if exit_info_2 != 0 {
            return Err(HostError::Refused(exit_info_2));
        }
        let header = read(0);
        // CAST: the parts of the word.
        let (cur, found, reserved) = (header as u16, (header >> 16) as u16, (header >> 32) as u32);
        let end = self.end();
        if reserved != 0 {
            return Err(HostError::Reserved(reserved));
        }
        // A lower one would make the rest look done.
        if found != end {
            return Err(HostError::EndChanged { sent: end, found });
        }
        if cur < self.cur {
            let from = self.cur;
            return Err(HostError::MovedBack { from, to: cur });
        }
        if cur > self.len {
            return Err(HostError::Beyond { cur, end });
        }
        let mut moved = cur > self.cur;
        let mut cur_page = 0;
        if let Some(sent) = self.entries.get(usize::from(cur)).filter(|_| cur <= end) {
            let word = read(usize::from(cur) + 1);
            cur_page = word & Wire::CUR_PAGE;
            let least = if moved { 0 } else { self.cur_page };
            let possible = least..=sent.frames().pages();
            if word & !Wire::CUR_PAGE != sent.0 || !possible.contains(&cur_page) {
                return Err(HostError::EntryChanged { index: cur });
            }
            moved |= cur_page > self.cur_page;
        }
        (self.cur, self.cur_page) = (cur, cur_page);
        Ok(if cur == self.len {
            Progress::Done
        } else {
            Progress::Again { moved }
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::super::{Batches, Frames, PageState};
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::{vec, vec::Vec};

    fn batch(first: u64, pages: u64) -> Batch<64> {
        let frames = Frames::new(first, pages).unwrap();
        Batches::new([frames].into_iter(), PageState::Shared, true)
            .next_batch()
            .unwrap()
    }

    #[test]
    fn each_way_to_cheat_is_told() {
        // Three entries; the host is in the middle of the second, a large one.
        let mut sent = batch(0x1ff, 0x202);
        let words: Vec<_> = sent.words().collect();
        let at = |cur: u64, cur_page: u64| {
            let words = words.clone();
            move |index| match index {
                0 => words[0] | cur,
                _ if index as u64 == cur + 1 => words[index] | cur_page,
                _ => panic!("read for nothing"),
            }
        };
        let again = |moved| Ok(Progress::Again { moved });
        assert_eq!(sent.progress(0, at(0, 0)), again(false));
        assert_eq!(sent.progress(0, at(1, 0)), again(true));
        assert_eq!(sent.progress(0, at(1, 300)), again(true));
        assert_eq!(sent.progress(0, at(1, 300)), again(false));
        let told = |outcome: Result<Progress, HostError>| outcome.unwrap_err().to_string();
        for (exit_info_2, words, text) in [
            (
                1 << 40,
                vec![],
                "the host refused the page-state change: 0x10000000000 (generic error)",
            ),
            (5, vec![], "the host refused the page-state change: 0x5"),
            (
                0,
                vec![1 << 32 | 2 << 16 | 1],
                "the host set reserved bits 0x1 of the header",
            ),
            (
                0,
                vec![1 << 16 | 2],
                "the host changed the last entry from 2 to 1",
            ),
            (
                0,
                vec![3 << 16 | 2],
                "the host changed the last entry from 2 to 3",
            ),
            (0, vec![2 << 16], "the host went back from entry 1 to 0"),
            (
                0,
                vec![2 << 16 | 4],
                "the host is at entry 4, the last one is 2",
            ),
            (
                0,
                vec![2 << 16 | 0xffff],
                "the host is at entry 65535, the last one is 2",
            ),
            (
                0,
                vec![2 << 16 | 1, 0, words[2] | 299],
                "the host changed entry 1",
            ),
            (
                0,
                vec![2 << 16 | 1, 0, words[2] | 513],
                "the host changed entry 1",
            ),
            (
                0,
                vec![2 << 16 | 1, 0, (words[2] | 300) ^ 1 << 12],
                "the host changed entry 1",
            ),
            (
                0,
                vec![2 << 16 | 2, 0, 0, words[3] | 2],
                "the host changed entry 2",
            ),
        ] {
            assert_eq!(
                told(sent.clone().progress(exit_info_2, |index| words[index])),
                text
            );
        }
        assert_eq!(sent.progress(0, at(2, 1)), again(true));
        assert_eq!(sent.progress(0, |_| 2 << 16 | 3), Ok(Progress::Done));
    }

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn a_host_that_writes_anything_gets_no_further_than_the_end(
            pages in 1u64..65,
            answers in prop::collection::vec((prop_oneof![Just(0u64), 0u64..100], any::<u16>(), any::<[u64; 2]>(), 0u8..4), 1..50),
        ) {
            let mut batch = batch(0x1000, pages);
            let sent: Vec<_> = batch.words().collect();
            let mut reached = 0;
            for (cur, end, garbage, lie) in answers {
                let read = |index: usize| match (index, lie) {
                    (0, 1) => garbage[0],
                    (0, 2) => cur | u64::from(end) << 16,
                    (0, _) => cur | sent[0] & !0xffff,
                    (_, 3) => garbage[1],
                    (index, _) => sent[index],
                };
                match batch.progress(0, read) {
                    Ok(Progress::Done) => prop_assert_eq!(read(0), pages | sent[0]),
                    Ok(Progress::Again { .. }) => {
                        prop_assert!(cur >= reached && cur < pages);
                        reached = cur;
                    }
                    Err(why) => prop_assert!(!why.to_string().is_empty()),
                }
                prop_assert!(u64::from(batch.cur) <= pages);
            }
        }
    }
}
