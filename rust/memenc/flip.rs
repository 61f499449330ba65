// SPDX-License-Identifier: GPL-2.0

//! Makes a range of virtual addresses private or shared by changing its page tables.
//!
//! First everything is read, then large pages are split where the range ends inside one, then entries
//! are changed. At each moment every address translates to the same page as before, with the old or
//! the new encryption, so other processors may use the range meanwhile; what they read is garbage in
//! between, as contents are not converted. When something fails, all is put back.
//!
//! Only this one mapping is changed. Other mappings of the same pages, what the host is told of them
//! ([`page_state`](crate::page_state)), and caches are the caller's business.

use core::fmt;

use crate::entry::{self, PageSize, Paging, Place};
use crate::walk::{Fault, Found, Leaf, PhysMem};

/// Physical memory whose page tables can be changed.
pub trait PhysMemMut: PhysMem {
    /// Writes a word, at once for whoever else reads it; addresses are as in [`PhysMem::read`]. `None`
    /// if that failed: then it may have been written or not.
    fn write(&mut self, gpa: u64, private: bool, value: u64) -> Option<()>;

    /// A page for a table; its contents do not matter. `None` if there is none.
    fn alloc_table(&mut self) -> Option<Place>;

    /// Takes back a table that nothing points to any more.
    fn free_table(&mut self, table: Place);

    /// Makes all processors forget their translations of the range that is being flipped, and the tables
    /// they read for it. Comes after pages are split, after entries are changed, and before a table that
    /// was in use is freed.
    fn flush(&mut self);
}

/// A stretch of addresses that is to be changed; remembered for the way back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    first: u64,
    last: u64,
}

/// What a flip did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flipped {
    /// Pages of 4 KiB that were not as wanted before.
    pub pages: u64,
    /// Large pages that were split.
    pub splits: u32,
}

/// Why a flip failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is no range of whole pages within one half of the address space.
    BadRange,
    /// Nothing is mapped at this virtual address.
    NotMapped(u64),
    /// The tables make no sense at this virtual address.
    Fault(u64, Fault),
    /// Private and shared pages alternate so often that this many [`Run`]s are needed.
    Scattered(usize),
    /// There was no page for a table.
    NoTable,
    /// The entry for this virtual address, or of a table that was to be put there, could not be written.
    NotWritten(u64),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::BadRange => f.write_str("not a range of whole pages"),
            Cause::NotMapped(va) => write!(f, "nothing is mapped at {va:#x}"),
            Cause::Fault(va, fault) => write!(f, "page tables at {va:#x}: {fault}"),
            Cause::Scattered(runs) => write!(f, "{runs} stretches are to be changed, too many"),
            Cause::NoTable => f.write_str("no page for a page table"),
            Cause::NotWritten(va) => write!(f, "the entry for {va:#x} could not be written"),
        }
    }
}

/// A flip that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlipError {
    /// Why.
    pub cause: Cause,
    /// First and last virtual address of what could not be put back: pages in there may be private or
    /// shared. `None` if all is as it was; whatever is not within it is in any case.
    pub unknown: Option<(u64, u64)>,
    /// Tables that stay in use, or may, because the large page they stand for could not be put back. Never
    /// to be freed.
    pub kept_tables: u32,
}

impl fmt::Display for FlipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        if let Some((first, last)) = self.unknown {
            write!(f, "; the state of {first:#x} to {last:#x} is unknown")?;
        }
        if self.kept_tables > 0 {
            write!(f, "; {} page tables are lost", self.kept_tables)?;
        }
        Ok(())
    }
}

impl From<Cause> for FlipError {
    fn from(cause: Cause) -> Self {
        FlipError {
            cause,
            unknown: None,
            kept_tables: 0,
        }
    }
}

/// A large page that was replaced by a table.
#[derive(Clone, Copy)]
struct Split {
    /// Where its entry was, and what it was.
    at: Place,
    entry: u64,
    table: Place,
}

/// A range ends inside two pages at most, each of which is split twice at most.
const MAX_SPLITS: usize = 4;

struct Flip<'a, M: PhysMemMut + ?Sized> {
    paging: Paging,
    mem: &'a mut M,
    cr3: u64,
    private: bool,
    splits: [Option<Split>; MAX_SPLITS],
}

impl Paging {
    /// Makes the `pages` pages of 4 KiB from `va` on private or shared. What is so already is left alone.
    ///
    /// `runs` is for the way back. One is enough where the whole range is private, or shared, before; in
    /// general there have to be as many as there are stretches to be changed.
    ///
    /// # Errors
    ///
    /// All is as before, unless the error says what is not.
    pub fn flip<M: PhysMemMut + ?Sized>(
        &self,
        mem: &mut M,
        cr3: u64,
        va: u64,
        pages: u64,
        private: bool,
        runs: &mut [Run],
    ) -> Result<Flipped, FlipError> {
        let (first, last) = self.page_range(va, pages).ok_or(Cause::BadRange)?;
        let mut flip = Flip {
            paging: *self,
            mem,
            cr3,
            private,
            splits: [None; MAX_SPLITS],
        };
        let (count, pages) = flip.plan(first, last, runs)?;
        let runs = runs.get(..count).ok_or(Cause::Scattered(count))?;
        match flip.carry_out(first, last, runs) {
            Ok(()) => Ok(Flipped {
                pages,
                // CAST: 4 at most.
                splits: flip.splits.iter().flatten().count() as u32,
            }),
            Err(cause) => Err(flip.put_back(cause, runs)),
        }
    }

    /// First and last address of a range, as [`Paging::linear`] counts.
    fn page_range(&self, va: u64, pages: u64) -> Option<(u64, u64)> {
        let len = pages.checked_mul(PageSize::Size4K.bytes())?;
        let last = va.checked_add(len.checked_sub(1)?)?;
        let canonical = |va| self.canonical(self.linear(va)) == va;
        let half = self.levels.va_bits() - 1;
        let one_half = canonical(va) && canonical(last) && va >> half == last >> half;
        (one_half && va % PageSize::Size4K.bytes() == 0)
            .then_some((self.linear(va), self.linear(last)))
    }
}

impl<M: PhysMemMut + ?Sized> Flip<'_, M> {
    /// Notes down what has to be changed. Returns how many stretches that are, more than there is room for
    /// perhaps, and how many pages.
    fn plan(&self, first: u64, last: u64, runs: &mut [Run]) -> Result<(usize, u64), Cause> {
        let (mut count, mut bytes) = (0usize, 0u64);
        let mut open: Option<Run> = None;
        let (from, to) = (self.paging.canonical(first), self.paging.canonical(last));
        for found in self.paging.walk(self.mem, self.cr3, from, to) {
            let leaf = expect_leaf(found)?;
            let start = self.paging.linear(leaf.va);
            let page = Run {
                first: start.max(first),
                last: (start + (leaf.size.bytes() - 1)).min(last),
            };
            if leaf.private == self.private {
                open = None;
                continue;
            }
            bytes += page.last - page.first + 1;
            let run = Run {
                first: open.map_or(page.first, |open| open.first),
                ..page
            };
            if open.is_none() {
                count += 1;
            }
            if let Some(slot) = runs.get_mut(count - 1) {
                *slot = run;
            }
            open = Some(run);
        }
        Ok((count, bytes / PageSize::Size4K.bytes()))
    }

    fn carry_out(&mut self, first: u64, last: u64, runs: &[Run]) -> Result<(), Cause> {
        if runs.is_empty() {
            return Ok(());
        }
        self.split_around(first, |page, _| page < first)?;
        self.split_around(last, |_, end| end > last)?;
        if self.splits.iter().any(Option::is_some) {
            // Translations of both sizes, with different bits, must not be cached side by side.
            self.mem.flush();
        }
        for run in runs {
            let mut linear = run.first;
            while linear <= run.last {
                let leaf = expect_leaf(self.look(linear))?;
                self.set(&leaf, self.private)?;
                linear = self.paging.linear(leaf.va) + leaf.size.bytes();
            }
        }
        self.mem.flush();
        Ok(())
    }

    /// Splits the page at `linear` as long as `sticks_out` says so of its first and last address, if it is
    /// to be changed at all.
    fn split_around(
        &mut self,
        linear: u64,
        sticks_out: impl Fn(u64, u64) -> bool,
    ) -> Result<(), Cause> {
        loop {
            let leaf = expect_leaf(self.look(linear))?;
            let start = self.paging.linear(leaf.va);
            let end = start + (leaf.size.bytes() - 1);
            if leaf.private == self.private || !sticks_out(start, end) {
                return Ok(());
            }
            self.split(&leaf)?;
        }
    }

    /// Puts a table with smaller pages in place of a page.
    fn split(&mut self, leaf: &Leaf) -> Result<(), Cause> {
        let level = leaf.size.level() - 1;
        // A page of 4 KiB is never asked for: it sticks out of no range.
        let Some(slot) = self.splits.iter_mut().find(|slot| slot.is_none()) else {
            return Err(Cause::NotWritten(leaf.va));
        };
        let table = self.mem.alloc_table().ok_or(Cause::NoTable)?;
        // Filled before anybody can see it.
        for index in 0..entry::ENTRIES {
            let value = smaller(leaf.entry, level) + index * entry::span(level);
            if self
                .mem
                .write(table.gpa + index * 8, table.private, value)
                .is_none()
            {
                self.mem.free_table(table);
                return Err(Cause::NotWritten(leaf.va));
            }
        }
        *slot = Some(Split {
            at: leaf.at,
            entry: leaf.entry,
            table,
        });
        // What is allowed, the smaller pages say; this entry allows all that they may.
        let allowed = entry::PRESENT | entry::WRITABLE | entry::ACCESSED | entry::DIRTY;
        let link = self.paging.encoding.mk(table.gpa, table.private);
        self.mem
            .write(
                leaf.at.gpa,
                leaf.at.private,
                link | allowed | leaf.entry & entry::USER,
            )
            .ok_or(Cause::NotWritten(leaf.va))
    }

    fn look(&self, linear: u64) -> Option<Found> {
        self.paging
            .lookup(self.mem, self.cr3, self.paging.canonical(linear))
    }

    fn set(&mut self, leaf: &Leaf, private: bool) -> Result<(), Cause> {
        if leaf.private == private {
            return Ok(());
        }
        let value = self.paging.encoding.mk(leaf.entry, private);
        self.mem
            .write(leaf.at.gpa, leaf.at.private, value)
            .ok_or(Cause::NotWritten(leaf.va))
    }

    /// Makes all as it was, as far as that works.
    fn put_back(&mut self, cause: Cause, runs: &[Run]) -> FlipError {
        let mut error = FlipError::from(cause);
        for run in runs {
            let mut linear = run.first;
            while linear <= run.last {
                let found = self.look(linear);
                let (back, len) = match found {
                    Some(Found::Leaf(leaf)) => {
                        (self.set(&leaf, !self.private).is_ok(), leaf.size.bytes())
                    }
                    Some(Found::Hole { len, .. } | Found::Fault { len, .. }) => (false, len),
                    None => (false, entry::span(1)),
                };
                let end = linear - linear % len + (len - 1);
                if !back {
                    let last = self.paging.canonical(end.min(run.last));
                    let first = self.paging.canonical(linear);
                    error.unknown = Some((error.unknown.map_or(first, |(first, _)| first), last));
                }
                linear = end + 1;
            }
        }
        self.join(&mut error);
        error
    }

    /// Puts large pages back in place of their tables.
    fn join(&mut self, error: &mut FlipError) {
        let mut unused = [None; MAX_SPLITS];
        for (split, unused) in self.splits.iter().flatten().zip(&mut unused) {
            let Split { at, entry, table } = *split;
            let written = self.mem.write(at.gpa, at.private, entry).is_some();
            if written || self.mem.read(at.gpa, at.private) == Some(entry) {
                *unused = Some(table);
            } else {
                error.kept_tables += 1;
            }
        }
        self.mem.flush();
        for table in unused.into_iter().flatten() {
            self.mem.free_table(table);
        }
    }
}

fn expect_leaf(found: impl Into<Option<Found>>) -> Result<Leaf, Cause> {
    match found.into() {
        Some(Found::Leaf(leaf)) => Ok(leaf),
        Some(Found::Hole { va, .. }) => Err(Cause::NotMapped(va)),
        Some(Found::Fault { va, fault, .. }) => Err(Cause::Fault(va, fault)),
        // There is always something at an address; kept apart from "not mapped" by its number.
        None => Err(Cause::BadRange),
    }
}

/// The first entry of `level` of the table that replaces a leaf of the level above.
const fn smaller(leaf: u64, level: u32) -> u64 {
    if level > 1 {
        return leaf;
    }
    // At level 1 the PAT bit is where the size was, and its old place is part of the address.
    let rest = leaf & !(entry::PSE | entry::PAT_LARGE);
    if leaf & entry::PAT_LARGE == 0 {
        rest
    } else {
        rest | entry::PAT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pat_bit_moves_where_the_size_was() {
        // A 2 MiB page, write-combining by PAT, with NX, G, a protection key and a bit of software's.
        let leaf = 0xa800_8000_0020_13e3;
        assert_eq!(smaller(leaf, 1), 0xa800_8000_0020_03e3);
        assert_eq!(smaller(leaf & !entry::PAT_LARGE, 1), 0xa800_8000_0020_0363);
        assert_eq!(smaller(leaf, 2), leaf);
    }
}
