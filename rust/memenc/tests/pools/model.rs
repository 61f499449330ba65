// SPDX-License-Identifier: GPL-2.0

//! What a pool should do: a naive model that knows of each granule who wrote it last and which block it is in.
//! It searches all places there are, and knows nothing of lanes, cells or bits.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use memenc::pool::{
    most_kept, Block, Rank, Record, Refusal, Request, ARENA_BYTES, CHUNK_BYTES, GRANULE, LANE_WORDS,
};

use super::memory::{Granule, Memory, CHUNK_GRANULES, GRANULES};
use super::{zeros, TestClient, TestPool, IDS};

/// A mapping, or a block that none was noted for.
pub(crate) enum Live {
    Block(Block),
    Noted(u64, Record),
}

/// What is known of a client.
struct Account {
    client: TestClient<AtomicU64>,
    lanes: usize,
    quota: u64,
    rank: Rank,
    /// The most chunks it was seen to hold.
    highest: u64,
}

pub(crate) struct Model {
    pub(crate) pool: TestPool<AtomicU64>,
    arenas: Vec<Option<Memory>>,
    accounts: BTreeMap<u16, Account>,
    live: Vec<(u16, Live)>,
    /// Chunks to be left for the first rank, and for the second.
    kept: (u64, u64),
    /// How many of its requests were refused as fragmented.
    pub(crate) fragmented: usize,
}

impl Model {
    pub(crate) fn new(arenas: usize) -> Self {
        Model {
            pool: super::empty(arenas),
            arenas: std::iter::repeat_with(|| None).take(arenas).collect(),
            accounts: BTreeMap::new(),
            live: Vec::new(),
            kept: (0, 0),
            fragmented: 0,
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn open(&mut self, id: u16, lanes: usize, quota: u64) {
        let client = self.pool.client(id, quota, zeros(lanes * LANE_WORDS));
        assert_eq!(client.is_some(), !self.accounts.contains_key(&id));
        if let Some(client) = client {
            let highest = 0;
            let account = Account {
                client,
                lanes,
                quota,
                rank: Rank::First,
                highest,
            };
            self.accounts.insert(id, account);
        }
    }

    pub(crate) fn set_quota(&mut self, id: u16, quota: u64) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.quota = quota;
            self.pool.set_quota(&account.client, quota);
        }
    }

    pub(crate) fn set_rank(&mut self, id: u16, rank: Rank) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.rank = rank;
            self.pool.set_rank(&account.client, rank);
        }
    }

    pub(crate) fn set_kept(&mut self, first: u64, second: u64) {
        self.kept = (first, second);
        self.pool.set_kept(first, second);
    }

    /// Chunks that this client must leave.
    fn left(&self, id: u16) -> u64 {
        match self.accounts[&id].rank {
            Rank::First => 0,
            Rank::Second => self.kept.0,
            Rank::Third => self.kept.0 + self.kept.1,
        }
    }

    /// Memory for an arena that is not in use: at one of four places, which may be in use.
    pub(crate) fn add(&mut self, index: usize, place: usize, bytes: usize, for_large: bool) {
        let base = (place * ARENA_BYTES + ARENA_BYTES) as u64;
        let at = |memory: &Memory| memory.base / ARENA_BYTES as u64 == base / ARENA_BYTES as u64;
        let overlaps = self.arenas.iter().flatten().any(at);
        let fits = self.arenas[index].is_none() && !overlaps;
        let added = match for_large {
            false => self.pool.add(index, base, bytes),
            true => self.pool.add_for_large(index, base, bytes),
        };
        assert_eq!(added.is_ok(), fits, "{added:?}");
        if fits {
            let granules = vec![Granule::default(); bytes / GRANULE];
            self.arenas[index] = Some(Memory {
                base,
                for_large,
                granules,
            });
        }
    }

    pub(crate) fn retire(&mut self, index: usize) {
        let unused = |memory: &&Memory| memory.users().all(|user| user == 0);
        let wanted = self.arenas[index].as_ref().filter(unused);
        let wanted = wanted.map(|memory| memory.base);
        assert_eq!(self.pool.retire(index), wanted);
        if wanted.is_some() {
            self.arenas[index] = None;
        }
    }

    /// The memory that blocks of all sizes come from, or that for large ones.
    fn kind(&self, for_large: bool) -> impl Iterator<Item = &Memory> {
        let all = self.arenas.iter().flatten();
        all.filter(move |memory| memory.for_large == for_large)
    }

    /// Every place for a block of so many granules: those that are free, in chunks without others' blocks.
    fn places(
        &self,
        for_large: bool,
        granules: usize,
        client: u16,
    ) -> impl Iterator<Item = (&Memory, usize)> {
        self.kind(for_large).flat_map(move |memory| {
            let starts = (granules..=memory.granules.len()).step_by(granules);
            let starts = starts.map(move |end| end - granules);
            let fits = move |start: &usize| {
                memory.free(*start, granules) && memory.private(*start, granules, client)
            };
            let fits = starts.filter(fits);
            fits.map(move |start| (memory, start))
        })
    }

    /// How many chunks have blocks of a client; of client 0, how many are free.
    fn busy(&self, for_large: bool, client: u16) -> u64 {
        let users = self.kind(for_large).flat_map(Memory::users);
        users.filter(|user| *user == client).count() as u64
    }

    fn all_busy(&self, client: u16) -> u64 {
        self.busy(false, client) + self.busy(true, client)
    }

    fn used(&self, client: u16) -> u64 {
        let granules = self
            .arenas
            .iter()
            .flatten()
            .flat_map(|memory| &memory.granules);
        let used = granules.filter(|granule| granule.user == client).count();
        (used * GRANULE) as u64
    }

    /// Why a request has to be refused; `None` if it must not be.
    fn refusal(&self, id: u16, granules: usize, lasting: bool) -> Option<Refusal> {
        let chunks = (granules / CHUNK_GRANULES) as u64;
        let large = chunks > 0 && !lasting;
        if large && self.places(true, granules, id).next().is_some() {
            return None;
        }
        let (busy, quota) = (self.busy(false, id), self.accounts[&id].quota);
        let over = quota != 0 && busy + chunks.max(1) > quota;
        let free = self.busy(false, 0);
        let left = self.left(id);
        let kept = free < chunks.max(1) + left;
        let in_own = |(memory, start): (&Memory, usize)| {
            chunks == 0 && memory.users().nth(start / CHUNK_GRANULES) == Some(id)
        };
        let mut places = self.places(false, granules, id);
        let found = match over || kept {
            true => places.any(in_own),
            false => places.next().is_some(),
        };
        if found {
            return None;
        }
        if over {
            return Some(Refusal::Quota);
        }
        let large = if large { self.busy(true, 0) } else { 0 };
        let free = free.saturating_sub(left) + large;
        let own = self.all_busy(id) * CHUNK_BYTES as u64 - self.used(id);
        Some(
            match free * CHUNK_BYTES as u64 + own >= (granules * GRANULE) as u64 {
                true => Refusal::Fragmented,
                false => Refusal::Exhausted,
            },
        )
    }

    pub(crate) fn alloc(&mut self, id: u16, lane: usize, request: &Request) -> bool {
        if !self.accounts.contains_key(&id) {
            return false;
        }
        let len = (request.len + request.offset).max(1).next_power_of_two();
        let granules = len.max(GRANULE) / GRANULE;
        let align = (granules * GRANULE) as u64;
        let crosses = request.boundary != 0 && request.boundary % align != 0;
        let wanted = if granules > GRANULES || crosses {
            Some(Refusal::TooLarge)
        } else {
            self.refusal(id, granules, request.lasting)
        };
        let busy = self.all_busy(id);
        let account = self.accounts.get_mut(&id).unwrap();
        let arenas = RefCell::new(&mut self.arenas);
        let scrub = |arena: usize, offset: usize, len: usize| {
            let mut arenas = arenas.borrow_mut();
            let memory = arenas[arena].as_mut().expect("an arena in use");
            assert_eq!(
                (offset % CHUNK_BYTES + len) % CHUNK_BYTES,
                0,
                "up to the chunk's end"
            );
            let chunk = offset / CHUNK_BYTES * CHUNK_GRANULES;
            let mut granules = memory.granules[chunk..chunk + CHUNK_GRANULES].iter();
            assert!(
                granules.any(|granule| granule.writer != 0),
                "scrubbed though clean"
            );
            // What is overwritten may end within a granule.
            for granule in &mut memory.granules[offset.div_ceil(GRANULE)..(offset + len) / GRANULE]
            {
                assert_eq!(granule.user, 0, "scrubbed while in use");
                granule.writer = 0;
            }
        };
        let held = self.pool.held(&account.client);
        let outcome = self.pool.alloc(&account.client, lane, request, scrub);
        let limited = matches!(wanted, Some(Refusal::Quota | Refusal::Exhausted));
        if outcome.is_ok() && limited {
            // At its limit, a client may still be given what a lane of its keeps: that is held already.
            assert!(held > busy, "{request:?}");
            assert!(self.pool.held(&account.client) <= held, "{request:?}");
        } else {
            assert_eq!(outcome.as_ref().err(), wanted.as_ref(), "{request:?}");
        }
        account.highest = account.highest.max(self.pool.held(&account.client));
        let Ok(block) = outcome else {
            self.fragmented += usize::from(wanted == Some(Refusal::Fragmented));
            return false;
        };
        assert_eq!(
            (block.len(), block.offset() % block.len()),
            (len.max(GRANULE), 0)
        );
        let memory = self.arenas[block.arena()]
            .as_mut()
            .expect("an arena in use");
        assert_eq!(
            self.pool.address(&block),
            Some(memory.base + block.offset() as u64)
        );
        let first = block.offset() / GRANULE;
        let large = granules >= CHUNK_GRANULES && !request.lasting;
        assert!(large || !memory.for_large, "in an arena for others");
        assert!(memory.free(first, granules), "handed out twice");
        assert!(
            memory.private(first, granules, id),
            "a chunk has two clients"
        );
        let overwritten = request.overwritten.div_ceil(GRANULE);
        for (index, granule) in memory.granules[first..first + granules]
            .iter_mut()
            .enumerate()
        {
            let seen = index >= overwritten && granule.writer != 0 && granule.writer != id;
            assert!(!seen, "{id} sees what {} wrote", granule.writer);
            *granule = Granule {
                writer: id,
                user: id,
            };
        }
        self.live.push((id, Live::Block(block)));
        true
    }

    /// Makes a mapping of a block, found by an address in it from then on.
    pub(crate) fn note(&mut self, which: usize, original: u64) {
        if self.live.is_empty() {
            return;
        }
        let (id, live) = self.live.swap_remove(which % self.live.len());
        let live = match live {
            Live::Block(block) => {
                let (start, len) = (self.pool.address(&block), block.len());
                let flags = original as u8;
                let record = Record {
                    original,
                    len: len as u32,
                    client: id,
                    flags,
                };
                let address = self.pool.note(block, &record).ok();
                assert_eq!(address, start);
                let address = address.expect("it is of this pool");
                let inside = address + original % len as u64;
                let found = self.pool.lookup(inside).expect("it was noted");
                assert_eq!(
                    (found.start, found.bytes, found.record),
                    (address, len, record)
                );
                Live::Noted(inside, record)
            }
            noted => noted,
        };
        self.live.push((id, live));
    }

    pub(crate) fn free(&mut self, which: usize) {
        if self.live.is_empty() {
            return;
        }
        let (id, live) = self.live.swap_remove(which % self.live.len());
        let block = match live {
            Live::Block(block) => {
                let taken = super::take(&self.pool, self.pool.address(&block).unwrap());
                assert_eq!(taken, None, "none was noted");
                block
            }
            Live::Noted(inside, record) => {
                let (block, taken) = super::take(&self.pool, inside).expect("it was noted");
                assert_eq!(taken, record);
                assert_eq!(super::take(&self.pool, inside), None);
                block
            }
        };
        let memory = self.arenas[block.arena()]
            .as_mut()
            .expect("an arena in use");
        let first = block.offset() / GRANULE;
        for granule in &mut memory.granules[first..first + block.len() / GRANULE] {
            assert_eq!(std::mem::take(&mut granule.user), id);
        }
        self.pool.free(&self.accounts[&id].client, block);
    }

    pub(crate) fn drain(&mut self, id: u16) {
        if let Some(account) = self.accounts.get(&id) {
            self.pool.drain(&account.client);
            assert_eq!(self.pool.held(&account.client), self.all_busy(id));
        }
    }

    /// Closes a client, after which nothing more is handed out to it, and frees what it has.
    pub(crate) fn close(&mut self, id: u16) {
        let Some(account) = self.accounts.get(&id) else {
            return;
        };
        assert_eq!(self.pool.close(&account.client), self.all_busy(id));
        let refused = super::get(&self.pool, &account.client, 1);
        assert_eq!(refused, Err(Refusal::Quota));
        while let Some(which) = self.live.iter().position(|(user, _)| *user == id) {
            self.free(which);
        }
        assert_eq!(self.pool.close(&self.accounts[&id].client), 0);
        self.accounts.remove(&id);
        // The id is another's from now on.
        for memory in self.arenas.iter_mut().flatten() {
            for granule in &mut memory.granules {
                granule.writer = if granule.writer == id {
                    u16::MAX
                } else {
                    granule.writer
                };
            }
        }
    }

    /// Where any address is.
    pub(crate) fn find(&self, address: u64) {
        let places = self.arenas.iter().enumerate();
        let wanted = places.into_iter().find_map(|(index, memory)| {
            let memory = memory.as_ref()?;
            let offset = address.checked_sub(memory.base)? as usize;
            (offset < memory.granules.len() * GRANULE).then_some((index, offset))
        });
        assert_eq!(self.pool.find(address), wanted);
    }

    /// What can be told at any time.
    pub(crate) fn check(&self) {
        let chunks = self
            .arenas
            .iter()
            .flatten()
            .map(|memory| memory.users().count() as u64);
        let chunks = chunks.sum::<u64>();
        assert_eq!(self.pool.chunks_in_all(), chunks);
        let mut held = 0;
        for (&id, account) in &self.accounts {
            assert_eq!(self.pool.bytes(&account.client), self.used(id));
            let (now, busy) = (self.pool.held(&account.client), self.all_busy(id));
            let kept = most_kept(account.lanes) as u64;
            assert!((busy..=busy + kept).contains(&now));
            let highest = self.pool.highest(&account.client);
            // Between, it may have held those that its lane gave up for others.
            assert!((account.highest..=account.highest + 2).contains(&highest));
            held += now;
        }
        assert_eq!(self.pool.free_chunks(), chunks - held);
        let for_large = self.busy(true, 0);
        assert_eq!(self.pool.free_for_all(), chunks - held - for_large);
    }

    /// Nothing is left when all is given back.
    pub(crate) fn finish(mut self) {
        while self.live() > 0 {
            self.free(0);
            self.check();
        }
        self.pool.reclaim();
        assert_eq!(self.pool.free_chunks(), self.pool.chunks_in_all());
        for id in 0..IDS as u16 {
            self.close(id);
        }
        for index in 0..self.arenas.len() {
            self.retire(index);
        }
        assert_eq!(self.pool.chunks_in_all(), 0);
    }
}
