// SPDX-License-Identifier: GPL-2.0
//! NIST P-384 keys, ECDSA and ECDH.

use super::{Hash, Random};
use p384::{
    ecdh::diffie_hellman,
    ecdsa::{
        signature::hazmat::{PrehashSigner, PrehashVerifier},
        Signature, SigningKey, VerifyingKey,
    },
    elliptic_curve::sec1::{FromEncodedPoint, ToEncodedPoint},
    EncodedPoint, FieldBytes, PublicKey, SecretKey,
};

/// Length in bytes of a coordinate, a scalar, half a signature.
pub const SCALAR_LEN: usize = 48;

/// A private key. Zeroed when dropped; has no `Debug` that shows it.
#[derive(Clone)]
pub struct EcKey(SecretKey);

/// A point of the curve, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcPoint {
    pub x: [u8; SCALAR_LEN],
    pub y: [u8; SCALAR_LEN],
}

/// Both halves of an ECDSA signature, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcSignature {
    pub r: [u8; SCALAR_LEN],
    pub s: [u8; SCALAR_LEN],
}

impl EcKey {
    /// A new key.
    #[must_use]
    pub fn generate(mut random: &mut dyn Random) -> Self {
        Self(SecretKey::random(&mut random))
    }

    /// The key with this big-endian private scalar; `None` for zero and for what exceeds the order.
    #[must_use]
    pub fn from_scalar(scalar: &[u8; SCALAR_LEN]) -> Option<Self> {
        SecretKey::from_slice(scalar).ok().map(Self)
    }

    /// The private scalar, big-endian.
    #[must_use]
    pub fn scalar(&self) -> [u8; SCALAR_LEN] {
        self.0.to_bytes().into()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> EcPoint {
        let point = self.0.public_key().to_encoded_point(false);
        // PANIC: a public key is not the point at infinity, and the point is not compressed.
        let x = *point.x().expect("not the point at infinity");
        let y = *point.y().expect("not compressed");
        EcPoint {
            x: x.into(),
            y: y.into(),
        }
    }

    /// Signs a message.
    ///
    /// The specification pairs P-384 with SHA-256 as well, so the digest is handed over as it is.
    #[must_use]
    pub fn sign(&self, hash: Hash, message: &[u8]) -> EcSignature {
        let key = SigningKey::from(&self.0);
        // PANIC: fails for digests shorter than half a scalar only.
        let signature: Signature = key
            .sign_prehash(&hash.digest(message))
            .expect("long enough");
        let (r, s) = signature.split_bytes();
        EcSignature {
            r: r.into(),
            s: s.into(),
        }
    }

    /// The secret shared with the owner of `peer`'s private key: the x coordinate of the common point,
    /// big-endian. `None` when `peer` is not on the curve.
    #[must_use]
    pub fn agree(&self, peer: &EcPoint) -> Option<[u8; SCALAR_LEN]> {
        let peer = peer.key()?;
        let secret = diffie_hellman(self.0.to_nonzero_scalar(), peer.as_affine());
        Some((*secret.raw_secret_bytes()).into())
    }
}

impl EcPoint {
    fn key(&self) -> Option<PublicKey> {
        let (x, y) = (FieldBytes::from(self.x), FieldBytes::from(self.y));
        PublicKey::from_encoded_point(&EncodedPoint::from_affine_coordinates(&x, &y, false)).into()
    }

    /// Whether the point is on the curve.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.key().is_some()
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verify(&self, hash: Hash, message: &[u8], signature: &EcSignature) -> bool {
        let (r, s) = (FieldBytes::from(signature.r), FieldBytes::from(signature.s));
        let (Some(key), Ok(signature)) = (self.key(), Signature::from_scalars(r, s)) else {
            return false;
        };
        VerifyingKey::from(key)
            .verify_prehash(&hash.digest(message), &signature)
            .is_ok()
    }
}
