// SPDX-License-Identifier: GPL-2.0
//! The common configuration of a modern device (virtio 1.3, section 4.1.4.3): features, status, and where queues are.

use crate::ring::Place;
use virtio_bindings::{
    virtio_config::{
        VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_F_ACCESS_PLATFORM,
        VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1,
    },
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};

/// Length in bytes of the registers.
const LEN: usize = 64;
/// No interrupt vector.
pub const NO_VECTOR: u16 = 0xffff;

/// A feature's bit.
#[must_use]
pub const fn bit(feature: u32) -> u64 {
    1 << feature
}

/// What the driver says of a queue.
#[derive(Clone, Copy, Debug)]
struct Queue {
    size: u16,
    vector: u16,
    enabled: bool,
    desc: u64,
    avail: u64,
    used: u64,
}

/// What a write to the registers has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// The driver has reset the device.
    Reset,
    /// It has set the status to this.
    Status(u8),
    /// It has enabled a queue.
    Enabled(u16),
    /// It has reset a queue.
    QueueReset(u16),
}

/// The registers.
pub struct Transport {
    offered: u64,
    accepted: u64,
    offered_select: u32,
    accepted_select: u32,
    config_vector: u16,
    status: u8,
    generation: u8,
    select: u16,
    /// The largest size of a queue.
    most: u16,
    queues: Vec<Queue>,
}

impl Transport {
    /// The registers after power-on of a device that offers these features.
    #[must_use]
    pub fn new(offered: u64, queues: u16, size: u16) -> Self {
        let mut transport = Self {
            offered,
            accepted: 0,
            offered_select: 0,
            accepted_select: 0,
            config_vector: NO_VECTOR,
            status: 0,
            generation: 0,
            select: 0,
            most: size,
            queues: Vec::with_capacity(queues.into()),
        };
        let queue = transport.idle_queue();
        transport.queues.resize(queues.into(), queue);
        transport
    }

    fn idle_queue(&self) -> Queue {
        Queue {
            size: self.most,
            vector: NO_VECTOR,
            enabled: false,
            desc: 0,
            avail: 0,
            used: 0,
        }
    }

    fn reset(&mut self) {
        // CAST: as many as it was made with.
        let generation = self.generation;
        *self = Self::new(self.offered, self.queues.len() as u16, self.most);
        self.generation = generation;
    }

    /// Whether the driver has accepted a feature.
    #[must_use]
    pub fn has(&self, feature: u32) -> bool {
        self.accepted & bit(feature) != 0
    }

    /// Whether the driver drives.
    #[must_use]
    pub fn is_live(&self) -> bool {
        u32::from(self.status) & VIRTIO_CONFIG_S_DRIVER_OK != 0
    }

    /// The kind's configuration has changed.
    pub fn config_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// The vector of the interrupt for that.
    #[must_use]
    pub fn config_vector(&self) -> u16 {
        self.config_vector
    }

    /// The vector of a queue's interrupt.
    #[must_use]
    pub fn vector(&self, queue: u16) -> u16 {
        self.queues
            .get(usize::from(queue))
            .map_or(NO_VECTOR, |queue| queue.vector)
    }

    /// Where a queue is.
    #[must_use]
    pub fn place(&self, queue: u16) -> Option<Place> {
        let queue = self.queues.get(usize::from(queue))?;
        Some(Place {
            size: queue.size,
            desc: queue.desc,
            avail: queue.avail,
            used: queue.used,
            event_idx: self.has(VIRTIO_RING_F_EVENT_IDX),
            indirect: self.has(VIRTIO_RING_F_INDIRECT_DESC),
        })
    }

    /// Reads any length at any offset. What is no register reads as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let image = self.image();
        for (at, byte) in data.iter_mut().enumerate() {
            let index = usize::try_from(offset)
                .ok()
                .and_then(|start| start.checked_add(at));
            *byte = index
                .and_then(|index| image.get(index))
                .copied()
                .unwrap_or(0);
        }
    }

    fn image(&self) -> [u8; LEN] {
        let mut image = [0; LEN];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &self.offered_select.to_le_bytes());
        put(0x04, &half(self.offered, self.offered_select).to_le_bytes());
        put(0x08, &self.accepted_select.to_le_bytes());
        put(
            0x0c,
            &half(self.accepted, self.accepted_select).to_le_bytes(),
        );
        put(0x10, &self.config_vector.to_le_bytes());
        // CAST: a few.
        put(0x12, &(self.queues.len() as u16).to_le_bytes());
        put(0x14, &[self.status, self.generation]);
        put(0x16, &self.select.to_le_bytes());
        if let Some(queue) = self.queues.get(usize::from(self.select)) {
            put(0x18, &queue.size.to_le_bytes());
            put(0x1a, &queue.vector.to_le_bytes());
            put(0x1c, &u16::from(queue.enabled).to_le_bytes());
            put(0x1e, &self.select.to_le_bytes());
            put(0x20, &queue.desc.to_le_bytes());
            put(0x28, &queue.avail.to_le_bytes());
            put(0x30, &queue.used.to_le_bytes());
        }
        image
    }

    /// Writes a register. Anything else than a whole register, or half of one of 64 bits, is ignored.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Change {
        let mut bytes = [0; 8];
        let Some(part) = bytes.get_mut(..data.len()) else {
            return Change::Nothing;
        };
        part.copy_from_slice(data);
        let value = u64::from_le_bytes(bytes);
        // CAST: of so many bytes.
        let (byte, word, long) = (value as u8, value as u16, value as u32);
        match (offset, data.len()) {
            (0x00, 4) => self.offered_select = long,
            (0x08, 4) => self.accepted_select = long,
            (0x0c, 4) => set_half(&mut self.accepted, self.accepted_select, long),
            (0x10, 2) => self.config_vector = word,
            (0x14, 1) => return self.set_status(byte),
            (0x16, 2) => self.select = word,
            (0x18..=0x3b, _) => return self.write_queue(offset, data.len(), value),
            _ => {}
        }
        Change::Nothing
    }

    fn set_status(&mut self, status: u8) -> Change {
        if status == 0 {
            self.reset();
            return Change::Reset;
        }
        self.status = status;
        let known = self.accepted & !self.offered == 0 && self.has(VIRTIO_F_VERSION_1);
        // A device that is behind an IOMMU does not work without (section 6.1).
        let platform = bit(VIRTIO_F_ACCESS_PLATFORM);
        let reached = self.offered & platform == self.accepted & platform;
        if !known || !reached {
            // CAST: 8.
            self.status &= !(VIRTIO_CONFIG_S_FEATURES_OK as u8);
        }
        Change::Status(self.status)
    }

    fn write_queue(&mut self, offset: u64, len: usize, value: u64) -> Change {
        let (select, most) = (self.select, self.most);
        let idle = self.idle_queue();
        let can_reset = self.has(VIRTIO_F_RING_RESET);
        let Some(queue) = self.queues.get_mut(usize::from(select)) else {
            return Change::Nothing;
        };
        // CAST: of so many bytes.
        let (word, long) = (value as u16, value as u32);
        match (offset, len) {
            (0x18, 2) if word.is_power_of_two() && word <= most => queue.size = word,
            (0x1a, 2) => queue.vector = word,
            (0x1c, 2) if word == 1 => {
                queue.enabled = true;
                return Change::Enabled(select);
            }
            (0x20 | 0x24, 4) => set_half(&mut queue.desc, u32::from(offset == 0x24), long),
            (0x28 | 0x2c, 4) => set_half(&mut queue.avail, u32::from(offset == 0x2c), long),
            (0x30 | 0x34, 4) => set_half(&mut queue.used, u32::from(offset == 0x34), long),
            (0x20, 8) => queue.desc = value,
            (0x28, 8) => queue.avail = value,
            (0x30, 8) => queue.used = value,
            (0x3a, 2) if word == 1 && can_reset => {
                *queue = idle;
                return Change::QueueReset(select);
            }
            _ => {}
        }
        Change::Nothing
    }
}

/// One half of a word, the low one first; there are no others.
fn half(word: u64, select: u32) -> u32 {
    // CAST: halves.
    match select {
        0 => word as u32,
        1 => (word >> 32) as u32,
        _ => 0,
    }
}

fn set_half(word: &mut u64, select: u32, value: u32) {
    match select {
        0 => *word = *word >> 32 << 32 | u64::from(value),
        1 => *word = u64::from(value) << 32 | *word & u64::from(u32::MAX),
        _ => {}
    }
}
