// SPDX-License-Identifier: GPL-2.0
//! A disk (virtio 1.3, section 5.2).

use crate::{
    buffers,
    ring::{total, Chain},
    transport::bit,
    watch::Watched,
};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
/// Type, reserved, sector: what is in front of a request's data.
const HEADER_LEN: usize = 16;
/// Most bytes in one request.
const MOST: u64 = 32 << 20;
/// Most pieces of memory in one request, and what a request has besides: a header and a status.
const SEGMENTS: u32 = 254;
const EXTRA_SEGMENTS: u16 = 2;

/// What a disk has on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// What was written, and before that zeros.
    Zeros,
    /// What was written, and before that the 64-bit word at offset A is what splitmix64 makes of A.
    Pattern,
    /// Nothing: reads find zeros, writes have no effect.
    Null,
}

/// A disk.
pub struct Blk {
    /// Empty for a null disk.
    bytes: Vec<u8>,
    /// What it says of its size, in sectors.
    pub capacity: u64,
    len: u64,
    queues: u16,
    segments: u32,
    serial: [u8; VIRTIO_BLK_ID_BYTES as usize],
}

impl Blk {
    /// A disk of `len` bytes with so many queues of `size` descriptors. The serial number is cut to 20 bytes.
    #[must_use]
    pub fn new(len: u64, contents: &Contents, queues: u16, size: u16, name: &str) -> Self {
        let mut bytes = match contents {
            Contents::Null => Vec::new(),
            // CAST: the address space has 64 bits.
            Contents::Zeros | Contents::Pattern => vec![0; len as usize],
        };
        if *contents == Contents::Pattern {
            for (word, at) in bytes.chunks_mut(8).zip((0u64..).step_by(8)) {
                word.copy_from_slice(&splitmix64(at).to_le_bytes()[..word.len()]);
            }
        }
        let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
        for (byte, letter) in serial.iter_mut().zip(name.bytes()) {
            *byte = letter;
        }
        Self {
            bytes,
            capacity: len / SECTOR,
            len,
            queues,
            // A request must fit in a queue even without indirect descriptors.
            segments: SEGMENTS.min(size.saturating_sub(EXTRA_SEGMENTS).into()),
            serial,
        }
    }

    /// Its features.
    #[must_use]
    pub fn features(&self) -> u64 {
        let multiqueue = if self.queues > 1 {
            bit(VIRTIO_BLK_F_MQ)
        } else {
            0
        };
        bit(VIRTIO_BLK_F_SEG_MAX)
            | bit(VIRTIO_BLK_F_BLK_SIZE)
            | bit(VIRTIO_BLK_F_FLUSH)
            | multiqueue
    }

    /// Its configuration (section 5.2.4).
    #[must_use]
    pub fn config(&self) -> [u8; 60] {
        let mut config = [0; 60];
        config[0..8].copy_from_slice(&self.capacity.to_le_bytes());
        config[12..16].copy_from_slice(&self.segments.to_le_bytes());
        // CAST: 512.
        config[20..24].copy_from_slice(&(SECTOR as u32).to_le_bytes());
        config[34..36].copy_from_slice(&self.queues.to_le_bytes());
        config
    }

    /// Carries out a request; how many bytes were written into its buffers.
    pub fn serve(&mut self, memory: &mut Watched<'_>, chain: &Chain) -> u32 {
        let room = total(&chain.writable);
        // The last byte is the status.
        let Some(room) = room.checked_sub(1).filter(|room| *room <= MOST) else {
            return 0;
        };
        let (status, written) = self.request(memory, chain, room);
        // CAST: one of three; at most MOST.
        match buffers::write(memory, &chain.writable, room, &[status as u8]) {
            Ok(_) => written as u32 + 1,
            Err(_) => 0,
        }
    }

    /// Its status, and how many bytes of data were written.
    fn request(&mut self, memory: &mut Watched<'_>, chain: &Chain, room: u64) -> (u32, u64) {
        const FAILED: (u32, u64) = (VIRTIO_BLK_S_IOERR, 0);
        let mut header = [0; HEADER_LEN];
        if buffers::read(memory, &chain.readable, 0, &mut header) != Ok(HEADER_LEN) {
            return FAILED;
        }
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let start = u64::from_le_bytes(sector).checked_mul(SECTOR);
        match u32::from_le_bytes([t0, t1, t2, t3]) {
            VIRTIO_BLK_T_IN => {
                let Some(data) = start.and_then(|start| self.get(start, room)) else {
                    return FAILED;
                };
                match buffers::write(memory, &chain.writable, 0, &data) {
                    Ok(_) => (VIRTIO_BLK_S_OK, room),
                    Err(_) => FAILED,
                }
            }
            VIRTIO_BLK_T_OUT => {
                // There are so many, the header has been read.
                let len = total(&chain.readable) - HEADER_LEN as u64;
                if len > MOST {
                    return FAILED;
                }
                // CAST: at most MOST.
                let mut data = vec![0; len as usize];
                let read =
                    buffers::read(memory, &chain.readable, HEADER_LEN as u64, &mut data).is_ok();
                let put = start.is_some_and(|start| read && self.put(start, &data));
                (
                    if put {
                        VIRTIO_BLK_S_OK
                    } else {
                        VIRTIO_BLK_S_IOERR
                    },
                    0,
                )
            }
            VIRTIO_BLK_T_FLUSH => (VIRTIO_BLK_S_OK, 0),
            VIRTIO_BLK_T_GET_ID => {
                let len = room.min(VIRTIO_BLK_ID_BYTES.into());
                // CAST: at most 20.
                match buffers::write(memory, &chain.writable, 0, &self.serial[..len as usize]) {
                    Ok(_) => (VIRTIO_BLK_S_OK, len),
                    Err(_) => FAILED,
                }
            }
            _ => (VIRTIO_BLK_S_UNSUPP, 0),
        }
    }

    fn get(&self, start: u64, len: u64) -> Option<Vec<u8>> {
        let end = start.checked_add(len).filter(|end| *end <= self.len)?;
        if self.bytes.is_empty() {
            // CAST: at most MOST.
            return Some(vec![0; len as usize]);
        }
        let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        self.bytes.get(range).map(<[u8]>::to_vec)
    }

    /// Whether there was room.
    fn put(&mut self, start: u64, data: &[u8]) -> bool {
        let end = start.checked_add(data.len() as u64);
        let Some(end) = end.filter(|end| *end <= self.len) else {
            return false;
        };
        if !self.bytes.is_empty() {
            // CAST: below its length.
            self.bytes[start as usize..end as usize].copy_from_slice(data);
        }
        true
    }
}

/// The generator by Sebastiano Vigna, as a function of its state.
#[must_use]
pub fn splitmix64(state: u64) -> u64 {
    let mut word = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
