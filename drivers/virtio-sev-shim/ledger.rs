// SPDX-License-Identifier: GPL-2.0

//! What is shared with the host, and what became of it: every page, and the counters.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::global_lock, //
};
use memenc::ranges::{
    self,
    Ranges,
    Storage, //
};

/// The pages of a unit: what one large page maps.
pub const UNIT_PAGES: usize = 512;

/// A piece of guest-physical memory, without C-bit: `pages` pages of 4 KiB from `pa`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins, aligned to 4 KiB.
    pub pa: u64,
    /// How long it is.
    pub pages: usize,
}

impl Range {
    fn first(self) -> u64 {
        self.pa >> PAGE_SHIFT
    }

    fn end(self) -> u64 {
        self.first() + self.pages as u64
    }
}

impl From<ranges::Range> for Range {
    fn from(range: ranges::Range) -> Self {
        Range {
            pa: range.first << PAGE_SHIFT,
            // CAST: as wide.
            pages: range.pages() as usize,
        }
    }
}

/// What the host sees of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The host reads and writes it.
    Shared,
    /// A change of its state failed: nobody knows which of its pages the host sees. It is used no more.
    Leaked,
}

/// Numbers for monitoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages that are shared now.
    pub shared: u64,
    /// The most pages that ever were.
    pub shared_max: u64,
    /// Changes between private and shared that were made, in either direction.
    pub flips: u64,
    /// Those that failed.
    pub failed_flips: u64,
    /// Pages that are lost because their state is not known.
    pub leaked: u64,
}

/// Ranges in the kernel's memory.
struct Room(KVec<ranges::Range>);

impl Storage for Room {
    fn ranges(&self) -> &[ranges::Range] {
        &self.0
    }

    fn ranges_mut(&mut self) -> &mut [ranges::Range] {
        &mut self.0
    }

    fn reserve(&mut self, more: usize) -> Option<()> {
        self.0.reserve(more, GFP_KERNEL).ok()
    }

    fn push(&mut self, range: ranges::Range) -> Option<()> {
        self.0.push_within_capacity(range).ok()
    }

    fn pop(&mut self) {
        self.0.pop();
    }
}

/// The pages that are not private, and the counters.
pub(crate) struct Ledger {
    shared: Ranges<Room>,
    leaked: Ranges<Room>,
    /// Blocks that are shared or leaked: each may need a range of its own.
    blocks: usize,
    flips: u64,
    failed_flips: u64,
    /// All was made private, because this kernel or this module ends: nothing is shared any more.
    pub(crate) stopped: bool,
}

global_lock! {
    /// That of this kernel. Held while pages are flipped, too, so that a block is in one state for
    /// whoever looks.
    // SAFETY: The module's `init` initialises it before anything else of the module runs.
    pub(crate) unsafe(uninit) static LEDGER: Mutex<Ledger> = Ledger::new();
}

impl Ledger {
    pub(crate) const fn new() -> Self {
        Ledger {
            shared: Ranges::empty(Room(KVec::new())),
            leaked: Ranges::empty(Room(KVec::new())),
            blocks: 0,
            flips: 0,
            failed_flips: 0,
            stopped: false,
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            shared: self.shared.pages(),
            shared_max: self.shared.most(),
            flips: self.flips,
            failed_flips: self.failed_flips,
            leaked: self.leaked.pages(),
        }
    }

    /// What is not private, neighbours in one piece.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Range, State)> + '_ {
        let with = |state| move |range: &ranges::Range| (Range::from(*range), state);
        let shared = self.shared.ranges().iter().map(with(State::Shared));
        let leaked = self.leaked.ranges().iter().map(with(State::Leaked));
        Iterator::chain(shared, leaked)
    }

    /// Makes room for one more block, whatever will become of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing has changed.
    pub(crate) fn reserve(&mut self) -> Result {
        let most = self.blocks + 1;
        self.shared.reserve(most).map_err(|_| ENOMEM)?;
        self.leaked.reserve(most).map_err(|_| ENOMEM)
    }

    /// Has [`Ledger::reserve`] fail: there is no memory for so many.
    #[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
    pub(crate) fn exhaust(&mut self) {
        self.blocks = usize::MAX / 2;
    }

    /// A block is shared now; or leaked, because that failed. Room for it has been reserved.
    pub(crate) fn flipped_to_shared(&mut self, range: Range, state: State) {
        self.count_flip(state == State::Shared);
        self.blocks += 1;
        let pages = match state {
            State::Shared => &mut self.shared,
            State::Leaked => &mut self.leaked,
        };
        // There is room.
        let _ = pages.insert(range.first(), range.end());
    }

    /// Whether a block is shared: it may have been made private before its owner asks.
    pub(crate) fn is_shared(&self, range: Range) -> bool {
        self.shared.count(range.first(), range.end()) > 0
    }

    /// Whether a block is leaked.
    pub(crate) fn is_leaked(&self, range: Range) -> bool {
        self.leaked.count(range.first(), range.end()) > 0
    }

    /// A shared block is private now, or leaked.
    pub(crate) fn unshared(&mut self, range: Range, private: bool) {
        self.count_flip(private);
        let _ = self.shared.remove(range.first(), range.end());
        if !private {
            let _ = self.leaked.insert(range.first(), range.end());
        }
        if self.shared.ranges().is_empty() {
            // Several blocks may have gone in one piece.
            self.blocks = self.leaked.ranges().len();
        } else if private {
            self.blocks -= 1;
        }
    }

    fn count_flip(&mut self, made: bool) {
        if made {
            self.flips += 1;
        } else {
            self.failed_flips += 1;
        }
    }
}
