// SPDX-License-Identifier: GPL-2.0

//! Commands that KVM makes: where they have the firmware write to the host's memory (`SEV-API` chapter 6).
//!
//! KVM frees what its commands point to when they return, also when the firmware was silent. So these
//! outputs go to memory of the driver's own, which can be kept, and are copied when the firmware is done.
//! Guests' pages are not among them: they are encrypted in place.

use super::{BufferArg, CmdId};
use crate::exchange::MAX_LENT;

/// The outputs of a command that are memory of the host's; none for a command whose type has
/// [`BUFFERS`](super::Command::BUFFERS).
pub const fn outputs(id: CmdId) -> &'static [BufferArg] {
    const MEASURE: &[BufferArg] = &[BufferArg::output(8, 16)];
    const REPORT: &[BufferArg] = &[BufferArg::output(8, 32)];
    const SESSION: &[BufferArg] = &[BufferArg::output(56, 64)];
    const PACKET: &[BufferArg] = &[BufferArg::output(8, 16), BufferArg::output(40, 48)];
    match id {
        CmdId::LaunchMeasure => MEASURE,
        CmdId::Attestation => REPORT,
        CmdId::SendStart => SESSION,
        CmdId::SendUpdateData => PACKET,
        _ => &[],
    }
}

/// An output of a command as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostOutput {
    arg: BufferArg,
    /// Its address, as the firmware wants it.
    pub addr: u64,
    /// Its bytes.
    pub len: u32,
}

impl HostOutput {
    /// Those of a command with these bytes. What has no address or no bytes, as when KVM asks for a
    /// length, is none.
    pub fn of(id: CmdId, bytes: &[u8]) -> [Option<Self>; MAX_LENT] {
        let mut found = [None; MAX_LENT];
        for (arg, slot) in outputs(id).iter().zip(&mut found) {
            *slot = Self::at(*arg, bytes);
        }
        found
    }

    fn at(arg: BufferArg, bytes: &[u8]) -> Option<Self> {
        let addr = bytes.get(arg.addr..)?.first_chunk()?;
        let len = bytes.get(arg.len..)?.first_chunk()?;
        let (addr, len) = (u64::from_le_bytes(*addr), u32::from_le_bytes(*len));
        (addr != 0 && len != 0).then_some(HostOutput { arg, addr, len })
    }

    /// Makes the command that is in `bytes` have its output at `addr`.
    pub fn point(&self, bytes: &mut [u8], addr: u64) {
        let field = bytes.get_mut(self.arg.addr..);
        if let Some(field) = field.and_then(|rest| rest.first_chunk_mut()) {
            *field = addr.to_le_bytes();
        }
    }
}

const _: () = {
    let mut i = 0;
    while i < CmdId::ALL.len() {
        let (args, len) = (outputs(CmdId::ALL[i]), CmdId::ALL[i].buffer_len());
        assert!(args.len() <= MAX_LENT);
        let mut j = 0;
        while j < args.len() {
            assert!(args[j].output && args[j].addr + 8 <= len && args[j].len + 4 <= len);
            j += 1;
        }
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    /// A command whose bytes are their own offsets, but for what is at an offset.
    fn numbered(id: CmdId) -> Vec<u8> {
        // CAST: commands have less than 256 bytes.
        (0..id.buffer_len() as u8).collect()
    }

    #[test]
    fn outputs_are_where_the_specification_has_them() {
        for (id, fields) in [
            (CmdId::LaunchMeasure, &[(8, 16)][..]),
            (CmdId::Attestation, &[(8, 32)]),
            (CmdId::SendStart, &[(56, 64)]),
            (CmdId::SendUpdateData, &[(8, 16), (40, 48)]),
            (CmdId::LaunchUpdateData, &[]),
            (CmdId::LaunchSecret, &[]),
            (CmdId::ReceiveUpdateData, &[]),
            (CmdId::DbgDecrypt, &[]),
            (CmdId::GetId, &[]),
        ] {
            let mut bytes = numbered(id);
            let found: Vec<_> = HostOutput::of(id, &bytes).into_iter().flatten().collect();
            assert_eq!(found.len(), fields.len(), "{}", id.name());
            for (output, &(addr, len)) in found.iter().zip(fields) {
                assert_eq!(output.addr.to_le_bytes()[0], addr);
                assert_eq!(output.len.to_le_bytes()[0], len);
                output.point(&mut bytes, 0);
                let (at, before) = (usize::from(addr), numbered(id));
                assert_eq!(bytes[at..at + 8], [0; 8]);
                output.point(&mut bytes, output.addr);
                assert_eq!(bytes, before, "nothing else has changed");
            }
        }
    }

    #[test]
    fn a_question_for_a_length_has_no_output() {
        let mut bytes = numbered(CmdId::SendUpdateData);
        bytes[16..20].fill(0);
        let [header, packet] = HostOutput::of(CmdId::SendUpdateData, &bytes);
        assert_eq!((header, packet.is_some()), (None, true));
        bytes[40..48].fill(0);
        assert_eq!(HostOutput::of(CmdId::SendUpdateData, &bytes), [None; 2]);
    }

    #[test]
    fn too_few_bytes_have_no_output() {
        for len in 0..20 {
            let bytes = &numbered(CmdId::LaunchMeasure)[..len];
            assert_eq!(HostOutput::of(CmdId::LaunchMeasure, bytes), [None; 2]);
        }
    }
}
