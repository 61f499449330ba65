// SPDX-License-Identifier: GPL-2.0

//! KUnit: buffers of a device on their way to the pool and back.

use kernel::prelude::*;
use memenc::pool::{
    Refusal,
    CHUNK_BYTES, //
};

use super::{
    flow::{
        Count,
        Direction, //
    },
    test_rig::{
        buffer,
        device,
        map,
        sync,
        unmap,
        Rig,
        MIB, //
    }, //
};
use crate::shared::SharedPages;

#[kunit_tests(virtio_sev_shim_dma)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_reads_is_copied_in_once_and_never_back() -> Result {
        let rig = Rig::new()?;
        let mut buffer = buffer(700, 0x11)?;
        let address = rig.map(&mut buffer, Direction::ToDevice)?;
        assert_eq!(rig.device_reads::<700>(address), [0x11; 700]);
        assert_eq!(rig.held(), 1024);
        rig.device_writes(address, 700, 0xee);
        rig.unmap(address, Direction::ToDevice);
        assert_eq!(buffer.as_slice(), [0x11; 700]);
        assert_eq!(rig.counts(), (700, 0));
        assert_eq!(rig.held(), 0);
        Ok(())
    }

    #[test]
    fn what_a_device_writes_is_copied_out_once_and_never_in() -> Result {
        let rig = Rig::new()?;
        let mut buffer = buffer(700, 0x11)?;
        let address = rig.map(&mut buffer, Direction::FromDevice)?;
        assert_eq!(rig.device_reads::<700>(address), [0; 700]);
        rig.device_writes(address, 700, 0x22);
        rig.unmap(address, Direction::FromDevice);
        assert_eq!(buffer.as_slice(), [0x22; 700]);
        assert_eq!(rig.counts(), (0, 700));
        Ok(())
    }

    #[test]
    fn what_both_use_is_copied_both_ways() -> Result {
        let rig = Rig::new()?;
        let mut buffer = buffer(64, 0x11)?;
        let address = rig.map(&mut buffer, Direction::Both)?;
        assert_eq!(rig.device_reads::<64>(address), [0x11; 64]);
        rig.device_writes(address, 32, 0x22);
        rig.unmap(address, Direction::Both);
        assert_eq!(buffer[..32], [0x22; 32]);
        assert_eq!(buffer[32..], [0x11; 32]);
        assert_eq!(rig.counts(), (64, 64));
        Ok(())
    }

    #[test]
    fn by_parameter_all_is_copied_in() -> Result {
        let rig = Rig::with(0, true)?;
        let mut buffer = buffer(64, 0x11)?;
        let address = rig.map(&mut buffer, Direction::FromDevice)?;
        assert_eq!(rig.device_reads::<64>(address), [0x11; 64]);
        rig.unmap(address, Direction::FromDevice);
        assert_eq!(rig.counts(), (64, 64));
        Ok(())
    }

    #[test]
    fn nothing_is_copied_for_those_who_do_it_themselves() -> Result {
        let rig = Rig::new()?;
        let mut buffer = buffer(64, 0x11)?;
        let (mem, len, both) = (buffer.as_mut_ptr(), buffer.len(), Direction::Both);
        // SAFETY: The buffer is there until the end.
        let mapped = unsafe { rig.flow.map(&rig.memory, mem, len, both, true, 0) };
        let address = mapped.ok_or(ENOMEM)?;
        assert_eq!(rig.device_reads::<64>(address), [0; 64]);
        rig.device_writes(address, 64, 0x22);
        // SAFETY: As above.
        unsafe { rig.flow.unmap(&rig.memory, address, both, true, 0) };
        assert_eq!(buffer.as_slice(), [0x11; 64]);
        assert_eq!((rig.counts(), rig.held()), ((0, 0), 0));
        Ok(())
    }

    #[test]
    fn a_part_is_synced_and_never_more_than_is_mapped() -> Result {
        let rig = Rig::new()?;
        let mut all = buffer(9000, 0x11)?;
        // Not at the start of anything.
        let address = rig.map(&mut all[5..8005], Direction::FromDevice)?;
        rig.device_writes(address, 8192, 0x22);
        rig.sync(address + 100, 50, Direction::FromDevice, true);
        assert_eq!(all[..105], [0x11; 105]);
        assert_eq!(all[105..155], [0x22; 50]);
        assert!(all[155..].iter().all(|byte| *byte == 0x11));
        // More than there is, and what is behind it.
        rig.sync(address + 7999, 100, Direction::FromDevice, true);
        assert_eq!(all[8003..8007], [0x11, 0x22, 0x11, 0x11]);
        rig.sync(address + 8001, 100, Direction::FromDevice, true);
        rig.sync(address + 8191, 100, Direction::FromDevice, true);
        // Not for the device: it is not to read this one.
        rig.sync(address, 8000, Direction::FromDevice, false);
        assert_eq!(rig.counts(), (0, 51));
        rig.unmap(address, Direction::FromDevice);
        assert_eq!(all[..5], [0x11; 5]);
        assert!(all[5..8005].iter().all(|byte| *byte == 0x22));
        assert!(all[8005..].iter().all(|byte| *byte == 0x11));
        Ok(())
    }

    #[test]
    fn a_part_is_synced_for_the_device() -> Result {
        let rig = Rig::new()?;
        let mut buffer = buffer(4096, 0x11)?;
        let address = rig.map(&mut buffer, Direction::ToDevice)?;
        buffer[1000..1010].fill(0x33);
        buffer[2000] = 0x33;
        rig.sync(address + 1000, 10, Direction::ToDevice, false);
        rig.sync(address + 1000, 10, Direction::ToDevice, true);
        let seen = rig.device_reads::<4096>(address);
        assert_eq!(
            seen[999..1011],
            [0x11, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33, 0x11]
        );
        assert_eq!(seen[2000], 0x11);
        assert_eq!(rig.counts(), (4106, 0));
        rig.unmap(address, Direction::ToDevice);
        Ok(())
    }

    #[test]
    fn a_mapping_ends_once() -> Result {
        let rig = Rig::new()?;
        let mut buffer = buffer(512, 0x11)?;
        let address = rig.map(&mut buffer, Direction::FromDevice)?;
        rig.unmap(address, Direction::FromDevice);
        rig.device_writes(address, 512, 0x22);
        rig.unmap(address, Direction::FromDevice);
        rig.sync(address, 512, Direction::FromDevice, true);
        assert_eq!(buffer.as_slice(), [0; 512]);
        assert_eq!((rig.counts(), rig.held()), ((0, 512), 0));
        // Nor do addresses mean anything that were never handed out.
        for nonsense in [
            0,
            1,
            u64::MAX,
            u64::MAX - 1,
            address + 4096,
            address + 64 * MIB,
        ] {
            rig.unmap(nonsense, Direction::Both);
            rig.sync(nonsense, usize::MAX, Direction::Both, true);
            rig.flow.free_coherent(&rig.memory, nonsense);
        }
        Ok(())
    }

    #[test]
    fn a_device_ends_no_mapping_of_another() -> Result {
        let rig = Rig::new()?;
        let other = device(&rig.memory, 1, 0, false)?;
        let mut buffer = buffer(512, 0x11)?;
        let address = rig.map(&mut buffer, Direction::FromDevice)?;
        rig.device_writes(address, 512, 0x22);
        unmap(&rig.memory, &other, address, Direction::FromDevice);
        other.free_coherent(&rig.memory, address);
        assert_eq!(buffer.as_slice(), [0x11; 512]);
        assert_eq!(rig.held(), 512);
        rig.unmap(address, Direction::FromDevice);
        assert_eq!(buffer.as_slice(), [0x22; 512]);
        Ok(())
    }

    #[test]
    fn what_one_device_had_no_other_sees() -> Result {
        for len in [512, 4096, 65536, 2 << 20] {
            let rig = Rig::new()?;
            let mut secret = buffer(len, 0x5e)?;
            let address = rig.map(&mut secret, Direction::ToDevice)?;
            rig.unmap(address, Direction::ToDevice);
            // Its driver is gone, so all of it may go to another.
            assert_eq!(rig.flow.close(&rig.memory), 0);
            let other = device(&rig.memory, 1, 0, false)?;
            let mut own = buffer(len, 0)?;
            let again = map(&rig.memory, &other, &mut own, Direction::FromDevice)?;
            // Otherwise this shows nothing.
            assert_eq!(again, address);
            unmap(&rig.memory, &other, again, Direction::FromDevice);
            assert!(own.iter().all(|byte| *byte == 0));
        }
        Ok(())
    }

    #[test]
    fn low_bits_stay_if_the_device_wants_that() -> Result {
        let rig = Rig::with(0xfff, false)?;
        let mut all = buffer(12000, 0x11)?;
        for start in [0, 1, 511, 4095] {
            let buffer = &mut all[start..start + 5000];
            let low = rig.memory.address(buffer.as_ptr()) & 0xfff;
            let address = rig.map(buffer, Direction::Both)?;
            assert_eq!(address & 0xfff, low);
            assert_eq!(rig.device_reads::<5000>(address), [0x11; 5000]);
            rig.device_writes(address, 5000, 0x22);
            rig.sync(address + 4998, 100, Direction::Both, true);
            assert_eq!(all[start + 4997..start + 5001], [0x11, 0x22, 0x22, 0x11]);
            rig.unmap(address, Direction::Both);
            assert!(all[start..start + 5000].iter().all(|byte| *byte == 0x22));
            assert_eq!(all[start + 5000], 0x11);
            all.iter_mut().for_each(|byte| *byte = 0x11);
        }
        assert_eq!(rig.held(), 0);
        Ok(())
    }

    #[test]
    fn what_another_had_is_not_seen_below_a_low_address_either() -> Result {
        let rig = Rig::with(0xfff, false)?;
        let other = device(&rig.memory, 1, 0, false)?;
        let mut theirs = buffer(256 << 10, 0x33)?;
        // All there is, so that the next block has been theirs.
        let mut all = KVec::new();
        while let Ok(address) = map(&rig.memory, &other, &mut theirs, Direction::ToDevice) {
            all.push(address, GFP_KERNEL)?;
        }
        for address in all {
            unmap(&rig.memory, &other, address, Direction::ToDevice);
        }
        let mut own = buffer((64 << 10) + 4096, 0x11)?;
        let at = (0x800 - rig.memory.address(own.as_ptr()) as usize) & 0xfff;
        let address = rig.map(&mut own[at..at + 60000], Direction::ToDevice)?;
        assert_eq!(address & 0xfff, 0x800);
        assert_eq!(rig.device_reads::<2048>(address - 2048), [0; 2048]);
        rig.unmap(address, Direction::ToDevice);
        Ok(())
    }

    #[test]
    fn a_buffer_may_begin_a_page_into_its_block() -> Result {
        for other_had_it in [false, true] {
            let rig = Rig::new()?;
            let mut all = buffer(2 << 20, 0x11)?;
            let start = rig.map(&mut all[4096..44096], Direction::Both)?;
            rig.unmap(start, Direction::Both);
            if other_had_it {
                rig.flow.close(&rig.memory);
            }
            let other = device(&rig.memory, 1, 0, false)?;
            let flow = if other_had_it { &other } else { &rig.flow };
            // Where a TLB has the block, too: all is aligned to its 2 MiB, and the block to 64 KiB.
            let at = start as usize & 0xf_ffff | 1 << 20;
            all.fill(0x22);
            let own = &mut all[at..at + 40000];
            let shifted = map(&rig.memory, flow, own, Direction::Both)?;
            assert_eq!(shifted, start + 4096);
            assert_eq!(rig.device_reads::<4096>(start), [0; 4096]);
            assert_eq!(rig.device_reads::<4096>(shifted), [0x22; 4096]);
            assert_eq!(rig.device_reads::<2048>(shifted + 37952), [0x22; 2048]);
            // What was not mapped does not come back.
            rig.device_writes(start, 4096 + 40001, 0x33);
            let last = shifted + 39998;
            sync(&rig.memory, flow, last, 100, Direction::Both, true);
            assert_eq!(all[at + 39997..at + 40001], [0x22, 0x33, 0x33, 0x22]);
            unmap(&rig.memory, flow, shifted, Direction::Both);
            assert!(all[at..at + 40000].iter().all(|byte| *byte == 0x33));
            assert_eq!((all[at - 1], all[at + 40000]), (0x22, 0x22));
            assert_eq!(flow.held(&rig.memory).0, 0);
        }
        Ok(())
    }

    #[test]
    fn rings_are_zeroed_and_never_copied() -> Result {
        let rig = Rig::new()?;
        let mut dirty = buffer(8192, 0x11)?;
        let address = rig.map(&mut dirty, Direction::ToDevice)?;
        rig.unmap(address, Direction::ToDevice);
        let ring = rig.flow.alloc_coherent(&rig.memory, 5000, true, 0);
        let ring = ring.ok_or(ENOMEM)?;
        assert_eq!(rig.device_reads::<5000>(ring), [0; 5000]);
        // It is no buffer.
        rig.unmap(ring, Direction::Both);
        rig.sync(ring, 5000, Direction::Both, true);
        assert_eq!(rig.counts(), (8192, 0));
        assert_eq!(rig.held(), 16384);
        rig.flow.free_coherent(&rig.memory, ring);
        rig.flow.free_coherent(&rig.memory, ring);
        assert_eq!(rig.held(), 0);
        Ok(())
    }

    #[test]
    fn a_page_beyond_a_buffer_is_no_ring() -> Result {
        let rig = Rig::new()?;
        let other = device(&rig.memory, 1, 0, false)?;
        let mut bytes = buffer(CHUNK_BYTES, 0)?;
        let (mut rings, mut buffers) = (KVec::new(), KVec::new());
        // Until the pool is full, in turn.
        while let Ok(address) = rig.map(&mut bytes, Direction::FromDevice) {
            buffers.push(address, GFP_KERNEL)?;
            for flow in [&rig.flow, &other] {
                let ring = flow.alloc_coherent(&rig.memory, 3000, false, 0);
                rings.extend_from_slice(ring.as_slice(), GFP_KERNEL)?;
            }
        }
        let end = |address: u64| address + CHUNK_BYTES as u64;
        let behind = |ring: &u64| {
            buffers
                .iter()
                .any(|buffer| ring.wrapping_sub(end(*buffer)) <= 4096)
        };
        // Otherwise this shows nothing.
        assert!(rings.iter().any(behind));
        for address in buffers.iter().copied() {
            let more = rig.memory.pool.find(end(address)).map_or(0, |_| 4096);
            rig.device_writes(address, CHUNK_BYTES + more, 0x22);
        }
        for ring in rings {
            assert_eq!(ring % 4096, 0);
            assert_eq!(rig.device_reads::<3000>(ring), [0; 3000]);
        }
        Ok(())
    }

    #[test]
    fn what_is_shared_already_is_not_bounced() -> Result {
        let rig = Rig::new()?;
        let shared = SharedPages::new(3)?;
        let pa = shared.range().pa;
        let part = shared.as_ptr().as_ptr().wrapping_add(100);
        let map = |len: usize| {
            // SAFETY: The pages are there until the end.
            unsafe {
                rig.flow
                    .map(&rig.memory, part, len, Direction::Both, false, 0)
            }
        };
        let within = map(12188).ok_or(ENOMEM)?;
        assert_eq!(within, pa + 100);
        rig.sync(within, 12188, Direction::Both, true);
        rig.unmap(within, Direction::Both);
        assert_eq!((rig.counts(), rig.held()), ((0, 0), 0));
        assert_eq!(rig.flow.counted(Count::NotBounced), 1);
        // One byte more is not shared.
        let beyond = map(12189).ok_or(ENOMEM)?;
        assert_ne!(beyond, pa + 100);
        // SAFETY: What is behind the pages is the direct map's, and nobody writes it here.
        unsafe {
            rig.flow
                .unmap(&rig.memory, beyond, Direction::Both, true, 0)
        };
        // Nor is it when they are private again.
        drop(shared);
        assert!(!super::super::direct::contains(pa, 1));
        Ok(())
    }

    #[test]
    fn refusals_have_names() -> Result {
        let rig = Rig::new()?;
        let refused = |kind: Refusal| rig.flow.refused[kind as usize].counted();
        let mut large = KVVec::new();
        large.resize((2 << 20) + 1, 0, GFP_KERNEL)?;
        // SAFETY: It is refused.
        let mapped = unsafe {
            let mem = large.as_mut_ptr();
            rig.flow.map(
                &rig.memory,
                mem,
                large.len(),
                Direction::FromDevice,
                false,
                0,
            )
        };
        assert_eq!(mapped, None);
        assert_eq!(refused(Refusal::TooLarge), 1);
        // All there is: two units, as blocks of half a unit.
        let mut half = buffer(1 << 20, 0)?;
        let mut taken = KVec::new();
        while let Ok(address) = rig.map(&mut half, Direction::FromDevice) {
            taken.push(address, GFP_KERNEL)?;
        }
        assert_eq!(taken.len(), 4);
        assert_eq!(refused(Refusal::Exhausted), 1);
        // Refused once, it grows by one unit at least; then there is room.
        assert!(rig.memory.grow());
        taken.push(rig.map(&mut half, Direction::FromDevice)?, GFP_KERNEL)?;
        // A share, which what comes and goes in the unit for large blocks does not count for.
        rig.flow.set_share(&rig.memory, 512 << 10, 512 << 10);
        assert!(rig.map(&mut half, Direction::FromDevice).is_err());
        assert_eq!(refused(Refusal::Quota), 1);
        for address in taken {
            rig.unmap(address, Direction::FromDevice);
        }
        assert_eq!(rig.held(), 0);
        Ok(())
    }
}
