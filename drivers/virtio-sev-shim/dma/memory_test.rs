// SPDX-License-Identifier: GPL-2.0

//! KUnit: how the pool grows and shrinks, and who has which place in it.

use kernel::prelude::*;
use memenc::{
    pool::CHUNK_BYTES,
    shares::Shares, //
};

use super::{
    flow::{
        Direction,
        Flow, //
    },
    slots::Slots,
    test_rig::{
        buffer,
        device,
        map,
        other,
        pool,
        unmap,
        Rig,
        MIB, //
    }, //
};

#[kunit_tests(virtio_sev_shim_pool)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_pool_shrinks_to_its_least_size() -> Result {
        let rig = Rig::new()?;
        let mut half = buffer(1 << 20, 0)?;
        let mut taken = KVec::new();
        while rig.memory.size() < 8 * MIB {
            rig.memory.press();
            rig.memory.grow();
        }
        // Not beyond its bounds.
        rig.memory.press();
        rig.memory.grow();
        assert_eq!(rig.memory.size(), 8 * MIB);
        for _ in 0..6 {
            taken.push(rig.map(&mut half, Direction::FromDevice)?, GFP_KERNEL)?;
        }
        assert!(rig.memory.shrink());
        assert_eq!(rig.memory.size(), 8 * MIB);
        for address in taken {
            rig.unmap(address, Direction::FromDevice);
        }
        while rig.memory.shrink() {}
        assert_eq!(rig.memory.size(), 4 * MIB);
        assert_eq!(rig.memory.free(), 4 * MIB);
        // Without devices it has nothing, and does not grow.
        rig.memory.empty();
        rig.memory.press();
        assert!(!rig.memory.grow());
        assert_eq!(rig.memory.size(), 0);
        assert!(rig.map(&mut half, Direction::FromDevice).is_err());
        rig.memory.fill()?;
        assert_eq!(rig.memory.size(), 4 * MIB);
        // And what there is is as good as before.
        let address = rig.map(&mut half, Direction::FromDevice)?;
        rig.unmap(address, Direction::FromDevice);
        Ok(())
    }

    #[test]
    fn what_the_pool_must_have_stays_though_it_is_idle() -> Result {
        let rig = Rig::new()?;
        while rig.memory.size() < 8 * MIB {
            rig.memory.press();
            rig.memory.grow();
        }
        // One small block that stays, in each unit but the one for large blocks.
        let mut small = KVec::new();
        while let Some(address) = rig.flow.alloc_coherent(&rig.memory, 64 << 10, false, 0) {
            small.push(address, GFP_KERNEL)?;
        }
        let mut kept = KVec::new();
        for address in small {
            let unit = rig.memory.pool.find(address).map(|(unit, _)| unit);
            if kept.contains(&unit) {
                rig.flow.free_coherent(&rig.memory, address);
            } else {
                kept.push(unit, GFP_KERNEL)?;
            }
        }
        assert_eq!(kept.len(), 3);
        for _ in 0..3 {
            assert!(rig.memory.shrink());
        }
        assert_eq!(rig.memory.size(), 8 * MIB);
        let mut largest = buffer(rig.memory.largest(), 0)?;
        let address = rig.map(&mut largest, Direction::FromDevice)?;
        rig.unmap(address, Direction::FromDevice);
        Ok(())
    }

    /// A whole pool of requests of a disk, and of receive buffers, and packets all the same.
    #[test]
    fn a_disk_leaves_room_for_packets() -> Result {
        let memory = pool()?;
        let disk = other(&memory, 0, Shares::of(2, 1))?;
        let card = other(&memory, 1, Shares::of(1, 1))?;
        memory.keep(4 * MIB, MIB / 4);
        // A third of the one unit that is not for large blocks.
        let third = 2 * MIB / 3;
        assert_eq!(memory.kept(), third);
        disk.set_share(&memory, 100 * MIB, third);
        card.set_share(&memory, 100 * MIB, third);
        let mut page = buffer(4096, 0x11)?;
        let mut packet = buffer(4096, 0x22)?;
        let mut take = |flow: &Flow, direction| {
            let mut taken = KVec::new();
            while let Ok(address) = map(&memory, flow, &mut page, direction) {
                taken.push(address, GFP_KERNEL)?;
            }
            Ok::<_, Error>(taken)
        };
        let received = take(&card, Direction::FromDevice)?;
        let read = take(&disk, Direction::FromDevice)?;
        assert!(read.len() as u64 * 4096 >= MIB / 4);
        assert!(memory.pool.free_for_all() * CHUNK_BYTES as u64 >= third - CHUNK_BYTES as u64);
        let mut sent = KVec::new();
        for _ in 0..third / 4096 / 2 {
            let address = map(&memory, &card, &mut packet, Direction::ToDevice)?;
            sent.push(address, GFP_KERNEL)?;
        }
        for (flow, taken, direction) in [
            (&card, received, Direction::FromDevice),
            (&disk, read, Direction::FromDevice),
            (&card, sent, Direction::ToDevice),
        ] {
            for address in taken {
                unmap(&memory, flow, address, direction);
            }
        }
        assert_eq!(disk.close(&memory) + card.close(&memory), 0);
        Ok(())
    }

    #[test]
    fn what_is_kept_makes_the_pool_larger_and_stays() -> Result {
        let memory = pool()?;
        memory.keep(2 * MIB, 0);
        memory.fill()?;
        assert_eq!(memory.size(), 6 * MIB);
        while memory.shrink() {}
        assert_eq!((memory.size(), memory.kept()), (6 * MIB, 4 * MIB / 3));
        memory.keep(0, 0);
        assert!(!memory.shrink());
        assert_eq!((memory.size(), memory.kept()), (4 * MIB, 0));
        Ok(())
    }

    #[test]
    fn a_slot_can_be_used_again_when_its_traffic_was_closed() -> Result {
        let memory = pool()?;
        let flow = device(&memory, 5, 0, false)?;
        assert!(device(&memory, 5, 0, false).is_err());
        assert_eq!(flow.close(&memory), 0);
        let again = device(&memory, 5, 0, false)?;
        assert_eq!(again.close(&memory), 0);
        Ok(())
    }

    #[test]
    fn a_parent_leads_to_its_own_traffic() -> Result {
        let memory = pool()?;
        let slots = KBox::new(Slots::new(), GFP_KERNEL)?;
        let (one, two) = (device(&memory, 0, 0, false)?, device(&memory, 1, 0, false)?);
        // Far enough apart to have the same hash.
        let (first, second) = (0x1000_0000, 0x1000_0000 + (1 << 36));
        let get = |parent: usize| {
            // SAFETY: Both are there until the end.
            unsafe { slots.get(parent) }.map(core::ptr::from_ref)
        };
        slots.insert(0, first, &one);
        slots.insert(1, second, &two);
        assert_eq!(get(first), Some(core::ptr::from_ref(&one)));
        assert_eq!(get(second), Some(core::ptr::from_ref(&two)));
        assert_eq!(get(0x2000_0000), None);
        assert_eq!(slots.remove(0), Some(core::ptr::from_ref(&one)));
        assert_eq!(get(first), None);
        assert_eq!(get(second), Some(core::ptr::from_ref(&two)));
        assert_eq!(slots.remove(0), None);
        slots.insert(0, first, &two);
        assert_eq!(get(first), Some(core::ptr::from_ref(&two)));
        Ok(())
    }
}
