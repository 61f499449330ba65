// SPDX-License-Identifier: GPL-2.0
//! Commands that launch a guest, from LAUNCH_UPDATE_DATA to LAUNCH_FINISH (SEV-API, chapter "Guest Launch
//! API").

use super::{
    command::CommandBuffer,
    guest::Phase,
    private::{in_chunks, is_aligned},
    transcript::{Hex, Measured, RegionKind},
    transport::{self, Transport},
    vmsa, Done, Firmware, Status,
};
use crate::{
    crypto::transport::{Context, LEN as HEADER_LEN},
    memory::GuestMemory,
};
use sha2::{Digest, Sha256};

/// Offset in the command buffers of all commands here.
const HANDLE: usize = 0x0;

/// Offsets in the command buffers of LAUNCH_UPDATE_DATA and LAUNCH_UPDATE_VMSA.
mod update_at {
    pub(super) const PADDR: usize = 0x8;
    pub(super) const LENGTH: usize = 0x10;
}

/// Offsets in the command buffer of LAUNCH_MEASURE.
mod measure_at {
    pub(super) const MEASURE_PADDR: usize = 0x8;
    pub(super) const MEASURE_LEN: usize = 0x10;
}

/// Length of measurement and nonce in bytes.
const MEASURE_LEN: usize = 48;

/// LAUNCH_UPDATE_DATA (0x031): measures and encrypts a piece of memory.
pub(super) fn launch_update_data(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    update(fw, buffer, memory, RegionKind::Data)
}

/// LAUNCH_UPDATE_VMSA (0x032): measures and encrypts the registers of a vCPU.
pub(super) fn launch_update_vmsa(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    if buffer.len(update_at::LENGTH) != vmsa::LEN {
        return Err(Status::INVALID_LEN);
    }
    update(fw, buffer, memory, RegionKind::Vmsa)
}

fn update(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
    kind: RegionKind,
) -> Done {
    let session = fw.session_mut()?;
    let (guest, checksums) = session.guest_and_checksums(buffer.u32(HANDLE))?;
    let (has_es, active) = (guest.has_es(), guest.active());
    let Phase::LaunchUpdate { digest, .. } = &mut guest.phase else {
        return Err(Status::INVALID_GUEST_STATE);
    };
    if kind == RegionKind::Vmsa {
        has_es?;
    }
    active?;
    let (addr, len) = (
        buffer.address(update_at::PADDR),
        buffer.len(update_at::LENGTH),
    );
    if !is_aligned(addr) {
        return Err(Status::INVALID_ADDRESS);
    }
    if len == 0 || !is_aligned(len as u64) {
        return Err(Status::INVALID_LEN);
    }
    if !memory.is_writable(addr, len as u64) {
        return Err(Status::INVALID_ADDRESS);
    }
    if kind == RegionKind::Vmsa && checksums.is_empty() {
        return Err(Status::RESOURCE_LIMIT);
    }
    let mut region = guest.transcript.as_ref().map(|_| Sha256::new());
    in_chunks(len, |offset, chunk| {
        memory.read(addr + offset, chunk)?;
        // What is measured is what the owner knows, before the firmware adds to a VMSA.
        digest.update(&*chunk);
        if let Some(region) = &mut region {
            region.update(&*chunk);
        }
        if kind == RegionKind::Vmsa {
            guest.vmsas.take(chunk, checksums)?;
        }
        guest.vek.write(memory, addr + offset, chunk)
    })?;
    if let (Some(transcript), Some(region)) = (&mut guest.transcript, region) {
        transcript.add(kind, addr, len as u64, region);
    }
    Ok(())
}

/// LAUNCH_MEASURE (0x033): ends the taking of data and tells the owner what was taken.
pub(super) fn launch_measure(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let mut nonce = [0; 16];
    fw.random.fill_bytes(&mut nonce);
    let version = fw.version;
    let session = fw.session.as_mut();
    let session = session.ok_or(Status::INVALID_PLATFORM_STATE)?;
    let guest = session.guest_mut(buffer.u32(HANDLE))?;
    let Phase::LaunchUpdate { channel, digest } = &guest.phase else {
        return Err(Status::INVALID_GUEST_STATE);
    };
    buffer.offer(measure_at::MEASURE_LEN, MEASURE_LEN)?;
    let launch_digest: [u8; 32] = digest.clone().finalize().into();
    let measurement = channel.measure(version, guest.policy.0, &launch_digest, &nonce);
    let answer = [&measurement[..], &nonce].concat();
    memory.write(buffer.address(measure_at::MEASURE_PADDR), &answer)?;
    let channel = channel.clone();
    guest.phase = Phase::LaunchSecret {
        channel,
        measurement,
    };
    guest.launch_digest = launch_digest;
    if let (Some(transcript), Some(on_measured)) = (&mut guest.transcript, &mut fw.on_measured) {
        transcript.measured = Some(Measured {
            launch_digest: Hex(launch_digest),
            nonce: Hex(nonce),
            measurement: Hex(measurement),
        });
        on_measured(transcript);
    }
    Ok(())
}

/// LAUNCH_SECRET (0x034): puts a secret of the owner, who has seen the measurement, into the guest.
pub(super) fn launch_secret(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let guest = fw.session_mut()?.guest_mut(buffer.u32(HANDLE))?;
    let transport = Transport::parse(buffer)?;
    // The commands of migration take a longer header, this one does not.
    if buffer.len(transport::at::HDR_LEN) != HEADER_LEN {
        return Err(Status::INVALID_LEN);
    }
    let Phase::LaunchSecret {
        channel,
        measurement,
    } = &guest.phase
    else {
        return Err(Status::INVALID_GUEST_STATE);
    };
    guest.active()?;
    let mut secret = transport.open(memory, channel, Context::Secret { measurement })?;
    guest.vek.write(memory, transport.guest_addr, &mut secret)
}

/// LAUNCH_FINISH (0x035): the guest may run.
pub(super) fn launch_finish(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    let handle = buffer.u32(HANDLE);
    let session = fw.session_mut()?;
    let guest = session.guest_mut(handle)?;
    let Phase::LaunchSecret { .. } = guest.phase else {
        return Err(Status::INVALID_GUEST_STATE);
    };
    guest.phase = Phase::Running;
    session.started(handle)
}
