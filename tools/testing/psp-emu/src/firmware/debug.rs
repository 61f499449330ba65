// SPDX-License-Identifier: GPL-2.0
//! DBG_DECRYPT and DBG_ENCRYPT (SEV-API, chapter "Debugging API").

use super::{
    command::CommandBuffer,
    policy::Policy,
    private::{in_chunks, is_aligned},
    Done, Firmware, Status,
};
use crate::memory::GuestMemory;

/// Offsets in both command buffers.
mod at {
    pub(super) const HANDLE: usize = 0x0;
    pub(super) const SRC_PADDR: usize = 0x8;
    pub(super) const DST_PADDR: usize = 0x10;
    pub(super) const LENGTH: usize = 0x18;
}

/// DBG_DECRYPT (0x060): copies private memory to where the host can read it.
pub(super) fn dbg_decrypt(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    crypt(fw, buffer, memory, |vek, memory, src, dst, chunk| {
        vek.read(memory, src, chunk)?;
        Ok(memory.write(dst, chunk)?)
    })
}

/// DBG_ENCRYPT (0x061): copies what the host has written into private memory.
pub(super) fn dbg_encrypt(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    crypt(fw, buffer, memory, |vek, memory, src, dst, chunk| {
        memory.read(src, chunk)?;
        vek.write(memory, dst, chunk)
    })
}

fn crypt(
    fw: &Firmware,
    buffer: &CommandBuffer,
    memory: &mut dyn GuestMemory,
    step: fn(&super::private::Vek, &mut dyn GuestMemory, u64, u64, &mut [u8]) -> Done,
) -> Done {
    let guest = fw.session()?.guest(buffer.u32(at::HANDLE))?;
    let (src, dst) = (buffer.address(at::SRC_PADDR), buffer.address(at::DST_PADDR));
    let len = buffer.len(at::LENGTH);
    if !is_aligned(src) || !is_aligned(dst) {
        return Err(Status::INVALID_ADDRESS);
    }
    if !is_aligned(len as u64) {
        return Err(Status::INVALID_LEN);
    }
    if guest.policy.has(Policy::NODBG) {
        return Err(Status::POLICY_FAILURE);
    }
    guest.active()?;
    if !memory.is_writable(src, len as u64) || !memory.is_writable(dst, len as u64) {
        return Err(Status::INVALID_ADDRESS);
    }
    in_chunks(len, |offset, chunk| {
        step(&guest.vek, memory, src + offset, dst + offset, chunk)
    })
}
