// SPDX-License-Identifier: GPL-2.0

//! What is asked for, what is handed out, and why nothing is.

use core::fmt;

use super::{ARENA_BYTES, GRANULE, PAGE_BYTES};

/// Addresses that differ by multiples of this have one place in QEMU's TLB, which has 256 pages or a larger power of two.
const INDEXED_BYTES: u64 = 1 << 20;

/// Blocks have `GRANULE << order` bytes; how many orders there are.
pub(super) const ORDERS: u32 = 14;

/// A request for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// How many bytes.
    pub len: usize,
    /// How many bytes into the block they start, at least. For a device that wants the low bits of the
    /// original address preserved: `original & min_align_mask`. The block is aligned to its size, which
    /// is more than this.
    pub offset: usize,
    /// The block does not cross multiples of this; 0: there are no such bounds.
    pub boundary: u64,
    /// How many bytes from the block's start the caller overwrites before a device is told of them. They
    /// need not be scrubbed.
    pub overwritten: usize,
    /// It is kept for long, as a ring is: it does not come from an arena for large blocks.
    pub lasting: bool,
}

impl Request {
    /// The order of the block it takes; `None` if there are none as large, or they would cross the boundary.
    #[inline]
    pub(super) fn order(&self) -> Option<u32> {
        // The last granule's number has as many bits.
        let last = self.len.checked_add(self.offset)?.saturating_sub(1) / GRANULE;
        let order = usize::BITS - last.leading_zeros();
        // A block lies between multiples of the largest power of two that divides the boundary.
        let within = match self.boundary {
            0 => u64::BITS,
            boundary => boundary.trailing_zeros(),
        };
        (order < ORDERS && order + GRANULE.trailing_zeros() <= within).then_some(order)
    }
}

/// Why there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No block can be as large, however much is free.
    TooLarge,
    /// As much is free, but not in one piece.
    Fragmented,
    /// Not as much is free.
    Exhausted,
    /// The client holds as many chunks as it may, or was closed.
    Quota,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::TooLarge => "too large",
            Refusal::Fragmented => "fragmented",
            Refusal::Exhausted => "exhausted",
            Refusal::Quota => "quota",
        })
    }
}

/// Memory that was handed out. There is one for each piece, so it is freed once.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    arena: u32,
    /// In granules.
    first: u16,
    order: u8,
}

impl Block {
    /// Of `GRANULE << order` bytes. `None` if there is no such block in any arena.
    #[inline]
    pub(super) fn new(arena: usize, offset: usize, order: u32) -> Option<Self> {
        let inside = order < ORDERS && offset < ARENA_BYTES;
        Some(Block {
            arena: u32::try_from(arena).ok()?,
            first: u16::try_from(offset / GRANULE).ok()?,
            order: u8::try_from(order).ok().filter(|_| inside)?,
        })
    }

    /// The number of its arena.
    #[inline]
    pub fn arena(&self) -> usize {
        // CAST: it was a usize.
        self.arena as usize
    }

    /// Where in its arena it starts, in bytes: at a multiple of its length.
    #[inline]
    pub fn offset(&self) -> usize {
        usize::from(self.first) * GRANULE
    }

    /// How many bytes it has: a power of two.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        GRANULE << self.order
    }

    #[inline]
    pub(super) fn order(&self) -> u32 {
        u32::from(self.order)
    }
}

/// How far into a block a buffer is to begin, if its first `used` bytes would do: nothing, or a page where its own address,
/// `original`, has the low bits of the block's and the block has so much to spare.
///
/// Blocks are aligned to their size, and so are large buffers by and large. What is indexed by the low bits of
/// addresses has one place for both then, in QEMU's TLB for 256 pages at least, and a copy that goes from one to the other takes five times as long.
#[inline]
pub fn shift(block: u64, bytes: usize, original: u64, used: usize) -> usize {
    let room = bytes.saturating_sub(used) >= PAGE_BYTES;
    let same = (block ^ original) & (INDEXED_BYTES - PAGE_BYTES as u64) == 0;
    if room && same {
        PAGE_BYTES
    } else {
        0
    }
}
