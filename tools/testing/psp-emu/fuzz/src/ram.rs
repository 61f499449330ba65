// SPDX-License-Identifier: GPL-2.0
//! RAM that remembers what was written to it, and may change between two reads.

use psp_emu::memory::{DmaError, GuestMemory, VecMemory};
use std::{cell::Cell, ops::Range};

/// Length of RAM in bytes; it begins at zero.
pub const LEN: u64 = 4 << 20;

pub struct Ram {
    bytes: VecMemory,
    /// Every range written since it was last taken.
    pub written: Vec<Range<u64>>,
    /// Another CPU writes to all of it: no two reads give the same.
    pub restless: bool,
    reads: Cell<u8>,
}

impl Ram {
    pub fn new() -> Self {
        // CAST: 4 MiB.
        let bytes = VecMemory::new(0, LEN as usize);
        Self {
            bytes,
            written: Vec::new(),
            restless: false,
            reads: Cell::new(0),
        }
    }

    /// As a driver writes: not recorded, and nothing happens outside of RAM.
    pub fn poke(&mut self, addr: u64, data: &[u8]) {
        let _ = self.bytes.write(addr, data);
    }

    /// As a driver reads. `addr` must lie in RAM.
    pub fn peek<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut data = [0; N];
        self.bytes.read(addr, &mut data).expect("RAM");
        data
    }
}

impl Default for Ram {
    fn default() -> Self {
        Self::new()
    }
}

impl GuestMemory for Ram {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        self.bytes.read(addr, buf)?;
        if self.restless {
            self.reads.set(self.reads.get().wrapping_add(1));
            // A byte here and there: the rest may still make sense.
            let step = usize::from(self.reads.get() % 7) * 5 + 1;
            for byte in buf.iter_mut().step_by(step * 8) {
                *byte ^= self.reads.get();
            }
        }
        Ok(())
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        self.bytes.write(addr, data)?;
        self.written.push(addr..addr + data.len() as u64);
        Ok(())
    }

    fn is_writable(&self, addr: u64, len: u64) -> bool {
        self.bytes.is_writable(addr, len)
    }
}
