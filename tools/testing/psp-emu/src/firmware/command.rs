// SPDX-License-Identifier: GPL-2.0
//! The command table: ids, names, buffer lengths and directions (SEV-API, "Command Identifiers"), and
//! the command buffer.
//!
//! A command belongs to one row; what handles it is named there. A command that not every model offers
//! answers UNSUPPORTED on the others, ids without a row INVALID_COMMAND.

use super::{
    activation, attestation, copy, debug, launch, ownership, platform, receive, ring_buffer, send,
    start, swap, Done, Firmware, Status,
};
use crate::{memory::GuestMemory, model::Model};
use std::ops::Range;

/// What the firmware does with the command buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buffer {
    /// The command has none; the address registers are ignored.
    None,
    /// Read before the command.
    In,
    /// Written after success.
    Out,
    /// Read before, written after success and after INVALID_LEN.
    InOut,
}

/// Runs one command on its buffer.
pub(super) type Handler = fn(&mut Firmware, &mut CommandBuffer, &mut dyn GuestMemory) -> Done;

/// One row of the command table.
pub(super) struct Command {
    pub(super) id: u16,
    pub(super) name: &'static str,
    /// Length of the command buffer in bytes.
    pub(super) len: usize,
    pub(super) buffer: Buffer,
    /// First API version (major, minor) with this command; older firmware does not know it.
    pub(super) since: (u8, u8),
    pub(super) handler: Handler,
    /// Whether a model's firmware offers the command.
    pub(super) offered: fn(&Model) -> bool,
    /// Offsets of the 32-bit fields in which the firmware reports a length.
    pub(super) lengths: &'static [usize],
}

const fn row(
    id: u16,
    name: &'static str,
    len: usize,
    buffer: Buffer,
    since: (u8, u8),
    handler: Handler,
) -> Command {
    Command {
        id,
        name,
        len,
        buffer,
        since,
        handler,
        offered: |_| true,
        lengths: &[],
    }
}

impl Command {
    const fn reporting(mut self, lengths: &'static [usize]) -> Self {
        self.lengths = lengths;
        self
    }

    const fn offered(mut self, offered: fn(&Model) -> bool) -> Self {
        self.offered = offered;
        self
    }
}

#[rustfmt::skip] // A table is read by columns.
static COMMANDS: &[Command] = &[
    row(0x001, "INIT",              0x14, Buffer::In,    (0, 0),  platform::init),
    row(0x002, "SHUTDOWN",          0x00, Buffer::None,  (0, 0),  platform::shutdown),
    row(0x003, "PLATFORM_RESET",    0x00, Buffer::None,  (0, 0),  platform::platform_reset),
    row(0x004, "PLATFORM_STATUS",   0x0c, Buffer::Out,   (0, 0),  platform::platform_status),
    row(0x005, "PEK_GEN",           0x00, Buffer::None,  (0, 0),  ownership::pek_gen),
    row(0x006, "PEK_CSR",           0x0c, Buffer::InOut, (0, 0),  ownership::pek_csr).reporting(&[0x8]),
    row(0x007, "PEK_CERT_IMPORT",   0x1c, Buffer::In,    (0, 0),  ownership::pek_cert_import),
    row(0x008, "PDH_CERT_EXPORT",   0x1c, Buffer::InOut, (0, 0),  ownership::pdh_cert_export).reporting(&[0x8, 0x18]),
    row(0x009, "PDH_GEN",           0x00, Buffer::None,  (0, 0),  ownership::pdh_gen),
    row(0x00a, "DF_FLUSH",          0x00, Buffer::None,  (0, 0),  activation::df_flush),
    row(0x00b, "DOWNLOAD_FIRMWARE", 0x0c, Buffer::In,    (0, 15), platform::download_firmware),
    row(0x00c, "GET_ID",            0x0c, Buffer::InOut, (0, 16), ownership::get_id).reporting(&[0x8]),
    row(0x00d, "INIT_EX",           0x24, Buffer::In,    (0, 24), platform::init_ex),
    row(0x00e, "NOP",               0x00, Buffer::None,  (0, 24), platform::nop),
    row(0x00f, "RING_BUFFER",       0x28, Buffer::In,    (0, 0),  ring_buffer::ring_buffer).offered(|model| model.ring_buffer),
    row(0x020, "DECOMMISSION",        0x04, Buffer::In,    (0, 0),  activation::decommission),
    row(0x021, "ACTIVATE",            0x08, Buffer::In,    (0, 0),  activation::activate),
    row(0x022, "DEACTIVATE",          0x04, Buffer::In,    (0, 0),  activation::deactivate),
    row(0x023, "GUEST_STATUS",        0x0d, Buffer::InOut, (0, 0),  activation::guest_status),
    row(0x024, "COPY",                0x18, Buffer::In,    (0, 17), copy::copy),
    row(0x025, "ACTIVATE_EX",         0x18, Buffer::In,    (0, 17), activation::activate_ex),
    row(0x030, "LAUNCH_START",        0x24, Buffer::InOut, (0, 0),  start::launch_start),
    row(0x031, "LAUNCH_UPDATE_DATA",  0x14, Buffer::In,    (0, 0),  launch::launch_update_data),
    row(0x032, "LAUNCH_UPDATE_VMSA",  0x14, Buffer::In,    (0, 0),  launch::launch_update_vmsa),
    row(0x033, "LAUNCH_MEASURE",      0x14, Buffer::InOut, (0, 0),  launch::launch_measure).reporting(&[0x10]),
    row(0x034, "LAUNCH_SECRET",       0x34, Buffer::In,    (0, 0),  launch::launch_secret),
    row(0x035, "LAUNCH_FINISH",       0x04, Buffer::In,    (0, 0),  launch::launch_finish),
    row(0x036, "ATTESTATION",         0x24, Buffer::InOut, (0, 22), attestation::attestation).reporting(&[0x20]),
    row(0x040, "SEND_START",          0x44, Buffer::InOut, (0, 0),  send::send_start).reporting(&[0x40]),
    row(0x041, "SEND_UPDATE_DATA",    0x34, Buffer::InOut, (0, 0),  send::send_update_data).reporting(&[0x10, 0x30]),
    row(0x042, "SEND_UPDATE_VMSA",    0x34, Buffer::InOut, (0, 0),  send::send_update_vmsa).reporting(&[0x10, 0x30]),
    row(0x043, "SEND_FINISH",         0x04, Buffer::In,    (0, 0),  send::send_finish),
    row(0x044, "SEND_CANCEL",         0x04, Buffer::In,    (0, 22), send::send_cancel),
    row(0x050, "RECEIVE_START",       0x24, Buffer::InOut, (0, 0),  start::receive_start),
    row(0x051, "RECEIVE_UPDATE_DATA", 0x34, Buffer::In,    (0, 0),  receive::receive_update_data),
    row(0x052, "RECEIVE_UPDATE_VMSA", 0x34, Buffer::In,    (0, 0),  receive::receive_update_vmsa),
    row(0x053, "RECEIVE_FINISH",      0x04, Buffer::In,    (0, 0),  receive::receive_finish),
    row(0x060, "DBG_DECRYPT",         0x1c, Buffer::In,    (0, 0),  debug::dbg_decrypt),
    row(0x061, "DBG_ENCRYPT",         0x1c, Buffer::In,    (0, 0),  debug::dbg_encrypt),
    row(0x070, "SWAP_OUT",            0x28, Buffer::In,    (0, 22), swap::swap_out),
    row(0x071, "SWAP_IN",             0x20, Buffer::In,    (0, 22), swap::swap_in),
];

/// The row of a command id.
pub(super) fn find(id: u16) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.id == id)
}

/// The specification's name of a command id.
#[must_use]
pub fn command_name(id: u16) -> Option<&'static str> {
    find(id).map(|command| command.name)
}

/// The id of a command given by its name, in any case, or by number.
#[must_use]
pub fn command_id(text: &str) -> Option<u16> {
    let named = COMMANDS
        .iter()
        .find(|command| command.name.eq_ignore_ascii_case(text));
    named
        .map(|command| command.id)
        .or_else(|| super::parse_u16(text))
}

/// The firmware's copy of a command buffer, accessed by the offsets of the specification's tables.
///
/// Integers are little-endian. Offsets are constants of the command handlers and lie within the
/// length the command's row states.
pub(super) struct CommandBuffer {
    bytes: Vec<u8>,
    /// What drivers set in addresses when the host's memory is encrypted; it is ignored.
    c_bit: u64,
}

impl CommandBuffer {
    pub(super) fn zeroed(len: usize, c_bit: u64) -> Self {
        Self {
            bytes: vec![0; len],
            c_bit,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(super) fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[offset..offset + N]);
        array
    }

    pub(super) fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    pub(super) fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    pub(super) fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    /// A system physical address, without the C-bit.
    pub(super) fn address(&self, offset: usize) -> u64 {
        self.u64(offset) & !self.c_bit
    }

    /// A length or size, in bytes.
    pub(super) fn len(&self, offset: usize) -> usize {
        // CAST: no smaller than 32 bits on any machine this runs on.
        self.u32(offset) as usize
    }

    pub(super) fn set_u8(&mut self, offset: usize, value: u8) {
        self.bytes[offset] = value;
    }

    pub(super) fn set_u32(&mut self, offset: usize, value: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Whether a reserved range is zero.
    pub(super) fn is_zero(&self, range: Range<usize>) -> bool {
        self.bytes[range].iter().all(|&byte| byte == 0)
    }

    /// Answers a buffer of `capacity` bytes, stated in the field at `offset`, with the needed length.
    ///
    /// # Errors
    ///
    /// INVALID_LEN when the capacity is too small. The field then holds the needed length, as it
    /// does after success.
    pub(super) fn offer(&mut self, offset: usize, needed: usize) -> Done {
        let needed = u32::try_from(needed).map_err(|_| Status::RESOURCE_LIMIT)?;
        let capacity = self.u32(offset);
        self.set_u32(offset, needed);
        if capacity < needed {
            return Err(Status::INVALID_LEN);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_ids_ascend_and_fit_the_register() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert!(COMMANDS.iter().all(|command| command.id <= 0x7ff));
    }

    #[test]
    fn reported_lengths_lie_in_the_buffer() {
        for command in COMMANDS {
            assert!(command
                .lengths
                .iter()
                .all(|offset| offset + 4 <= command.len));
            assert_eq!(
                command.len == 0,
                command.buffer == Buffer::None,
                "{}",
                command.name
            );
        }
    }

    #[test]
    fn commands_are_found_by_name_and_number() {
        assert_eq!(command_id("platform_status"), Some(4));
        assert_eq!(command_id("0x4"), Some(4));
        assert_eq!(command_id("2047"), Some(2047));
        assert_eq!(command_id("PLATFORM"), None);
        assert_eq!(command_name(0x00c), Some("GET_ID"));
        assert_eq!(command_name(0x7ff), None);
    }
}
