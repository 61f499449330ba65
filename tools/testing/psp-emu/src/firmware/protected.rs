// SPDX-License-Identifier: GPL-2.0
//! RAM as a command sees it: without the TMR, which is the firmware's own while SEV-ES is on, without the queues
//! of the ring buffer mode, and with every byte counted.

use super::{platform::Tmr, RingBuffer};
use crate::memory::{DmaError, GuestMemory};
use std::cell::Cell;

/// Memory for the time of one command.
pub(super) struct Protected<'a> {
    memory: &'a mut dyn GuestMemory,
    tmr: Option<Tmr>,
    ring_buffer: Option<RingBuffer>,
    moved: Cell<u64>,
}

impl<'a> Protected<'a> {
    pub(super) fn new(
        memory: &'a mut dyn GuestMemory,
        tmr: Option<Tmr>,
        ring_buffer: Option<RingBuffer>,
    ) -> Self {
        Self {
            memory,
            tmr,
            ring_buffer,
            moved: Cell::new(0),
        }
    }

    /// Bytes read and written.
    pub(super) fn moved(&self) -> u64 {
        self.moved.get()
    }

    /// Whether a byte of the range is none of a command's business.
    fn is_reserved(&self, addr: u64, len: u64) -> bool {
        self.tmr.is_some_and(|tmr| tmr.overlaps(addr, len))
            || self
                .ring_buffer
                .is_some_and(|queues| queues.overlaps(addr, len))
    }

    fn check(&self, addr: u64, len: usize) -> Result<(), DmaError> {
        if self.is_reserved(addr, len as u64) {
            return Err(DmaError { addr, len });
        }
        self.moved.set(self.moved.get() + len as u64);
        Ok(())
    }
}

impl GuestMemory for Protected<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        self.check(addr, buf.len())?;
        self.memory.read(addr, buf)
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        self.check(addr, data.len())?;
        self.memory.write(addr, data)
    }

    fn is_writable(&self, addr: u64, len: u64) -> bool {
        !self.is_reserved(addr, len) && self.memory.is_writable(addr, len)
    }
}
