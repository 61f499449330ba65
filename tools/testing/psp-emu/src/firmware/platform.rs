// SPDX-License-Identifier: GPL-2.0
//! Commands that move or report the platform state (SEV-API, chapter "Platform Management API").

use super::{command::CommandBuffer, Done, Firmware, Session, Status};
use crate::memory::GuestMemory;

/// CONFIG.ES: SEV-ES guests may run; needs a TMR.
const CONFIG_ES: u16 = 1 << 0;
/// The TMR of SEV-ES has exactly this size and this alignment, in bytes.
const TMR_LEN: u32 = 1 << 20;

/// Offsets in the command buffer of INIT.
mod init_at {
    pub(super) const FLAGS: usize = 0x0;
    pub(super) const RESERVED: usize = 0x2;
    pub(super) const RESERVED_LEN: usize = 6;
    pub(super) const TMR_PADDR: usize = 0x8;
    pub(super) const TMR_LEN: usize = 0x10;
}

/// Where SEV-ES keeps its metadata.
#[derive(Clone, Copy)]
struct Tmr {
    addr: u64,
    len: u32,
}

impl Tmr {
    /// # Errors
    ///
    /// INVALID_ADDRESS when misaligned or not RAM, INVALID_LENGTH when not exactly [`TMR_LEN`].
    fn check(self, memory: &dyn GuestMemory) -> Done {
        if self.addr % u64::from(TMR_LEN) != 0 {
            return Err(Status::INVALID_ADDRESS);
        }
        if self.len != TMR_LEN {
            return Err(Status::INVALID_LENGTH);
        }
        if !memory.is_writable(self.addr, u64::from(self.len)) {
            return Err(Status::INVALID_ADDRESS);
        }
        Ok(())
    }
}

/// INIT (0x001): UNINIT to INIT, with the persistent data in flash.
pub(super) fn init(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    fw.uninitialized()?;
    let config = buffer.u16(init_at::FLAGS);
    if config & !CONFIG_ES != 0 || !buffer.is_zero(init_at::RESERVED, init_at::RESERVED_LEN) {
        return Err(Status::INVALID_CONFIG);
    }
    if config & CONFIG_ES != 0 {
        let addr = fw.strip_c_bit(buffer.u64(init_at::TMR_PADDR));
        Tmr {
            addr,
            len: buffer.u32(init_at::TMR_LEN),
        }
        .check(memory)?;
    }
    fw.session = Some(Session { config });
    Ok(())
}

/// SHUTDOWN (0x002): to UNINIT from any state.
pub(super) fn shutdown(fw: &mut Firmware, _: &mut CommandBuffer, _: &mut dyn GuestMemory) -> Done {
    fw.session = None;
    Ok(())
}

/// PLATFORM_RESET (0x003): erases the flash; the next INIT makes a new, self-owned identity.
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
        Some(session) => (1, 0, session.config, 0),
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

/// DF_FLUSH (0x00a): writes back what the data fabric holds; in any state.
///
/// There is no data fabric here and caches are coherent, so the rules on WBINVD come with the guests
/// that need them.
pub(super) fn df_flush(_: &mut Firmware, _: &mut CommandBuffer, _: &mut dyn GuestMemory) -> Done {
    Ok(())
}

/// NOP (0x00e).
pub(super) fn nop(_: &mut Firmware, _: &mut CommandBuffer, _: &mut dyn GuestMemory) -> Done {
    Ok(())
}
