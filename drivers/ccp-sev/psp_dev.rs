// SPDX-License-Identifier: GPL-2.0

//! A PSP: what the driver keeps of it, and the one that is in use.
//!
//! Lock order: [`ACTIVE`] before the command lock ([`Psp::lock`]). No user copy and no allocation
//! for user space happens under the command lock.

use kernel::{
    device::Device,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        global_lock,
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        Mutex, //
    },
};

use crate::{
    ffi,
    mailbox::{
        Doorbell,
        Exchange, //
    },
    platform::Platform,
    regs::Regs, //
};

/// A PSP that was probed. Files and KVM may hold on to it for longer than it is bound; then every
/// command says that the device is gone.
#[pin_data]
pub(crate) struct Psp {
    #[pin]
    pub(crate) bell: Doorbell<Regs>,
    #[pin]
    inner: Mutex<Inner>,
}

/// What the command lock protects.
pub(crate) struct Inner {
    pub(crate) dev: ARef<Device>,
    pub(crate) exchange: Exchange,
    pub(crate) platform: Platform,
}

/// A PSP whose command lock is held: nobody else gives it commands.
pub(crate) struct Session<'a> {
    pub(crate) bell: &'a Doorbell<Regs>,
    pub(crate) inner: Guard<'a, Inner, MutexBackend>,
}

impl Psp {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(dev: ARef<Device>, regs: Regs) -> Result<Arc<Self>> {
        let inner = Inner {
            exchange: Exchange::new(dev.clone(), ffi::timeout_ms)?,
            platform: Platform::new(),
            dev,
        };
        Arc::pin_init(
            pin_init!(Psp {
                bell <- Doorbell::new(regs),
                inner <- new_mutex!(inner, "ccp_sev_cmd"),
            }),
            GFP_KERNEL,
        )
    }

    /// Waits for the command lock.
    ///
    /// # Context
    ///
    /// Sleeps, up to the timeouts of the commands before.
    pub(crate) fn lock(&self) -> Session<'_> {
        Session {
            bell: &self.bell,
            inner: self.inner.lock(),
        }
    }
}

/// The PSP in use, and what tells its `/dev/sev` files from other files.
pub(crate) struct Active {
    pub(crate) psp: Arc<Psp>,
    /// Address of the `file_operations`, only compared.
    pub(crate) fops: usize,
}

global_lock! {
    /// The PSP that serves `/dev/sev` and KVM: the first that was bound. All commands go to one,
    /// as the firmware demands; PCI probes in the order of the addresses, so it is the lowest.
    // SAFETY: The module's `init` initialises it before the driver is registered, and nothing else
    // runs before that.
    pub(crate) unsafe(uninit) static ACTIVE: Mutex<Option<Active>> = None;
}

/// The PSP in use.
///
/// # Errors
///
/// `ENODEV` if there is none.
pub(crate) fn active() -> Result<Arc<Psp>> {
    match &*ACTIVE.lock() {
        Some(active) => Ok(active.psp.clone()),
        None => Err(ENODEV),
    }
}

/// Whether a file with these `file_operations` is a `/dev/sev` of the PSP in use.
pub(crate) fn is_dev_sev(fops: usize) -> bool {
    matches!(&*ACTIVE.lock(), Some(active) if active.fops == fops)
}
