// SPDX-License-Identifier: GPL-2.0
//! A network card that sends every frame back where it came from (virtio 1.3, section 5.1).
//!
//! What is sent on a pair of queues is received on the same pair, in the same order, with sender and receiver
//! exchanged. A frame is taken from the driver only when there is a place for the one before it, so none is lost.

use crate::{
    buffers,
    ring::{total, Buffer, Chain},
    transport::bit,
    watch::Watched,
};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_OK,
    VIRTIO_NET_S_LINK_UP,
};

/// Length in bytes of what is in front of a frame.
pub const HEADER_LEN: usize = 12;
/// Where the number of buffers is in it.
const NUM_BUFFERS: usize = 10;
/// Longest frame: 64 KiB and its Ethernet header.
const MOST: u64 = 65_536 + 18;
/// A locally administered address.
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x5e, 0x50, 0x01];

/// A pair of queues.
#[derive(Default)]
pub struct Pair {
    /// A frame that waits for buffers, its header in front.
    frame: Option<Vec<u8>>,
    /// Buffers that wait for a frame.
    held: Vec<Chain>,
}

/// A network card.
pub struct Net {
    pairs: Vec<Pair>,
    mrg_rxbuf: bool,
    /// What it says of the link; bit 0 is that it is up.
    pub link: u16,
}

/// What there is to do for a pair.
#[derive(Debug)]
pub enum Next {
    /// Another frame from the driver.
    Frame,
    /// Another buffer from the driver.
    Buffer,
    /// These have been filled, with so many bytes each.
    Filled(Vec<(Chain, u32)>),
}

impl Net {
    /// A card with so many pairs of queues.
    #[must_use]
    pub fn new(pairs: u16, mrg_rxbuf: bool) -> Self {
        Self {
            pairs: (0..pairs).map(|_| Pair::default()).collect(),
            mrg_rxbuf,
            // CAST: 1.
            link: VIRTIO_NET_S_LINK_UP as u16,
        }
    }

    /// Forgets frames and buffers.
    pub fn reset(&mut self) {
        self.pairs
            .iter_mut()
            .for_each(|pair| *pair = Pair::default());
    }

    /// Forgets a queue's buffers.
    pub fn reset_queue(&mut self, queue: u16) {
        if queue % 2 == 0 {
            if let Some(pair) = self.pairs.get_mut(usize::from(queue / 2)) {
                pair.held.clear();
            }
        }
    }

    /// How many queues there are: two for each pair, and that for commands.
    #[must_use]
    pub fn queues(&self) -> u16 {
        // CAST: a few.
        2 * self.pairs.len() as u16 + 1
    }

    /// Its features.
    #[must_use]
    pub fn features(&self) -> u64 {
        let mut features =
            bit(VIRTIO_NET_F_MAC) | bit(VIRTIO_NET_F_STATUS) | bit(VIRTIO_NET_F_CTRL_VQ);
        if self.mrg_rxbuf {
            features |= bit(VIRTIO_NET_F_MRG_RXBUF);
        }
        if self.pairs.len() > 1 {
            features |= bit(VIRTIO_NET_F_MQ);
        }
        features
    }

    /// Its configuration (section 5.1.4).
    #[must_use]
    pub fn config(&self) -> [u8; 10] {
        let mut config = [0; 10];
        config[..6].copy_from_slice(&MAC);
        config[6..8].copy_from_slice(&self.link.to_le_bytes());
        // CAST: a few.
        config[8..].copy_from_slice(&(self.pairs.len() as u16).to_le_bytes());
        config
    }

    /// The pair that a queue belongs to; none for the one for commands, which follows them.
    ///
    /// A driver that has not accepted VIRTIO_NET_F_MQ knows of one pair only (section 5.1.2).
    #[must_use]
    pub fn pair(&self, queue: u16, multiqueue: bool) -> Option<u16> {
        let pairs = if multiqueue { self.pairs.len() } else { 1 };
        let pair = queue / 2;
        (usize::from(pair) < pairs).then_some(pair)
    }

    /// Takes a frame that the driver sends.
    pub fn send(&mut self, memory: &mut Watched<'_>, pair: u16, chain: &Chain) {
        let len = total(&chain.readable);
        if !(HEADER_LEN as u64 + 14..=HEADER_LEN as u64 + MOST).contains(&len) {
            return;
        }
        // CAST: at most MOST and a header.
        let mut frame = vec![0; len as usize];
        if buffers::read(memory, &chain.readable, 0, &mut frame).is_err() {
            return;
        }
        frame[..HEADER_LEN].fill(0);
        let (to, from) = frame[HEADER_LEN..].split_at_mut(6);
        to.swap_with_slice(&mut from[..6]);
        if let Some(pair) = self.pairs.get_mut(usize::from(pair)) {
            pair.frame = Some(frame);
        }
    }

    /// Takes a buffer for a frame to be received.
    pub fn hold(&mut self, pair: u16, chain: Chain) {
        if let Some(pair) = self.pairs.get_mut(usize::from(pair)) {
            pair.held.push(chain);
        }
    }

    /// What there is to do next. `mergeable`: a frame may take several buffers; it says in its header that it takes
    /// `buffers`, if that is given.
    pub fn next(
        &mut self,
        memory: &mut Watched<'_>,
        pair: u16,
        mergeable: bool,
        buffers: Option<u16>,
    ) -> Next {
        let Some(pair) = self.pairs.get_mut(usize::from(pair)) else {
            return Next::Frame;
        };
        let Some(mut frame) = pair.frame.take() else {
            return Next::Frame;
        };
        let room: u64 = pair.held.iter().map(|held| total(&held.writable)).sum();
        if pair.held.is_empty() || (mergeable && room < frame.len() as u64) {
            pair.frame = Some(frame);
            return Next::Buffer;
        }
        if room < frame.len() as u64 {
            // It is too long for the only buffer it may have; the buffer is for another one.
            return Next::Frame;
        }
        let held = std::mem::take(&mut pair.held);
        // CAST: a queue has at most 32768.
        let count = buffers.unwrap_or(held.len() as u16);
        frame[NUM_BUFFERS..HEADER_LEN].copy_from_slice(&count.to_le_bytes());
        let mut rest = &frame[..];
        let fill = |chain: Chain| {
            let len = fill(memory, &chain.writable, &mut rest);
            (chain, len)
        };
        Next::Filled(held.into_iter().map(fill).collect())
    }

    /// Carries out a command; how many bytes were written into its buffers.
    pub fn command(&mut self, memory: &mut Watched<'_>, chain: &Chain) -> u32 {
        let mut command = [0; 4];
        let read = buffers::read(memory, &chain.readable, 0, &mut command);
        let [class, number, pairs @ ..] = command;
        let known = u32::from(class) == VIRTIO_NET_CTRL_MQ
            && u32::from(number) == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
        let pairs = usize::from(u16::from_le_bytes(pairs));
        let done = read == Ok(4) && known && (1..=self.pairs.len()).contains(&pairs);
        // CAST: 0 or 1.
        let answer = [if done { VIRTIO_NET_OK } else { VIRTIO_NET_ERR } as u8];
        match buffers::write(memory, &chain.writable, 0, &answer) {
            // CAST: 0 or 1.
            Ok(len) => len as u32,
            Err(_) => 0,
        }
    }
}

/// Writes the beginning of `rest` and cuts it off; how long it was.
fn fill(memory: &mut Watched<'_>, writable: &[Buffer], rest: &mut &[u8]) -> u32 {
    let room = usize::try_from(total(writable)).unwrap_or(usize::MAX);
    let (now, later) = rest.split_at(room.min(rest.len()));
    *rest = later;
    // CAST: at most a frame.
    buffers::write(memory, writable, 0, now).map_or(0, |len| len as u32)
}
