// SPDX-License-Identifier: GPL-2.0

//! What `map_ops.c` calls for every buffer and ring.

use kernel::ffi::c_void;

use super::{
    dma,
    flow::{
        Direction,
        Flow, //
    },
    memory::Memory,
    with_dma, //
};
use crate::ffi;

/// The pool, and the traffic of an adopted device.
///
/// # Safety
///
/// The device with this parent is adopted, and stays so while the result is used: its driver has not been
/// unbound.
#[inline]
unsafe fn adopted<'a>(parent: *const c_void) -> Option<(&'a Memory, &'a Flow)> {
    // SAFETY: Devices are given back before `Service` ends.
    let dma = unsafe { dma() }?;
    // SAFETY: By this function's own requirements.
    let flow = unsafe { dma.slots.get(parent as usize) }?;
    Some((&dma.memory, flow))
}

/// `DMA_MAPPING_ERROR`.
const MAPPING_ERROR: u64 = u64::MAX;

/// Maps a buffer.
///
/// # Safety
///
/// The device with this parent is adopted, and `original` are `len` bytes of the direct map, which stay until
/// they are unmapped.
#[no_mangle]
unsafe extern "C" fn sev_shim_map(
    parent: *const c_void,
    original: *mut c_void,
    len: usize,
    direction: u32,
    skip_sync: bool,
    cpu: u32,
) -> u64 {
    // SAFETY: By this function's own requirements.
    let adopted = unsafe { adopted(parent) };
    let (Some((memory, flow)), Some(direction)) = (adopted, Direction::new(direction)) else {
        return MAPPING_ERROR;
    };
    // SAFETY: By this function's own requirements.
    let address = unsafe { flow.map(memory, original.cast(), len, direction, skip_sync, cpu) };
    address.unwrap_or(MAPPING_ERROR)
}

/// Ends a mapping.
///
/// # Safety
///
/// The device with this parent is adopted, and the buffer is still there.
#[no_mangle]
unsafe extern "C" fn sev_shim_unmap(
    parent: *const c_void,
    address: u64,
    direction: u32,
    skip_sync: bool,
    cpu: u32,
) {
    // SAFETY: By this function's own requirements.
    let adopted = unsafe { adopted(parent) };
    if let (Some((memory, flow)), Some(direction)) = (adopted, Direction::new(direction)) {
        // SAFETY: By this function's own requirements.
        unsafe { flow.unmap(memory, address, direction, skip_sync, cpu) };
    }
}

/// Copies a part of a mapped buffer.
///
/// # Safety
///
/// As for [`sev_shim_unmap`].
#[no_mangle]
unsafe extern "C" fn sev_shim_sync(
    parent: *const c_void,
    address: u64,
    len: usize,
    direction: u32,
    for_cpu: bool,
    cpu: u32,
) {
    // SAFETY: By this function's own requirements.
    let adopted = unsafe { adopted(parent) };
    if let (Some((memory, flow)), Some(direction)) = (adopted, Direction::new(direction)) {
        // SAFETY: By this function's own requirements.
        unsafe { flow.sync(memory, address, len, direction, for_cpu, cpu) };
    }
}

/// Memory for a ring; null if there is none.
///
/// # Safety
///
/// The device with this parent is adopted, and `address` can be written.
#[no_mangle]
unsafe extern "C" fn sev_shim_alloc_coherent(
    parent: *const c_void,
    len: usize,
    address: *mut u64,
    may_sleep: bool,
    cpu: u32,
) -> *mut c_void {
    // SAFETY: By this function's own requirements.
    let Some((memory, flow)) = (unsafe { adopted(parent) }) else {
        return core::ptr::null_mut();
    };
    match flow.alloc_coherent(memory, len, may_sleep && ffi::may_sleep(), cpu) {
        Some(at) => {
            // SAFETY: By this function's own requirements.
            unsafe { address.write(at) };
            memory.at(at).as_ptr().cast()
        }
        None => core::ptr::null_mut(),
    }
}

/// Frees memory of a ring.
///
/// # Safety
///
/// The device with this parent is adopted.
#[no_mangle]
unsafe extern "C" fn sev_shim_free_coherent(parent: *const c_void, address: u64) {
    // SAFETY: By this function's own requirements.
    if let Some((memory, flow)) = unsafe { adopted(parent) } {
        flow.free_coherent(memory, address);
    }
}

/// Whether an address for a device is in the pool.
#[no_mangle]
extern "C" fn sev_shim_is_bounced(address: u64) -> bool {
    with_dma(|dma| dma.memory.pool.find(address).is_some()).unwrap_or(false)
}

/// Bytes of the largest mapping.
#[no_mangle]
extern "C" fn sev_shim_max_mapping() -> usize {
    with_dma(|dma| dma.memory.largest()).unwrap_or(kernel::page::PAGE_SIZE)
}
