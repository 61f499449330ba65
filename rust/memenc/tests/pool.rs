// SPDX-License-Identifier: GPL-2.0

//! The pool by examples: what a caller is given, and what it is refused.

mod pools;

use std::sync::atomic::AtomicU64;

use memenc::pool::{
    shift, AddError, Arena, Rank, Record, Refusal, Request, ARENA_BYTES, ARENA_WORDS, CHUNK_BYTES,
    GRANULE, LANE_WORDS, SMALL_ARENA_BYTES,
};
use pools::{base, bytes, client, empty, get, pool, take, zeros, TestPool};

const PAGE: usize = 4096;

#[test]
fn a_block_is_the_next_power_of_two_and_aligned_to_it() {
    let pool: TestPool<AtomicU64> = pool(2);
    let one = client(&pool, 1, 1);
    for (len, wanted) in [
        (0, GRANULE),
        (1, GRANULE),
        (GRANULE + 1, 2 * GRANULE),
        (PAGE, PAGE),
        (PAGE + 1, 2 * PAGE),
        (CHUNK_BYTES - 1, CHUNK_BYTES),
        (3 * CHUNK_BYTES, 4 * CHUNK_BYTES),
        (ARENA_BYTES, ARENA_BYTES),
    ] {
        let block = get(&pool, &one, len).unwrap();
        assert_eq!((block.len(), block.offset() % wanted), (wanted, 0));
        let address = pool.address(&block).unwrap();
        assert_eq!(address, base(block.arena()) + block.offset() as u64);
        assert_eq!(pool.bytes(&one), wanted as u64);
        pool.free(&one, block);
        assert_eq!(pool.bytes(&one), 0);
    }
    assert_eq!(get(&pool, &one, ARENA_BYTES + 1), Err(Refusal::TooLarge));
    assert_eq!(get(&pool, &one, usize::MAX), Err(Refusal::TooLarge));
}

#[test]
fn a_client_gets_what_another_had_only_after_it_was_scrubbed() {
    let pool: TestPool<AtomicU64> = pool(1);
    let (one, two) = (client(&pool, 1, 1), client(&pool, 2, 1));
    let block = get(&pool, &one, 2 * CHUNK_BYTES).unwrap();
    let (arena, offset) = (block.arena(), block.offset());
    pool.free(&one, block);

    let scrubbed = std::cell::RefCell::new(Vec::new());
    let scrub = |arena, offset, len| scrubbed.borrow_mut().push((arena, offset, len));
    // What it overwrites itself need not be.
    let request = Request {
        overwritten: CHUNK_BYTES + 100,
        ..bytes(2 * CHUNK_BYTES)
    };
    let block = pool.alloc(&two, 0, &request, scrub).unwrap();
    assert_eq!((block.arena(), block.offset()), (arena, offset));
    let rest = (arena, offset + CHUNK_BYTES + 100, CHUNK_BYTES - 100);
    assert_eq!(scrubbed.take(), [rest]);
    pool.free(&two, block);

    // A small block takes a whole chunk, of which it overwrites its own part only.
    let request = Request {
        overwritten: GRANULE,
        ..bytes(GRANULE)
    };
    let block = pool.alloc(&one, 0, &request, scrub).unwrap();
    assert_eq!(scrubbed.take(), [(arena, offset, CHUNK_BYTES)]);
    let again = pool.alloc(&one, 0, &request, scrub).unwrap();
    assert_eq!(scrubbed.take(), []);
    pool.free(&one, block);
    pool.free(&one, again);
}

#[test]
fn those_that_can_wait_leave_something_for_those_that_cannot() {
    let pool: TestPool<AtomicU64> = pool(1);
    let [first, second, third] = [1, 2, 3].map(|id| client(&pool, id, 1));
    pool.set_rank(&second, Rank::Second);
    pool.set_rank(&third, Rank::Third);
    pool.set_kept(10, 20);
    // Blocks of a chunk, of which there are 64.
    let many = |who, most| {
        let blocks =
            std::iter::from_fn(|| pool.alloc(who, 0, &bytes(CHUNK_BYTES), |_, _, _| ()).ok());
        blocks.take(most).collect::<Vec<_>>()
    };
    let of_third = many(&third, 64);
    assert_eq!(of_third.len(), 34);
    assert_eq!(get(&pool, &third, 1), Err(Refusal::Exhausted));
    let of_second = many(&second, 64);
    assert_eq!(of_second.len(), 20);
    // One more chunk is not enough for two.
    pool.set_kept(9, 20);
    assert_eq!(
        get(&pool, &second, 2 * CHUNK_BYTES),
        Err(Refusal::Exhausted)
    );
    pool.set_kept(10, 20);
    let of_first = many(&first, 64);
    assert_eq!(of_first.len(), 10);
    for (client, blocks) in [(&first, of_first), (&second, of_second), (&third, of_third)] {
        blocks
            .into_iter()
            .for_each(|block| pool.free(client, block));
    }
    // Another client of the same id begins with the first rank.
    assert_eq!(pool.close(&third), 0);
    let third = client(&pool, 3, 1);
    assert_eq!(many(&third, 64).len(), 64);
}

#[test]
fn what_an_id_had_is_scrubbed_for_the_next_client_of_that_id() {
    let pool: TestPool<AtomicU64> = pool(1);
    let one = client(&pool, 1, 1);
    let block = get(&pool, &one, PAGE).unwrap();
    assert_eq!(pool.close(&one), 1);
    assert!(pool.client(1, 0, zeros(LANE_WORDS)).is_none());
    assert_eq!(get(&pool, &one, PAGE), Err(Refusal::Quota));
    pool.free(&one, block);
    assert_eq!(pool.close(&one), 0);

    let next = client(&pool, 1, 1);
    let scrubbed = std::cell::Cell::new(0);
    let scrub = |_, _, len| scrubbed.set(scrubbed.get() + len);
    let block = pool.alloc(&next, 0, &bytes(PAGE), scrub).unwrap();
    assert_eq!(scrubbed.get(), CHUNK_BYTES);
    pool.free(&next, block);
}

#[test]
fn a_mapping_is_found_by_any_address_in_it_and_ended_once() {
    let pool: TestPool<AtomicU64> = pool(1);
    let one = client(&pool, 1, 1);
    for len in [1, PAGE, 5 * PAGE, ARENA_BYTES] {
        let block = get(&pool, &one, len).unwrap();
        let (address, size) = (pool.address(&block).unwrap(), block.len());
        let record = Record {
            original: 0xffff_8880_1234_5678,
            len: len as u32,
            client: one.id(),
            flags: 0xa5,
        };
        assert_eq!(pool.note(block, &record), Ok(address));
        for inside in [0, 1, size / 2, size - 1] {
            let found = pool.lookup(address + inside as u64).unwrap();
            assert_eq!(found.start, address);
            assert_eq!((found.bytes, found.record), (size, record));
        }
        let last = address + size as u64 - 1;
        let (block, taken) = take(&pool, last).unwrap();
        assert_eq!((block.len(), taken), (size, record));
        assert_eq!(take(&pool, last), None);
        assert_eq!(pool.lookup(last), None);
        pool.free(&one, block);
    }
}

#[test]
fn no_address_from_outside_does_harm() {
    let pool: TestPool<AtomicU64> = pool(1);
    let first = base(0);
    for address in [0, 1, first - 1, first + ARENA_BYTES as u64, u64::MAX] {
        assert_eq!(pool.find(address), None);
        assert_eq!(pool.lookup(address), None);
        assert_eq!(take(&pool, address), None);
    }
    for inside in [first, first + ARENA_BYTES as u64 - 1] {
        assert_eq!(pool.lookup(inside), None);
        assert_eq!(take(&pool, inside), None);
    }
}

#[test]
fn arenas_come_and_go() {
    let pool: TestPool<AtomicU64> = empty(2);
    let one = client(&pool, 1, 1);
    assert_eq!(get(&pool, &one, 1), Err(Refusal::Exhausted));
    let small = SMALL_ARENA_BYTES as u64;
    assert_eq!(pool.add(0, 3 * small, SMALL_ARENA_BYTES), Ok(()));
    assert_eq!((pool.chunks_in_all(), pool.free_chunks()), (32, 32));
    assert_eq!(pool.largest_free(), SMALL_ARENA_BYTES);
    let again = pool.add(0, 5 * small, SMALL_ARENA_BYTES);
    assert_eq!(again, Err(AddError::NoArena));
    for (index, at, bytes, why) in [
        (2, 0, ARENA_BYTES, AddError::NoArena),
        (1, 3 * small, SMALL_ARENA_BYTES, AddError::Overlap),
        (1, 2 * small, ARENA_BYTES, AddError::Overlap),
        (1, 5 * small, ARENA_BYTES, AddError::BadPlace),
        (1, 4 * small + 4096, SMALL_ARENA_BYTES, AddError::BadPlace),
        (1, 0, CHUNK_BYTES, AddError::BadPlace),
        (1, 0, 0, AddError::BadPlace),
    ] {
        assert_eq!(pool.add(index, at, bytes), Err(why), "{index} {at} {bytes}");
    }
    assert_eq!(pool.add(1, u64::MAX - 0x3f_ffff, ARENA_BYTES), Ok(()));
    assert_eq!(pool.find(u64::MAX), Some((1, ARENA_BYTES - 1)));
    assert_eq!(pool.retire(1), Some(u64::MAX - 0x3f_ffff));
    assert_eq!(pool.find(u64::MAX), None);

    // Only its lower half is there.
    assert_eq!(get(&pool, &one, ARENA_BYTES), Err(Refusal::Exhausted));
    let block = get(&pool, &one, SMALL_ARENA_BYTES).unwrap();
    assert_eq!(get(&pool, &one, 1), Err(Refusal::Exhausted));
    assert_eq!(pool.retire(0), None);
    pool.free(&one, block);
    assert_eq!(pool.retire(0), Some(3 * small));
    assert_eq!(pool.retire(0), None);
    assert_eq!((pool.chunks_in_all(), pool.free_chunks()), (0, 0));
    assert!(Arena::new(zeros::<AtomicU64>(ARENA_WORDS - 1)).is_none());
}

#[test]
fn arenas_that_are_whole_stay_so_as_long_as_others_will_do() {
    let pool: TestPool<AtomicU64> = pool(2);
    let one = client(&pool, 1, 1);
    let first = get(&pool, &one, CHUNK_BYTES).unwrap();
    // The lane was at the second arena last.
    let second = get(&pool, &one, ARENA_BYTES).unwrap();
    assert_eq!((first.arena(), second.arena()), (0, 1));
    pool.free(&one, second);
    for len in [GRANULE, PAGE, CHUNK_BYTES, ARENA_BYTES / 2] {
        assert_eq!(get(&pool, &one, len).unwrap().arena(), 0, "{len}");
    }
    assert_eq!(pool.largest_free(), ARENA_BYTES);
}

#[test]
fn what_a_lane_only_keeps_stands_in_nobodys_way() {
    let pool: TestPool<AtomicU64> = pool(1);
    let (one, two) = (client(&pool, 1, 2), client(&pool, 2, 1));
    for lane in 0..2 {
        let never = |_, _, _| panic!("fresh memory");
        let page = pool.alloc(&one, lane, &bytes(PAGE), never).unwrap();
        let granule = pool.alloc(&one, lane, &bytes(1), never).unwrap();
        pool.free(&one, page);
        pool.free(&one, granule);
    }
    assert_eq!((pool.held(&one), pool.bytes(&one)), (2, 0));
    let block = pool.alloc(&two, 0, &bytes(ARENA_BYTES), |_, _, _| {});
    assert_eq!((pool.held(&one), pool.held(&two)), (0, 64));
    assert_eq!(get(&pool, &one, 1), Err(Refusal::Exhausted));
    pool.free(&two, block.unwrap());
    assert_eq!((pool.retire(0), pool.highest(&two)), (Some(base(0)), 64));
}

#[test]
fn a_client_at_its_quota_gets_what_it_and_others_only_keep() {
    let pool: TestPool<AtomicU64> = pool(1);
    let (one, two, three) = (
        client(&pool, 1, 1),
        client(&pool, 2, 1),
        client(&pool, 3, 1),
    );
    pool.set_quota(&one, 2);
    for chunks in [32, 16, 8, 4, 2] {
        get(&pool, &three, chunks * CHUNK_BYTES).unwrap();
    }
    // A chunk each, side by side.
    for client in [&one, &two] {
        let block = get(&pool, client, PAGE).unwrap();
        pool.free(client, block);
    }
    let both = pool.alloc(&one, 0, &bytes(2 * CHUNK_BYTES), |_, _, _| {});
    assert_eq!(both.map(|block| block.len()), Ok(2 * CHUNK_BYTES));
}

#[test]
fn a_client_over_its_quota_gets_what_its_lanes_keep_but_nothing_more() {
    let pool: TestPool<AtomicU64> = pool(1);
    let one = client(&pool, 1, 2);
    let kept = pool.alloc(&one, 1, &bytes(PAGE), |_, _, _| {}).unwrap();
    get(&pool, &one, 2 * CHUNK_BYTES).unwrap();
    pool.free(&one, kept);
    pool.set_quota(&one, 1);
    assert_eq!(pool.held(&one), 3);
    get(&pool, &one, CHUNK_BYTES / 2).unwrap();
    assert_eq!(pool.held(&one), 3);
    assert_eq!(get(&pool, &one, CHUNK_BYTES), Err(Refusal::Quota));
}

#[test]
fn a_lane_keeps_again_what_it_was_made_to_give_up() {
    let pool: TestPool<AtomicU64> = pool(1);
    let one = client(&pool, 1, 1);
    for _ in 0..2 {
        let block = get(&pool, &one, PAGE).unwrap();
        pool.free(&one, block);
        assert_eq!(pool.held(&one), 1);
        assert!(pool.reclaim());
        assert_eq!(pool.held(&one), 0);
    }
}

#[test]
fn a_lane_does_not_give_up_what_another_keeps_by_now() {
    let pool: TestPool<AtomicU64> = pool(1);
    let one = client(&pool, 1, 2);
    let on = |lane| pool.alloc(&one, lane, &bytes(PAGE), |_, _, _| {}).unwrap();
    pool.free(&one, on(0));
    pool.reclaim();
    pool.free(&one, on(1));
    // The first lane still takes from that chunk, until it is full.
    let blocks: Vec<_> = (0..=CHUNK_BYTES / PAGE).map(|_| on(0)).collect();
    assert_eq!(pool.held(&one), 2);
    for block in blocks {
        pool.free(&one, block);
    }
    assert_eq!(pool.held(&one), 2);
}

#[test]
fn a_client_holds_no_more_than_its_quota() {
    let pool: TestPool<AtomicU64> = pool(1);
    let one = client(&pool, 1, 1);
    pool.set_quota(&one, 2);
    let large = get(&pool, &one, CHUNK_BYTES).unwrap();
    let small = get(&pool, &one, 1).unwrap();
    assert_eq!(get(&pool, &one, CHUNK_BYTES), Err(Refusal::Quota));
    assert_eq!(get(&pool, &one, 4 * CHUNK_BYTES), Err(Refusal::Quota));
    pool.free(&one, small);
    // What its lane keeps does not count against it.
    let second = get(&pool, &one, CHUNK_BYTES).unwrap();
    assert_eq!((pool.held(&one), pool.highest(&one)), (2, 2));
    assert_eq!(get(&pool, &one, 1), Err(Refusal::Quota));
    pool.free(&one, large);
    pool.free(&one, second);
    assert_eq!(pool.close(&one), 0);
}

#[test]
fn a_block_crosses_no_boundary() {
    let pool: TestPool<AtomicU64> = pool(1);
    let one = client(&pool, 1, 1);
    let bounded = |len, offset, boundary| {
        let request = Request {
            len,
            offset,
            boundary,
            overwritten: 0,
            lasting: false,
        };
        let block = pool.alloc(&one, 0, &request, |_, _, _| {});
        block.map(|block| {
            let len = block.len();
            pool.free(&one, block);
            len
        })
    };
    assert_eq!(bounded(PAGE, 0, PAGE as u64), Ok(PAGE));
    assert_eq!(bounded(PAGE, 1, PAGE as u64), Err(Refusal::TooLarge));
    assert_eq!(bounded(PAGE, 1, 0), Ok(2 * PAGE));
    assert_eq!(bounded(PAGE, 1, 1 << 63), Ok(2 * PAGE));
    // Multiples of three pages.
    assert_eq!(bounded(PAGE, 0, 3 * PAGE as u64), Ok(PAGE));
    assert_eq!(
        bounded(2 * PAGE, 0, 3 * PAGE as u64),
        Err(Refusal::TooLarge)
    );
    assert_eq!(bounded(1, 0, 511), Err(Refusal::TooLarge));
    assert_eq!(bounded(usize::MAX, 1, 0), Err(Refusal::TooLarge));
}

#[test]
fn the_largest_block_can_be_had_again_and_again() {
    let pool: TestPool<AtomicU64> = empty(2);
    pool.add(0, base(0), ARENA_BYTES).unwrap();
    pool.add_for_large(1, base(1), ARENA_BYTES).unwrap();
    let one = pool.client(1, 3, zeros(LANE_WORDS)).unwrap();
    let lasting = Request {
        lasting: true,
        ..bytes(CHUNK_BYTES)
    };
    let stays = [
        pool.alloc(&one, 0, &lasting, |_, _, _| {}).unwrap(),
        get(&pool, &one, PAGE).unwrap(),
        get(&pool, &one, CHUNK_BYTES / 2).unwrap(),
    ];
    assert!(stays.iter().all(|block| block.arena() == 0));
    assert_eq!(pool.held(&one), 2);
    for _ in 0..3 {
        // More than the client's quota.
        let large = get(&pool, &one, ARENA_BYTES).unwrap();
        assert_eq!((large.arena(), large.offset()), (1, 0));
        assert_eq!(pool.held(&one), 66);
        assert_eq!(pool.free_for_all(), 62);
        // What is left of the quota is for other blocks still.
        let small = get(&pool, &one, CHUNK_BYTES).unwrap();
        assert_eq!(small.arena(), 0);
        assert_eq!(get(&pool, &one, CHUNK_BYTES), Err(Refusal::Quota));
        pool.free(&one, small);
        pool.free(&one, large);
    }
    // It is not for what is small, however little there is of the other.
    let rest = (0..).map_while(|_| get(&pool, &one, PAGE).ok());
    assert!(
        rest.fold(0, |count, block| {
            assert_eq!(block.arena(), 0);
            count + 1
        }) > 0
    );
    assert_eq!(pool.free_chunks() - pool.free_for_all(), 64);
    assert_eq!(pool.close(&one), 3);
    assert_eq!(pool.retire(1), Some(base(1)));
}

#[test]
fn a_mapping_is_taken_only_if_it_is_the_one_that_is_wanted() {
    let pool: TestPool<AtomicU64> = pool(1);
    let one = client(&pool, 1, 1);
    let block = get(&pool, &one, PAGE).unwrap();
    let record = Record {
        original: 77,
        len: 5,
        client: 1,
        flags: 3,
    };
    let address = pool.note(block, &record).unwrap();
    let not_flags = pool.take(address, |client, flags| client == 1 && flags == 0);
    assert_eq!(not_flags, None);
    assert_eq!(pool.take(address, |client, _| client == 2), None);
    let (block, taken) = pool
        .take(address, |client, flags| client == 1 && flags == 3)
        .unwrap();
    assert_eq!(taken, record);
    pool.free(&one, block);
    assert_eq!(take(&pool, address), None);
}

#[test]
fn a_buffer_begins_a_page_further_where_there_is_need_and_room() {
    // What QEMU's smallest TLB makes of an address.
    let place = |address: u64| address / PAGE as u64 % 256;
    for order in 0..14 {
        let bytes = GRANULE << order;
        for block in [0, bytes as u64, 7 << 22, (9 << 22) - bytes as u64] {
            let lens = [1, bytes / 2 + 1, bytes.saturating_sub(PAGE), bytes - 1];
            for used in lens.into_iter().chain([bytes]) {
                for original in (0..1024).map(|page| (5 << 32) + page * PAGE as u64 + 8) {
                    let shift = shift(block, bytes, original, used);
                    let room = used + PAGE <= bytes;
                    let need = place(block) == place(original);
                    assert_eq!(shift, if room && need { PAGE } else { 0 });
                    assert_ne!((room, place(block + shift as u64)), (true, place(original)));
                }
            }
        }
    }
}
