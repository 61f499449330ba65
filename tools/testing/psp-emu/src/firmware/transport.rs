// SPDX-License-Identifier: GPL-2.0
//! The command buffer of LAUNCH_SECRET, SEND_UPDATE_* and RECEIVE_UPDATE_*: a packet, its header, and a piece
//! of private memory.
//!
//! Linux's `struct sev_data_send_update_vmsa` lacks the padding after the handle and is therefore four bytes
//! short; nothing in Linux uses it.

use super::{command::CommandBuffer, private::is_aligned, Done, Status};
use crate::{
    crypto::{
        memory_key::BLOCK_LEN,
        session::TransportKeys,
        transport::{Context, PacketHeader, LEN as HEADER_LEN},
    },
    memory::GuestMemory,
};

/// Offsets in the command buffer.
pub(super) mod at {
    pub(crate) const HANDLE: usize = 0x0;
    pub(crate) const HDR_PADDR: usize = 0x8;
    pub(crate) const HDR_LEN: usize = 0x10;
    pub(crate) const GUEST_PADDR: usize = 0x18;
    pub(crate) const GUEST_LEN: usize = 0x20;
    pub(crate) const TRANS_PADDR: usize = 0x28;
    pub(crate) const TRANS_LEN: usize = 0x30;
}

/// A packet holds at most this many bytes.
pub(super) const MAX_LEN: usize = 16 << 10;

/// A packet to be taken in.
pub(super) struct Transport {
    header_addr: u64,
    pub(super) guest_addr: u64,
    trans_addr: u64,
    len: usize,
}

impl Transport {
    /// Reads the command buffer of a command that takes a packet.
    ///
    /// # Errors
    ///
    /// INVALID_ADDRESS, INVALID_LEN.
    pub(super) fn parse(buffer: &CommandBuffer) -> Result<Self, Status> {
        let guest_addr = buffer.address(at::GUEST_PADDR);
        let len = buffer.len(at::GUEST_LEN);
        if !is_aligned(guest_addr) {
            return Err(Status::INVALID_ADDRESS);
        }
        if buffer.len(at::HDR_LEN) < HEADER_LEN || buffer.len(at::TRANS_LEN) != len {
            return Err(Status::INVALID_LEN);
        }
        check_len(len)?;
        Ok(Self {
            header_addr: buffer.address(at::HDR_PADDR),
            guest_addr,
            trans_addr: buffer.address(at::TRANS_PADDR),
            len,
        })
    }

    /// Fetches the packet and opens it.
    ///
    /// # Errors
    ///
    /// INVALID_ADDRESS; UNSUPPORTED when it is compressed; BAD_MEASUREMENT when a byte of it was changed.
    pub(super) fn open(
        &self,
        memory: &dyn GuestMemory,
        channel: &TransportKeys,
        context: Context<'_>,
    ) -> Result<Vec<u8>, Status> {
        let mut header = [0; HEADER_LEN];
        memory.read(self.header_addr, &mut header)?;
        let header = PacketHeader::from_bytes(&header);
        let mut data = vec![0; self.len];
        memory.read(self.trans_addr, &mut data)?;
        channel.open(context, &header, &mut data)?;
        // An owner may use every flag; that none is understood is the firmware's fault.
        match header.flags {
            0 => Ok(data),
            _ => Err(Status::UNSUPPORTED),
        }
    }
}

/// # Errors
///
/// INVALID_LEN when a packet cannot hold so many bytes.
pub(super) fn check_len(len: usize) -> Done {
    match (BLOCK_LEN..=MAX_LEN).contains(&len) && is_aligned(len as u64) {
        true => Ok(()),
        false => Err(Status::INVALID_LEN),
    }
}
