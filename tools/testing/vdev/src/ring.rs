// SPDX-License-Identifier: GPL-2.0
//! The device's side of a split virtqueue (virtio 1.3, section 2.7), which the driver may have filled with anything.

use crate::watch::{Use, Watched};
use vfio_device::memory::DmaError;
use virtio_bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};

/// Length in bytes of a descriptor.
const DESC_LEN: u64 = 16;
/// Length in bytes of an entry of the used ring.
const USED_LEN: u64 = 8;
/// Flags and index in front of both rings' entries.
const HEADER_LEN: u64 = 4;

/// Why a chain cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error(transparent)]
    Memory(#[from] DmaError),
    #[error("descriptor {0} does not exist")]
    NoSuchDescriptor(u16),
    #[error("the chain at {0} is longer than its table")]
    Endless(u16),
    #[error("the indirect table at {0} is nested, or no table")]
    BadTable(u16),
    #[error("{0} new chains in a queue of fewer")]
    TooMany(u16),
}

/// A piece of memory that the driver has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its guest-physical address.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u32,
}

/// Where a descriptor is, so that it can be tampered with.
pub type DescAddr = u64;

/// A request: what the device may read, what it may write.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Its first descriptor, by which it is given back.
    pub head: u16,
    pub readable: Vec<Buffer>,
    pub writable: Vec<Buffer>,
    /// All its descriptors.
    pub descriptors: Vec<DescAddr>,
}

/// How many bytes there are in buffers.
#[must_use]
pub fn total(buffers: &[Buffer]) -> u64 {
    buffers.iter().map(|buffer| u64::from(buffer.len)).sum()
}

/// What the driver has said of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// How many descriptors it has; a power of two.
    pub size: u16,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    /// VIRTIO_RING_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
    /// VIRTIO_RING_F_INDIRECT_DESC was negotiated.
    pub indirect: bool,
}

/// A queue in use.
#[derive(Clone, Debug)]
pub struct Ring {
    place: Place,
    /// The next entry of the available ring.
    next_avail: u16,
    /// The next entry of the used ring.
    next_used: u16,
    /// The used index at the last look at whether the driver wants an interrupt.
    signalled: u16,
}

struct Desc {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Desc {
    fn has(&self, flag: u32) -> bool {
        u32::from(self.flags) & flag != 0
    }
}

impl Ring {
    /// An empty queue. A size of 0 is taken for 1.
    #[must_use]
    pub fn new(place: Place) -> Self {
        let size = place.size.max(1);
        Self {
            place: Place { size, ..place },
            next_avail: 0,
            next_used: 0,
            signalled: 0,
        }
    }

    /// How many descriptors it has.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.place.size
    }

    /// The driver's three areas, all of which the device was given.
    pub fn note(&self, memory: &mut Watched<'_>) {
        let (place, size) = (self.place, u64::from(self.place.size));
        memory.note(place.desc, size * DESC_LEN, Use::Ring);
        memory.note(place.avail, HEADER_LEN + 2 * size + 2, Use::Ring);
        memory.note(place.used, HEADER_LEN + USED_LEN * size + 2, Use::Ring);
    }

    /// The next request, if there is one.
    ///
    /// # Errors
    ///
    /// When the driver's structures make no sense. The request is then skipped.
    pub fn pop(&mut self, memory: &mut Watched<'_>) -> Result<Option<Chain>, RingError> {
        let idx = memory.read_u16(self.place.avail.wrapping_add(2))?;
        let new = idx.wrapping_sub(self.next_avail);
        if new == 0 {
            return Ok(None);
        }
        if new > self.place.size {
            self.next_avail = idx;
            return Err(RingError::TooMany(new));
        }
        let slot = u64::from(self.next_avail % self.place.size);
        self.next_avail = self.next_avail.wrapping_add(1);
        let head = memory.read_u16(self.place.avail.wrapping_add(HEADER_LEN + 2 * slot))?;
        let chain = self.chain(memory, head)?;
        for (buffers, usage) in [
            (&chain.readable, Use::ReadBuffer),
            (&chain.writable, Use::WriteBuffer),
        ] {
            for buffer in buffers {
                memory.note(buffer.addr, buffer.len.into(), usage);
            }
        }
        Ok(Some(chain))
    }

    fn chain(&self, memory: &mut Watched<'_>, head: u16) -> Result<Chain, RingError> {
        let mut chain = Chain {
            head,
            ..Chain::default()
        };
        let (mut table, mut count, mut inside) = (self.place.desc, self.place.size, false);
        let mut index = head;
        // As many descriptors as the table has are the most a chain can have; one more for the way into a table.
        let mut left = u32::from(count) + 1;
        loop {
            if index >= count {
                return Err(RingError::NoSuchDescriptor(index));
            }
            left = left.checked_sub(1).ok_or(RingError::Endless(head))?;
            let at = table.wrapping_add(u64::from(index) * DESC_LEN);
            chain.descriptors.push(at);
            let desc = read_desc(memory, at)?;
            if desc.has(VRING_DESC_F_INDIRECT) {
                let entries = u64::from(desc.len) / DESC_LEN;
                let entries = u16::try_from(entries).map_err(|_| RingError::BadTable(index))?;
                if inside || !self.place.indirect || desc.has(VRING_DESC_F_NEXT) || entries == 0 {
                    return Err(RingError::BadTable(index));
                }
                memory.note(desc.addr, desc.len.into(), Use::Table);
                (table, count, inside, index) = (desc.addr, entries, true, 0);
                left = entries.into();
                continue;
            }
            let buffer = Buffer {
                addr: desc.addr,
                len: desc.len,
            };
            if desc.has(VRING_DESC_F_WRITE) {
                chain.writable.push(buffer);
            } else {
                chain.readable.push(buffer);
            }
            if !desc.has(VRING_DESC_F_NEXT) {
                return Ok(chain);
            }
            index = desc.next;
        }
    }

    /// Gives a request back by its id, with the number of bytes written into it.
    ///
    /// # Errors
    ///
    /// When the used ring is not in memory.
    pub fn push(&mut self, memory: &mut Watched<'_>, id: u32, len: u32) -> Result<(), DmaError> {
        let slot = u64::from(self.next_used % self.place.size);
        let mut entry = [0; USED_LEN as usize];
        entry[..4].copy_from_slice(&id.to_le_bytes());
        entry[4..].copy_from_slice(&len.to_le_bytes());
        let at = HEADER_LEN + slot * USED_LEN;
        memory.write(self.place.used.wrapping_add(at), &entry)?;
        self.skip(memory, 1)
    }

    /// Moves the used index on, whatever there is in the entries.
    ///
    /// # Errors
    ///
    /// When the used ring is not in memory.
    pub fn skip(&mut self, memory: &mut Watched<'_>, by: u16) -> Result<(), DmaError> {
        self.next_used = self.next_used.wrapping_add(by);
        let idx = self.next_used.to_le_bytes();
        memory.write(self.place.used.wrapping_add(2), &idx)
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked.
    pub fn wants_interrupt(&mut self, memory: &mut Watched<'_>) -> bool {
        let (old, new) = (self.signalled, self.next_used);
        if old == new {
            return false;
        }
        self.signalled = new;
        let place = self.place;
        if place.event_idx {
            let at = HEADER_LEN + 2 * u64::from(place.size);
            let event = memory.read_u16(place.avail.wrapping_add(at));
            // virtio 1.3, 2.7.7.2: the index has passed the event.
            return event.is_ok_and(|event| {
                new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
            });
        }
        let flags = memory.read_u16(place.avail);
        flags.is_ok_and(|flags| u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Asks the driver to notify when there is more; whether there is some already.
    pub fn arm(&mut self, memory: &mut Watched<'_>) -> bool {
        let place = self.place;
        if place.event_idx {
            let at = HEADER_LEN + USED_LEN * u64::from(place.size);
            let next = self.next_avail.to_le_bytes();
            // A used ring that is not in memory shows when something is given back.
            let _ = memory.write(place.used.wrapping_add(at), &next);
        }
        let idx = memory.read_u16(place.avail.wrapping_add(2));
        idx.is_ok_and(|idx| idx != self.next_avail)
    }
}

fn read_desc(memory: &mut Watched<'_>, at: u64) -> Result<Desc, DmaError> {
    let mut bytes = [0; DESC_LEN as usize];
    memory.read(at, &mut bytes)?;
    let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
    Ok(Desc {
        addr: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        len: u32::from_le_bytes([l0, l1, l2, l3]),
        flags: u16::from_le_bytes([f0, f1]),
        next: u16::from_le_bytes([n0, n1]),
    })
}
