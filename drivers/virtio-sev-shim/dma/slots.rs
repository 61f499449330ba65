// SPDX-License-Identifier: GPL-2.0

//! From a device's parent, which is all that the rings hand over, to its traffic: without a lock, for every
//! buffer.

use memenc::pool::Word as _;

use super::{
    flow::Flow,
    words::Word, //
};

/// Adopted devices at most.
pub(super) const MAX_FLOWS: usize = 128;

/// Twice as many: half are empty at least, so that a search is short.
const BUCKETS: usize = 2 * MAX_FLOWS;

/// A bucket that was in use: a search goes on there. No device has this address.
const GONE: u64 = 1;

struct Bucket {
    parent: Word,
    flow: Word,
}

/// Open addressing: one who looks for a parent that is in there finds it, whatever happens to others. Changes
/// are made by one at a time.
pub(super) struct Slots {
    buckets: [Bucket; BUCKETS],
    /// Which parent has which slot.
    parents: [Word; MAX_FLOWS],
}

impl Slots {
    pub(super) const fn new() -> Self {
        Slots {
            buckets: [const {
                Bucket {
                    parent: Word::new(0),
                    flow: Word::new(0),
                }
            }; BUCKETS],
            parents: [const { Word::new(0) }; MAX_FLOWS],
        }
    }

    #[inline]
    fn search(&self, parent: u64) -> impl Iterator<Item = &Bucket> {
        // CAST: a hash. Devices are some KiB apart.
        let first = (parent >> 10 ^ parent >> 18) as usize;
        let places = (first..first + BUCKETS).map(|place| place % BUCKETS);
        places.filter_map(|place| self.buckets.get(place))
    }

    #[inline]
    fn bucket(&self, parent: u64) -> Option<&Bucket> {
        if parent <= GONE {
            return None;
        }
        for bucket in self.search(parent) {
            match bucket.parent.load() {
                found if found == parent => return Some(bucket),
                0 => return None,
                _ => (),
            }
        }
        None
    }

    /// The traffic of the device with this parent.
    ///
    /// # Safety
    ///
    /// The device is adopted, and stays so while the result is used.
    #[inline]
    pub(super) unsafe fn get(&self, parent: usize) -> Option<&Flow> {
        let bucket = self.bucket(parent as u64)?;
        // CAST: as wide.
        let flow = bucket.flow.load() as *const Flow;
        // SAFETY: It was inserted as a reference, and whoever did keeps it until it is removed, which is when the
        // device is released.
        unsafe { flow.as_ref() }
    }

    /// Makes a device known; it stays where it is until it is removed.
    pub(super) fn insert(&self, slot: usize, parent: usize, flow: &Flow) {
        // CAST: as wide.
        let parent = parent as u64;
        let Some(place) = self.parents.get(slot) else {
            return;
        };
        place.store(parent);
        // Half of the buckets are free or gone: there are fewer devices.
        let free = self
            .search(parent)
            .find(|bucket| matches!(bucket.parent.load(), 0 | GONE));
        if let Some(bucket) = free {
            // CAST: as wide.
            bucket.flow.store(core::ptr::from_ref(flow) as u64);
            bucket.parent.store(parent);
        }
    }

    /// Forgets a device.
    pub(super) fn remove(&self, slot: usize) -> Option<*const Flow> {
        let place = self.parents.get(slot)?;
        let bucket = self.bucket(place.load())?;
        place.store(0);
        bucket.parent.store(GONE);
        // CAST: as wide.
        Some(bucket.flow.load() as *const Flow)
    }
}
