// SPDX-License-Identifier: GPL-2.0

//! The way to the firmware that is in use, and what is served over it: `/dev/sev-guest` and reports in
//! configfs.

use kernel::{
    miscdevice::MiscDeviceRegistration,
    prelude::*,
    sync::{
        global_lock,
        Arc, //
    },
};
use psp::guest_msg::{
    Exit,
    Request, //
};

use crate::{
    fair_lock::FairLock,
    ffi,
    sev_guest::{
        self,
        SevGuest, //
    },
    shared::SharedPages,
    transport::{
        NoAnswer,
        Transport, //
    },
};

/// The most pages for certificates (`SEV_FW_BLOB_MAX_SIZE`).
pub(crate) const CERTS_PAGES: u32 = 4;

/// A way to the firmware, with memory for certificates.
#[pin_data]
pub(crate) struct Guest {
    transport: KBox<dyn Transport>,
    /// Shared when first needed, and kept: each flip costs all processors their TLBs.
    #[pin]
    certs: FairLock<Option<SharedPages>>,
}

impl Guest {
    /// Who answers, for sysfs.
    pub(crate) fn name(&self) -> &'static str {
        self.transport.name()
    }

    /// The VMPCK in use.
    pub(crate) fn vmpck(&self) -> u32 {
        self.transport.vmpck()
    }

    /// Sends a request, and writes its answer to `out`, zeros behind it. An extended one has `pages` of room
    /// for certificates: what the host left there is returned, in private memory.
    ///
    /// # Errors
    ///
    /// Those of the transport; `EINTR`, `ENOMEM` and others without having sent anything.
    pub(crate) fn ask(
        &self,
        request: &Request<'_>,
        pages: u32,
        out: &mut [u8],
    ) -> Result<KVec<u8>, NoAnswer> {
        if request.exit == Exit::Request || pages == 0 {
            self.transport.ask(request, None, out)?;
            return Ok(KVec::new());
        }
        let mut certs = self.certs.lock_killable()?;
        // Offered is what was asked for, no more: the host's answer depends on it.
        //
        // CAST: at most four.
        let pages = pages as usize;
        if certs
            .as_ref()
            .is_none_or(|shared| shared.range().pages != pages)
        {
            *certs = None;
            *certs = Some(SharedPages::new(pages)?);
        }
        let Some(shared) = certs.as_mut() else {
            return Err(ENOMEM.into());
        };
        shared.zero();
        self.transport.ask(request, Some(shared), out)?;
        let mut copy = KVec::from_elem(0, shared.len(), GFP_KERNEL).map_err(Error::from)?;
        shared.read(0, &mut copy)?;
        Ok(copy)
    }
}

/// What is served.
pub(crate) struct Served {
    guest: Arc<Guest>,
    reports: bool,
    node: Option<Pin<KBox<MiscDeviceRegistration<SevGuest>>>>,
}

global_lock! {
    /// Held for moments, and while things are registered.
    // SAFETY: The module's `init` initialises it before anything else of the module runs.
    pub(crate) unsafe(uninit) static SERVED: Mutex<Option<Served>> = None;
}

/// The way in use.
///
/// # Errors
///
/// `ENODEV` if there is none, or no more.
pub(crate) fn active() -> Result<Arc<Guest>> {
    match &*SERVED.lock() {
        Some(served) => Ok(served.guest.clone()),
        None => Err(ENODEV),
    }
}

/// Serves user space over `transport` until [`withdraw`].
///
/// # Errors
///
/// `EBUSY` if there is a way already, another driver serves, or configfs has reports of one; `ENOMEM`.
pub(crate) fn publish(transport: KBox<dyn Transport>) -> Result {
    let guest = Arc::pin_init(
        pin_init!(Guest {
            transport,
            certs <- FairLock::new(None),
        }),
        GFP_KERNEL,
    )?;
    let vmpck = guest.vmpck();
    {
        let mut served = SERVED.lock();
        if served.is_some() {
            return Err(EBUSY);
        }
        // All is ready before anybody can ask.
        *served = Some(Served {
            guest,
            reports: false,
            node: None,
        });
    }
    let outcome = register(vmpck);
    if outcome.is_err() {
        withdraw();
    }
    outcome
}

fn register(vmpck: u32) -> Result {
    ffi::provide_reports(vmpck).inspect_err(|error| {
        if *error == EBUSY {
            pr_err!("another driver provides reports (unload sev-guest first), or configfs has reports of one that is gone (remove the directories in tsm/report)\n");
        }
    })?;
    if let Some(served) = &mut *SERVED.lock() {
        served.reports = true;
    }
    let node = MiscDeviceRegistration::register(sev_guest::OPTIONS);
    let node = KBox::pin_init(node, GFP_KERNEL)?;
    if let Some(served) = &mut *SERVED.lock() {
        served.node = Some(node);
    }
    Ok(())
}

/// Serves nobody any more. Requests that are on their way end first; open files say `ENODEV` from now on.
pub(crate) fn withdraw() {
    let Some(served) = SERVED.lock().take() else {
        return;
    };
    drop(served.node);
    if served.reports {
        ffi::stop_providing_reports();
    }
}
