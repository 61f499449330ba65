// SPDX-License-Identifier: GPL-2.0
//! The guest's memory while it is sealed: which of its pages are shared, and the two files it is in.

use crate::filling;
use memenc::{
    cbit::Encoding,
    entry::{Levels, Paging, Place},
    walk::{Found, Half, PhysMem},
};
use std::{cell::RefCell, collections::HashSet, fs::File, io, os::unix::fs::FileExt};

/// The size of a page in bytes.
pub(crate) const PAGE: u64 = 4096;

/// How many pages are read and written at once.
const PIECE: usize = 256;

/// The page tables' entry point, as a processor of the guest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageTables {
    /// The root's address, with its C-bit, and flags in the lowest 12 bits.
    pub(crate) cr3: u64,
    /// Whether there are five levels (CR4.LA57) instead of four.
    pub(crate) five_levels: bool,
    /// Position of the C-bit.
    pub(crate) c_bit: u32,
}

/// For each page of `memory`, from address 0, whether the kernel has it mapped shared anywhere.
///
/// `memory` is still one for both: it is read without regard to the C-bit.
///
/// # Errors
///
/// What is wrong with the page tables, in words.
pub(crate) fn shared_pages(memory: &File, tables: PageTables) -> Result<Vec<bool>, String> {
    let len = memory.metadata().map_err(|error| error.to_string())?.len();
    // CAST: a number of pages in memory fits.
    let mut shared = vec![false; (len / PAGE) as usize];
    let encoding = Encoding::c_bit(tables.c_bit).ok_or("there can be no such C-bit")?;
    let levels = if tables.five_levels {
        Levels::Five
    } else {
        Levels::Four
    };
    let paging = Paging::new(encoding, levels);
    let mut seen = HashSet::new();
    let mut fault = None;
    paging.visit_tables(
        &Tables::of(memory),
        tables.cr3,
        Half::Kernel,
        &mut |place: Place, level| seen.insert((place.gpa, level)),
        &mut |found| match found {
            Found::Leaf(leaf) => {
                if !leaf.private {
                    let first = leaf.gpa / PAGE;
                    for page in first..first + leaf.size.bytes() / PAGE {
                        // What lies beyond memory is devices'.
                        if let Some(page) = usize::try_from(page)
                            .ok()
                            .and_then(|page| shared.get_mut(page))
                        {
                            *page = true;
                        }
                    }
                }
            }
            Found::Hole { .. } => {}
            Found::Fault {
                va, fault: what, ..
            } => {
                fault.get_or_insert_with(|| format!("page tables at {va:#x}: {what}"));
            }
        },
    );
    match fault {
        Some(fault) => Err(fault),
        // A kernel that runs here has devices.
        None if !shared.contains(&true) => {
            let cr3 = tables.cr3;
            Err(format!("nothing is shared by the tables of CR3 {cr3:#x}"))
        }
        None => Ok(shared),
    }
}

/// Memory with page tables in it, read a page at a time.
struct Tables<'a> {
    memory: &'a File,
    page: RefCell<(Option<u64>, [u8; PAGE as usize])>,
}

impl<'a> Tables<'a> {
    fn of(memory: &'a File) -> Self {
        let page = RefCell::new((None, [0; PAGE as usize]));
        Self { memory, page }
    }
}

impl PhysMem for Tables<'_> {
    fn read(&self, gpa: u64, _private: bool) -> Option<u64> {
        let (held, bytes) = &mut *self.page.borrow_mut();
        let start = gpa - gpa % PAGE;
        if *held != Some(start) {
            *held = None;
            self.memory.read_exact_at(bytes, start).ok()?;
            *held = Some(start);
        }
        // CAST: below the size of a page.
        let word = bytes.get((gpa - start) as usize..)?.first_chunk()?;
        Some(u64::from_le_bytes(*word))
    }
}

/// Gives each page one place where its contents are: shared pages stay in `shared`, all others go to `private`, which is
/// as long, and empty. The other place gets a filling; pages for which `both` is true have their contents in both.
///
/// Nothing is written to shared pages: devices may be doing that.
///
/// # Errors
///
/// Those of the files.
pub(crate) fn separate(
    shared: &File,
    private: &File,
    is_shared: &[bool],
    both: impl Fn(u64) -> bool,
) -> io::Result<()> {
    let mut contents = vec![0; PAGE as usize * PIECE];
    let mut fillings = contents.clone();
    for (number, is_shared) in is_shared.chunks(PIECE).enumerate() {
        // CAST: an offset in a file.
        let start = (number * contents.len()) as u64;
        let contents = &mut contents[..is_shared.len() * PAGE as usize];
        let fillings = &mut fillings[..contents.len()];
        shared.read_exact_at(contents, start)?;
        filling::fill(start, fillings);
        // CAST: a page within a piece.
        let both = |page: usize| both(start + page as u64 * PAGE);
        write(shared, start, fillings, |page, _| {
            !is_shared[page] && !both(page)
        })?;
        write(private, start, fillings, |page, _| {
            is_shared[page] && !both(page)
        })?;
        // The guest has never used most of its memory: a page of zeros stays a hole of the file.
        write(private, start, contents, |page, bytes| {
            (!is_shared[page] || both(page)) && bytes.iter().any(|byte| *byte != 0)
        })?;
    }
    Ok(())
}

/// Writes those pages of `bytes` that are wanted, by number and contents, to a file from `start` on.
fn write(
    file: &File,
    start: u64,
    bytes: &[u8],
    wanted: impl Fn(usize, &[u8]) -> bool,
) -> io::Result<()> {
    let mut run = 0..0;
    for (page, one) in bytes.chunks_exact(PAGE as usize).enumerate() {
        let end = run.end + one.len();
        if wanted(page, one) {
            run.end = end;
        } else {
            file.write_all_at(&bytes[run.clone()], start + run.start as u64)?;
            run = end..end;
        }
    }
    file.write_all_at(&bytes[run.clone()], start + run.start as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(pages: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        for (number, byte) in (0..).zip(pages) {
            file.write_all_at(&[*byte; PAGE as usize], number * PAGE)
                .unwrap();
        }
        file
    }

    fn page(file: &File, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        file.read_exact_at(&mut bytes, number * PAGE).unwrap();
        bytes
    }

    fn filling(number: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        filling::fill(number * PAGE, &mut bytes);
        bytes
    }

    #[test]
    fn each_page_is_where_it_belongs_and_a_filling_elsewhere() {
        // Several pieces, with an odd rest.
        let count = 2 * PIECE + 3;
        let is_shared: Vec<bool> = (0..count).map(|page| page % 3 == 1).collect();
        let shared = file_with(&vec![7; count]);
        let private = tempfile::tempfile().unwrap();
        private.set_len(count as u64 * PAGE).unwrap();
        separate(&shared, &private, &is_shared, |gpa| gpa < 3 * PAGE).unwrap();
        let contents = vec![7; PAGE as usize];
        for number in 0..count as u64 {
            let expected = match (number < 3, is_shared[number as usize]) {
                (true, _) => (contents.clone(), contents.clone()),
                (false, true) => (contents.clone(), filling(number)),
                (false, false) => (filling(number), contents.clone()),
            };
            let found = (page(&shared, number), page(&private, number));
            assert!(found == expected, "page {number}");
        }
    }

    #[test]
    fn private_zeros_take_no_room() {
        use std::os::unix::fs::MetadataExt;
        let shared = file_with(&[0; 64]);
        let private = tempfile::tempfile().unwrap();
        private.set_len(64 * PAGE).unwrap();
        separate(&shared, &private, &[false; 64], |_| false).unwrap();
        assert_eq!(private.metadata().unwrap().blocks(), 0);
        assert!(page(&private, 63) == [0; PAGE as usize]);
        assert!(page(&shared, 63) == filling(63));
    }

    /// Memory of 4 MiB whose page tables are in its first pages: a large page that is private and, in it, one page that
    /// is shared too; and the rest shared.
    fn tables() -> File {
        let file = file_with(&[0; 1024]);
        for (table, index, page, flags) in [
            (1, 511, 2, PRIVATE | 0x3),
            (2, 510, 3, PRIVATE | 0x3),
            (3, 0, 0, PRIVATE | 0x83),
            (3, 1, 4, PRIVATE | 0x3),
            (3, 2, 512, 0x83),
            (3, 3, 0x4_0000, 0x83), // a device's
            (4, 9, 100, 0x3),
        ] {
            let entry: u64 = (page * PAGE) | flags;
            let place = table * PAGE + index * 8;
            file.write_all_at(&entry.to_le_bytes(), place).unwrap();
        }
        file
    }

    const PRIVATE: u64 = 1 << 39;

    const CR3: PageTables = PageTables {
        cr3: PAGE | PRIVATE,
        five_levels: false,
        c_bit: 39,
    };

    #[test]
    fn a_page_is_shared_if_it_is_mapped_so_anywhere() {
        let shared = shared_pages(&tables(), CR3).unwrap();
        let expected: Vec<bool> = (0..1024).map(|page| page == 100 || page >= 512).collect();
        assert!(shared == expected);
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let file = tables();
        let refused = |tables| shared_pages(&file, tables).unwrap_err();
        let empty = refused(PageTables { cr3: 0, ..CR3 });
        assert!(empty.contains("nothing is shared"), "{empty}");
        let outside = refused(PageTables {
            cr3: 1 << 30,
            ..CR3
        });
        assert!(outside.contains("no memory"), "{outside}");
        let no_bit = refused(PageTables { c_bit: 64, ..CR3 });
        assert!(no_bit.contains("no such C-bit"), "{no_bit}");
    }
}
