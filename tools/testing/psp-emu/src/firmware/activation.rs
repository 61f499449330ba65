// SPDX-License-Identifier: GPL-2.0
//! Commands that bind guests to ASIDs, tell of them and destroy them (SEV-API, chapter "Guest Management
//! API").

use super::{
    asid::Asids,
    command::CommandBuffer,
    guest::{Guest, Phase},
    Done, Firmware, Session, Status,
};
use crate::memory::GuestMemory;

/// Offset in the command buffers of all commands here but ACTIVATE_EX.
const HANDLE: usize = 0x0;

/// Offsets in the command buffer of ACTIVATE.
mod activate_at {
    pub(super) const ASID: usize = 0x4;
}

/// Offsets in the command buffer of ACTIVATE_EX.
mod activate_ex_at {
    pub(super) const LENGTH: usize = 0x0;
    pub(super) const LEN: u32 = 0x18;
    pub(super) const HANDLE: usize = 0x4;
    pub(super) const ASID: usize = 0x8;
    pub(super) const NUMIDS: usize = 0xc;
    pub(super) const IDS_PADDR: usize = 0x10;
}

/// Offsets in the command buffer of GUEST_STATUS.
mod guest_status_at {
    pub(super) const POLICY: usize = 0x4;
    pub(super) const ASID: usize = 0x8;
    pub(super) const STATE: usize = 0xc;
}

/// APIC ids ACTIVATE_EX takes at most.
const MAX_APIC_IDS: u32 = 256;

/// Gives `guest` an ASID: at once in use when the guest is running, otherwise from when it is. A guest that
/// has been sent away gets none.
fn bind(asids: &mut Asids, guest: &mut Guest, asid: u32) -> Done {
    if matches!(guest.phase, Phase::Sent) {
        return Err(Status::INVALID_GUEST_STATE);
    }
    asids.allocate(asid, guest.policy)?;
    if matches!(guest.phase, Phase::Running | Phase::SendUpdate { .. }) {
        asids.start(asid);
    }
    guest.asid = Some(asid);
    Ok(())
}

impl Session {
    /// A guest, and the ASIDs.
    fn guest_and_asids(&mut self, handle: u32) -> Result<(&mut Guest, &mut Asids), Status> {
        self.guest(handle)?;
        Ok((self.guests.get_mut(handle)?, &mut self.asids))
    }

    /// The guest has become RUNNING: its ASID, if it has one, is in use from now on.
    pub(super) fn started(&mut self, handle: u32) -> Done {
        let (guest, asids) = self.guest_and_asids(handle)?;
        if let Some(asid) = guest.asid {
            asids.start(asid);
        }
        Ok(())
    }
}

/// ACTIVATE (0x021): the guest gets an ASID, on all cores.
pub(super) fn activate(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    let (guest, asids) = fw.session_mut()?.guest_and_asids(buffer.u32(HANDLE))?;
    let asid = buffer.u32(activate_at::ASID);
    asids.is_free(asid)?;
    if guest.asid.is_some() {
        return Err(Status::ACTIVE);
    }
    bind(asids, guest, asid)
}

/// ACTIVATE_EX (0x025): as ACTIVATE, on the core complexes of some APIC ids; more can be added later.
///
/// There is one core complex here, and every APIC id belongs to it.
pub(super) fn activate_ex(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    use activate_ex_at as at;
    let session = fw.session_mut()?;
    if buffer.u32(at::LENGTH) != at::LEN {
        return Err(Status::INVALID_PARAM);
    }
    let (guest, asids) = session.guest_and_asids(buffer.u32(at::HANDLE))?;
    let count = buffer.u32(at::NUMIDS);
    if count == 0 || count > MAX_APIC_IDS {
        return Err(Status::INVALID_PARAM);
    }
    let mut ids = vec![0; buffer.len(at::NUMIDS) * 4];
    memory.read(buffer.address(at::IDS_PADDR), &mut ids)?;
    let asid = buffer.u32(at::ASID);
    match guest.asid {
        None => bind(asids, guest, asid),
        Some(_) if matches!(guest.phase, Phase::Sent) => Err(Status::INVALID_GUEST_STATE),
        Some(own) if own == asid => Ok(()),
        Some(_) => Err(Status::ACTIVE),
    }
}

/// DEACTIVATE (0x022): the guest gives its ASID back. If it may have run, every core must execute WBINVD
/// and DF_FLUSH must come before the ASID can be used again.
pub(super) fn deactivate(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    let (guest, asids) = fw.session_mut()?.guest_and_asids(buffer.u32(HANDLE))?;
    let asid = guest.active()?;
    guest.asid = None;
    if asids.release(asid) {
        fw.caches.filled();
    }
    Ok(())
}

/// DECOMMISSION (0x020): destroys a guest that has no ASID. With the last one the platform leaves WORKING.
pub(super) fn decommission(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    let handle = buffer.u32(HANDLE);
    let session = fw.session_mut()?;
    if session.guest(handle)?.asid.is_some() {
        return Err(Status::ACTIVE);
    }
    if let Some(guest) = session.guests.remove(handle) {
        session.checksums.release(guest.vmsas);
    }
    Ok(())
}

/// GUEST_STATUS (0x023): policy, ASID and state of a guest. An unknown handle is a state, too.
pub(super) fn guest_status(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    use guest_status_at as at;
    let session = fw.session()?;
    let Ok(guest) = session.guests.get(buffer.u32(HANDLE)) else {
        buffer.set_u8(at::STATE, 0);
        return Ok(());
    };
    buffer.set_u32(at::POLICY, guest.policy.0);
    buffer.set_u32(at::ASID, guest.asid.unwrap_or(0));
    buffer.set_u8(at::STATE, guest.phase.number());
    Ok(())
}

/// DF_FLUSH (0x00a): writes back what the data fabric holds; every core must have executed WBINVD. In any
/// state.
pub(super) fn df_flush(fw: &mut Firmware, _: &mut CommandBuffer, _: &mut dyn GuestMemory) -> Done {
    if !fw.caches.written_back() {
        return Err(Status::WBINVD_REQUIRED);
    }
    if let Ok(session) = fw.session_mut() {
        session.asids.flush();
    }
    Ok(())
}
