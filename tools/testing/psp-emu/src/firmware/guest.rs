// SPDX-License-Identifier: GPL-2.0
//! Guests: what the firmware knows of each, and the table of them.

use super::{
    policy::Policy,
    private::Vek,
    transcript::Transcript,
    vmsa::{ChecksumPool, Vmsas},
    Firmware, Session, Status,
};
use crate::crypto::{offline::OfflineKey, session::TransportKeys};
use sha2::Sha256;
use std::collections::BTreeMap;

/// State of a guest (SEV-API, "Guest State Machine"), with what exists in that state only.
pub(super) enum Phase {
    /// LUPDATE: being launched, data is taken and measured.
    LaunchUpdate {
        channel: TransportKeys,
        digest: Sha256,
    },
    /// LSECRET: measured, secrets may come.
    LaunchSecret {
        channel: TransportKeys,
        measurement: [u8; 32],
    },
    /// RUNNING.
    Running,
    /// SUPDATE: being sent to another platform.
    SendUpdate { channel: TransportKeys },
    /// RUPDATE: being received from another platform.
    ReceiveUpdate { channel: TransportKeys },
    /// SENT: gone to another platform; it can only be destroyed here.
    Sent,
}

impl Phase {
    /// The number GUEST_STATUS reports; 0 is for no guest.
    pub(super) fn number(&self) -> u8 {
        match self {
            Self::LaunchUpdate { .. } => 1,
            Self::LaunchSecret { .. } => 2,
            Self::Running => 3,
            Self::SendUpdate { .. } => 4,
            Self::ReceiveUpdate { .. } => 5,
            Self::Sent => 6,
        }
    }
}

/// A guest context.
pub(super) struct Guest {
    pub(super) policy: Policy,
    pub(super) phase: Phase,
    pub(super) vek: Vek,
    /// Offline encryption key: that of pages swapped out.
    pub(super) oek: OfflineKey,
    /// Pages swapped out so far; no two are encrypted with the same number.
    pub(super) swapped: u64,
    pub(super) asid: Option<u32>,
    pub(super) vmsas: Vmsas,
    /// Zero until measured, and in a guest that was received.
    pub(super) launch_digest: [u8; 32],
    /// If somebody wants it.
    pub(super) transcript: Option<Transcript>,
}

impl Guest {
    /// The ASID.
    ///
    /// # Errors
    ///
    /// INACTIVE when it has none.
    pub(super) fn active(&self) -> Result<u32, Status> {
        self.asid.ok_or(Status::INACTIVE)
    }

    /// # Errors
    ///
    /// UNSUPPORTED when the guest has no SEV-ES.
    pub(super) fn has_es(&self) -> Result<(), Status> {
        match self.policy.has(Policy::ES) {
            true => Ok(()),
            false => Err(Status::UNSUPPORTED),
        }
    }
}

/// All guests by handle.
#[derive(Default)]
pub(super) struct Guests(BTreeMap<u32, Guest>);

impl Guests {
    /// So many guests there can be, with the handles from 1 to this.
    const MAX: u32 = 1024;

    /// Number of guests.
    pub(super) fn count(&self) -> u32 {
        // CAST: at most MAX.
        self.0.len() as u32
    }

    /// # Errors
    ///
    /// INVALID_GUEST when there is none of this handle.
    pub(super) fn get(&self, handle: u32) -> Result<&Guest, Status> {
        self.0.get(&handle).ok_or(Status::INVALID_GUEST)
    }

    /// As [`Guests::get`].
    pub(super) fn get_mut(&mut self, handle: u32) -> Result<&mut Guest, Status> {
        self.0.get_mut(&handle).ok_or(Status::INVALID_GUEST)
    }

    /// The handle the next guest gets, the lowest that is free.
    ///
    /// # Errors
    ///
    /// RESOURCE_LIMIT when there are too many guests.
    pub(super) fn next_handle(&self) -> Result<u32, Status> {
        let mut handles = 1..=Self::MAX;
        let free = handles.find(|handle| !self.0.contains_key(handle));
        free.ok_or(Status::RESOURCE_LIMIT)
    }

    pub(super) fn insert(&mut self, handle: u32, guest: Guest) {
        self.0.insert(handle, guest);
    }

    pub(super) fn remove(&mut self, handle: u32) -> Option<Guest> {
        self.0.remove(&handle)
    }
}

impl Session {
    /// The guest of a handle, to be looked at.
    ///
    /// # Errors
    ///
    /// INVALID_PLATFORM_STATE unless in PSTATE.WORKING, INVALID_GUEST.
    pub(super) fn guest(&self, handle: u32) -> Result<&Guest, Status> {
        match self.guests.count() {
            0 => Err(Status::INVALID_PLATFORM_STATE),
            _ => self.guests.get(handle),
        }
    }

    /// As [`Session::guest`].
    pub(super) fn guest_mut(&mut self, handle: u32) -> Result<&mut Guest, Status> {
        self.guest(handle)?;
        self.guests.get_mut(handle)
    }

    /// As [`Session::guest_mut`], with where the checksums of its VMSAs go.
    pub(super) fn guest_and_checksums(
        &mut self,
        handle: u32,
    ) -> Result<(&mut Guest, &mut ChecksumPool), Status> {
        self.guest(handle)?;
        Ok((self.guests.get_mut(handle)?, &mut self.checksums))
    }
}

impl Firmware {
    /// What a guest was launched from, as far as it has been launched. `None` when there is no such guest, or
    /// no transcripts are kept.
    #[must_use]
    pub fn transcript(&self, handle: u32) -> Option<&Transcript> {
        let guest = self.session.as_ref()?.guests.get(handle).ok()?;
        guest.transcript.as_ref()
    }
}
