// SPDX-License-Identifier: GPL-2.0

//! The PSPs that are bound, and the one that is in use.
//!
//! All commands go to one PSP, as the firmware demands: that with the lowest PCI address, if none is in
//! use yet. The others stand by; when the one in use is unbound, the lowest of them takes over. Whichever
//! it is serves `/dev/sev`, which exists as long as there is one.

use kernel::{
    bindings,
    miscdevice::MiscDeviceRegistration,
    prelude::*,
    sync::{
        global_lock,
        Arc, //
    },
};

use psp::host::Patience;

use crate::{
    dev_sev::{
        self,
        DevSev, //
    },
    driver, ffi,
    psp_dev::{
        Core,
        Psp, //
    },
};

/// The PSPs of this machine.
pub(crate) struct Psps {
    /// Lowest address first.
    bound: KVec<Arc<Psp>>,
    active: Option<Arc<Psp>>,
    node: Option<Pin<KBox<MiscDeviceRegistration<DevSev>>>>,
    /// Address of the node's `file_operations`, only compared; files outlive the node, and every node
    /// has the same.
    fops: usize,
}

global_lock! {
    /// Held for moments.
    // SAFETY: The module's `init` initialises it before the driver is registered, and nothing else
    // runs before that.
    pub(crate) unsafe(uninit) static PSPS: Mutex<Psps> = Psps {
        bound: KVec::new(),
        active: None,
        node: None,
        fops: 0,
    };
}

global_lock! {
    /// Held while the one in use changes, which takes commands. Comes before every other lock.
    // SAFETY: As above.
    pub(crate) unsafe(uninit) static CHANGE: Mutex<()> = ();
}

/// Adds a PSP that was bound, and takes it into use if none is.
///
/// # Errors
///
/// `ENOMEM`, or why there can be no `/dev/sev`.
pub(crate) fn add(psp: &Arc<Psp>) -> Result {
    let _change = CHANGE.lock();
    {
        let mut psps = PSPS.lock();
        psps.bound.reserve(1, GFP_KERNEL)?;
        let lower = |other: &&Arc<Psp>| other.address() < psp.address();
        let before = psps.bound.iter().filter(lower).count();
        psps.bound
            .insert_within_capacity(before, psp.clone())
            .map_err(|_| ENOMEM)?;
        if psps.active.is_some() {
            dev_info!(&*psp.shared.dev, "psp: stands by, another PSP serves SEV\n");
        }
    }
    promote().inspect_err(|_| forget(psp))
}

/// Removes a PSP that is unbound, after whoever uses it; the next one takes over.
pub(crate) fn remove(psp: &Arc<Psp>) {
    let _change = CHANGE.lock();
    let was_active = is_active(psp);
    if was_active {
        // Files stay open; from here on every call finds no PSP, and those that found one finish first.
        let node = PSPS.lock().node.take();
        drop(node);
    }
    forget(psp);
    if was_active {
        // What could not be written to its file before gets a last chance.
        // Nobody is killed out of a wait without end.
        let _ = psp.with_init(Patience::Endless, Core::retire);
        // There is nobody to tell; the log does.
        let _ = promote();
    }
}

fn forget(psp: &Arc<Psp>) {
    let mut psps = PSPS.lock();
    psps.bound.retain(|bound| !Arc::ptr_eq(bound, psp));
    if psps.bound.is_empty() {
        // A static is never dropped: what it has must be gone when the module goes.
        psps.bound = KVec::new();
    }
    psps.active.take_if(|active| Arc::ptr_eq(active, psp));
}

fn is_active(psp: &Arc<Psp>) -> bool {
    matches!(&PSPS.lock().active, Some(active) if Arc::ptr_eq(active, psp))
}

/// Takes the first PSP into use if none is. [`CHANGE`] is held.
fn promote() -> Result {
    let first = {
        let psps = PSPS.lock();
        match (&psps.active, psps.bound.first()) {
            (None, Some(first)) => first.clone(),
            (None, None) | (Some(_), _) => return Ok(()),
        }
    };
    driver::bring_up(&first);
    PSPS.lock().active = Some(first.clone());
    let node = KBox::pin_init(
        MiscDeviceRegistration::register(dev_sev::OPTIONS),
        GFP_KERNEL,
    )
    .inspect_err(|error| {
        dev_err!(&*first.shared.dev, "psp: no /dev/sev: {:?}\n", error);
        forget(&first);
    })?;
    let mut psps = PSPS.lock();
    // SAFETY: The registration is alive, and only an address is read.
    psps.fops = unsafe { (*node.as_raw()).fops }.addr();
    psps.node = Some(node);
    Ok(())
}

/// How many are bound.
pub(crate) fn count() -> usize {
    PSPS.lock().bound.len()
}

/// The PSP in use.
///
/// # Errors
///
/// `ENODEV` if there is none.
pub(crate) fn active() -> Result<Arc<Psp>> {
    PSPS.lock().active.clone().ok_or(ENODEV)
}

/// The PSP in use, if nobody is about to change that.
///
/// # Context
///
/// Any, also a panic.
pub(crate) fn try_active() -> Option<Arc<Psp>> {
    PSPS.try_lock()?.active.clone()
}

/// The bound PSP of a device.
///
/// # Errors
///
/// `ENODEV` if it is none.
pub(crate) fn of_device(device: *const bindings::device) -> Result<Arc<Psp>> {
    let psps = PSPS.lock();
    let mut bound = psps.bound.iter();
    bound
        .find(|psp| ffi::raw_device(&psp.shared.dev).cast_const() == device)
        .cloned()
        .ok_or(ENODEV)
}

/// The bound PSP of a device, if it is the one in use: no other is sent a command.
///
/// # Errors
///
/// `ENODEV` if it is none, `EBUSY` if it stands by.
pub(crate) fn in_use(device: *const bindings::device) -> Result<Arc<Psp>> {
    let psp = of_device(device)?;
    if is_active(&psp) {
        return Ok(psp);
    }
    dev_err!(&*psp.shared.dev, "psp: stands by and is sent no commands\n");
    Err(EBUSY)
}

/// Whether a file with these `file_operations` is a `/dev/sev`.
pub(crate) fn is_dev_sev(fops: usize) -> bool {
    PSPS.lock().fops == fops
}
