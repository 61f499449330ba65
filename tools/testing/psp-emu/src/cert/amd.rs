// SPDX-License-Identifier: GPL-2.0
//! AMD's certificate of its signing keys, version 1 (SEV-API, table "AMD Signing Key Certificate
//! Format").
//!
//! ```text
//! 0x00   4  version
//! 0x04  16  id of the key
//! 0x14  16  id of the key that signed it
//! 0x24   4  usage of the key
//! 0x28  16  reserved
//! 0x38   4  size of the public exponent in bits
//! 0x3c   4  size of the modulus in bits
//! 0x40      public exponent, modulus, signature over all before it
//! ```

use super::{Algo, CertError, Family, Usage};
use crate::crypto::{
    put_le,
    rsa::{RsaKey, RsaPublic},
    Hash, Random,
};
use sha2::{Digest, Sha256};

const VERSION: usize = 0x00;
const KEY_ID: usize = 0x04;
const SIGNER_ID: usize = 0x14;
const USAGE: usize = 0x24;
const EXPONENT_BITS: usize = 0x38;
const MODULUS_BITS: usize = 0x3c;
const HEADER_LEN: usize = 0x40;
const ID_LEN: usize = 16;
const FORMAT: u32 = 1;

/// The algorithm of AMD's keys: SHA-256 for 2048 bits (Naples), SHA-384 for 4096 (all later).
#[must_use]
pub fn algo(modulus_len: usize) -> Algo {
    let hash = if modulus_len > 256 {
        Hash::Sha384
    } else {
        Hash::Sha256
    };
    Algo {
        family: Family::Rsa,
        hash,
    }
}

/// A certificate of AMD's format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmdCert {
    bytes: Vec<u8>,
    modulus_len: usize,
}

/// The id of a key: ours are made from the key, so that they need no register.
fn key_id(key: &RsaPublic) -> [u8; ID_LEN] {
    let mut id = [0; ID_LEN];
    id.copy_from_slice(&Sha256::digest(&key.modulus)[..ID_LEN]);
    id
}

impl AmdCert {
    /// A certificate of `key`, signed by `signer`.
    ///
    /// # Errors
    ///
    /// [`CertError::Invalid`] when the keys are not of one of the format's sizes, or differ in size.
    pub fn new(
        usage: Usage,
        key: &RsaPublic,
        signer: &RsaKey,
        random: &mut dyn Random,
    ) -> Result<Self, CertError> {
        let len = key.modulus.len();
        if !matches!(len, 256 | 512) || signer.public().modulus.len() != len {
            return Err(CertError::Invalid);
        }
        // CAST: 2048 or 4096.
        let bits = (len as u32 * 8).to_le_bytes();
        let mut bytes = vec![0; HEADER_LEN + 2 * len];
        bytes[VERSION..][..4].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[KEY_ID..][..ID_LEN].copy_from_slice(&key_id(key));
        bytes[SIGNER_ID..][..ID_LEN].copy_from_slice(&key_id(&signer.public()));
        bytes[USAGE..][..4].copy_from_slice(&usage.code().to_le_bytes());
        bytes[EXPONENT_BITS..][..4].copy_from_slice(&bits);
        bytes[MODULUS_BITS..][..4].copy_from_slice(&bits);
        put_le(&mut bytes[HEADER_LEN..][..len], &key.exponent);
        put_le(&mut bytes[HEADER_LEN + len..], &key.modulus);
        let mut signature = signer
            .sign(random, algo(len).hash, &bytes)
            .map_err(|_| CertError::Invalid)?;
        signature.reverse();
        bytes.extend_from_slice(&signature);
        Ok(Self {
            bytes,
            modulus_len: len,
        })
    }

    /// Reads a certificate; what follows it is left.
    ///
    /// # Errors
    ///
    /// [`CertError::Invalid`] when it is malformed or too short.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertError> {
        let word = |offset: usize| {
            let word = bytes.get(offset..)?.first_chunk()?;
            Some(u32::from_le_bytes(*word))
        };
        let modulus_len = match (word(VERSION), word(EXPONENT_BITS), word(MODULUS_BITS)) {
            (Some(FORMAT), Some(2048), Some(2048)) => 256,
            (Some(FORMAT), Some(4096), Some(4096)) => 512,
            _ => return Err(CertError::Invalid),
        };
        let bytes = bytes
            .get(..HEADER_LEN + 3 * modulus_len)
            .ok_or(CertError::Invalid)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            modulus_len,
        })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The algorithm of the key and of the signatures it makes.
    #[must_use]
    pub fn algo(&self) -> Algo {
        algo(self.modulus_len)
    }

    /// The certified key.
    #[must_use]
    pub fn key(&self) -> RsaPublic {
        let number = |offset: usize| {
            let mut number = self.bytes[offset..][..self.modulus_len].to_vec();
            number.reverse();
            let zeros = number.iter().take_while(|&&byte| byte == 0).count();
            number.split_off(zeros)
        };
        let exponent = number(HEADER_LEN);
        RsaPublic {
            modulus: number(HEADER_LEN + self.modulus_len),
            exponent,
        }
    }

    /// Checks that this is a certificate for `usage` and signed by the key of `signer`.
    ///
    /// # Errors
    ///
    /// [`CertError::Invalid`] when it is for something else or names another signer,
    /// [`CertError::BadSignature`] when the signature is wrong.
    pub fn verify(&self, usage: Usage, signer: &Self) -> Result<(), CertError> {
        let (body, signature) = self.bytes.split_at(HEADER_LEN + 2 * self.modulus_len);
        let usage_is_right = body[USAGE..][..4] == usage.code().to_le_bytes();
        let signer_is_right = body[SIGNER_ID..][..ID_LEN] == signer.bytes[KEY_ID..][..ID_LEN];
        if !usage_is_right || !signer_is_right || signer.modulus_len != self.modulus_len {
            return Err(CertError::Invalid);
        }
        let mut signature = signature.to_vec();
        signature.reverse();
        match signer.key().verify(signer.algo().hash, body, &signature) {
            true => Ok(()),
            false => Err(CertError::BadSignature),
        }
    }
}
