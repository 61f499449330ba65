// SPDX-License-Identifier: GPL-2.0

//! DMA of virtio devices through the pool, in place of swiotlb: which devices (`devices`), from where their
//! buffers come (`memory`), and how they get there and back (`flow`).
//!
//! The C files call in here: `virtio.c` when drivers bind, `pool_work.c` when the pool is to grow or shrink; and, in
//! `calls`, `map_ops.c` for every buffer.

use kernel::{
    debugfs,
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_void, //
    },
    new_mutex,
    prelude::*,
    str::CStrExt,
    sync::Mutex, //
};
use memenc::{
    admission::{
        Offer,
        Policy,
        Reason, //
    },
    pool::Word as _,
    shares::Bounds, //
};

use crate::ffi;

mod calls;
mod devices;
pub(crate) mod direct;
mod flow;
mod memory;
mod report;
mod ring;
mod slots;
mod words;

#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod flow_test;
#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod memory_test;
#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod test_rig;

use devices::{
    Description,
    Registry,
    Standing, //
};
use memory::Memory;
use slots::Slots;
use words::Word;

/// All of it, while the module does DMA.
#[pin_data]
struct Dma {
    memory: Pin<KBox<Memory>>,
    slots: Slots,
    #[pin]
    registry: Mutex<Registry>,
    copy_in: bool,
}

/// The address of the [`Dma`], or 0.
static DMA: Word = Word::new(0);

/// What there is, for those who are called by C.
///
/// # Safety
///
/// The result is not used after [`Service`] has been dropped.
#[inline]
unsafe fn dma<'a>() -> Option<&'a Dma> {
    // CAST: as wide.
    let dma = DMA.load() as *const Dma;
    // SAFETY: It is a pinned box that `Service` keeps.
    unsafe { dma.as_ref() }
}

/// For files, workers, and map operations.
fn with_dma<R>(f: impl FnOnce(&Dma) -> R) -> Option<R> {
    // SAFETY: When `Service` is dropped, devices are given back first, after which no driver calls map operations, and
    // the workers have ended (`sev_shim_give_back()` waits for them). Then the files go, and wait for their readers.
    unsafe { dma() }.map(f)
}

/// While this exists devices are adopted; when it goes, they are given back.
pub(crate) struct Service {
    // They go in this order, after the devices.
    _pool_file: Pin<KBox<debugfs::File<()>>>,
    dma: Pin<KBox<Dma>>,
    _root: debugfs::Dir,
}

impl Service {
    /// Begins, if this VM or the administrator wants it.
    ///
    /// # Errors
    ///
    /// `EINVAL`: a parameter makes no sense. `ENOMEM`: no room for the books; the pool itself is made for the first device.
    pub(crate) fn new() -> Result<Option<Self>> {
        let wanted = match ffi::dma().to_bytes() {
            b"auto" => ffi::memory_is_encrypted() || ffi::force(),
            b"off" => false,
            _ => {
                pr_err!("dma= is auto or off\n");
                return Err(EINVAL);
            }
        };
        // Also when it is not used: who gives it finds out now that it is wrong.
        policy()?;
        if !wanted {
            return Ok(None);
        }
        let bounds = Bounds::new(ffi::pool_min(), ffi::pool_max(), ffi::ram());
        let memory = Memory::new(bounds)?;
        let root = debugfs::Dir::new(c"virtio_sev_shim");
        let registry = Registry::new(root.subdir(c"devices"));
        let dma = KBox::pin_init(
            pin_init!(Dma {
                memory,
                slots: Slots::new(),
                registry <- new_mutex!(registry),
                copy_in: ffi::copy_in(),
            }),
            GFP_KERNEL,
        )?;
        let pool_file = KBox::pin_init(
            root.read_callback_file(c"pool", (), &report::pool),
            GFP_KERNEL,
        )?;
        // CAST: as wide.
        DMA.store(core::ptr::from_ref(&*dma) as u64);
        let service = Service {
            _pool_file: pool_file,
            dma,
            _root: root,
        };
        // From here on dropping it undoes everything.
        ffi::take_over()?;
        pr_info!(
            "DMA of virtio devices through the pool: {} MiB at least, {} at most, largest mapping {} KiB\n",
            service.dma.memory.bounds.min >> 20,
            service.dma.memory.bounds.max >> 20,
            service.dma.memory.bounds.unit >> 10
        );
        Ok(Some(service))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        ffi::give_back();
        // Its files are told by what follows, and nobody else calls.
        self.dma.registry.lock().forget_all();
        DMA.store(0);
    }
}

/// Module parameter `admit`.
fn policy() -> Result<Policy<'static>> {
    let text = ffi::admit().to_str()?;
    Policy::parse(text).map_err(|word| {
        pr_err!("admit= does not know \"{}\"\n", word);
        EINVAL
    })
}

/// `struct sev_shim_device` of virtio.h.
#[repr(C)]
struct RawDevice {
    parent: *const c_void,
    name: *const c_char,
    driver: *const c_char,
    dma_mask: u64,
    needed_mask: u64,
    align_mask: u64,
    id: u32,
    version_1: bool,
    access_platform: bool,
    mapped_by_transport: bool,
    behind_iommu: bool,
}

impl RawDevice {
    /// # Safety
    ///
    /// The strings are valid, or null.
    unsafe fn describe(&self) -> Description<'_> {
        let string = |text: *const c_char| match text.is_null() {
            true => c"",
            // SAFETY: By this function's own requirements.
            false => unsafe { CStr::from_char_ptr(text) },
        };
        Description {
            parent: self.parent as usize,
            name: string(self.name),
            driver: string(self.driver),
            offer: Offer {
                id: self.id,
                version_1: self.version_1,
                access_platform: self.access_platform,
                mapped_by_transport: self.mapped_by_transport,
                behind_iommu: self.behind_iommu,
                dma_mask: self.dma_mask,
                needed_mask: self.needed_mask,
            },
            align_mask: self.align_mask,
        }
    }
}

/// A driver is about to be bound: the number of the slot, or -1 if the device is left as it is.
///
/// # Safety
///
/// `device` is one, with valid strings, and `hidden` can be written.
#[no_mangle]
unsafe extern "C" fn sev_shim_adopt(
    device: *const RawDevice,
    no_memory: bool,
    hidden: *mut u64,
) -> c_int {
    // SAFETY: Notifiers are called while `Service` exists only.
    let Some(dma) = (unsafe { dma() }) else {
        return -1;
    };
    // SAFETY: By this function's own requirements.
    let what = unsafe { (*device).describe() };
    let mut registry = dma.registry.lock();
    if no_memory {
        // There is nothing to be said, if there is no memory for that either.
        let _ = registry.note(&what, Standing::Left(Reason::NoMemory));
        return -1;
    }
    let policy = policy().unwrap_or(Policy::None);
    match registry.adopt(&what, policy, &dma.memory, &dma.slots, dma.copy_in) {
        Ok((slot, terms)) => {
            // SAFETY: By this function's own requirements.
            unsafe { hidden.write(terms.hidden) };
            // CAST: slots are few.
            slot as c_int
        }
        Err(_) => -1,
    }
}

/// The driver in this slot is gone.
#[no_mangle]
extern "C" fn sev_shim_release(slot: c_int) {
    // SAFETY: As in `sev_shim_adopt`.
    if let (Some(dma), Ok(slot)) = (unsafe { dma() }, usize::try_from(slot)) {
        let mut registry = dma.registry.lock();
        registry.release(slot, &dma.memory, &dma.slots);
    }
}

/// A device whose driver was bound before.
///
/// # Safety
///
/// `device` is one, with valid strings.
#[no_mangle]
unsafe extern "C" fn sev_shim_note_bound(device: *const RawDevice) {
    // SAFETY: As in `sev_shim_adopt`.
    if let Some(dma) = unsafe { dma() } {
        // SAFETY: By this function's own requirements.
        let what = unsafe { (*device).describe() };
        let standing = Standing::Left(Reason::BoundBefore);
        // It is for those who look, and nothing depends on it.
        let _ = dma.registry.lock().note(&what, standing);
    }
}

/// A driver was bound, and agreed on these features.
///
/// # Safety
///
/// `name` is a string.
#[no_mangle]
unsafe extern "C" fn sev_shim_note_features(name: *const c_char, features: u64) {
    // SAFETY: As in `sev_shim_adopt`.
    if let Some(dma) = unsafe { dma() } {
        // SAFETY: By this function's own requirements.
        let name = unsafe { CStr::from_char_ptr(name) };
        dma.registry.lock().note_features(name, features);
    }
}

/// A device is gone.
///
/// # Safety
///
/// `name` is a string.
#[no_mangle]
unsafe extern "C" fn sev_shim_forget(name: *const c_char) {
    // SAFETY: As in `sev_shim_adopt`.
    if let Some(dma) = unsafe { dma() } {
        // SAFETY: By this function's own requirements.
        let name = unsafe { CStr::from_char_ptr(name) };
        dma.registry.lock().forget(name);
    }
}

/// Bytes that each of a network device's send queues may hold.
#[no_mangle]
extern "C" fn sev_shim_send_limit(queues: c_uint) -> c_uint {
    // SAFETY: Nets are looked at while `Service` exists only.
    let limit = unsafe { dma() }.map(|dma| {
        let registry = dma.registry.lock();
        registry.send_limit(&dma.memory, u64::from(queues))
    });
    limit.map_or(c_uint::MAX, |limit| {
        c_uint::try_from(limit).unwrap_or(c_uint::MAX)
    })
}

/// Bytes of the largest request to a disk.
#[no_mangle]
extern "C" fn sev_shim_largest_request() -> c_uint {
    let limit = with_dma(|dma| dma.registry.lock().largest_request(&dma.memory));
    limit.map_or(c_uint::MAX, |limit| {
        c_uint::try_from(limit).unwrap_or(c_uint::MAX)
    })
}

/// Has the pool grow; whether it is larger than it must be.
#[no_mangle]
extern "C" fn sev_shim_pool_grow() -> bool {
    resized(Memory::grow)
}

/// Has the pool shrink; whether it still is larger than it must be.
#[no_mangle]
extern "C" fn sev_shim_pool_shrink() -> bool {
    resized(Memory::shrink)
}

/// What is kept depends on the size, and limits on that.
fn resized(resize: fn(&Memory) -> bool) -> bool {
    with_dma(|dma| {
        let before = dma.memory.kept();
        let larger = resize(&dma.memory);
        if dma.memory.kept() != before {
            dma.registry.lock().divide(&dma.memory);
        }
        larger
    })
    .unwrap_or(false)
}
