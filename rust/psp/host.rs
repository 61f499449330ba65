// SPDX-License-Identifier: GPL-2.0

//! What the driver core needs of the world around it.
//!
//! In the kernel that is `drivers/ccp-sev/`; in a test it may be an emulated PSP and a vector.

use core::fmt;

use crate::cmd::CmdId;
use crate::cmdresp::CmdResp;
use crate::error::CmdError;
use crate::ledger::Ledger;
use crate::mailbox::Mode;

/// The registers went away with the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// An access beyond the end of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The interrupt came.
    Interrupt,
    /// The time is over.
    TimeOver,
    /// The caller is to be killed and has no use for an answer.
    Killed,
}

/// Whether a wait may end because the caller is to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It may: nothing is lost when nobody sees the answer.
    Killable,
    /// It may not.
    Endless,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something works, but not as it should.
    Warning,
    /// Good to know.
    Info,
}

/// Zeroed, physically contiguous memory that may be lent to the firmware.
///
/// The firmware may change it at any moment while it has it. Reads and writes are copies, so that what
/// was checked is what is used. Dropping it frees it.
pub trait Memory {
    /// Its bytes.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// System physical address, without the C-bit.
    fn pa(&self) -> u64;

    /// Address as the firmware wants it, with the C-bit if the host's memory is encrypted.
    fn psp_addr(&self) -> u64;

    /// Copies `bytes` to its front.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if they do not fit; nothing is copied then.
    fn write(&mut self, bytes: &[u8]) -> Result<(), OutOfBounds>;

    /// Copies its first `out.len()` bytes out.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if it has fewer; nothing is copied then.
    fn read(&self, out: &mut [u8]) -> Result<(), OutOfBounds>;

    /// Flushes the caches over it, as the firmware demands of memory it is going to keep.
    fn flush(&self);

    /// Makes all of its bytes `byte`.
    fn fill(&mut self, byte: u8);

    /// Gives it up: dropping it does not free it any more, because the firmware may still write to it.
    fn leak(&mut self);
}

/// The world of one PSP. Nobody else uses its mailbox meanwhile.
pub trait Host {
    /// Memory for the firmware.
    type Memory: Memory;

    /// Reads CMDRESP.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    fn cmdresp(&mut self) -> Result<CmdResp, Gone>;

    /// Writes the address, low half first, then CMDRESP, which is what the PSP waits for. An interrupt
    /// from before does not end a wait after this.
    ///
    /// # Errors
    ///
    /// [`Gone`]; the command was not started then.
    fn ring(&mut self, lo: u32, hi: u32, cmdresp: CmdResp) -> Result<(), Gone>;

    /// Whether registers other than CMDRESP can be read, and not as all ones.
    fn is_there(&mut self) -> bool;

    /// Has the PSP send interrupts, which it does not after a reset of its own. A device that is gone is no
    /// matter: the next command will tell.
    fn enable_interrupts(&mut self);

    /// Waits for the interrupt, at most `ms` milliseconds.
    fn wait(&mut self, ms: u32, patience: Patience) -> Wake;

    /// Lets `us` microseconds pass.
    fn delay(&mut self, us: u32, patience: Patience) -> Wake;

    /// Whether there are interrupts to wait for.
    fn mode(&self) -> Mode;

    /// Milliseconds until a command counts as not answered; `answered` says whether any was before.
    fn timeout_ms(&self, answered: bool) -> u32;

    /// Microseconds since some moment in the past.
    fn now_us(&self) -> u64;

    /// Writes back and invalidates the caches of all processors.
    fn flush_caches(&mut self);

    /// Writes a line to the log.
    fn log(&self, level: Level, line: fmt::Arguments<'_>);

    /// Shows a command that is over to whoever traces them.
    fn trace(&self, id: CmdId, outcome: Result<crate::status::FwStatus, CmdError>, us: u64);

    /// Lets `change` at the ledger, which others read meanwhile.
    fn ledger<R>(&self, change: impl FnOnce(&mut Ledger) -> R) -> R;
}
