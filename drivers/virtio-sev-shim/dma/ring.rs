// SPDX-License-Identifier: GPL-2.0

//! The rings of an adopted device: memory that both sides use all the time, and that is never copied.

use kernel::page::PAGE_SIZE;
use memenc::pool::{
    Record,
    Request, //
};

use super::{
    flow::{
        Flow,
        Purpose,
        COHERENT, //
    },
    memory::Memory, //
};
use crate::ffi;

/// Bytes before a ring that nobody uses: a page, so that the ring begins at one. A device that writes a little beyond a
/// buffer hits no ring. The kernel follows what is in rings, and in descriptors that were spoilt it may go round for
/// ever (`detach_buf_split_in_order()`, drivers/virtio/virtio_ring.c).
const GUARD: usize = PAGE_SIZE;

impl Flow {
    /// Memory that both sides use all the time, zeroed, with a [`GUARD`] before it.
    pub(super) fn alloc_coherent(
        &self,
        memory: &Memory,
        len: usize,
        may_sleep: bool,
        cpu: u32,
    ) -> Option<u64> {
        let lane = self.lane(cpu);
        let whole = len.checked_add(GUARD)?;
        let request = Request {
            len,
            offset: GUARD,
            boundary: 0,
            overwritten: whole,
            lasting: true,
        };
        let client = self.client(Purpose::Ring);
        let mut taken = self.take(memory, client, lane, &request);
        if taken.is_none() && may_sleep {
            memory.grow();
            taken = self.take(memory, client, lane, &request);
        }
        let block = taken?;
        let record = Record {
            original: 0,
            // CAST: no block is longer than 4 MiB.
            len: len as u32,
            client: client.id(),
            flags: COHERENT,
        };
        let start = memory.pool.note(block, &record).ok()?;
        // SAFETY: The block is at least this long and was given out just now.
        unsafe { ffi::zero(memory.at(start).as_ptr(), whole) };
        Some(start + GUARD as u64)
    }

    /// Ends what [`Flow::alloc_coherent`] began.
    pub(super) fn free_coherent(&self, memory: &Memory, address: u64) {
        if let Some((block, record)) = self.taken(memory, address, true) {
            self.give_back(memory, block, &record);
        }
    }
}
