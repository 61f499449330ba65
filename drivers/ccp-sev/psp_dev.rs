// SPDX-License-Identifier: GPL-2.0

//! A PSP: what the driver keeps of it, and who may use it when.
//!
//! Lock order: the lock of the persistent data ([`Psp::with_init`]), then the command lock
//! ([`Psp::lock`]), then the ledger's. No user copy, no allocation for user space and no file is
//! touched under the command lock.

use kernel::{
    device::Device,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};
use psp::{
    cmd::{
        platform::{
            NV_LEN,
            TMR_LEN, //
        },
        CMD_BUF_LEN, //
    },
    driver::Driver,
    error::{
        CmdError,
        Errno, //
    },
    host::Patience,
    regs::Capabilities, //
};

use crate::{
    fair_lock::{
        FairGuard,
        FairLock, //
    },
    ffi,
    fw_buf::FwBuf,
    host::{
        KernelHost,
        Shared, //
    },
    nv_file::NvFile,
    regs::Regs, //
};

/// The driver core in the kernel.
pub(crate) type Core = Driver<KernelHost<Regs>>;

/// A PSP that was probed. Files and KVM may hold on to it for longer than it is bound; then every
/// command says that the device is gone.
#[pin_data]
pub(crate) struct Psp {
    pub(crate) shared: Arc<Shared<Regs>>,
    /// As the registers said when it was probed.
    pub(crate) capabilities: Capabilities,
    #[pin]
    core: FairLock<Core>,
    /// The file of the persistent data, if they are kept in one. Its lock comes before the command lock, and
    /// whoever waits for it waits in order and can be killed, as there.
    #[pin]
    nv: Option<Pin<KBox<FairLock<NvFile>>>>,
}

/// What [`Psp::with_init`] did.
pub(crate) struct Ran<R> {
    /// What the body returned.
    pub(crate) value: R,
    /// Whether persistent data that it changed are in their file, as far as there is one.
    pub(crate) saved: Result,
}

impl Psp {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        dev: ARef<Device>,
        regs: Regs,
        capabilities: Capabilities,
    ) -> Result<Arc<Self>> {
        let nv = match ffi::init_ex_path() {
            Some(path) => Some((
                // CAST: 32 KiB.
                FwBuf::new(NV_LEN as usize)?,
                KBox::pin_init(FairLock::new(NvFile::new(path, dev.clone())?), GFP_KERNEL)?,
            )),
            None => None,
        };
        let (nv_mem, nv) = nv.unzip();
        let shared = Shared::new(dev, regs)?;
        const { assert!(CMD_BUF_LEN <= PAGE_SIZE) };
        let core = Driver::new(
            KernelHost::new(shared.clone()),
            FwBuf::new(CMD_BUF_LEN)?,
            // Only the one that is used needs it.
            None,
            nv_mem,
        );
        Arc::pin_init(
            pin_init!(Psp {
                shared,
                capabilities,
                core <- FairLock::new(core),
                nv,
            }),
            GFP_KERNEL,
        )
    }

    /// PCI address, which sorts as text.
    pub(crate) fn address(&self) -> &CStr {
        self.shared.dev.name()
    }

    /// Waits for the command lock; callers get it in the order they came.
    ///
    /// # Context
    ///
    /// Sleeps, up to the timeouts of the commands before.
    pub(crate) fn lock(&self) -> FairGuard<'_, Core> {
        self.core.lock()
    }

    /// As [`lock`](Self::lock), but a signal that kills ends the wait.
    ///
    /// # Errors
    ///
    /// `EINTR`.
    pub(crate) fn lock_killable(&self) -> Result<FairGuard<'_, Core>> {
        self.core.lock_killable()
    }

    /// The command lock, if nobody has it.
    ///
    /// # Context
    ///
    /// Any, also a panic.
    pub(crate) fn try_lock(&self) -> Option<FairGuard<'_, Core>> {
        self.core.try_lock()
    }

    /// Runs `body`, which may initialise the platform or change its persistent data: reads their file
    /// before if that is necessary, and writes it afterwards if they have changed. The command lock is
    /// held for `body` alone.
    ///
    /// # Errors
    ///
    /// `EINTR` when a killable caller was killed before; `body` did not run. A file that cannot be read is no
    /// error here: INIT_EX will fail with that of the file system, and whatever does without works.
    pub(crate) fn with_init<R>(
        &self,
        patience: Patience,
        body: impl FnOnce(&mut Core) -> R,
    ) -> Result<Ran<R>> {
        let Some(nv) = &self.nv else {
            let mut core = self.ready(patience)?;
            return Ok(Ran {
                value: body(&mut core),
                saved: Ok(()),
            });
        };
        // Held throughout: nobody else initialises the platform with what is older than the file, and
        // what is written later is newer.
        let mut file = wait_for(nv, patience)?;
        let wanted = self.ready(patience)?.wants_nv();
        let read = if wanted { file.read() } else { Ok(()) };
        let mut core = self.ready(patience)?;
        match read {
            Err(error) => core.miss_nv(Errno(-error.to_errno())),
            Ok(()) if wanted => core.load_nv(file.contents()),
            Ok(()) => {}
        }
        let value = body(&mut core);
        let taken = core.take_nv(file.next_contents());
        drop(core);
        let saved = match taken {
            Some(taken) => file
                .write(taken.rejected)
                .inspect_err(|_| self.lock().untake_nv(taken)),
            None => Ok(()),
        };
        Ok(Ran { value, saved })
    }

    /// The command lock, with a TMR if there is memory for one. Without it there is no SEV-ES, but SEV
    /// works.
    ///
    /// # Errors
    ///
    /// `EINTR` when a killable caller was killed.
    pub(crate) fn ready(&self, patience: Patience) -> Result<FairGuard<'_, Core>> {
        let core = wait_for(&self.core, patience)?;
        if core.has_tmr() {
            return Ok(core);
        }
        drop(core);
        let tmr = new_tmr();
        let mut core = wait_for(&self.core, patience)?;
        if let Ok(tmr) = tmr {
            core.give_tmr(tmr);
        }
        Ok(core)
    }
}

fn wait_for<T>(lock: &FairLock<T>, patience: Patience) -> Result<FairGuard<'_, T>> {
    match patience {
        Patience::Killable => lock.lock_killable(),
        Patience::Endless => Ok(lock.lock()),
    }
}

fn new_tmr() -> Result<FwBuf> {
    // CAST: 1 MiB.
    FwBuf::new(TMR_LEN as usize)
}

/// The kernel's form of an error of the driver core.
pub(crate) fn to_error(error: CmdError) -> Error {
    Error::from_errno(-error.errno().0)
}
