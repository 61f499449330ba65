// SPDX-License-Identifier: GPL-2.0

//! The SEV certificate: OCA, PEK, PDH and CEK (`SEV-API` appendix C.1).
//!
//! | Offset | Bytes | Field |
//! |---|---|---|
//! | 0x000 | 4 | VERSION, 1 |
//! | 0x004 | 1 | API_MAJOR |
//! | 0x005 | 1 | API_MINOR |
//! | 0x006 | 2 | reserved |
//! | 0x008 | 4 | PUBKEY_USAGE |
//! | 0x00c | 4 | PUBKEY_ALGO |
//! | 0x010 | 1028 | PUBKEY |
//! | 0x414 | 4 | SIG1_USAGE |
//! | 0x418 | 4 | SIG1_ALGO |
//! | 0x41c | 512 | SIG1 |
//! | 0x61c | 4 | SIG2_USAGE |
//! | 0x620 | 4 | SIG2_ALGO |
//! | 0x624 | 512 | SIG2 |
//!
//! A signature covers the bytes before SIG1_USAGE.

use core::mem::offset_of;

use zerocopy::little_endian::U32;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Algorithm, Usage};

/// Bytes of a SEV certificate.
pub const CERT_LEN: usize = 2084;

/// Bytes that a signature covers.
pub const SIGNED_LEN: usize = 0x414;

/// The one version of the format.
pub const CERT_VERSION: u32 = 1;

/// Curve id of P-256.
pub const CURVE_P256: u32 = 1;
/// Curve id of P-384.
pub const CURVE_P384: u32 = 2;

/// An elliptic-curve public key as it lies in the PUBKEY field.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EcPublicKey {
    /// [`CURVE_P256`] or [`CURVE_P384`].
    pub curve: U32,
    /// X coordinate, little-endian, zero-padded.
    pub x: [u8; 72],
    /// Y coordinate, little-endian, zero-padded.
    pub y: [u8; 72],
    reserved: [u8; 880],
}

impl EcPublicKey {
    /// A key on `curve`; coordinates little-endian, zero-padded to 72 bytes.
    pub fn new(curve: u32, x: [u8; 72], y: [u8; 72]) -> Self {
        EcPublicKey {
            curve: curve.into(),
            x,
            y,
            reserved: [0; 880],
        }
    }
}

/// One of the two signature slots.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Signature {
    usage: U32,
    algorithm: U32,
    /// ECDSA: R in bytes 0..72, S in bytes 72..144, each little-endian and zero-padded. RSA: the
    /// signature, little-endian.
    pub bytes: [u8; 512],
}

impl Signature {
    /// An unused slot.
    pub const NONE: Signature = Signature {
        usage: U32::from_bytes(Usage::NONE.0.to_le_bytes()),
        algorithm: U32::ZERO,
        bytes: [0; 512],
    };

    /// A signature by a key of `usage`.
    pub fn new(usage: Usage, algorithm: Algorithm, bytes: [u8; 512]) -> Self {
        Signature {
            usage: usage.0.into(),
            algorithm: algorithm.0.into(),
            bytes,
        }
    }

    /// An ECDSA signature by a key of `usage`; R and S little-endian, zero-padded to 72 bytes.
    pub fn ecdsa(usage: Usage, algorithm: Algorithm, r: &[u8; 72], s: &[u8; 72]) -> Self {
        let mut bytes = [0; 512];
        bytes[..72].copy_from_slice(r);
        bytes[72..144].copy_from_slice(s);
        Signature::new(usage, algorithm, bytes)
    }

    /// What the signing key is for.
    pub fn usage(&self) -> Usage {
        Usage(self.usage.get())
    }

    /// How it signed.
    pub fn algorithm(&self) -> Algorithm {
        Algorithm(self.algorithm.get())
    }

    /// R of an ECDSA signature, little-endian.
    pub fn r(&self) -> &[u8] {
        &self.bytes[..72]
    }

    /// S of an ECDSA signature, little-endian.
    pub fn s(&self) -> &[u8] {
        &self.bytes[72..144]
    }
}

/// A SEV certificate, byte for byte.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SevCert {
    version: U32,
    /// Major version of the API that made it.
    pub api_major: u8,
    /// Minor version of the API that made it.
    pub api_minor: u8,
    reserved: [u8; 2],
    usage: U32,
    algorithm: U32,
    /// The public key.
    pub key: EcPublicKey,
    /// The two signature slots.
    pub signatures: [Signature; 2],
}

const _: () = {
    assert!(size_of::<EcPublicKey>() == 1028);
    assert!(size_of::<SevCert>() == CERT_LEN);
    assert!(offset_of!(SevCert, api_major) == 0x4);
    assert!(offset_of!(SevCert, api_minor) == 0x5);
    assert!(offset_of!(SevCert, reserved) == 0x6);
    assert!(offset_of!(SevCert, usage) == 0x8);
    assert!(offset_of!(SevCert, algorithm) == 0xc);
    assert!(offset_of!(SevCert, key) == 0x10);
    assert!(offset_of!(SevCert, signatures) == SIGNED_LEN);
    assert!(size_of::<Signature>() == 0x208);
    assert!(offset_of!(Signature, algorithm) == 0x4);
    assert!(offset_of!(Signature, bytes) == 0x8);
};

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SevCertError {
    /// A version that is not [`CERT_VERSION`].
    Version(u32),
    /// The key is for something else than expected.
    Usage(Usage),
    /// The key's algorithm does not fit its usage.
    Algorithm(Algorithm),
    /// An unknown curve.
    Curve(u32),
    /// A reserved byte is not zero.
    Reserved,
}

impl SevCert {
    /// A certificate without signatures.
    pub fn unsigned(api: (u8, u8), usage: Usage, algorithm: Algorithm, key: EcPublicKey) -> Self {
        SevCert {
            version: CERT_VERSION.into(),
            api_major: api.0,
            api_minor: api.1,
            reserved: [0; 2],
            usage: usage.0.into(),
            algorithm: algorithm.0.into(),
            key,
            signatures: [Signature::NONE; 2],
        }
    }

    /// What the key is for.
    pub fn usage(&self) -> Usage {
        Usage(self.usage.get())
    }

    /// How the key is used.
    pub fn algorithm(&self) -> Algorithm {
        Algorithm(self.algorithm.get())
    }

    /// The bytes that a signature covers.
    pub fn signed_bytes(&self) -> &[u8] {
        &zerocopy::IntoBytes::as_bytes(self)[..SIGNED_LEN]
    }

    /// The signature by a key of `usage`, if there is one.
    pub fn signature_by(&self, usage: Usage) -> Option<&Signature> {
        self.signatures.iter().find(|s| s.usage() == usage)
    }

    /// Checks everything but signatures: version, usage, algorithm, curve, reserved bytes.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn check(&self, usage: Usage) -> Result<(), SevCertError> {
        if self.version.get() != CERT_VERSION {
            return Err(SevCertError::Version(self.version.get()));
        }
        if self.usage() != usage {
            return Err(SevCertError::Usage(self.usage()));
        }
        let fits = match usage {
            Usage::PDH => [Algorithm::ECDH_SHA256, Algorithm::ECDH_SHA384],
            _ => [Algorithm::ECDSA_SHA256, Algorithm::ECDSA_SHA384],
        };
        if !fits.contains(&self.algorithm()) {
            return Err(SevCertError::Algorithm(self.algorithm()));
        }
        if ![CURVE_P256, CURVE_P384].contains(&self.key.curve.get()) {
            return Err(SevCertError::Curve(self.key.curve.get()));
        }
        if self.reserved != [0; 2] || self.key.reserved != [0; 880] {
            return Err(SevCertError::Reserved);
        }
        Ok(())
    }
}

/// The chain above the PDH, as PDH_CERT_EXPORT writes it: PEK, OCA, CEK.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Chain {
    /// Platform endorsement key, signed by the OCA and the CEK.
    pub pek: SevCert,
    /// Owner certificate authority.
    pub oca: SevCert,
    /// Chip endorsement key.
    pub cek: SevCert,
}

/// Bytes of a [`Chain`].
pub const CHAIN_LEN: usize = 3 * CERT_LEN;

const _: () = assert!(size_of::<Chain>() == CHAIN_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    fn pek() -> SevCert {
        let key = EcPublicKey::new(CURVE_P384, [1; 72], [2; 72]);
        SevCert::unsigned((1, 55), Usage::PEK, Algorithm::ECDSA_SHA256, key)
    }

    #[test]
    fn each_check_finds_its_fault() {
        assert_eq!(pek().check(Usage::PEK), Ok(()));
        assert_eq!(
            pek().check(Usage::OCA),
            Err(SevCertError::Usage(Usage::PEK))
        );

        let mut cert = pek();
        cert.version = 2.into();
        assert_eq!(cert.check(Usage::PEK), Err(SevCertError::Version(2)));

        let mut cert = pek();
        cert.algorithm = Algorithm::ECDH_SHA256.0.into();
        let wrong = SevCertError::Algorithm(Algorithm::ECDH_SHA256);
        assert_eq!(cert.check(Usage::PEK), Err(wrong));

        let mut cert = pek();
        cert.key.curve = 3.into();
        assert_eq!(cert.check(Usage::PEK), Err(SevCertError::Curve(3)));

        let mut cert = pek();
        cert.key.reserved[879] = 1;
        assert_eq!(cert.check(Usage::PEK), Err(SevCertError::Reserved));
    }

    #[test]
    fn signatures_are_found_by_the_key_that_made_them() {
        let mut cert = pek();
        assert!(cert.signature_by(Usage::CEK).is_none());
        let sig = Signature::ecdsa(Usage::CEK, Algorithm::ECDSA_SHA256, &[3; 72], &[4; 72]);
        cert.signatures[1] = sig;
        let found = cert.signature_by(Usage::CEK).unwrap();
        assert_eq!((found.r(), found.s()), (&[3; 72][..], &[4; 72][..]));
    }
}
