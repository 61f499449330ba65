// SPDX-License-Identifier: GPL-2.0
//! Commands that receive a guest from another platform, after RECEIVE_START (SEV-API, chapter "Guest Migration
//! API").

use super::{
    command::CommandBuffer,
    guest::Phase,
    transport::{at, Transport},
    Done, Firmware, Status,
};
use crate::{crypto::transport::Context, memory::GuestMemory};

/// RECEIVE_UPDATE_DATA (0x051): puts a packet into private memory.
pub(super) fn receive_update_data(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    update(fw, buffer, memory, Context::Data)
}

/// RECEIVE_UPDATE_VMSA (0x052): puts a packet of a vCPU's registers into private memory.
pub(super) fn receive_update_vmsa(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    update(fw, buffer, memory, Context::Vmsa)
}

fn update(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
    context: Context<'_>,
) -> Done {
    let session = fw.session_mut()?;
    let (guest, checksums) = session.guest_and_checksums(buffer.u32(at::HANDLE))?;
    let Phase::ReceiveUpdate { channel } = &guest.phase else {
        return Err(Status::INVALID_GUEST_STATE);
    };
    if context == Context::Vmsa {
        guest.has_es()?;
    }
    guest.active()?;
    let transport = Transport::parse(buffer)?;
    let mut data = transport.open(memory, channel, context)?;
    if !memory.is_writable(transport.guest_addr, data.len() as u64) {
        return Err(Status::INVALID_ADDRESS);
    }
    if context == Context::Vmsa {
        guest.vmsas.take(&mut data, checksums)?;
    }
    guest.vek.write(memory, transport.guest_addr, &mut data)
}

/// RECEIVE_FINISH (0x053): the guest may run.
pub(super) fn receive_finish(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    let handle = buffer.u32(at::HANDLE);
    let session = fw.session_mut()?;
    let guest = session.guest_mut(handle)?;
    let Phase::ReceiveUpdate { .. } = guest.phase else {
        return Err(Status::INVALID_GUEST_STATE);
    };
    guest.phase = Phase::Running;
    session.started(handle)
}
