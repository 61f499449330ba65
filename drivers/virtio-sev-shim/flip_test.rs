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
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::rcu, //
};
use memenc::status::Protection;

use crate::{
    dma::direct,
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
        LEDGER,
        UNIT_PAGES, //
    },
    protection::{
        self,
        Facts, //
    },
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
    /// After half of the pages.
    MakePrivateHalf,
}

/// What the page tables say of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum View {
    Private,
    Shared,
    /// Its pages differ.
    Mixed,
}

/// A step, and what the page tables said after it; before it for `Freed`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Allocated(View),
    MadeShared(View),
    MadePrivate(View),
    Freed(View),
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
        self.see(Seen::Allocated(view(mem, pages)));
        Some(mem)
    }

    unsafe fn free(&self, mem: NonNull<u8>, pages: usize) {
        self.see(Seen::Freed(view(mem, pages)));
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
        self.see(Seen::MadeShared(view(mem, pages)));
        Ok(())
    }

    unsafe fn make_private(&self, mem: NonNull<u8>, pages: usize) -> Result {
        match self.fails {
            Step::MakePrivate => return Err(EFAULT),
            Step::MakePrivateHalf => {
                // SAFETY: By this function's own requirements.
                unsafe { Kernel.make_private(mem, pages / 2) }?;
                return Err(EFAULT);
            }
            _ => (),
        }
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_private(mem, pages) }?;
        self.see(Seen::MadePrivate(view(mem, pages)));
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

/// Blocks side by side: parts of one allocation.
struct Neighbours {
    mem: NonNull<u8>,
    pages: usize,
    given: Cell<usize>,
}

impl Neighbours {
    fn new(pages: usize) -> Option<Self> {
        let given = Cell::new(0);
        Kernel
            .alloc(pages)
            .map(|mem| Neighbours { mem, pages, given })
    }
}

// SAFETY: It is the kernel's, whose pages need not be freed together.
unsafe impl Memory for Neighbours {
    fn alloc(&self, pages: usize) -> Option<NonNull<u8>> {
        let first = self.given.get();
        if first + pages > self.pages {
            return None;
        }
        self.given.set(first + pages);
        NonNull::new(self.mem.as_ptr().wrapping_add(first * PAGE_SIZE))
    }

    unsafe fn free(&self, mem: NonNull<u8>, pages: usize) {
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.free(mem, pages) }
    }

    unsafe fn make_shared(&self, mem: NonNull<u8>, pages: usize) -> Result {
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_shared(mem, pages) }
    }

    unsafe fn make_private(&self, mem: NonNull<u8>, pages: usize) -> Result {
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_private(mem, pages) }
    }
}

/// The kernel's page-table entry for an address, and its level.
pub(crate) fn entry(mem: *const u8) -> (u64, u32) {
    let mut level = 0;
    // SAFETY: It reads page tables; whether anything is mapped there does not matter.
    let entry = unsafe { sev_shim_page_entry(mem.cast(), &mut level) };
    (entry, level)
}

/// What shared memory looks like here: on a machine without encryption as any other.
fn shared_view() -> View {
    let encrypts = |facts: &Facts| !matches!(facts.protection, Ok(Protection::None));
    match protection::facts().is_some_and(encrypts) {
        true => View::Shared,
        false => View::Private,
    }
}

/// What half-shared memory looks like here.
fn mixed_view() -> View {
    match shared_view() {
        View::Shared => View::Mixed,
        other => other,
    }
}

fn view(mem: NonNull<u8>, pages: usize) -> View {
    let encoding = protection::facts()
        .and_then(|facts| facts.protection.ok())
        .and_then(Protection::encoding);
    let Some(encoding) = encoding else {
        return View::Private;
    };
    let private = (0..pages).filter(|page| {
        let (entry, _) = entry(mem.as_ptr().wrapping_add(page * PAGE_SIZE));
        encoding.is_private(entry)
    });
    match private.count() {
        0 => View::Shared,
        count if count == pages => View::Private,
        _ => View::Mixed,
    }
}

/// What the life of a block was like.
struct Life {
    seen: KVec<Seen>,
    /// What the ledger listed while it was shared.
    listed: KVec<(Range, State)>,
    range: Range,
    zeroed: bool,
    fate: Fate,
    counters: Counters,
    left: usize,
}

/// Shares and unshares a block.
fn life(pages: usize) -> Result<Life> {
    let memory = Watched::new(Step::Nothing);
    let mut ledger = Ledger::new();
    let block = flip::share(&memory, &mut ledger, pages)?;
    let range = block.range();
    let mut listed = KVec::new();
    for entry in ledger.ranges() {
        listed.push(entry, GFP_KERNEL)?;
    }
    // SAFETY: The block is ours, and has that many bytes.
    let bytes = unsafe { core::slice::from_raw_parts(block.mem.as_ptr(), pages * PAGE_SIZE) };
    let zeroed = bytes.iter().all(|byte| *byte == 0);
    let fate = flip::unshare(&memory, &mut ledger, block);
    Ok(Life {
        seen: memory.seen.replace(KVec::new()),
        listed,
        range,
        zeroed,
        fate,
        counters: ledger.counters(),
        left: ledger.ranges().count(),
    })
}

/// What came of a block with a step that failed.
struct Failed {
    error: Option<Error>,
    fate: Option<Fate>,
    state: Option<State>,
    /// Of the block, if it still is one.
    view: Option<View>,
    freed: bool,
    counters: Counters,
}

fn failing(fails: Step) -> Failed {
    let memory = Watched::new(fails);
    let mut ledger = Ledger::new();
    let (error, fate) = match flip::share(&memory, &mut ledger, 4) {
        Ok(block) => (None, Some(flip::unshare(&memory, &mut ledger, block))),
        Err(error) => (Some(error), None),
    };
    let freed = |seen: &Seen| matches!(seen, Seen::Freed(_));
    let freed = memory.seen.borrow().iter().any(freed);
    let state = ledger.ranges().next().map(|(_, state)| state);
    Failed {
        error,
        fate,
        state,
        view: memory.held.get().map(|(mem, pages)| view(mem, pages)),
        freed,
        counters: ledger.counters(),
    }
}

#[kunit_tests(sev_shim_flips)]
mod tests {
    use super::*;

    /// What is wrong with the life of a block of this size.
    fn wrong(pages: usize) -> Option<&'static str> {
        let Ok(life) = life(pages) else {
            return Some("not shared");
        };
        let steps = [
            Seen::Allocated(View::Private),
            Seen::MadeShared(shared_view()),
            Seen::MadePrivate(View::Private),
            Seen::Freed(View::Private),
        ];
        let counters = Counters {
            shared_max: pages as u64,
            flips: 2,
            ..Counters::default()
        };
        let checks = [
            (life.seen[..] == steps, "page tables"),
            (life.listed[..] == [(life.range, State::Shared)], "listed"),
            (life.zeroed, "zeros"),
            (life.fate == Fate::Freed && life.left == 0, "fate"),
            (life.counters == counters, "counters"),
        ];
        checks.iter().find(|(good, _)| !good).map(|(_, what)| *what)
    }

    #[test]
    fn a_page_is_shared_and_private_again() {
        assert_eq!(wrong(1), None);
    }

    #[test]
    fn an_odd_number_of_pages_is_too() {
        assert_eq!(wrong(7), None);
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
        assert_eq!(wrong(UNIT_PAGES), None);
    }

    #[test]
    fn the_direct_map_follows_an_alias() {
        let mem = Kernel.alloc(4).unwrap();
        // SAFETY: The pages are ours, and the alias goes before them.
        unsafe {
            let alias = NonNull::new(sev_shim_map_alias(mem.as_ptr().cast(), 4)).unwrap();
            let alias = alias.cast::<u8>();
            assert_eq!(
                (view(alias, 4), view(mem, 4)),
                (View::Private, View::Private)
            );
            Kernel.make_shared(alias, 4).unwrap();
            assert_eq!(
                (view(alias, 4), view(mem, 4)),
                (shared_view(), shared_view())
            );
            Kernel.make_private(alias, 4).unwrap();
            assert_eq!(
                (view(alias, 4), view(mem, 4)),
                (View::Private, View::Private)
            );
            sev_shim_unmap_alias(alias.as_ptr().cast());
            Kernel.free(mem, 4);
        }
    }

    #[test]
    fn without_memory_nothing_changes() {
        let failed = failing(Step::Alloc);
        assert_eq!(failed.error, Some(ENOMEM));
        assert_eq!(failed.state, None);
        assert_eq!(failed.counters, Counters::default());
    }

    #[test]
    fn pages_that_cannot_be_shared_are_leaked() {
        for (step, view) in [
            (Step::MakeShared, View::Private),
            (Step::MakeSharedHalf, mixed_view()),
        ] {
            let failed = failing(step);
            assert_eq!(failed.view, Some(view));
            // Not that of an allocation, after which callers try a smaller one.
            assert_eq!(failed.error, Some(EIO));
            assert_eq!((failed.state, failed.freed), (Some(State::Leaked), false));
            let counters = failed.counters;
            assert_eq!((counters.shared, counters.leaked), (0, 4));
            assert_eq!((counters.flips, counters.failed_flips), (0, 1));
        }
    }

    #[test]
    fn pages_that_cannot_be_made_private_are_leaked() {
        for (step, view) in [
            (Step::MakePrivate, shared_view()),
            (Step::MakePrivateHalf, mixed_view()),
        ] {
            let failed = failing(step);
            assert_eq!((failed.error, failed.fate), (None, Some(Fate::Leaked)));
            assert_eq!((failed.state, failed.freed), (Some(State::Leaked), false));
            assert_eq!(failed.view, Some(view));
            let counters = failed.counters;
            assert_eq!((counters.shared, counters.leaked), (0, 4));
            assert_eq!((counters.flips, counters.failed_flips), (1, 1));
        }
    }

    #[test]
    fn without_room_in_the_ledger_nothing_is_allocated() {
        let memory = Watched::new(Step::Nothing);
        let mut ledger = Ledger::new();
        ledger.exhaust();
        assert_eq!(flip::share(&memory, &mut ledger, 4).err(), Some(ENOMEM));
        assert!(memory.seen.borrow().is_empty());
        assert_eq!(ledger.counters(), Counters::default());
    }

    #[test]
    fn all_can_be_unshared_while_they_have_owners() {
        let memory = Watched::new(Step::Nothing);
        let mut ledger = Ledger::new();
        let block = flip::share(&memory, &mut ledger, 2).unwrap();
        flip::unshare_all(&memory, &mut ledger);
        assert_eq!(ledger.counters().shared, 0);
        assert!(ledger.ranges().next().is_none());
        assert_eq!(view(block.mem, 2), View::Private);
        assert_eq!(flip::unshare(&memory, &mut ledger, block), Fate::Freed);
        assert_eq!(ledger.counters().flips, 2);
    }

    #[test]
    fn neighbours_are_unshared_together_and_freed_one_by_one() {
        let memory = Neighbours::new(4).unwrap();
        let mut ledger = Ledger::new();
        let first = flip::share(&memory, &mut ledger, 1).unwrap();
        let second = flip::share(&memory, &mut ledger, 3).unwrap();
        let all = Range {
            pa: first.range().pa,
            pages: 4,
        };
        assert!(ledger.ranges().eq([(all, State::Shared)]));
        assert_eq!(view(first.mem, 4), shared_view());
        flip::unshare_all(&memory, &mut ledger);
        assert!(ledger.ranges().next().is_none());
        assert_eq!(view(first.mem, 4), View::Private);
        assert_eq!(ledger.counters().flips, 3);
        for block in [second, first] {
            assert_eq!(flip::unshare(&memory, &mut ledger, block), Fate::Freed);
        }
        assert_eq!(ledger.counters().flips, 3);
    }

    #[test]
    fn nothing_is_shared_after_all_was_unshared() {
        let memory = Watched::new(Step::Nothing);
        let mut ledger = Ledger::new();
        flip::unshare_all(&memory, &mut ledger);
        assert_eq!(flip::share(&memory, &mut ledger, 1).err(), Some(EBUSY));
        assert!(memory.held.get().is_none());
    }

    #[test]
    fn devices_get_nothing_that_was_unshared() {
        // Whatever else is shared would be private afterwards.
        assert_eq!(shared::counters().shared, 0);
        let (one, other) = (SharedPages::new(1).unwrap(), SharedPages::new(2).unwrap());
        let listed = |pages: &SharedPages| direct::contains(pages.range().pa, pages.len());
        assert!(listed(&one) && listed(&other));
        assert_eq!(shared::unshare_all(), 0);
        assert!(!listed(&one) && !listed(&other));
        assert_eq!(shared::counters().shared, 0);
        let refused = SharedPages::new(1).err();
        let pool = SharedPages::unlisted(1).err();
        let views = (view(one.as_ptr(), 1), view(other.as_ptr(), 2));
        drop((one, other));
        // Not so in life.
        LEDGER.lock().stopped = false;
        assert_eq!((refused, pool), (Some(EBUSY), Some(EBUSY)));
        assert_eq!(views, (View::Private, View::Private));
        assert!(SharedPages::new(1).is_ok());
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
        assert_eq!(view(pages.as_ptr(), 2), shared_view());
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

    /// Drops pages in the context that `enter` makes and that lasts as long as what it returns: why new ones are refused
    /// there, and whether the others are private when the worker has had its turn.
    fn dropped_within<T>(enter: impl FnOnce() -> T) -> (Option<Error>, bool) {
        let before = shared::counters();
        let one = SharedPages::new(1).unwrap();
        let other = SharedPages::new(3).unwrap();
        let ranges = [one.range(), other.range()];
        let context = enter();
        let refused = SharedPages::new(1).err();
        drop(one);
        drop(other);
        drop(context);
        ffi::flush_deferred();
        let after = shared::counters();
        let private = !ranges.iter().any(|range| is_listed(*range));
        let counted = (after.shared, after.leaked) == (before.shared, before.leaked);
        (refused, private && counted)
    }

    #[test]
    fn pages_dropped_in_atomic_context_are_private_soon() {
        let refused = (Some(EAGAIN), true);
        assert_eq!(dropped_within(local_interrupt_disable), refused);
        // What holds the CPU can only be noticed where it is counted.
        if cfg!(CONFIG_PREEMPT_COUNT) {
            let lock = KBox::pin_init(new_spinlock!(()), GFP_KERNEL).unwrap();
            assert_eq!(dropped_within(|| lock.lock()), refused);
            // With preemptible RCU the read section is another check than the CPU that is held.
            assert_eq!(dropped_within(rcu::read_lock), refused);
        }
        assert_eq!(dropped_within(|| ()), (None, true));
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
        assert_eq!(units.pieces()[0].range().pages, UNIT_PAGES);
        for piece in units.pieces() {
            let Range { pa, pages } = piece.range();
            assert_eq!(pa % (pages.next_power_of_two() * PAGE_SIZE) as u64, 0);
        }
        assert_eq!(shared::counters().shared, before + pages as u64);
        drop(units);
        assert_eq!(shared::counters().shared, before);
    }

    /// What was asked for, and the outcome, where pieces of more than 100 pages fail with `error`.
    fn asked(error: Error) -> (KVec<usize>, Result<SharedUnits>) {
        let mut asked = KVec::new();
        let units = SharedUnits::of(200 * PAGE_SIZE, &mut |pages| {
            asked.push(pages, GFP_KERNEL)?;
            match pages > 100 {
                true => Err(error),
                false => SharedPages::new(pages),
            }
        });
        (asked, units)
    }

    #[test]
    fn where_memory_is_in_pieces_they_are_smaller() {
        let (asked, units) = asked(ENOMEM);
        assert_eq!(asked[..], [512, 200, 128, 64, 64, 64, 8]);
        let units = units.unwrap();
        let sizes = units.pieces().iter().map(|piece| piece.range().pages);
        assert!(sizes.eq([64, 64, 64, 8]));
    }

    #[test]
    fn nothing_is_tried_again_after_a_flip_that_failed() {
        for error in [EIO, EBUSY] {
            let (asked, units) = asked(error);
            assert_eq!(asked[..], [512]);
            assert_eq!(units.err(), Some(error));
        }
    }
}
