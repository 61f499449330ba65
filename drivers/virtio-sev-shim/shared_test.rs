// SPDX-License-Identifier: GPL-2.0

//! KUnit: shared pages as drivers have them, in any context and after all was unshared.

use kernel::{
    interrupt::local_interrupt_disable,
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::rcu, //
};

use crate::{
    dma::direct,
    ffi,
    flip_rig::{
        shared_view,
        view,
        View, //
    },
    ledger::{
        Range,
        State,
        LEDGER,
        UNIT_PAGES, //
    },
    shared::{
        self,
        SharedPages,
        SharedUnits, //
    },
};

#[kunit_tests(sev_shim_shared)]
mod tests {
    use super::*;

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
