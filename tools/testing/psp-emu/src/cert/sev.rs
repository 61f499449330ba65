// SPDX-License-Identifier: GPL-2.0
//! The SEV certificate, version 1: 2084 bytes (SEV-API, table "SEV Certificate Format").
//!
//! ```text
//! 0x000     4  version
//! 0x004   1+1  API version of the firmware that made it
//! 0x006     2  reserved
//! 0x008   4+4  usage and algorithm of the key
//! 0x010  1028  public key
//! 0x414   4+4  usage and algorithm of the first signer
//! 0x41c   512  first signature, over bytes 0 to 0x413
//! 0x61c   4+4  usage and algorithm of the second signer
//! 0x624   512  second signature
//! ```

use super::{Algo, CertError, Family, Usage, ALGO_NONE, USAGE_NONE};
use crate::{
    crypto::{
        ecc::{EcKey, EcPoint, EcSignature, SCALAR_LEN},
        get_le, put_le,
        rsa::{RsaKey, RsaPublic},
        Random,
    },
    model::Version,
};
use std::{fmt, ops::Range};

/// Length of a certificate in bytes.
pub const LEN: usize = 0x824;

const VERSION: usize = 0x0;
const API_MAJOR: usize = 0x4;
const API_MINOR: usize = 0x5;
const USAGE: usize = 0x8;
const ALGO: usize = 0xc;
const BODY: Range<usize> = 0..0x414;

const EC_CURVE: usize = 0x10;
const EC_X: Range<usize> = 0x14..0x5c;
const EC_Y: Range<usize> = 0x5c..0xa4;
const CURVE_P384: u32 = 2;

const RSA_BITS: usize = 0x10;
const RSA_EXPONENT: Range<usize> = 0x14..0x214;
const RSA_MODULUS: Range<usize> = 0x214..0x414;

/// Offsets of the two signatures.
const SLOTS: [usize; 2] = [0x414, 0x61c];
const SLOT_ALGO: usize = 4;
const SLOT_SIGNATURE: usize = 8;
const SIGNATURE_LEN: usize = 512;
/// ECDSA's r and s, each padded to this length.
const EC_HALF_LEN: usize = 72;

const FORMAT: u32 = 1;

/// A certificate. Its contents may be anything until verified.
#[derive(Clone, PartialEq, Eq)]
pub struct SevCert([u8; LEN]);

/// A certificate's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PublicKey {
    Ec(EcPoint),
    Rsa(RsaPublic),
}

impl fmt::Debug for SevCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SevCert(usage {:#x})", self.u32(USAGE))
    }
}

impl From<[u8; LEN]> for SevCert {
    fn from(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }
}

impl SevCert {
    /// An unsigned certificate of a P-384 key.
    #[must_use]
    pub fn new(version: Version, usage: Usage, algo: Algo, key: &EcPoint) -> Self {
        let mut cert = Self([0; LEN]);
        cert.set_u32(VERSION, FORMAT);
        cert.0[API_MAJOR] = version.major;
        cert.0[API_MINOR] = version.minor;
        cert.set_u32(USAGE, usage.code());
        cert.set_u32(ALGO, algo.code());
        cert.set_u32(EC_CURVE, CURVE_P384);
        put_le(&mut cert.0[EC_X], &key.x);
        put_le(&mut cert.0[EC_Y], &key.y);
        for slot in SLOTS {
            cert.set_u32(slot, USAGE_NONE);
            cert.set_u32(slot + SLOT_ALGO, ALGO_NONE);
        }
        cert
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// What signatures are made over: everything but the signatures.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0[BODY]
    }

    /// The same certificate without signatures: a signing request.
    #[must_use]
    pub fn unsigned(&self) -> Self {
        let mut cert = self.clone();
        cert.0[BODY.end..].fill(0);
        for slot in SLOTS {
            cert.set_u32(slot, USAGE_NONE);
        }
        cert
    }

    /// API version (major, minor) of the firmware that made it.
    #[must_use]
    pub fn api(&self) -> (u8, u8) {
        (self.0[API_MAJOR], self.0[API_MINOR])
    }

    /// The public key of a PDH, or of what takes a PDH's part on the other side.
    ///
    /// # Errors
    ///
    /// [`CertError::Invalid`] when it is no certificate of such a key.
    pub fn dh_point(&self) -> Result<EcPoint, CertError> {
        let is_dh = self.u32(VERSION) == FORMAT
            && self.has_usage(Usage::Pdh)
            && self.algo() == Some(Algo::ECDH_SHA256);
        match self.public_key() {
            Some(PublicKey::Ec(point)) if is_dh => Ok(point),
            _ => Err(CertError::Invalid),
        }
    }

    /// Whether the key is for this.
    #[must_use]
    pub fn has_usage(&self, usage: Usage) -> bool {
        self.u32(USAGE) == usage.code()
    }

    /// Signs with a P-384 key, in the first free slot.
    ///
    /// # Errors
    ///
    /// [`CertError::Invalid`] when both slots are taken.
    pub fn sign(&mut self, usage: Usage, algo: Algo, key: &EcKey) -> Result<(), CertError> {
        let signature = key.sign(algo.hash, self.body());
        let mut bytes = [0; SIGNATURE_LEN];
        put_signature(&mut bytes, &signature);
        self.put_signature(usage, algo, &bytes)
    }

    /// Signs with an RSA key, in the first free slot.
    ///
    /// # Errors
    ///
    /// [`CertError::Invalid`] when both slots are taken, or the key does not fit the algorithm.
    pub fn sign_rsa(
        &mut self,
        usage: Usage,
        algo: Algo,
        key: &RsaKey,
        random: &mut dyn Random,
    ) -> Result<(), CertError> {
        let signature = key
            .sign(random, algo.hash, self.body())
            .map_err(|_| CertError::Invalid)?;
        let mut bytes = [0; SIGNATURE_LEN];
        put_le(&mut bytes, &signature);
        self.put_signature(usage, algo, &bytes)
    }

    /// Takes over the signature a key of this usage made on another copy of the certificate.
    ///
    /// # Errors
    ///
    /// [`CertError::Invalid`] when the other copy has none, or both slots are taken here.
    pub fn take_signature(&mut self, usage: Usage, from: &Self) -> Result<(), CertError> {
        let mut slots = SLOTS.into_iter();
        let slot = slots
            .find(|&slot| from.u32(slot) == usage.code())
            .ok_or(CertError::Invalid)?;
        let algo = Algo::from_code(from.u32(slot + SLOT_ALGO)).ok_or(CertError::Invalid)?;
        let mut bytes = [0; SIGNATURE_LEN];
        bytes.copy_from_slice(from.signature(slot));
        self.put_signature(usage, algo, &bytes)
    }

    /// Checks that the certificate is well-formed, that the key in `signer` may sign such a
    /// certificate, and that it has.
    ///
    /// # Errors
    ///
    /// [`CertError::BadSignature`] when a signature slot is malformed or the signer's signature is
    /// wrong; [`CertError::Invalid`] for everything else.
    pub fn verify(&self, signer: &Self) -> Result<(), CertError> {
        let key = signer.public_key().ok_or(CertError::Invalid)?;
        let algo = signer.algo().ok_or(CertError::Invalid)?;
        self.verify_signature(signer.u32(USAGE), algo, &key)?;
        if self.u32(VERSION) != FORMAT || self.public_key().is_none() {
            return Err(CertError::Invalid);
        }
        let signers: &[Usage] = match Usage::from_code(self.u32(USAGE)) {
            Some(Usage::Pdh) => &[Usage::Pek],
            Some(Usage::Pek) => &[Usage::Oca, Usage::Cek],
            Some(Usage::Oca) => &[Usage::Oca],
            _ => return Err(CertError::Invalid),
        };
        match signers.iter().any(|&usage| signer.has_usage(usage)) {
            true => Ok(()),
            false => Err(CertError::Invalid),
        }
    }

    /// Checks a signature by an RSA key that has a certificate of AMD's format.
    ///
    /// # Errors
    ///
    /// As for [`SevCert::verify`].
    pub fn verify_rsa(&self, usage: Usage, algo: Algo, key: &RsaPublic) -> Result<(), CertError> {
        self.verify_signature(usage.code(), algo, &PublicKey::Rsa(key.clone()))
    }

    fn verify_signature(&self, usage: u32, algo: Algo, key: &PublicKey) -> Result<(), CertError> {
        let mut found = Err(CertError::Invalid);
        for slot in SLOTS {
            let (slot_usage, slot_algo) = (self.u32(slot), self.u32(slot + SLOT_ALGO));
            if (slot_usage == USAGE_NONE) != (slot_algo == ALGO_NONE) {
                return Err(CertError::BadSignature);
            }
            if (slot_usage, slot_algo) != (usage, algo.code()) {
                continue;
            }
            found = match key.verify(algo, self.body(), self.signature(slot)) {
                true => Ok(()),
                // The other slot may hold another signature of such a key.
                false => found.or(Err(CertError::BadSignature)),
            };
        }
        found
    }

    fn algo(&self) -> Option<Algo> {
        Algo::from_code(self.u32(ALGO))
    }

    /// The public key, if it is one the format allows.
    fn public_key(&self) -> Option<PublicKey> {
        Usage::from_code(self.u32(USAGE))?;
        match self.algo()?.family {
            Family::Ecdsa | Family::Ecdh => {
                let x = get_le::<SCALAR_LEN>(&self.0[EC_X])?;
                let point = EcPoint {
                    x,
                    y: get_le::<SCALAR_LEN>(&self.0[EC_Y])?,
                };
                let valid = self.u32(EC_CURVE) == CURVE_P384 && point.is_valid();
                valid.then_some(PublicKey::Ec(point))
            }
            Family::Rsa => {
                let len = match self.u32(RSA_BITS) {
                    2048 => 256,
                    4096 => 512,
                    _ => return None,
                };
                let big_endian = |field: Range<usize>| {
                    let mut number = self.0[field][..len].to_vec();
                    number.reverse();
                    number
                };
                let (modulus, exponent) = (big_endian(RSA_MODULUS), big_endian(RSA_EXPONENT));
                Some(PublicKey::Rsa(RsaPublic { modulus, exponent }))
            }
        }
    }

    fn signature(&self, slot: usize) -> &[u8] {
        &self.0[slot + SLOT_SIGNATURE..][..SIGNATURE_LEN]
    }

    fn put_signature(
        &mut self,
        usage: Usage,
        algo: Algo,
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), CertError> {
        let mut slots = SLOTS.into_iter();
        let slot = slots
            .find(|&slot| self.u32(slot) == USAGE_NONE)
            .ok_or(CertError::Invalid)?;
        self.set_u32(slot, usage.code());
        self.set_u32(slot + SLOT_ALGO, algo.code());
        self.0[slot + SLOT_SIGNATURE..][..SIGNATURE_LEN].copy_from_slice(signature);
        Ok(())
    }

    fn u32(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_le_bytes(word)
    }

    fn set_u32(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Writes an ECDSA signature as certificates and reports have it: r and s, little-endian, 72 bytes each.
///
/// # Panics
///
/// When `field` is shorter.
pub(crate) fn put_signature(field: &mut [u8], signature: &EcSignature) {
    let (r, s) = field.split_at_mut(EC_HALF_LEN);
    put_le(r, &signature.r);
    put_le(&mut s[..EC_HALF_LEN], &signature.s);
}

impl PublicKey {
    fn verify(&self, algo: Algo, message: &[u8], signature: &[u8]) -> bool {
        match (self, algo.family) {
            (Self::Ec(point), Family::Ecdsa) => {
                let (r, s) = signature.split_at(EC_HALF_LEN);
                let halves = (get_le(r), get_le(&s[..EC_HALF_LEN]));
                let (Some(r), Some(s)) = halves else {
                    return false;
                };
                point.verify(algo.hash, message, &EcSignature { r, s })
            }
            (Self::Rsa(key), Family::Rsa) => {
                let len = key.modulus.len().min(SIGNATURE_LEN);
                let mut big_endian = signature[..len].to_vec();
                big_endian.reverse();
                key.verify(algo.hash, message, &big_endian)
            }
            // A Diffie-Hellman key signs nothing, and the kind of a key is that of its algorithm.
            _ => false,
        }
    }
}
