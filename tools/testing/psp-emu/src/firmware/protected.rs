// SPDX-License-Identifier: GPL-2.0
//! RAM as the commands see it while SEV-ES is on: the TMR is the firmware's own.

use super::platform::Tmr;
use crate::memory::{DmaError, GuestMemory};

/// Memory without the TMR.
pub(super) struct Protected<'a> {
    pub(super) memory: &'a mut dyn GuestMemory,
    pub(super) tmr: Option<Tmr>,
}

impl Protected<'_> {
    fn check(&self, addr: u64, len: usize) -> Result<(), DmaError> {
        match self.tmr {
            Some(tmr) if tmr.overlaps(addr, len as u64) => Err(DmaError { addr, len }),
            _ => Ok(()),
        }
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
