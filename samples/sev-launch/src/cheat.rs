// SPDX-License-Identifier: GPL-2.0
//! What a host could try. Each is noticed, by the owner or by the firmware.

use clap::ValueEnum;

/// What the host changes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cheat {
    /// One bit of the PEK's certificate
    Chain,
    /// One bit of the owner's session
    Session,
    /// The policy: debugging is allowed after all
    Policy,
    /// One bit of the image
    Image,
    /// One bit of the secret's packet
    Secret,
    /// One bit of the attestation report
    Report,
    /// One bit of the PDH of the platform to send the guest to
    Receiver,
    /// One bit of a page on its way to another platform
    Packet,
}

/// Changes one bit.
pub(crate) fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}
