// SPDX-License-Identifier: GPL-2.0

//! The memory that the firmware has while the platform is initialised: TMR, and non-volatile data.

use super::books::changes_nv;
use super::{Driver, Given};
use crate::error::Errno;
use crate::host::{Host, Memory};

/// The non-volatile data of INIT_EX.
pub(super) struct Nv<M> {
    pub(super) mem: M,
    /// Somebody has read the file since the platform was last left to itself.
    pub(super) loaded: bool,
    /// Why the file could not be read, if it could not.
    pub(super) unreadable: Option<Errno>,
    /// A command that changes them succeeded since they were last taken.
    pub(super) changed: bool,
    /// The firmware threw away what was in the file.
    pub(super) rejected: bool,
}

/// What [`Driver::take_nv`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvTaken {
    /// The firmware could not use what was in the file: keep that file under another name.
    pub rejected: bool,
}

impl<H: Host> Driver<H> {
    /// Whether somebody has to read the file of the non-volatile data before the platform can be
    /// initialised; see [`load_nv`](Self::load_nv).
    pub fn wants_nv(&self) -> bool {
        match &self.nv {
            Some(nv) => !nv.loaded || (!self.may_be_initialised() && !nv.changed),
            None => false,
        }
    }

    /// Whether the firmware may use TMR and non-volatile data, or the platform is initialised without.
    pub(super) fn may_be_initialised(&self) -> bool {
        self.is_initialised() || self.given != Given::No
    }

    /// Takes the contents of the file of the non-volatile data,
    /// [`NV_LEN`](crate::cmd::platform::NV_LEN) bytes. Does nothing while the firmware uses those it has,
    /// or when they are newer than the file.
    pub fn load_nv(&mut self, file: &[u8]) {
        if !self.wants_nv() {
            return;
        }
        if let Some(nv) = &mut self.nv {
            nv.loaded = nv.mem.write(file).is_ok();
            nv.unreadable = None;
            nv.rejected = false;
        }
    }

    /// Takes note that the file could not be read: until it can, or is not needed, an INIT_EX fails with
    /// `why`. Does nothing when [`load_nv`](Self::load_nv) would not.
    pub fn miss_nv(&mut self, why: Errno) {
        if !self.wants_nv() {
            return;
        }
        if let Some(nv) = &mut self.nv {
            nv.loaded = false;
            nv.unreadable = Some(why);
        }
    }

    /// Copies the non-volatile data out if a command has changed them since the last time, unless one
    /// that may be changing them has not been answered.
    pub fn take_nv(&mut self, out: &mut [u8]) -> Option<NvTaken> {
        if self.exchange.owed().is_some_and(|owed| changes_nv(owed.id)) {
            return None;
        }
        let nv = self.nv.as_mut().filter(|nv| nv.changed)?;
        nv.mem.read(out).ok()?;
        nv.changed = false;
        Some(NvTaken {
            rejected: core::mem::take(&mut nv.rejected),
        })
    }

    /// Gives back what [`take_nv`](Self::take_nv) said: it could not be stored.
    pub fn untake_nv(&mut self, taken: NvTaken) {
        if let Some(nv) = &mut self.nv {
            nv.changed = true;
            nv.rejected |= taken.rejected;
        }
    }

    /// Takes memory for a TMR, if there is none yet.
    pub fn give_tmr(&mut self, tmr: H::Memory) {
        if self.tmr.is_none() {
            // One that comes after INIT is not the firmware's until the next.
            if !self.may_be_initialised() {
                self.host.ledger(|ledger| ledger.tmr_len = Some(tmr.len()));
            }
            self.tmr = Some(tmr);
        }
    }

    /// Whether there is a TMR.
    pub fn has_tmr(&self) -> bool {
        self.tmr.is_some()
    }
}
