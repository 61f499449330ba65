// SPDX-License-Identifier: GPL-2.0

//! Certificate formats: how the bytes lie. Nothing here computes a signature.
//!
//! Numbers in both formats are little-endian, also the big integers of keys and signatures.

mod amd;
mod sev;

pub use amd::{AmdCert, AmdCertError, AMD_CERT_VERSION};
pub use sev::{
    Chain, EcPublicKey, SevCert, SevCertError, Signature, CERT_LEN, CERT_VERSION, CHAIN_LEN,
    CURVE_P256, CURVE_P384, SIGNED_LEN,
};

/// What a key is for (`SEV-API` appendix C, table "usage").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Usage(pub u32);

impl Usage {
    /// AMD root key.
    pub const ARK: Usage = Usage(0x0000);
    /// AMD SEV signing key.
    pub const ASK: Usage = Usage(0x0013);
    /// Owner certificate authority.
    pub const OCA: Usage = Usage(0x1001);
    /// Platform endorsement key.
    pub const PEK: Usage = Usage(0x1002);
    /// Platform Diffie-Hellman key.
    pub const PDH: Usage = Usage(0x1003);
    /// Chip endorsement key.
    pub const CEK: Usage = Usage(0x1004);
    /// No key: an unused signature slot.
    pub const NONE: Usage = Usage(0x1000);

    /// The field's name for it.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Usage::ARK => "ARK",
            Usage::ASK => "ASK",
            Usage::OCA => "OCA",
            Usage::PEK => "PEK",
            Usage::PDH => "PDH",
            Usage::CEK => "CEK",
            _ => return None,
        })
    }
}

/// How a key is used (`SEV-API` appendix C, table "algorithm").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Algorithm(pub u32);

impl Algorithm {
    /// No key: an unused signature slot.
    pub const NONE: Algorithm = Algorithm(0x0000);
    /// RSA signatures over SHA-256.
    pub const RSA_SHA256: Algorithm = Algorithm(0x0001);
    /// ECDSA over SHA-256.
    pub const ECDSA_SHA256: Algorithm = Algorithm(0x0002);
    /// ECDH with SHA-256.
    pub const ECDH_SHA256: Algorithm = Algorithm(0x0003);
    /// RSA signatures over SHA-384.
    pub const RSA_SHA384: Algorithm = Algorithm(0x0101);
    /// ECDSA over SHA-384.
    pub const ECDSA_SHA384: Algorithm = Algorithm(0x0102);
    /// ECDH with SHA-384.
    pub const ECDH_SHA384: Algorithm = Algorithm(0x0103);
}
