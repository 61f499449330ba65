// SPDX-License-Identifier: GPL-2.0

//! KUnit: how the pool grows and shrinks, and who has which place in it.

use kernel::prelude::*;

use super::{
    flow::Direction,
    slots::Slots,
    test_rig::{
        buffer,
        device,
        pool,
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
