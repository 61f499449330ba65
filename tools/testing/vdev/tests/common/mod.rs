// SPDX-License-Identifier: GPL-2.0
//! A small driver, with its own idea of where everything is, written from the specification.

#![allow(dead_code, reason = "each test uses its part of it")]

use vdev::{device::Device, watch::Watch};
use vfio_device::memory::{GuestMemory, VecMemory};

pub(crate) const RAM: u64 = 0x10_0000;
pub(crate) const RAM_LEN: usize = 0x20_0000;
/// Queue number N has its areas at RAM + N * QUEUE.
const QUEUE: u64 = 0x4000;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
/// Where tables of indirect descriptors are.
pub(crate) const TABLE: u64 = RAM + 0x8_0000;
/// Where buffers are.
pub(crate) const DATA: u64 = RAM + 0x10_0000;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

pub(crate) const VERSION_1: u64 = 1 << 32;
pub(crate) const ACCESS_PLATFORM: u64 = 1 << 33;
pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
pub(crate) const EVENT_IDX: u64 = 1 << 29;
pub(crate) const MRG_RXBUF: u64 = 1 << 15;
pub(crate) const MQ: u64 = 1 << 22;

/// Address, length and flags.
pub(crate) type Piece = (u64, u32, u16);

pub(crate) struct Driver {
    pub(crate) device: Device,
    pub(crate) ram: VecMemory,
    pub(crate) interrupts: Vec<u16>,
    queues: Vec<(u16, u16, u16)>,
}

impl Driver {
    /// A device as described, driven with these features besides VERSION_1 and ACCESS_PLATFORM.
    pub(crate) fn new(spec: &str, features: u64) -> Self {
        let mut driver = Self::without_driver(spec);
        assert!(driver.negotiate(VERSION_1 | ACCESS_PLATFORM | features));
        driver.start();
        driver
    }

    pub(crate) fn without_driver(spec: &str) -> Self {
        Self {
            device: Device::new(spec.parse().unwrap(), 1, Watch::default()),
            ram: VecMemory::new(RAM, RAM_LEN),
            interrupts: Vec::new(),
            queues: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let raised = self.device.bar0_write(offset, bytes, &mut self.ram);
        self.interrupts.extend(raised);
    }

    pub(crate) fn register<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.device.bar0_read(offset, &mut bytes);
        bytes
    }

    pub(crate) fn offered(&mut self) -> u64 {
        let mut words = [0, 1].map(|half: u32| {
            self.write(0, &half.to_le_bytes());
            u64::from(u32::from_le_bytes(self.register(4)))
        });
        words[1] <<= 32;
        words[0] | words[1]
    }

    /// Whether the device accepts these features.
    pub(crate) fn negotiate(&mut self, features: u64) -> bool {
        self.write(0x14, &[0]);
        self.write(0x14, &[3]);
        for half in [0u32, 1] {
            self.write(8, &half.to_le_bytes());
            let word = (features >> (32 * half)) as u32;
            self.write(0xc, &word.to_le_bytes());
        }
        self.write(0x14, &[11]);
        self.register(0x14) == [11]
    }

    /// Enables all queues with 8 descriptors, and vector N for queue N; the configuration's comes after them.
    pub(crate) fn start(&mut self) {
        let count = u16::from_le_bytes(self.register(0x12));
        self.queues = vec![(0, 0, 0); count.into()];
        self.write(0x10, &count.to_le_bytes());
        for queue in 0..count {
            self.enable(queue);
        }
        self.write(0x14, &[15]);
    }

    pub(crate) fn enable(&mut self, queue: u16) {
        let base = RAM + u64::from(queue) * QUEUE;
        self.write(0x16, &queue.to_le_bytes());
        self.write(0x18, &8u16.to_le_bytes());
        self.write(0x1a, &queue.to_le_bytes());
        for (register, address) in [(0x20, base), (0x28, base + AVAIL), (0x30, base + USED)] {
            self.write(register, &(address as u32).to_le_bytes());
            self.write(register + 4, &((address >> 32) as u32).to_le_bytes());
        }
        self.write(0x1c, &1u16.to_le_bytes());
    }

    pub(crate) fn put(&mut self, address: u64, bytes: &[u8]) {
        self.ram.write(address, bytes).unwrap();
    }

    pub(crate) fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(address, &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn desc(&mut self, at: u64, (address, len, flags): Piece, next: u16) {
        self.put(at, &address.to_le_bytes());
        self.put(at + 8, &len.to_le_bytes());
        self.put(at + 12, &flags.to_le_bytes());
        self.put(at + 14, &next.to_le_bytes());
    }

    /// Puts a chain into a table, its descriptors in order from `first` on.
    pub(crate) fn chain(&mut self, table: u64, first: u16, pieces: &[Piece]) {
        for (index, &(address, len, flags)) in (first..).zip(pieces) {
            let last = usize::from(index - first) + 1 == pieces.len();
            let flags = if last { flags } else { flags | NEXT };
            let at = table + 16 * u64::from(index);
            self.desc(at, (address, len, flags), index + 1);
        }
    }

    /// Makes a chain of descriptors from `first` on available, without telling the device.
    pub(crate) fn offer(&mut self, queue: u16, first: u16, pieces: &[Piece]) {
        let base = RAM + u64::from(queue) * QUEUE;
        self.chain(base, first, pieces);
        let avail = &mut self.queues[usize::from(queue)].0;
        let slot = u64::from(*avail % 8);
        *avail += 1;
        let index = *avail;
        self.put(base + AVAIL + 4 + 2 * slot, &first.to_le_bytes());
        self.put(base + AVAIL + 2, &index.to_le_bytes());
    }

    pub(crate) fn notify(&mut self, queue: u16) {
        self.write(0x3000 + 4 * u64::from(queue), &queue.to_le_bytes());
    }

    pub(crate) fn used_index(&self, queue: u16) -> u16 {
        let base = RAM + u64::from(queue) * QUEUE;
        u16::from_le_bytes(self.get(base + USED + 2, 2).try_into().unwrap())
    }

    /// What has come back since the last call: ids and lengths.
    pub(crate) fn used(&mut self, queue: u16) -> Vec<(u32, u32)> {
        let base = RAM + u64::from(queue) * QUEUE;
        let end = self.used_index(queue);
        let mut found = Vec::new();
        while self.queues[usize::from(queue)].1 != end {
            let slot = u64::from(self.queues[usize::from(queue)].1 % 8);
            let entry = self.get(base + USED + 4 + 8 * slot, 8);
            let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
            found.push((word(0), word(4)));
            self.queues[usize::from(queue)].1 += 1;
        }
        found
    }

    /// Sets the index of the used ring at which the driver wants to be interrupted.
    pub(crate) fn used_event(&mut self, queue: u16, event: u16) {
        let base = RAM + u64::from(queue) * QUEUE;
        self.put(base + AVAIL + 4 + 2 * 8, &event.to_le_bytes());
    }

    /// A disk's request: its status and what came back for it.
    pub(crate) fn request(
        &mut self,
        kind: u32,
        sector: u64,
        data: &[Piece],
    ) -> (u8, Vec<(u32, u32)>) {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.put(DATA - 32, &header);
        self.put(DATA - 8, &[0xee]);
        let mut pieces = vec![(DATA - 32, 16, 0)];
        pieces.extend(data);
        pieces.push((DATA - 8, 1, WRITE));
        self.offer(0, 0, &pieces);
        self.notify(0);
        (self.get(DATA - 8, 1)[0], self.used(0))
    }

    /// A frame to be sent, with this number in it.
    pub(crate) fn frame(number: u8, len: usize) -> Vec<u8> {
        let mut frame = vec![0xaa; 6];
        frame.extend([0xbb; 6]);
        frame.extend([0x88, 0xb5]);
        frame.resize(len, number);
        frame
    }

    /// Sends a frame on a pair of queues from a place of its own.
    pub(crate) fn send(&mut self, pair: u16, first: u16, frame: &[u8]) {
        let at = DATA + 0x1_0000 * u64::from(first);
        self.put(at, &[0; 12]);
        self.put(at + 12, frame);
        let len = frame.len() as u32 + 12;
        self.offer(2 * pair + 1, first, &[(at, len, 0)]);
        self.notify(2 * pair + 1);
    }
}

pub(crate) const IN: u32 = 0;
pub(crate) const OUT: u32 = 1;
pub(crate) const FLUSH: u32 = 4;
pub(crate) const GET_ID: u32 = 8;
