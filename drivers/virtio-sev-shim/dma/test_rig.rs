// SPDX-License-Identifier: GPL-2.0

//! KUnit: a pool and a device to try things with.

use kernel::{
    prelude::*,
    str::CString, //
};
use memenc::shares::{
    Bounds,
    Shares, //
};

use super::{
    flow::{
        Count,
        Direction,
        Flow, //
    },
    memory::Memory, //
};

pub(super) const MIB: u64 = 1 << 20;

/// A pool of its own, and a device.
pub(super) struct Rig {
    pub(super) memory: Pin<KBox<Memory>>,
    pub(super) flow: Flow,
}

/// A pool of two units of 2 MiB, which may double.
pub(super) fn pool() -> Result<Pin<KBox<Memory>>> {
    let memory = Memory::new(Bounds {
        min: 4 * MIB,
        max: 8 * MIB,
        unit: 2 * MIB,
    })?;
    memory.fill()?;
    Ok(memory)
}

pub(super) fn device(memory: &Memory, slot: usize, align_mask: u64, copy_in: bool) -> Result<Flow> {
    flow(memory, slot, align_mask, copy_in, Shares::of(1, 1))
}

/// A device of another kind.
pub(super) fn other(memory: &Memory, slot: usize, shares: Shares) -> Result<Flow> {
    flow(memory, slot, 0, false, shares)
}

fn flow(
    memory: &Memory,
    slot: usize,
    align_mask: u64,
    copy_in: bool,
    shares: Shares,
) -> Result<Flow> {
    let name = CString::try_from(c"kunit")?;
    Flow::new(memory, name, slot, align_mask, copy_in, shares)
}

impl Rig {
    pub(super) fn new() -> Result<Self> {
        Self::with(0, false)
    }

    pub(super) fn with(align_mask: u64, copy_in: bool) -> Result<Self> {
        let memory = pool()?;
        let flow = device(&memory, 0, align_mask, copy_in)?;
        Ok(Rig { memory, flow })
    }

    pub(super) fn map(&self, buffer: &mut [u8], direction: Direction) -> Result<u64> {
        map(&self.memory, &self.flow, buffer, direction)
    }

    pub(super) fn unmap(&self, address: u64, direction: Direction) {
        unmap(&self.memory, &self.flow, address, direction);
    }

    pub(super) fn sync(&self, address: u64, len: usize, direction: Direction, for_cpu: bool) {
        sync(&self.memory, &self.flow, address, len, direction, for_cpu);
    }

    /// What the device sees.
    pub(super) fn device_reads<const N: usize>(&self, address: u64) -> [u8; N] {
        // SAFETY: The tests ask for mapped addresses.
        unsafe { self.memory.at(address).as_ptr().cast::<[u8; N]>().read() }
    }

    /// What the device does.
    pub(super) fn device_writes(&self, address: u64, len: usize, byte: u8) {
        // SAFETY: As above.
        unsafe { self.memory.at(address).as_ptr().write_bytes(byte, len) };
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        let counted = |count| self.flow.counted(count);
        (counted(Count::CopiedIn), counted(Count::CopiedOut))
    }

    pub(super) fn held(&self) -> u64 {
        self.flow.held(&self.memory).0
    }
}

pub(super) fn map(
    memory: &Memory,
    flow: &Flow,
    buffer: &mut [u8],
    direction: Direction,
) -> Result<u64> {
    // SAFETY: The tests' buffers are there until they are unmapped.
    let address = unsafe {
        flow.map(
            memory,
            buffer.as_mut_ptr(),
            buffer.len(),
            direction,
            false,
            0,
        )
    };
    address.ok_or(ENOMEM)
}

pub(super) fn unmap(memory: &Memory, flow: &Flow, address: u64, direction: Direction) {
    // SAFETY: As above.
    unsafe { flow.unmap(memory, address, direction, false, 0) };
}

pub(super) fn sync(
    memory: &Memory,
    flow: &Flow,
    address: u64,
    len: usize,
    direction: Direction,
    for_cpu: bool,
) {
    // SAFETY: The tests' buffers are there until they end.
    unsafe { flow.sync(memory, address, len, direction, for_cpu, 0) };
}

pub(super) fn buffer(len: usize, byte: u8) -> Result<KVec<u8>> {
    let mut buffer = KVec::new();
    buffer.resize(len, byte, GFP_KERNEL)?;
    Ok(buffer)
}
