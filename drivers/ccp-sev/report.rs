// SPDX-License-Identifier: GPL-2.0

//! The report of a PSP in debugfs: `ccp/<PCI address>/report`.

use kernel::{
    debugfs::{
        Dir,
        File, //
    },
    fmt,
    prelude::*,
    sync::{
        global_lock,
        Arc, //
    },
};

use crate::psp_dev::Psp;

global_lock! {
    /// The driver's directory.
    // SAFETY: The module's `init` initialises it before the driver is registered, and nothing else
    // runs before that.
    unsafe(uninit) static DIRECTORY: Mutex<Option<Dir>> = None;
}

/// While this exists there is a directory for reports.
pub(crate) struct Directory(());

impl Directory {
    /// # Safety
    ///
    /// Called once.
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: By this function's own requirements.
        unsafe { DIRECTORY.init() };
        *DIRECTORY.lock() = Some(Dir::new(c"ccp"));
        Directory(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        *DIRECTORY.lock() = None;
    }
}

/// The report of one PSP; the file goes when this is dropped.
pub(crate) type Report = File<Arc<Psp>>;

/// An initialiser for the report's file.
pub(crate) fn file(psp: Arc<Psp>) -> Result<Pin<KBox<Report>>> {
    let directory = match &*DIRECTORY.lock() {
        Some(root) => root.subdir(psp.shared.dev.name()),
        None => return Err(ENODEV),
    };
    KBox::pin_init(
        directory.read_callback_file(c"report", psp, &write_report),
        GFP_KERNEL,
    )
}

/// A line for each fact, `name: value`, then tables.
fn write_report(psp: &Arc<Psp>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match psp.shared.regs.bootloader().ok().flatten() {
        Some([a, b, c, d]) => writeln!(f, "bootloader: {a:02x}.{b:02x}.{c:02x}.{d:02x}")?,
        None => writeln!(f, "bootloader: unknown")?,
    }
    writeln!(f, "capabilities: {:#010x}", psp.capabilities.raw())?;
    psp.shared.ledger(|ledger| write!(f, "{ledger}"))
}
