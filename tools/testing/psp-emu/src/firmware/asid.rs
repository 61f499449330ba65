// SPDX-License-Identifier: GPL-2.0
//! ASIDs: the slots of the memory controller that hold guests' keys.
//!
//! All cores of the emulated machine are one core complex (CCX): an ASID is in one state on all of
//! them.

use super::{policy::Policy, Done, Status};
use crate::model::Model;

/// State of one ASID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Caches may hold a former guest's data: DF_FLUSH must come first.
    Dirty,
    Clean,
    /// It holds the key of a guest that is not running yet.
    Allocated,
    /// Its guest may run.
    InUse,
}

/// The states of all ASIDs between INIT and SHUTDOWN.
pub(super) struct Asids {
    /// That of ASID 1 first.
    states: Vec<State>,
    first_sev: u32,
}

impl Asids {
    /// After INIT nothing is known about the caches.
    pub(super) fn new(model: &Model) -> Self {
        Self {
            states: vec![State::Dirty; model.asids as usize],
            first_sev: model.first_sev_asid,
        }
    }

    fn state(&mut self, asid: u32) -> Result<&mut State, Status> {
        let index = asid.checked_sub(1).ok_or(Status::INVALID_ASID)?;
        // CAST: no smaller than 32 bits.
        self.states
            .get_mut(index as usize)
            .ok_or(Status::INVALID_ASID)
    }

    /// # Errors
    ///
    /// INVALID_ASID when there is none of this number; ASID_OWNED when a guest has it.
    pub(super) fn is_free(&mut self, asid: u32) -> Done {
        match self.state(asid)? {
            State::Allocated | State::InUse => Err(Status::ASID_OWNED),
            State::Dirty | State::Clean => Ok(()),
        }
    }

    /// Gives an ASID to a guest with this policy.
    ///
    /// # Errors
    ///
    /// INVALID_ASID when there is none of this number, or not for guests with (or without) SEV-ES;
    /// ASID_OWNED when another guest has it; DFFLUSH_REQUIRED.
    pub(super) fn allocate(&mut self, asid: u32, policy: Policy) -> Done {
        self.is_free(asid)?;
        let first_sev = self.first_sev;
        let state = self.state(asid)?;
        if *state == State::Dirty {
            return Err(Status::DFFLUSH_REQUIRED);
        }
        if policy.has(Policy::ES) != (asid < first_sev) {
            return Err(Status::INVALID_ASID);
        }
        *state = State::Allocated;
        Ok(())
    }

    /// The guest with this ASID may run from now on.
    pub(super) fn start(&mut self, asid: u32) {
        if let Ok(state) = self.state(asid) {
            *state = State::InUse;
        }
    }

    /// Takes an ASID back. True when its guest may have run and the caches must be written back.
    pub(super) fn release(&mut self, asid: u32) -> bool {
        let Ok(state) = self.state(asid) else {
            return false;
        };
        let ran = *state == State::InUse;
        *state = if ran { State::Dirty } else { State::Clean };
        ran
    }

    /// The caches are written back and the data fabric is flushed.
    pub(super) fn flush(&mut self) {
        for state in &mut self.states {
            if *state == State::Dirty {
                *state = State::Clean;
            }
        }
    }
}
