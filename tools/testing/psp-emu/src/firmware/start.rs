// SPDX-License-Identifier: GPL-2.0
//! Commands that make a guest: LAUNCH_START and RECEIVE_START. Their command buffers are the same.

use super::{
    command::CommandBuffer,
    guest::{Guest, Phase},
    policy::Policy,
    private::Vek,
    transcript::Transcript,
    vmsa::Vmsas,
    Done, Firmware, Status,
};
use crate::{
    cert::sev::{SevCert, LEN as CERT_LEN},
    crypto::{
        offline::OfflineKey,
        session::{Session, SessionError, TransportKeys, LEN as SESSION_LEN},
        BadMac,
    },
    memory::GuestMemory,
};
use sha2::{Digest, Sha256};

/// Offsets in the command buffers.
mod at {
    /// In: a guest to share the key with, or 0. Out: the new guest.
    pub(super) const HANDLE: usize = 0x0;
    pub(super) const POLICY: usize = 0x4;
    pub(super) const DH_CERT_PADDR: usize = 0x8;
    pub(super) const DH_CERT_LEN: usize = 0x10;
    pub(super) const SESSION_PADDR: usize = 0x18;
    pub(super) const SESSION_LEN: usize = 0x20;
}

impl From<SessionError> for Status {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::InvalidPoint => Self::INVALID_CERTIFICATE,
            SessionError::BadMac => Self::BAD_MEASUREMENT,
        }
    }
}

impl From<BadMac> for Status {
    fn from(_: BadMac) -> Self {
        Self::BAD_MEASUREMENT
    }
}

impl Firmware {
    /// Unwraps the transport keys of the session the command buffer names.
    ///
    /// # Errors
    ///
    /// INVALID_LEN, INVALID_ADDRESS, INVALID_CERTIFICATE; BAD_MEASUREMENT when the session is not for this
    /// platform's PDH, or not for this policy.
    fn open_channel(
        &self,
        buffer: &CommandBuffer,
        memory: &dyn GuestMemory,
    ) -> Result<TransportKeys, Status> {
        if buffer.len(at::SESSION_LEN) != SESSION_LEN || buffer.len(at::DH_CERT_LEN) != CERT_LEN {
            return Err(Status::INVALID_LEN);
        }
        let (mut session, mut cert) = ([0; SESSION_LEN], [0; CERT_LEN]);
        memory.read(buffer.address(at::SESSION_PADDR), &mut session)?;
        memory.read(buffer.address(at::DH_CERT_PADDR), &mut cert)?;
        let session = Session::from_bytes(&session);
        let peer = SevCert::from(cert).dh_point()?;
        let channel = session.open(self.session()?.identity.pdh(), &peer)?;
        match session.vouches_for(&channel, buffer.u32(at::POLICY)) {
            true => Ok(channel),
            false => Err(Status::BAD_MEASUREMENT),
        }
    }

    /// Makes a guest with the key and policy the command buffer asks for.
    ///
    /// # Errors
    ///
    /// POLICY_FAILURE, INVALID_GUEST, RESOURCE_LIMIT; UNSUPPORTED when the policy wants SEV-ES and the
    /// platform is initialized without.
    fn add_guest(&mut self, buffer: &mut CommandBuffer, phase: Phase) -> Done {
        let (encryption, version) = (self.encryption, self.version);
        let session = self
            .session
            .as_mut()
            .ok_or(Status::INVALID_PLATFORM_STATE)?;
        let policy = Policy(buffer.u32(at::POLICY));
        policy.check(version)?;
        let vek = match buffer.u32(at::HANDLE) {
            0 => Vek::generate(encryption, &mut *self.random),
            handle => {
                let other = session.guests.get(handle)?;
                if other.policy != policy || policy.has(Policy::NOKS) {
                    return Err(Status::POLICY_FAILURE);
                }
                other.vek.clone()
            }
        };
        let handle = session.guests.next_handle()?;
        if policy.has(Policy::ES) && session.tmr.is_none() {
            return Err(Status::UNSUPPORTED);
        }
        let transcript = || Transcript::new(handle, version, policy);
        let guest = Guest {
            policy,
            phase,
            vek,
            oek: OfflineKey::generate(&mut *self.random),
            swapped: 0,
            asid: None,
            vmsas: Vmsas::default(),
            launch_digest: [0; 32],
            transcript: self.on_measured.is_some().then(transcript),
        };
        session.guests.insert(handle, guest);
        buffer.set_u32(at::HANDLE, handle);
        Ok(())
    }
}

/// LAUNCH_START (0x030): a new guest, to be filled by LAUNCH_UPDATE_*. In INIT, WORKING.
///
/// Without a session nobody can check the measurement, and no secret can be brought in: the keys are zero.
pub(super) fn launch_start(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    fw.session()?;
    let channel = match buffer.address(at::DH_CERT_PADDR) {
        0 => TransportKeys::default(),
        _ => fw.open_channel(buffer, memory)?,
    };
    let digest = Sha256::new();
    fw.add_guest(buffer, Phase::LaunchUpdate { channel, digest })
}

/// RECEIVE_START (0x050): a new guest, to be received from another platform. In INIT, WORKING.
pub(super) fn receive_start(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    fw.session()?;
    let channel = fw.open_channel(buffer, memory)?;
    fw.add_guest(buffer, Phase::ReceiveUpdate { channel })
}
