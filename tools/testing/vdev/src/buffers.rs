// SPDX-License-Identifier: GPL-2.0
//! A chain's buffers as one run of bytes.

use crate::{ring::Buffer, watch::Watched};
use vfio_device::memory::DmaError;

/// The parts of `buffers` that hold `len` bytes from `skip` on.
fn parts(buffers: &[Buffer], skip: u64, len: u64) -> impl Iterator<Item = (u64, usize)> + '_ {
    let (mut skip, mut left) = (skip, len);
    buffers.iter().filter_map(move |buffer| {
        let buffer_len = u64::from(buffer.len);
        let skipped = skip.min(buffer_len);
        skip -= skipped;
        let take = left.min(buffer_len - skipped);
        left -= take;
        // CAST: at most a buffer's length, 32 bits.
        (take > 0).then_some((buffer.addr.wrapping_add(skipped), take as usize))
    })
}

/// Reads what is in the buffers from `skip` on; how much there was.
///
/// # Errors
///
/// When a part is not in memory.
pub fn read(
    memory: &mut Watched<'_>,
    buffers: &[Buffer],
    skip: u64,
    data: &mut [u8],
) -> Result<usize, DmaError> {
    let mut done = 0;
    for (addr, len) in parts(buffers, skip, data.len() as u64) {
        memory.read(addr, &mut data[done..done + len])?;
        done += len;
    }
    Ok(done)
}

/// Writes into the buffers from `skip` on; how much had room.
///
/// # Errors
///
/// When a part is not in memory.
pub fn write(
    memory: &mut Watched<'_>,
    buffers: &[Buffer],
    skip: u64,
    data: &[u8],
) -> Result<usize, DmaError> {
    let mut done = 0;
    for (addr, len) in parts(buffers, skip, data.len() as u64) {
        memory.write(addr, &data[done..done + len])?;
        done += len;
    }
    Ok(done)
}
