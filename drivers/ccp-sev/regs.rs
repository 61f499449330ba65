// SPDX-License-Identifier: GPL-2.0

//! The registers of a PSP, whatever its generation.
//!
//! The offsets are in the library, where a test can check them; see [`psp::regs`].

use kernel::{
    io::Io,
    pci,
    prelude::*, //
};
use psp::{
    cmdresp::CmdResp,
    host::Gone,
    regs::{
        Capabilities,
        RegisterMap, //
    },
};

use crate::host::Registers;

/// The mapped BAR.
pub(crate) type Bar<'a> = pci::Bar<'a, { RegisterMap::END }>;

/// The BAR while the device is bound.
pub(crate) type DevresBar = pci::DevresBar<{ RegisterMap::END }>;

/// A register map on a BAR. After unbind every access says [`Gone`].
pub(crate) struct Regs {
    bar: DevresBar,
    map: &'static RegisterMap,
}

impl Regs {
    pub(crate) fn new(bar: DevresBar, map: &'static RegisterMap) -> Self {
        Regs { bar, map }
    }

    /// One look at whether the device is still there for all of `access`.
    fn with<T>(&self, access: impl FnOnce(&Bar<'_>) -> Result<T>) -> Result<T, Gone> {
        self.bar
            .try_access_with(access)
            .and_then(Result::ok)
            .ok_or(Gone)
    }

    fn read(&self, offset: usize) -> Result<u32, Gone> {
        self.with(|bar| bar.try_read32(offset))
    }

    fn write(&self, offset: usize, value: u32) -> Result<(), Gone> {
        self.with(|bar| bar.try_write32(value, offset))
    }

    /// What the PSP can do; `Ok(None)` if it hides from us.
    pub(crate) fn capabilities(&self) -> Result<Option<Capabilities>, Gone> {
        Ok(Capabilities::from_raw(self.read(self.map.capability)?))
    }

    /// Version of the boot loader, four numbers; `Ok(None)` if the PSP hides it.
    pub(crate) fn bootloader(&self) -> Result<Option<[u8; 4]>, Gone> {
        Ok(match self.read(self.map.bootloader)? {
            u32::MAX => None,
            version => Some(version.to_be_bytes()),
        })
    }

    /// Acknowledges whatever interrupt is pending.
    pub(crate) fn clear_interrupts(&self) -> Result<(), Gone> {
        self.write(self.map.intsts, u32::MAX)
    }
}

impl Registers for Regs {
    fn take_interrupts(&self) -> Result<u32, Gone> {
        self.with(|bar| {
            let status = bar.try_read32(self.map.intsts)?;
            if status != 0 {
                bar.try_write32(status, self.map.intsts)?;
            }
            Ok(status)
        })
    }

    fn cmdresp(&self) -> Result<CmdResp, Gone> {
        self.read(self.map.cmdresp).map(CmdResp::from_raw)
    }

    fn ring(&self, lo: u32, hi: u32, cmdresp: CmdResp) -> Result<(), Gone> {
        self.with(|bar| {
            bar.try_write32(lo, self.map.cmdbuf_lo)?;
            bar.try_write32(hi, self.map.cmdbuf_hi)?;
            bar.try_write32(cmdresp.raw(), self.map.cmdresp)
        })
    }

    fn is_there(&self) -> bool {
        matches!(self.capabilities(), Ok(Some(_)))
    }

    fn enable_interrupts(&self, on: bool) -> Result<(), Gone> {
        self.write(self.map.inten, if on { u32::MAX } else { 0 })
    }
}
