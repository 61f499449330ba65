// SPDX-License-Identifier: GPL-2.0

//! Shared memory outside the pool that drivers own: a buffer in there needs no bounce, and finding that out
//! must not cost those who have none.

use kernel::page::PAGE_SHIFT;
use memenc::pool::Word as _;

use super::words::Word;
use crate::ledger::Range;

/// Most blocks that are known; buffers in others are copied, as all are.
const BLOCKS: usize = 64;

/// Bits of a word for the number of pages; the rest is the first one's frame number.
const PAGES_BITS: u32 = 24;

static LISTED: Word = Word::new(0);
static LIST: [Word; BLOCKS] = [const { Word::new(0) }; BLOCKS];

/// One word, so that nobody sees half of it; zero for what does not fit, and no block is zero.
fn encode(range: Range) -> u64 {
    // CAST: as wide.
    let (first, pages) = (range.pa >> PAGE_SHIFT, range.pages as u64);
    if pages >> PAGES_BITS != 0 || first >> (u64::BITS - PAGES_BITS) != 0 {
        return 0;
    }
    first << PAGES_BITS | pages
}

/// Makes a block known.
pub(crate) fn list(range: Range) {
    let word = encode(range);
    if word != 0
        && LIST
            .iter()
            .any(|slot| slot.compare_exchange(0, word).is_ok())
    {
        LISTED.fetch_add(1);
    }
}

/// Forgets a block, before it becomes private.
pub(crate) fn unlist(range: Range) {
    let word = encode(range);
    if word != 0
        && LIST
            .iter()
            .any(|slot| slot.compare_exchange(word, 0).is_ok())
    {
        LISTED.fetch_add(u64::MAX);
    }
}

/// Forgets all blocks, before they become private.
pub(crate) fn unlist_all() {
    for slot in &LIST {
        let word = slot.load();
        if word != 0 && slot.compare_exchange(word, 0).is_ok() {
            LISTED.fetch_add(u64::MAX);
        }
    }
}

/// Whether all of it is in one block.
#[inline]
pub(crate) fn contains(pa: u64, len: usize) -> bool {
    LISTED.load() != 0 && is_listed(pa, len)
}

fn is_listed(pa: u64, len: usize) -> bool {
    LIST.iter().any(|slot| {
        let word = slot.load();
        let start = (word >> PAGES_BITS) << PAGE_SHIFT;
        let size = (word & ((1 << PAGES_BITS) - 1)) << PAGE_SHIFT;
        // CAST: as wide.
        pa.checked_sub(start)
            .and_then(|offset| offset.checked_add(len as u64))
            .is_some_and(|end| end <= size)
    })
}
