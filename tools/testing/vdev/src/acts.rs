// SPDX-License-Identifier: GPL-2.0
//! Carries out the lies that concern memory.

use crate::{
    lie::Lie,
    ring::{Buffer, Chain, Ring},
    watch::Watched,
};
use std::collections::VecDeque;
use vfio_device::memory::DmaError;

/// How far beyond a buffer is written: less than what swiotlb's smallest slot leaves unused, more than one of 512 bytes.
const BEYOND: usize = 600;
/// How often a buffer is scribbled on.
const SCRIBBLES: u32 = 200;
/// How many buffers are scribbled on at a time.
const MOST_SCRIBBLED: usize = 64;
/// Shorter buffers are not scribbled on: a disk's status is an answer, not data.
const SHORTEST_SCRIBBLED: u32 = 512;
/// Most bytes of a buffer that are overwritten.
const MOST_BYTES: u32 = 64 << 10;
/// How often used rings are written after a reset.
const HAUNTINGS: u32 = 2000;

struct Scribble {
    buffer: Buffer,
    left: u32,
}

/// What goes on after an answer.
#[derive(Default)]
pub struct Acts {
    scribbles: VecDeque<Scribble>,
    abandoned: Vec<Ring>,
    hauntings: u32,
}

impl Acts {
    /// What is done while the device has a request, before it is carried out. It has been read already.
    pub fn before(
        lie: Option<Lie>,
        memory: &mut Watched<'_>,
        chain: &Chain,
        rng: &mut fastrand::Rng,
    ) {
        if lie == Some(Lie::Descriptors) {
            for at in &chain.descriptors {
                memory.trespass(*at, &random(rng, 16));
            }
        }
    }

    /// What is done after it was carried out, before it is given back.
    pub fn after(
        &mut self,
        lie: Option<Lie>,
        memory: &mut Watched<'_>,
        chain: &Chain,
        rng: &mut fastrand::Rng,
    ) {
        match lie {
            Some(Lie::Beyond) => {
                for buffer in &chain.writable {
                    let end = buffer.addr.saturating_add(buffer.len.into());
                    memory.trespass(end, &random(rng, BEYOND));
                }
            }
            Some(Lie::ReadOnly) => {
                for buffer in &chain.readable {
                    spoil(memory, buffer, rng);
                }
            }
            Some(Lie::Scribble) => {
                for buffer in &chain.writable {
                    self.scribble(*buffer);
                }
            }
            _ => {}
        }
    }

    fn scribble(&mut self, buffer: Buffer) {
        if buffer.len < SHORTEST_SCRIBBLED {
            return;
        }
        self.scribbles
            .retain(|scribble| scribble.buffer.addr != buffer.addr);
        if self.scribbles.len() == MOST_SCRIBBLED {
            self.scribbles.pop_front();
        }
        let left = SCRIBBLES;
        self.scribbles.push_back(Scribble { buffer, left });
    }

    /// Gives a request back, rightly or not.
    ///
    /// # Errors
    ///
    /// When the used ring is not in memory.
    pub fn give_back(
        lie: Option<Lie>,
        memory: &mut Watched<'_>,
        ring: &mut Ring,
        chain: &Chain,
        len: u32,
        rng: &mut fastrand::Rng,
    ) -> Result<(), DmaError> {
        let id = u32::from(chain.head);
        let size = u32::from(ring.size());
        let all = chain.writable.iter().map(|buffer| buffer.len);
        match lie {
            Some(Lie::IdRange) => ring.push(memory, rng.u32(size..), len),
            // The device takes every buffer at once: the driver has given it no other of this queue.
            Some(Lie::IdUnknown) if size > 1 => {
                ring.push(memory, (id + rng.u32(1..size)) % size, len)
            }
            Some(Lie::IdTwice) => {
                ring.push(memory, id, len)?;
                ring.push(memory, id, len)
            }
            Some(Lie::LenZero) => ring.push(memory, id, 0),
            Some(Lie::LenLong) => {
                let room = all.fold(0, u32::saturating_add);
                ring.push(memory, id, room.saturating_add(rng.u32(1..0x1_0000)))
            }
            Some(Lie::LenMax) => ring.push(memory, id, u32::MAX),
            Some(Lie::IndexJump) => {
                ring.push(memory, id, len)?;
                ring.skip(memory, rng.u16(ring.size()..))
            }
            Some(Lie::Silent) => Ok(()),
            _ => ring.push(memory, id, len),
        }
    }

    /// Keeps queues that the driver believes to be reset.
    pub fn keep(&mut self, rings: impl Iterator<Item = Ring>) {
        self.abandoned.extend(rings);
        self.hauntings = HAUNTINGS;
    }

    /// Whether there is something to go on with.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.scribbles.is_empty() || !self.abandoned.is_empty()
    }

    /// Goes on.
    pub fn tick(&mut self, memory: &mut Watched<'_>, rng: &mut fastrand::Rng) {
        for scribble in &mut self.scribbles {
            spoil(memory, &scribble.buffer, rng);
            scribble.left -= 1;
        }
        self.scribbles.retain(|scribble| scribble.left > 0);
        for ring in &mut self.abandoned {
            // Where nothing is, nothing can be spoilt.
            let _ = ring.push(memory, rng.u32(0..u32::from(ring.size())), rng.u32(..));
        }
        self.hauntings = self.hauntings.saturating_sub(1);
        if self.hauntings == 0 {
            self.abandoned.clear();
        }
    }
}

fn random(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

fn spoil(memory: &mut Watched<'_>, buffer: &Buffer, rng: &mut fastrand::Rng) {
    // CAST: at most MOST_BYTES.
    let bytes = random(rng, buffer.len.min(MOST_BYTES) as usize);
    memory.trespass(buffer.addr, &bytes);
}
