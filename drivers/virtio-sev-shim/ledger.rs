// SPDX-License-Identifier: GPL-2.0

//! What is shared with the host, and what became of it: every block of pages, and the counters.

use kernel::{
    prelude::*,
    sync::global_lock, //
};

/// The least address space that is worth a unit of its own: what one large page maps.
pub const UNIT_PAGES: usize = 512;

/// A piece of guest-physical memory, without C-bit: `pages` pages of 4 KiB from `pa`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins, aligned to 4 KiB.
    pub pa: u64,
    /// How long it is.
    pub pages: usize,
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

/// The blocks that are not private, and the counters.
pub(crate) struct Ledger {
    blocks: KVec<(Range, State)>,
    counters: Counters,
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
            blocks: KVec::new(),
            counters: Counters {
                shared: 0,
                shared_max: 0,
                flips: 0,
                failed_flips: 0,
                leaked: 0,
            },
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn blocks(&self) -> &[(Range, State)] {
        &self.blocks
    }

    /// Makes room for one more block, so that [`Ledger::flipped_to_shared`] finds it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing has changed.
    pub(crate) fn reserve(&mut self) -> Result {
        Ok(self.blocks.reserve(1, GFP_KERNEL)?)
    }

    /// A block is shared now; or leaked, because that failed. Room for it has been reserved.
    pub(crate) fn flipped_to_shared(&mut self, range: Range, state: State) {
        self.count_flip(state == State::Shared);
        match state {
            State::Shared => {
                self.counters.shared += range.pages as u64;
                self.counters.shared_max = self.counters.shared_max.max(self.counters.shared);
            }
            State::Leaked => self.counters.leaked += range.pages as u64,
        }
        // Without room, which is there, only enumeration would suffer.
        let _ = self.blocks.push_within_capacity((range, state));
    }

    /// Whether a block is shared: [`Ledger::unshared`] may have been before its owner.
    pub(crate) fn is_shared(&self, range: Range) -> bool {
        self.blocks.contains(&(range, State::Shared))
    }

    /// A shared block is private now, or leaked.
    pub(crate) fn unshared(&mut self, range: Range, private: bool) {
        let Some(at) = self
            .blocks
            .iter()
            .position(|block| *block == (range, State::Shared))
        else {
            return;
        };
        self.count_flip(private);
        self.counters.shared -= range.pages as u64;
        if private {
            let last = self.blocks.len() - 1;
            self.blocks.swap(at, last);
            self.blocks.truncate(last);
        } else {
            self.counters.leaked += range.pages as u64;
            self.blocks[at].1 = State::Leaked;
        }
    }

    fn count_flip(&mut self, made: bool) {
        if made {
            self.counters.flips += 1;
        } else {
            self.counters.failed_flips += 1;
        }
    }
}
