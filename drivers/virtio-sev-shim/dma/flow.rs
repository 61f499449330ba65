// SPDX-License-Identifier: GPL-2.0

//! How the buffers of one adopted device come and go: what is copied, when, and what is counted.
//!
//! What the device writes is not believed: it changes bytes of the pool, and the guest reads each of them
//! once, when it copies them out. Where a buffer belongs is written in private memory.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    str::CString, //
};
use memenc::{
    pool::{
        self,
        Block,
        Client,
        Rank,
        Record,
        Refusal,
        Request,
        CHUNK_BYTES,
        LANE_WORDS, //
    },
    shares::Shares, //
};

use super::{
    direct,
    memory::Memory,
    words::{
        self,
        Words, //
    }, //
};
use crate::ffi;

/// Which way a buffer goes: `enum dma_data_direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The device reads and writes it.
    Both,
    /// The device reads it.
    ToDevice,
    /// The device writes it.
    FromDevice,
}

impl Direction {
    #[inline]
    pub(super) fn new(dir: u32) -> Option<Self> {
        match dir {
            0 => Some(Direction::Both),
            1 => Some(Direction::ToDevice),
            2 => Some(Direction::FromDevice),
            _ => None,
        }
    }

    #[inline]
    fn device_reads(self) -> bool {
        self != Direction::FromDevice
    }

    #[inline]
    fn device_writes(self) -> bool {
        self != Direction::ToDevice
    }
}

/// What a device has memory for; each has a share of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Buffers it reads, or all.
    Send,
    /// Buffers it writes, if they have shares of their own.
    Receive,
    /// Rings, which stay.
    Ring,
}

/// How many purposes there are.
pub(super) const PURPOSES: usize = 3;

/// A mapping whose block is its owner's, to be read and written at any time: it is never copied.
pub(super) const COHERENT: u8 = 1;

/// Lanes at most: processors beyond share them.
const MAX_LANES: usize = 64;

/// What is counted, per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Maps,
    Unmaps,
    CopiedIn,
    CopiedOut,
    NotBounced,
}

/// Words per lane: two cache lines, as processors fetch neighbours together.
const COUNTS: usize = 16;

/// The traffic of one adopted device.
pub(crate) struct Flow {
    /// For the log.
    name: CString,
    clients: [Client<Words>; PURPOSES],
    /// A power of two.
    lanes: usize,
    counts: Words,
    /// As [`Refusal`] numbers them.
    pub(super) refused: [words::Word; 4],
    /// Low bits of an address that must stay as they are.
    align_mask: u64,
    copy_in: bool,
    pub(super) shares: Shares,
}

impl Flow {
    /// That of the device that is number `slot`, which is in use until the flow is [closed](Flow::close).
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the slot is in use.
    pub(super) fn new(
        memory: &Memory,
        name: CString,
        slot: usize,
        align_mask: u64,
        copy_in: bool,
        shares: Shares,
    ) -> Result<Self> {
        let lanes = ffi::cpus().clamp(1, MAX_LANES).next_power_of_two();
        let counts = words::zeroed(lanes * COUNTS)?;
        let kept = || words::zeroed(lanes * LANE_WORDS);
        let [send, receive, ring] = [kept()?, kept()?, kept()?];
        // Nothing but a slot in use fails from here on, and then it is the first one that does.
        let client = |purpose: Purpose, lanes: Words| {
            // CAST: slots are few.
            let id = (slot * PURPOSES + purpose as usize + 1) as u16;
            memory.pool.client(id, 0, lanes).ok_or(EINVAL)
        };
        let flow = Flow {
            name,
            clients: [
                client(Purpose::Send, send)?,
                client(Purpose::Receive, receive)?,
                client(Purpose::Ring, ring)?,
            ],
            lanes,
            counts,
            refused: [const { words::Word::new(0) }; 4],
            align_mask,
            copy_in,
            shares,
        };
        let (send, receive) = shares.ranks();
        let ranks = [
            (Purpose::Send, send),
            (Purpose::Receive, receive),
            (Purpose::Ring, Rank::Second),
        ];
        for (purpose, rank) in ranks {
            memory.pool.set_rank(flow.client(purpose), rank);
        }
        Ok(flow)
    }

    /// Sets what a share is, and what is kept for each network card, in bytes.
    pub(super) fn set_share(&self, memory: &Memory, share: u64, card: u64) {
        let (send, receive) = match self.shares {
            Shares::Together(count) => (count * share, 0),
            Shares::Card { receive, .. } => (card, receive * share),
            Shares::Apart => (share, share),
        };
        for (purpose, bytes) in [(Purpose::Send, send), (Purpose::Receive, receive)] {
            let chunks = (bytes / CHUNK_BYTES as u64).max(1);
            memory.pool.set_quota(self.client(purpose), chunks);
        }
    }

    /// Chunks it may hold: for buffers it reads, and for those it writes.
    pub(super) fn quotas(&self, memory: &Memory) -> (u64, u64) {
        let quota = |direction| memory.pool.quota(self.client(self.purpose(direction)));
        (quota(Direction::ToDevice), quota(Direction::FromDevice))
    }

    #[inline]
    fn purpose(&self, direction: Direction) -> Purpose {
        match (self.shares, direction) {
            (Shares::Together(_), _) => Purpose::Send,
            (_, Direction::FromDevice) => Purpose::Receive,
            _ => Purpose::Send,
        }
    }

    /// Bytes in blocks, and chunks at most.
    pub(super) fn held(&self, memory: &Memory) -> (u64, u64) {
        let bytes = self
            .clients
            .iter()
            .map(|client| memory.pool.bytes(client))
            .sum();
        let most = self
            .clients
            .iter()
            .map(|client| memory.pool.highest(client));
        (bytes, most.sum())
    }

    /// Sum over the lanes.
    pub(super) fn counted(&self, count: Count) -> u64 {
        self.counts
            .iter()
            .skip(count as usize)
            .step_by(COUNTS)
            .fold(0, |sum, word| sum.wrapping_add(word.counted()))
    }

    /// The device's driver is gone, and so should be all buffers: chunks that are not free all the same.
    pub(super) fn close(&self, memory: &Memory) -> u64 {
        self.clients
            .iter()
            .map(|client| memory.pool.close(client))
            .sum()
    }

    #[inline]
    pub(super) fn client(&self, purpose: Purpose) -> &Client<Words> {
        &self.clients[purpose as usize]
    }

    #[inline]
    fn count(&self, lane: usize, count: Count, more: u64) {
        if let Some(word) = self.counts.get(lane * COUNTS + count as usize) {
            word.count(more);
        }
    }

    #[inline]
    pub(super) fn lane(&self, cpu: u32) -> usize {
        // CAST: as wide or wider.
        cpu as usize & (self.lanes.wrapping_sub(1))
    }

    /// Maps a buffer: the address for the device, or nothing if there is no room now.
    ///
    /// # Safety
    ///
    /// `original` are `len` bytes of the direct map that stay the buffer until [`Flow::unmap`].
    #[inline]
    pub(super) unsafe fn map(
        &self,
        memory: &Memory,
        original: *mut u8,
        len: usize,
        direction: Direction,
        skip_sync: bool,
        cpu: u32,
    ) -> Option<u64> {
        let lane = self.lane(cpu);
        let pa = memory.address(original);
        if direct::contains(pa, len) {
            self.count(lane, Count::Maps, 1);
            self.count(lane, Count::NotBounced, 1);
            return Some(pa);
        }
        let copied = !skip_sync && (direction.device_reads() || self.copy_in);
        // CAST: as wide.
        let offset = (pa & self.align_mask) as usize;
        let request = Request {
            len,
            offset,
            boundary: 0,
            // From the block's beginning, where the copy does not begin if there is an offset.
            overwritten: if copied && offset == 0 { len } else { 0 },
            lasting: false,
        };
        let client = self.client(self.purpose(direction));
        let block = match memory.pool.at_hand(client, lane, &request) {
            Some(block) => block,
            None => self.take(memory, client, lane, &request)?,
        };
        let record = Record {
            original: original as u64,
            // CAST: no block is longer than 4 MiB.
            len: len as u32,
            client: client.id(),
            flags: 0,
        };
        let bytes = block.len();
        let start = memory.pool.note(block, &record).ok()?;
        let at = self.begin(start, bytes, &record);
        self.count(lane, Count::Maps, 1);
        if copied {
            // CAST: within the block.
            let before = (at - start) as usize;
            if before > offset {
                // The copy was to overwrite this, and does not where it begins a page further.
                // SAFETY: As below.
                unsafe { ffi::zero(memory.at(start).as_ptr(), before) };
            }
            // SAFETY: The caller's buffer, and a block of the pool that is this long and nobody else's: it was given
            // out just now.
            unsafe { ffi::copy(memory.at(at).as_ptr(), original, len) };
            self.count(lane, Count::CopiedIn, len as u64);
        }
        Some(at)
    }

    /// A block that the lane does not have at hand, or the refusal is noted.
    #[inline(never)]
    pub(super) fn take(
        &self,
        memory: &Memory,
        client: &Client<Words>,
        lane: usize,
        request: &Request,
    ) -> Option<Block> {
        if request.len + request.offset > memory.largest() {
            self.refuse(memory, Refusal::TooLarge, request.len);
            return None;
        }
        let scrub = |arena: usize, offset: usize, len: usize| {
            if let Some(mem) = memory.inside(arena, offset, len) {
                // SAFETY: The allocator hands over a piece of a unit that nobody has at this moment.
                unsafe { ffi::zero(mem.as_ptr(), len) };
            }
        };
        match memory.pool.alloc(client, lane, request, scrub) {
            Ok(block) => {
                memory.check_reserve();
                Some(block)
            }
            Err(refusal) => {
                self.refuse(memory, refusal, request.len);
                None
            }
        }
    }

    #[cold]
    fn refuse(&self, memory: &Memory, refusal: Refusal, len: usize) {
        let kind = refusal as usize;
        for refused in [&self.refused, &memory.refused] {
            if let Some(word) = refused.get(kind) {
                word.count(1);
            }
        }
        // More memory does not change what a client may hold.
        if matches!(refusal, Refusal::Exhausted | Refusal::Fragmented) {
            memory.press();
        }
        ffi::log_refusal(&self.name, refusal, len, memory.free());
    }

    /// Ends a mapping: what the device wrote is copied to its buffer.
    ///
    /// # Safety
    ///
    /// The buffer that was mapped is still there.
    #[inline]
    pub(super) unsafe fn unmap(
        &self,
        memory: &Memory,
        address: u64,
        direction: Direction,
        skip_sync: bool,
        cpu: u32,
    ) {
        let lane = self.lane(cpu);
        self.count(lane, Count::Unmaps, 1);
        let Some((block, record)) = self.taken(memory, address, false) else {
            // Not bounced.
            return;
        };
        if !skip_sync && direction.device_writes() {
            // CAST: as wide.
            let (original, len) = (record.original as *mut u8, record.len as usize);
            // CAST: as wide. Whichever address in the block was said: it is aligned to its length.
            let start = address & !(block.len() as u64 - 1);
            let begin = self.begin(start, block.len(), &record);
            // SAFETY: The record is private memory, written when this buffer was mapped, which the caller says is still
            // there. From where it begins in its block there are as many bytes. Nothing follows from what they are.
            unsafe { ffi::copy(original, memory.at(begin).as_ptr(), len) };
            self.count(lane, Count::CopiedOut, len as u64);
        }
        self.give_back(memory, block, &record);
    }

    /// Takes a mapping out of the books, if it is one of this device.
    #[inline]
    pub(super) fn taken(
        &self,
        memory: &Memory,
        address: u64,
        coherent: bool,
    ) -> Option<(Block, Record)> {
        let wanted = |client: u16, flags: u8| {
            self.owner(client).is_some() && (flags & COHERENT != 0) == coherent
        };
        memory.pool.take(address, wanted)
    }

    /// Where a buffer begins in its block, which has so many bytes from `start` on: where its low bits say, or a page
    /// further.
    #[inline]
    fn begin(&self, start: u64, bytes: usize, record: &Record) -> u64 {
        let offset = record.original & self.align_mask;
        if bytes <= PAGE_SIZE || self.align_mask >= PAGE_SIZE as u64 {
            return start + offset;
        }
        // CAST: both are as wide, and fit in the block together.
        let used = record.len as usize + offset as usize;
        // CAST: as wide.
        start + offset + pool::shift(start, bytes, record.original, used) as u64
    }

    #[inline]
    fn owner(&self, id: u16) -> Option<&Client<Words>> {
        // Their ids are in a row.
        let index = id.checked_sub(self.clients[0].id())?;
        self.clients.get(usize::from(index))
    }

    #[inline]
    pub(super) fn give_back(&self, memory: &Memory, block: Block, record: &Record) {
        if let Some(client) = self.owner(record.client) {
            memory.pool.free(client, block);
        }
    }

    /// Copies a part of a mapped buffer, after the device has written it or before it reads it.
    ///
    /// # Safety
    ///
    /// The buffer that was mapped is still there.
    pub(super) unsafe fn sync(
        &self,
        memory: &Memory,
        address: u64,
        len: usize,
        direction: Direction,
        for_cpu: bool,
        cpu: u32,
    ) {
        let Some(found) = memory.pool.lookup(address) else {
            return;
        };
        let record = found.record;
        if record.flags & COHERENT != 0 || self.owner(record.client).is_none() {
            return;
        }
        let begin = self.begin(found.start, found.bytes, &record);
        let Some(skipped) = address.checked_sub(begin) else {
            return;
        };
        // CAST: as wide.
        let skipped = skipped as usize;
        // Never more than is mapped, whatever is asked.
        let len = len.min((record.len as usize).saturating_sub(skipped));
        let original = (record.original as *mut u8).wrapping_add(skipped);
        let bounce = memory.at(address).as_ptr();
        let lane = self.lane(cpu);
        if for_cpu && direction.device_writes() {
            // SAFETY: As in `unmap`; the part was checked to be within the buffer.
            unsafe { ffi::copy(original, bounce, len) };
            self.count(lane, Count::CopiedOut, len as u64);
        } else if !for_cpu && direction.device_reads() {
            // SAFETY: As before.
            unsafe { ffi::copy(bounce, original, len) };
            self.count(lane, Count::CopiedIn, len as u64);
        }
    }
}
