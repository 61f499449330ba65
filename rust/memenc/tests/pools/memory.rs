// SPDX-License-Identifier: GPL-2.0

//! The memory of an arena as the model sees it: whose each granule is.

use memenc::pool::{ARENA_BYTES, CHUNK_BYTES, GRANULE};

pub(crate) const GRANULES: usize = ARENA_BYTES / GRANULE;
pub(crate) const CHUNK_GRANULES: usize = CHUNK_BYTES / GRANULE;

/// Of a granule: its last writer, 0 if none since it was clean; and whose block it is in, 0 if in none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Granule {
    pub(crate) writer: u16,
    pub(crate) user: u16,
}

/// The memory of an arena in use.
pub(crate) struct Memory {
    pub(crate) base: u64,
    pub(crate) for_large: bool,
    pub(crate) granules: Vec<Granule>,
}

impl Memory {
    /// Whose small or large blocks are in each chunk; 0 if nobody's.
    pub(crate) fn users(&self) -> impl Iterator<Item = u16> + '_ {
        let chunks = self.granules.chunks(CHUNK_GRANULES);
        chunks.map(|chunk| chunk.iter().map(|granule| granule.user).max().unwrap_or(0))
    }

    pub(crate) fn free(&self, start: usize, len: usize) -> bool {
        let mut range = self.granules[start..start + len].iter();
        range.all(|granule| granule.user == 0)
    }

    /// Whether no other client has a block in the chunks of this place.
    pub(crate) fn private(&self, start: usize, len: usize, client: u16) -> bool {
        let chunk = start / CHUNK_GRANULES * CHUNK_GRANULES;
        let end = (start + len).next_multiple_of(CHUNK_GRANULES);
        let mut range = self.granules[chunk..end].iter();
        range.all(|granule| granule.user == 0 || granule.user == client)
    }
}
