// SPDX-License-Identifier: GPL-2.0

//! KUnit: flips in the kernel's real page tables, and each step failing once.

use core::ptr::NonNull;

use kernel::{
    ffi::{
        c_uint,
        c_void, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    flip::{
        self,
        Block,
        Fate,
        Kernel,
        Memory, //
    },
    flip_rig::{
        entry,
        mixed_view,
        shared_view,
        view,
        Neighbours,
        Seen,
        Step,
        View,
        Watched, //
    },
    ledger::{
        Counters,
        Ledger,
        Range,
        State,
        UNIT_PAGES, //
    },
};

extern "C" {
    fn sev_shim_map_alias(mem: *mut c_void, pages: c_uint) -> *mut c_void;
    fn sev_shim_unmap_alias(alias: *mut c_void);
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
}
