// SPDX-License-Identifier: GPL-2.0
//! RING_BUFFER: where the queues of the ring buffer mode are. The layout is that of the firmware sources
//! AMD published for Genoa; [`crate::device`] serves the queues.

use super::{command::CommandBuffer, Done, Firmware, Status};
use crate::memory::GuestMemory;

/// Length and alignment in bytes of what a queue consists of.
const PAGE: u64 = 4096;

/// Offsets in the command buffer of RING_BUFFER.
mod ring_buffer_at {
    pub(super) const LOW_COMMANDS: usize = 0x0;
    pub(super) const LOW_STATUSES: usize = 0x8;
    pub(super) const HIGH_COMMANDS: usize = 0x10;
    pub(super) const HIGH_STATUSES: usize = 0x18;
    /// Sizes of the low and the high priority queue in pages, a byte each.
    pub(super) const SIZES: usize = 0x20;
    pub(super) const LOW_THRESHOLD: usize = 0x22;
    pub(super) const HIGH_THRESHOLD: usize = 0x24;
    pub(super) const INT_ON_EMPTY: usize = 0x26;
}

/// INT_ON_EMPTY: raise the interrupt when there is nothing to do.
const INT_ON_EMPTY: u16 = 1 << 0;

/// One queue: two pages of [`PAGE`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueuePages {
    /// Physical address of the command entries.
    pub(crate) commands: u64,
    /// Physical address of the status entries.
    pub(crate) statuses: u64,
    /// With fewer commands than this the queue is near empty.
    pub(crate) threshold: u16,
}

impl QueuePages {
    /// # Errors
    ///
    /// INVALID_ADDRESS when a page is misaligned or not RAM.
    fn check(self, memory: &dyn GuestMemory) -> Done {
        if self.commands % PAGE != 0 || self.statuses % PAGE != 0 {
            return Err(Status::INVALID_ADDRESS);
        }
        memory.read(self.commands, &mut [0; PAGE as usize])?;
        match memory.is_writable(self.statuses, PAGE) {
            true => Ok(()),
            false => Err(Status::INVALID_ADDRESS),
        }
    }

    fn overlaps(self, addr: u64, len: u64) -> bool {
        let end = addr.saturating_add(len);
        let overlaps = |page: u64| page < end && addr < page.saturating_add(PAGE);
        overlaps(self.commands) || overlaps(self.statuses)
    }
}

/// The queues of the ring buffer mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingBuffer {
    pub(crate) low: QueuePages,
    pub(crate) high: Option<QueuePages>,
    /// Raise the interrupt when there is nothing to do.
    pub(crate) interrupt_on_empty: bool,
}

impl RingBuffer {
    /// Whether a queue shares a byte with `len` bytes at `addr`.
    pub(super) fn overlaps(&self, addr: u64, len: u64) -> bool {
        self.low.overlaps(addr, len) || self.high.is_some_and(|high| high.overlaps(addr, len))
    }
}

/// RING_BUFFER (0x00f): from now on commands come from queues in RAM. In INIT and WORKING, until SHUTDOWN.
pub(super) fn ring_buffer(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    use ring_buffer_at as at;
    let session = fw.session_mut()?;
    if session.ring_buffer.is_some() {
        return Err(Status::INVALID_PARAM);
    }
    let low = QueuePages {
        commands: buffer.address(at::LOW_COMMANDS),
        statuses: buffer.address(at::LOW_STATUSES),
        threshold: buffer.u16(at::LOW_THRESHOLD),
    };
    let high = QueuePages {
        commands: buffer.address(at::HIGH_COMMANDS),
        statuses: buffer.address(at::HIGH_STATUSES),
        threshold: buffer.u16(at::HIGH_THRESHOLD),
    };
    let high = match buffer.array(at::SIZES) {
        [1, 0] => None,
        [1, 1] => Some(high),
        _ => return Err(Status::INVALID_PARAM),
    };
    low.check(memory)?;
    high.map_or(Ok(()), |high| high.check(memory))?;
    session.ring_buffer = Some(RingBuffer {
        low,
        high,
        interrupt_on_empty: buffer.u16(at::INT_ON_EMPTY) & INT_ON_EMPTY != 0,
    });
    Ok(())
}
