// SPDX-License-Identifier: GPL-2.0
//! What host and owner send each other. These are bytes, because in life they cross a network; neither side has more of
//! the other than this.

/// Length of each certificate of a platform (SEV-API, table "SEV Certificate Format").
pub(crate) const CERTIFICATE_LEN: usize = 2084;

/// Length of a session (SEV-API, table "Session Data Buffer").
pub(crate) const SESSION_LEN: usize = 128;

/// Length of a packet's header (SEV-API, table "Packet Header").
pub(crate) const HEADER_LEN: usize = 52;

/// Length of what LAUNCH_MEASURE returns: the measurement and the firmware's nonce (SEV-API, LAUNCH_MEASURE).
pub(crate) const MEASUREMENT_LEN: usize = 48;

/// Length of an attestation report (SEV-API, table "Attestation Report").
pub(crate) const REPORT_LEN: usize = 208;

/// Host to owner: the platform's PDH, PEK, OCA and CEK certificates, one after the other.
#[derive(Clone)]
pub(crate) struct PlatformChain(pub(crate) Vec<u8>);

/// Owner to host: what LAUNCH_START needs.
#[derive(Clone)]
pub(crate) struct LaunchSession {
    /// What may be done with the guest; see [`crate::policy`].
    pub(crate) policy: u32,
    /// The owner's Diffie-Hellman certificate.
    pub(crate) certificate: Vec<u8>,
    /// The session's keys, encrypted for the platform, and the proof that the policy is the owner's.
    pub(crate) session: Vec<u8>,
}

/// Host to owner: what the firmware says was launched.
pub(crate) struct Measurement {
    /// SEV API version, major and minor, and build of the firmware.
    pub(crate) version: [u8; 3],
    /// The measurement, 32 bytes, and the firmware's nonce, 16 bytes.
    pub(crate) blob: [u8; MEASUREMENT_LEN],
}

/// Owner to host: secrets that only the measured guest can read.
pub(crate) struct SecretPacket {
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}
