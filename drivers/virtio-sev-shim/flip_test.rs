// SPDX-License-Identifier: GPL-2.0

//! KUnit: flips in the kernel's real page tables, and each step failing once.
//!
//! Where nothing is encrypted flips change nothing, and all that is not about the C-bit is tested.

use core::{
    cell::{
        Cell,
        RefCell, //
    },
    ptr::NonNull,
};

use kernel::{
    ffi::{
        c_uint,
        c_void, //
    },
    interrupt::local_interrupt_disable,
    page::PAGE_SIZE,
    prelude::*, //
};
use memenc::status::Protection;

use crate::{
    ffi,
    flip::{
        self,
        Block,
        Fate,
        Kernel,
        Memory, //
    },
    ledger::{
        Counters,
        Ledger,
        Range,
        State,
        UNIT_PAGES, //
    },
    protection,
    shared::{
        self,
        SharedPages,
        SharedUnits, //
    },
};

extern "C" {
    fn sev_shim_page_entry(mem: *const c_void, level: *mut c_uint) -> u64;
    fn sev_shim_map_alias(mem: *mut c_void, pages: c_uint) -> *mut c_void;
    fn sev_shim_unmap_alias(alias: *mut c_void);
}

/// What fails.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Nothing,
    Alloc,
    MakeShared,
    /// After half of the pages.
    MakeSharedHalf,
    MakePrivate,
}

/// What was seen of a block's first and last page.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Allocated { private: bool },
    Shared { private: bool },
    Private { private: bool },
    Freed { private: bool },
}

/// The kernel's memory, watched.
struct Watched {
    fails: Step,
    seen: RefCell<KVec<Seen>>,
    /// What was allocated and not freed.
    held: Cell<Option<(NonNull<u8>, usize)>>,
}

impl Watched {
    fn new(fails: Step) -> Self {
        Watched {
            fails,
            seen: RefCell::new(KVec::new()),
            held: Cell::new(None),
        }
    }

    fn see(&self, seen: Seen) {
        // Without memory the comparison at the end fails, as it should.
        let _ = self.seen.borrow_mut().push(seen, GFP_KERNEL);
    }
}

// SAFETY: It is the kernel's.
unsafe impl Memory for Watched {
    fn alloc(&self, pages: usize) -> Option<NonNull<u8>> {
        if self.fails == Step::Alloc {
            return None;
        }
        let mem = Kernel.alloc(pages)?;
        // SAFETY: The block has that many bytes.
        unsafe { mem.as_ptr().write_bytes(0xa5, pages * PAGE_SIZE) };
        self.held.set(Some((mem, pages)));
        self.see(Seen::Allocated {
            private: is_private(mem, pages),
        });
        Some(mem)
    }

    unsafe fn free(&self, mem: NonNull<u8>, pages: usize) {
        self.see(Seen::Freed {
            private: is_private(mem, pages),
        });
        self.held.set(None);
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.free(mem, pages) }
    }

    unsafe fn make_shared(&self, mem: NonNull<u8>, pages: usize) -> Result {
        match self.fails {
            Step::MakeShared => return Err(ENOMEM),
            Step::MakeSharedHalf => {
                // SAFETY: By this function's own requirements.
                unsafe { Kernel.make_shared(mem, pages / 2) }?;
                return Err(ENOMEM);
            }
            _ => (),
        }
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_shared(mem, pages) }?;
        self.see(Seen::Shared {
            private: is_private(mem, pages),
        });
        Ok(())
    }

    unsafe fn make_private(&self, mem: NonNull<u8>, pages: usize) -> Result {
        if self.fails == Step::MakePrivate {
            return Err(EFAULT);
        }
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_private(mem, pages) }?;
        self.see(Seen::Private {
            private: is_private(mem, pages),
        });
        Ok(())
    }
}

/// What the tests made fail to be freed is freed here: it is not their kernel's last day.
impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((mem, pages)) = self.held.take() {
            // SAFETY: It comes from `Kernel.alloc`, and nobody uses it any more.
            unsafe {
                if Kernel.make_private(mem, pages).is_ok() {
                    Kernel.free(mem, pages);
                }
            }
        }
    }
}

fn entry(mem: *const u8) -> (u64, u32) {
    let mut level = 0;
    // SAFETY: It reads page tables; whether anything is mapped there does not matter.
    let entry = unsafe { sev_shim_page_entry(mem.cast(), &mut level) };
    (entry, level)
}

fn encrypts() -> bool {
    protection::facts().is_some_and(|facts| !matches!(facts.protection, Ok(Protection::None)))
}

/// Whether all entries that map a block have the C-bit. They must agree.
fn is_private(mem: NonNull<u8>, pages: usize) -> bool {
    let encoding = protection::facts()
        .and_then(|facts| facts.protection.ok())
        .and_then(Protection::encoding);
    let Some(encoding) = encoding else {
        return true;
    };
    let private = |page: usize| {
        let (entry, _) = entry(mem.as_ptr().wrapping_add(page * PAGE_SIZE));
        encoding.is_private(entry)
    };
    let first = private(0);
    assert!((0..pages).all(|page| private(page) == first));
    first
}

/// Shares and unshares a block; what was seen, and the counters.
fn life(pages: usize) -> Result<(KVec<Seen>, Counters)> {
    let memory = Watched::new(Step::Nothing);
    let mut ledger = Ledger::new();
    let block = flip::share(&memory, &mut ledger, pages)?;
    assert_eq!(ledger.counters().shared, pages as u64);
    assert!(ledger.ranges().eq([(block.range(), State::Shared)]));
    // SAFETY: The block is ours, and has that many bytes.
    let bytes = unsafe { core::slice::from_raw_parts(block.mem.as_ptr(), pages * PAGE_SIZE) };
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(flip::unshare(&memory, &mut ledger, block), Fate::Freed);
    assert!(ledger.ranges().next().is_none());
    let seen = memory.seen.replace(KVec::new());
    Ok((seen, ledger.counters()))
}

/// Shares a block with a step that fails; the error, what is not private, and the counters.
fn failing(fails: Step) -> (Option<Error>, Option<Fate>, Option<State>, Counters) {
    let memory = Watched::new(fails);
    let mut ledger = Ledger::new();
    let (error, fate) = match flip::share(&memory, &mut ledger, 4) {
        Ok(block) => (None, Some(flip::unshare(&memory, &mut ledger, block))),
        Err(error) => (Some(error), None),
    };
    let freed = |seen: &Seen| matches!(seen, Seen::Freed { .. });
    assert!(!memory.seen.borrow().iter().any(freed));
    let state = ledger.ranges().next().map(|(_, state)| state);
    (error, fate, state, ledger.counters())
}

#[kunit_tests(sev_shim_flips)]
mod tests {
    use super::*;

    fn check_life(pages: usize) {
        let private = !encrypts();
        let (seen, counters) = life(pages).unwrap();
        assert_eq!(
            &seen[..],
            [
                Seen::Allocated { private: true },
                Seen::Shared { private },
                Seen::Private { private: true },
                Seen::Freed { private: true },
            ]
        );
        let pages = pages as u64;
        assert_eq!(
            (counters.shared, counters.shared_max, counters.leaked),
            (0, pages, 0)
        );
        assert_eq!((counters.flips, counters.failed_flips), (2, 0));
    }

    #[test]
    fn a_page_is_shared_and_private_again() {
        check_life(1);
    }

    #[test]
    fn an_odd_number_of_pages_is_too() {
        check_life(7);
    }

    #[test]
    fn a_unit_is_flipped_without_splitting_what_maps_it() {
        let mem = Kernel.alloc(UNIT_PAGES).unwrap();
        let (_, before) = entry(mem.as_ptr());
        // SAFETY: It comes from `alloc`, and is ours.
        let after = unsafe {
            Kernel.make_shared(mem, UNIT_PAGES).unwrap();
            let (_, after) = entry(mem.as_ptr());
            Kernel.make_private(mem, UNIT_PAGES).unwrap();
            Kernel.free(mem, UNIT_PAGES);
            after
        };
        assert_eq!(after, before.min(2));
        check_life(UNIT_PAGES);
    }

    #[test]
    fn the_direct_map_follows_an_alias() {
        let mem = Kernel.alloc(4).unwrap();
        // SAFETY: The pages are ours, and the alias goes before them.
        unsafe {
            let alias = NonNull::new(sev_shim_map_alias(mem.as_ptr().cast(), 4)).unwrap();
            let alias = alias.cast::<u8>();
            assert!(is_private(alias, 4) && is_private(mem, 4));
            Kernel.make_shared(alias, 4).unwrap();
            assert_eq!(is_private(alias, 4), !encrypts());
            assert_eq!(is_private(mem, 4), !encrypts());
            Kernel.make_private(alias, 4).unwrap();
            assert!(is_private(alias, 4) && is_private(mem, 4));
            sev_shim_unmap_alias(alias.as_ptr().cast());
            Kernel.free(mem, 4);
        }
    }

    #[test]
    fn without_memory_nothing_changes() {
        let (error, _, state, counters) = failing(Step::Alloc);
        assert_eq!(error, Some(ENOMEM));
        assert_eq!(state, None);
        assert_eq!(counters, Counters::default());
    }

    fn check_leak(fails: Step) {
        let (error, _, state, counters) = failing(fails);
        assert_eq!(error, Some(ENOMEM));
        assert_eq!(state, Some(State::Leaked));
        assert_eq!((counters.shared, counters.leaked), (0, 4));
        assert_eq!((counters.flips, counters.failed_flips), (0, 1));
    }

    #[test]
    fn pages_that_cannot_be_shared_are_leaked() {
        check_leak(Step::MakeShared);
    }

    #[test]
    fn half_shared_pages_are_leaked() {
        check_leak(Step::MakeSharedHalf);
    }

    #[test]
    fn pages_that_cannot_be_made_private_are_leaked() {
        let (error, fate, state, counters) = failing(Step::MakePrivate);
        assert_eq!(error, None);
        assert_eq!(fate, Some(Fate::Leaked));
        assert_eq!(state, Some(State::Leaked));
        assert_eq!((counters.shared, counters.leaked), (0, 4));
        assert_eq!((counters.flips, counters.failed_flips), (1, 1));
    }

    #[test]
    fn all_can_be_unshared_while_they_have_owners() {
        let memory = Watched::new(Step::Nothing);
        let mut ledger = Ledger::new();
        let block = flip::share(&memory, &mut ledger, 2).unwrap();
        flip::unshare_all(&memory, &mut ledger);
        assert_eq!(ledger.counters().shared, 0);
        assert!(ledger.ranges().next().is_none());
        assert!(is_private(block.mem, 2));
        assert_eq!(flip::unshare(&memory, &mut ledger, block), Fate::Freed);
        assert_eq!(ledger.counters().flips, 2);
    }

    #[test]
    fn what_unsharing_all_leaked_is_not_freed_by_its_owner() {
        let memory = Watched::new(Step::MakePrivate);
        let mut ledger = Ledger::new();
        let block = flip::share(&memory, &mut ledger, 2).unwrap();
        flip::unshare_all(&memory, &mut ledger);
        assert_eq!(ledger.counters().leaked, 2);
        assert_eq!(flip::unshare(&memory, &mut ledger, block), Fate::Leaked);
        assert_eq!(ledger.counters().leaked, 2);
    }

    #[test]
    fn a_block_nobody_shared_is_not_flipped() {
        let memory = Watched::new(Step::MakePrivate);
        let mem = memory.alloc(1).unwrap();
        let block = Block { mem, pages: 1 };
        let fate = flip::unshare(&memory, &mut Ledger::new(), block);
        assert_eq!(fate, Fate::Freed);
    }

    fn is_listed(wanted: Range) -> bool {
        let mut listed = false;
        shared::for_each_shared(&mut |range, state| {
            let end = |range: Range| range.pa + (range.pages * PAGE_SIZE) as u64;
            let within = range.pa <= wanted.pa && end(wanted) <= end(range);
            listed |= within && state == State::Shared;
        });
        listed
    }

    #[test]
    fn shared_pages_are_read_and_written_within_their_bounds() {
        let before = shared::counters().shared;
        let mut pages = SharedPages::new(2).unwrap();
        let range = pages.range();
        assert!(is_listed(range));
        assert_eq!(shared::counters().shared, before + 2);
        assert_eq!(pages.len(), 2 * PAGE_SIZE);
        assert_eq!(is_private(pages.as_ptr(), 2), !encrypts());
        pages.write(4090, b"across pages").unwrap();
        let mut read = [0; 12];
        pages.read(4090, &mut read).unwrap();
        assert_eq!(&read, b"across pages");
        let end = pages.len();
        pages.write(end - 1, b"x").unwrap();
        assert_eq!(pages.write(end - 1, b"xx").err(), Some(EINVAL));
        assert_eq!(pages.read(end, &mut read).err(), Some(EINVAL));
        assert_eq!(pages.read(usize::MAX, &mut read).err(), Some(EINVAL));
        assert!(pages.read(end, &mut []).is_ok());
        pages.zero();
        pages.read(4090, &mut read).unwrap();
        assert_eq!(read, [0; 12]);
        drop(pages);
        assert!(!is_listed(range));
        assert_eq!(shared::counters().shared, before);
    }

    #[test]
    fn pages_dropped_in_atomic_context_are_private_soon() {
        let before = shared::counters();
        let one = SharedPages::new(1).unwrap();
        let other = SharedPages::new(3).unwrap();
        let ranges = [one.range(), other.range()];
        let atomic = local_interrupt_disable();
        if !ffi::may_sleep() {
            assert_eq!(SharedPages::new(1).err(), Some(EAGAIN));
        }
        drop(one);
        drop(other);
        drop(atomic);
        ffi::flush_deferred();
        assert!(!ranges.iter().any(|range| is_listed(*range)));
        assert_eq!(shared::counters().shared, before.shared);
        assert_eq!(shared::counters().leaked, before.leaked);
    }

    #[test]
    fn nonsense_is_refused() {
        for pages in [0, usize::MAX, usize::MAX / PAGE_SIZE, 1 << 30] {
            assert_eq!(SharedPages::new(pages).err(), Some(ENOMEM));
        }
    }

    #[test]
    fn much_memory_comes_in_units() {
        let before = shared::counters().shared;
        let units = SharedUnits::new(5 * UNIT_PAGES * PAGE_SIZE / 2).unwrap();
        let pages: usize = units.pieces().iter().map(|piece| piece.range().pages).sum();
        assert!(pages >= 5 * UNIT_PAGES / 2);
        for piece in units.pieces() {
            let Range { pa, pages } = piece.range();
            assert_eq!(pa % (pages.next_power_of_two() * PAGE_SIZE) as u64, 0);
        }
        assert_eq!(shared::counters().shared, before + pages as u64);
        drop(units);
        assert_eq!(shared::counters().shared, before);
    }
}
