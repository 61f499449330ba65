// SPDX-License-Identifier: GPL-2.0
//! RAM as a command sees it: without the TMR, which is the firmware's own while SEV-ES is on, and with every
//! byte counted.

use super::platform::Tmr;
use crate::memory::{DmaError, GuestMemory};
use std::cell::Cell;

/// Memory for the time of one command.
pub(super) struct Protected<'a> {
    memory: &'a mut dyn GuestMemory,
    tmr: Option<Tmr>,
    moved: Cell<u64>,
}

impl<'a> Protected<'a> {
    pub(super) fn new(memory: &'a mut dyn GuestMemory, tmr: Option<Tmr>) -> Self {
        Self {
            memory,
            tmr,
            moved: Cell::new(0),
        }
    }

    /// Bytes read and written.
    pub(super) fn moved(&self) -> u64 {
        self.moved.get()
    }

    fn check(&self, addr: u64, len: usize) -> Result<(), DmaError> {
        if self.tmr.is_some_and(|tmr| tmr.overlaps(addr, len as u64)) {
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
        !self.tmr.is_some_and(|tmr| tmr.overlaps(addr, len)) && self.memory.is_writable(addr, len)
    }
}
