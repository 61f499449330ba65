// SPDX-License-Identifier: GPL-2.0
//! COPY (SEV-API, chapter "Guest Management API"): a guest's pages at another address.

use super::{command::CommandBuffer, private::Vek, Done, Firmware, Status};
use crate::memory::GuestMemory;

/// Offsets in the command buffer.
mod at {
    pub(super) const HANDLE: usize = 0x0;
    pub(super) const LENGTH: usize = 0x4;
    pub(super) const SRC_PADDR: usize = 0x8;
    pub(super) const DST_PADDR: usize = 0x10;
}

/// COPY works on whole pages of this length in bytes.
const PAGE: u64 = 4096;

/// COPY (0x024): moves pages of an active guest to another address, where they have to be encrypted
/// differently.
pub(super) fn copy(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let guest = fw.session()?.guest(buffer.u32(at::HANDLE))?;
    guest.active()?;
    let len = u64::from(buffer.u32(at::LENGTH));
    if len == 0 || len % PAGE != 0 {
        return Err(Status::INVALID_LEN);
    }
    let (src, dst) = (buffer.address(at::SRC_PADDR), buffer.address(at::DST_PADDR));
    if src % PAGE != 0
        || dst % PAGE != 0
        || !memory.is_writable(src, len)
        || !memory.is_writable(dst, len)
    {
        return Err(Status::INVALID_ADDRESS);
    }
    copy_pages(&guest.vek, memory, src, dst, len)
}

/// Copies page by page, from the end when the source would be overwritten otherwise.
fn copy_pages(vek: &Vek, memory: &mut dyn GuestMemory, src: u64, dst: u64, len: u64) -> Done {
    let backwards = src < dst;
    let mut page = vec![0; PAGE as usize];
    for offset in (0..len).step_by(PAGE as usize) {
        let offset = if backwards {
            len - PAGE - offset
        } else {
            offset
        };
        vek.read(memory, src + offset, &mut page)?;
        vek.write(memory, dst + offset, &mut page)?;
    }
    Ok(())
}
