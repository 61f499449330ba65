// SPDX-License-Identifier: GPL-2.0
//! Commands about who the platform is and who owns it.

use super::{command::CommandBuffer, Done, Firmware};
use crate::memory::GuestMemory;
use hmac::{Hmac, Mac};
use sha2::Sha512;

/// Offsets in the command buffer of GET_ID.
mod get_id_at {
    pub(super) const ID_PADDR: usize = 0x0;
    pub(super) const ID_LEN: usize = 0x8;
}

/// GET_ID (0x00c): the 64 bytes by which AMD's key server knows the chip; in any state.
///
/// One socket is emulated, so 64 bytes are returned even where 128 are offered.
pub(super) fn get_id(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let id = fw.chip.id();
    buffer.offer(get_id_at::ID_LEN, id.len())?;
    let addr = fw.strip_c_bit(buffer.u64(get_id_at::ID_PADDR));
    memory.write(addr, &id)?;
    Ok(())
}

impl super::Chip {
    /// The chip's public identity.
    ///
    /// On hardware a point of secp256k1 made from the chip's secret; here 64 bytes made from it
    /// another way, which nobody can tell apart.
    #[must_use]
    pub fn id(&self) -> [u8; 64] {
        // PANIC: HMAC takes keys of any length.
        let mut mac =
            Hmac::<Sha512>::new_from_slice(&self.secret).expect("any key length is valid");
        mac.update(b"psp-emu chip id");
        mac.finalize().into_bytes().into()
    }
}
