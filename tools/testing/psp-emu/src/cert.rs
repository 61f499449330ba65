// SPDX-License-Identifier: GPL-2.0
//! Certificates: SEV's own format ([`sev`]) and AMD's ([`amd`]).
//!
//! Both are fixed layouts of little-endian numbers, big numbers included (SEV-API, appendix
//! "Certificate Formats").

pub mod amd;
pub mod sev;

use crate::crypto::Hash;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// AMD root key.
    Ark,
    /// AMD SEV signing key.
    Ask,
    /// Owner certificate authority.
    Oca,
    /// Platform endorsement key.
    Pek,
    /// Platform Diffie-Hellman key.
    Pdh,
    /// Chip endorsement key.
    Cek,
}

/// The usage of a signature slot that holds none.
pub const USAGE_NONE: u32 = 0x1000;
/// The algorithm of a signature slot that holds none.
pub const ALGO_NONE: u32 = 0;

impl Usage {
    /// The number in certificates.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Ark => 0x0000,
            Self::Ask => 0x0013,
            Self::Oca => 0x1001,
            Self::Pek => 0x1002,
            Self::Pdh => 0x1003,
            Self::Cek => 0x1004,
        }
    }

    /// The usage with this number.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        let all = [
            Self::Ark,
            Self::Ask,
            Self::Oca,
            Self::Pek,
            Self::Pdh,
            Self::Cek,
        ];
        all.into_iter().find(|usage| usage.code() == code)
    }
}

/// Kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// RSA-PSS signatures.
    Rsa,
    /// ECDSA signatures.
    Ecdsa,
    /// Diffie-Hellman; such a key signs nothing.
    Ecdh,
}

/// Algorithm of a key and of the signatures it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algo {
    pub family: Family,
    pub hash: Hash,
}

impl Algo {
    pub const ECDSA_SHA256: Self = Self {
        family: Family::Ecdsa,
        hash: Hash::Sha256,
    };
    pub const ECDH_SHA256: Self = Self {
        family: Family::Ecdh,
        hash: Hash::Sha256,
    };

    /// The number in certificates: family in the low byte, hash in the next.
    #[must_use]
    pub const fn code(self) -> u32 {
        let family = match self.family {
            Family::Rsa => 1,
            Family::Ecdsa => 2,
            Family::Ecdh => 3,
        };
        match self.hash {
            Hash::Sha256 => family,
            Hash::Sha384 => 0x100 | family,
        }
    }

    /// The algorithm with this number.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        let hash = match code & !0xff {
            0 => Hash::Sha256,
            0x100 => Hash::Sha384,
            _ => return None,
        };
        let family = match code & 0xff {
            1 => Family::Rsa,
            2 => Family::Ecdsa,
            3 => Family::Ecdh,
            _ => return None,
        };
        Some(Self { family, hash })
    }
}

/// Why a certificate is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Malformed, of the wrong kind, or not signed by the key in question at all.
    #[error("invalid certificate")]
    Invalid,
    /// It claims to be signed by the key and the signature is wrong.
    #[error("bad signature")]
    BadSignature,
}
