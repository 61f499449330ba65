// SPDX-License-Identifier: GPL-2.0

//! What happens to the platform when the machine restarts, panics or goes to sleep; called by `power.c`.
//!
//! The PCI abstraction of Linux 7.3 has neither a shutdown nor a suspend callback; notifiers do.

use kernel::{
    ffi::c_int,
    prelude::*, //
};
use psp::driver::NotReady;

use crate::{
    ffi,
    psp_dev::to_error,
    registry, //
};

/// While this exists, the kernel tells.
pub(crate) struct Watch(());

impl Watch {
    /// # Errors
    ///
    /// Those of the notifier chains.
    pub(crate) fn new() -> Result<Self> {
        ffi::watch_power()?;
        Ok(Watch(()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        ffi::unwatch_power();
    }
}

/// Reboot, power-off and kexec: the next kernel finds the platform shut down, and the TMR is memory again.
#[no_mangle]
extern "C" fn ccp_sev_on_reboot() {
    if let Ok(psp) = registry::active() {
        // What `retire` changes in the persistent data was written when it was changed.
        psp.lock().retire();
    }
}

/// A panic: SHUTDOWN if nobody is in the middle of a command, without a lock and without memory.
#[no_mangle]
extern "C" fn ccp_sev_on_panic() {
    if let Some(psp) = registry::try_active() {
        if let Some(mut core) = psp.try_lock() {
            core.host_mut().panic();
            core.panic();
        }
    }
}

/// Suspend and hibernation: the PSP loses its guests' keys, so there must be none; the next guest finds
/// the platform shut down and initialises it again.
#[no_mangle]
extern "C" fn ccp_sev_before_sleep() -> c_int {
    let Ok(psp) = registry::active() else {
        return 0;
    };
    let rested = psp.lock().rest();
    match rested {
        Ok(()) => 0,
        Err(NotReady::Failed { cause, .. }) => to_error(cause).to_errno(),
        Err(NotReady::GuestsActive | NotReady::ReadOnly) => {
            dev_err!(
                &*psp.shared.dev,
                "SEV: guests would lose their keys: not going to sleep\n"
            );
            EBUSY.to_errno()
        }
    }
}

/// The machine is awake again, or did not go to sleep after all.
#[no_mangle]
extern "C" fn ccp_sev_after_sleep() {
    if let Ok(psp) = registry::active() {
        psp.lock().wake();
    }
}
