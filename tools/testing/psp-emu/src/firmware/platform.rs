// SPDX-License-Identifier: GPL-2.0
//! Commands that move or report the platform state (SEV-API, chapter "Platform Management API").

use super::{
    asid::Asids,
    command::CommandBuffer,
    guest::Guests,
    identity::{Identity, Owner},
    image,
    storage::{Storage, NV_LEN},
    vmsa::ChecksumPool,
    Done, Firmware, Session, Status,
};
use crate::memory::GuestMemory;
use std::ops::Range;

/// CONFIG.ES: SEV-ES guests may run; needs a TMR.
const CONFIG_ES: u16 = 1 << 0;
/// The TMR of SEV-ES has exactly this size and this alignment, in bytes.
const TMR_LEN: u32 = 1 << 20;
/// Alignment of the NV area in bytes.
const NV_ALIGN: u64 = 4096;

/// Offsets in the command buffer of INIT.
mod init_at {
    use super::Range;

    pub(super) const FLAGS: usize = 0x0;
    pub(super) const RESERVED: Range<usize> = 0x2..0x8;
    pub(super) const TMR_PADDR: usize = 0x8;
    pub(super) const TMR_LEN: usize = 0x10;
}

/// Offsets in the command buffer of INIT_EX.
mod init_ex_at {
    use super::Range;

    pub(super) const LEN: u32 = 0x24;
    pub(super) const LENGTH: usize = 0x0;
    pub(super) const FLAGS: usize = 0x4;
    pub(super) const RESERVED: [Range<usize>; 2] = [0x6..0x8, 0x14..0x18];
    pub(super) const TMR_PADDR: usize = 0x8;
    pub(super) const TMR_LEN: usize = 0x10;
    pub(super) const NV_PADDR: usize = 0x18;
    pub(super) const NV_LEN: usize = 0x20;
}

/// Offsets in the command buffer of DOWNLOAD_FIRMWARE.
mod download_firmware_at {
    pub(super) const FW_PADDR: usize = 0x0;
    pub(super) const FW_LEN: usize = 0x8;
}

/// Where SEV-ES keeps its metadata.
#[derive(Clone, Copy)]
pub(super) struct Tmr {
    addr: u64,
    len: u32,
}

impl Tmr {
    /// # Errors
    ///
    /// INVALID_ADDRESS when misaligned or not RAM, INVALID_LEN when not exactly [`TMR_LEN`].
    fn check(self, memory: &dyn GuestMemory) -> Done {
        if self.addr % u64::from(TMR_LEN) != 0 {
            return Err(Status::INVALID_ADDRESS);
        }
        if self.len != TMR_LEN {
            return Err(Status::INVALID_LEN);
        }
        if !memory.is_writable(self.addr, u64::from(self.len)) {
            return Err(Status::INVALID_ADDRESS);
        }
        Ok(())
    }

    /// Whether the TMR, already checked, shares a byte with `len` bytes at `addr`.
    pub(super) fn overlaps(self, addr: u64, len: u64) -> bool {
        self.addr < addr.saturating_add(len) && addr < self.addr + u64::from(self.len)
    }

    /// The addresses of its second half, where the checksums of VMSAs are.
    pub(super) fn second_half(self) -> Range<u64> {
        let len = u64::from(self.len);
        self.addr + len / 2..self.addr + len
    }
}

/// Reads CONFIG and the TMR that comes with CONFIG.ES.
///
/// # Errors
///
/// INVALID_CONFIG when a reserved bit is set; as for [`Tmr::check`].
fn check_config(
    config: u16,
    tmr: Tmr,
    reserved_is_zero: bool,
    memory: &dyn GuestMemory,
) -> Result<Option<Tmr>, Status> {
    if config & !CONFIG_ES != 0 || !reserved_is_zero {
        return Err(Status::INVALID_CONFIG);
    }
    if config & CONFIG_ES == 0 {
        return Ok(None);
    }
    tmr.check(memory)?;
    Ok(Some(tmr))
}

impl Firmware {
    /// Common part of INIT and INIT_EX once their parameters are checked: loads the identity, or makes
    /// and stores a new one.
    fn start_session(
        &mut self,
        config: u16,
        tmr: Option<Tmr>,
        storage: Storage,
        memory: &mut dyn GuestMemory,
    ) -> Done {
        let identity = match self.load(storage, memory)? {
            Some(identity) => identity,
            None => {
                let identity = self.make(Identity::generate)?;
                self.save(&identity, storage, memory)?;
                identity
            }
        };
        self.session = Some(Session {
            config,
            storage,
            identity,
            tmr,
            asids: Asids::new(self.model),
            guests: Guests::default(),
            checksums: ChecksumPool::new(tmr),
            ring_buffer: None,
        });
        self.caches.filled();
        Ok(())
    }
}

/// INIT (0x001): UNINIT to INIT, with the persistent data in flash.
pub(super) fn init(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    use init_at as at;
    fw.uninitialized()?;
    let config = buffer.u16(at::FLAGS);
    let addr = buffer.address(at::TMR_PADDR);
    let tmr = Tmr {
        addr,
        len: buffer.u32(at::TMR_LEN),
    };
    let tmr = check_config(config, tmr, buffer.is_zero(at::RESERVED), memory)?;
    fw.start_session(config, tmr, Storage::Flash, memory)
}

/// INIT_EX (0x00d): as INIT, with the persistent data in an area of memory the driver provides. Address
/// zero means flash.
pub(super) fn init_ex(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    use init_ex_at as at;
    fw.uninitialized()?;
    let config = buffer.u16(at::FLAGS);
    let addr = buffer.address(at::TMR_PADDR);
    let tmr = Tmr {
        addr,
        len: buffer.u32(at::TMR_LEN),
    };
    let reserved_is_zero = at::RESERVED.into_iter().all(|range| buffer.is_zero(range));
    let tmr = check_config(config, tmr, reserved_is_zero, memory)?;
    if buffer.u32(at::LENGTH) != at::LEN {
        return Err(Status::INVALID_LEN);
    }
    let storage = match buffer.address(at::NV_PADDR) {
        0 => Storage::Flash,
        addr => {
            if addr % NV_ALIGN != 0 || !memory.is_writable(addr, NV_LEN.into()) {
                return Err(Status::INVALID_ADDRESS);
            }
            if buffer.u32(at::NV_LEN) != NV_LEN {
                return Err(Status::INVALID_LEN);
            }
            if tmr.is_some_and(|tmr| tmr.overlaps(addr, NV_LEN.into())) {
                return Err(Status::INVALID_ADDRESS);
            }
            Storage::Memory(addr)
        }
    };
    fw.start_session(config, tmr, storage, memory)
}

/// SHUTDOWN (0x002): to UNINIT from any state; guests are gone.
pub(super) fn shutdown(fw: &mut Firmware, _: &mut CommandBuffer, _: &mut dyn GuestMemory) -> Done {
    fw.session = None;
    Ok(())
}

/// PLATFORM_RESET (0x003): erases the flash; the next INIT makes a new, self-owned identity.
///
/// The NV area of INIT_EX is not known in UNINIT: resetting that is the part of whoever stores it.
pub(super) fn platform_reset(
    fw: &mut Firmware,
    _: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    fw.uninitialized()?;
    fw.flash.erase().map_err(|_| Status::HWERROR_PLATFORM)
}

/// PLATFORM_STATUS (0x004): version, state, owner, configuration, number of guests; in any state.
pub(super) fn platform_status(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    let version = fw.version;
    let (state, owner, config, guests) = match &fw.session {
        None => (0, 0, 0, 0_u32),
        Some(session) => (
            if session.guests.count() == 0 { 1 } else { 2 },
            u8::from(matches!(session.identity.owner, Owner::External)),
            session.config,
            session.guests.count(),
        ),
    };
    let bytes = buffer.bytes_mut();
    bytes[0x0] = version.major;
    bytes[0x1] = version.minor;
    bytes[0x2] = state;
    bytes[0x3] = owner;
    bytes[0x4..0x6].copy_from_slice(&config.to_le_bytes());
    bytes[0x6] = 0;
    bytes[0x7] = version.build;
    bytes[0x8..0xc].copy_from_slice(&guests.to_le_bytes());
    Ok(())
}

/// NOP (0x00e).
pub(super) fn nop(_: &mut Firmware, _: &mut CommandBuffer, _: &mut dyn GuestMemory) -> Done {
    Ok(())
}

/// DOWNLOAD_FIRMWARE (0x00b): replaces the running firmware until the next power cycle. In UNINIT.
pub(super) fn download_firmware(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    use download_firmware_at as at;
    fw.uninitialized()?;
    let addr = buffer.address(at::FW_PADDR);
    if addr % image::ALIGN != 0 {
        return Err(Status::INVALID_ADDRESS);
    }
    let len = buffer.u32(at::FW_LEN);
    if len > image::MAX_LEN {
        return Err(Status::INVALID_LEN);
    }
    let mut bytes = vec![0; len as usize];
    memory.read(addr, &mut bytes)?;
    let version = image::check(fw.model, &bytes)?;
    if version < fw.model.version {
        return Err(Status::BAD_VERSION);
    }
    fw.version = version;
    Ok(())
}
