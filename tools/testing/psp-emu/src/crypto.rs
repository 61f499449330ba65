// SPDX-License-Identifier: GPL-2.0
//! Cryptography of the SEV API, over the RustCrypto crates: what the specification wants that differs
//! from common usage (byte order, hash and curve pairing) is put right here.

pub mod ecc;
pub mod memory_key;
pub mod offline;
pub mod rsa;
mod seal;
pub mod session;
pub mod transport;

pub(crate) use seal::{seal, unseal, SealKey};

use hmac::{Hmac, Mac};
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

/// A source of randomness for keys. Tests substitute a seeded one.
pub trait Random: RngCore + CryptoRng + Send {}

impl<T: RngCore + CryptoRng + Send> Random for T {}

/// Hash functions the certificate formats know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
}

impl Hash {
    /// The digest of a message.
    #[must_use]
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
        }
    }
}

/// A message authentication code does not fit what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the MAC is wrong")]
pub struct BadMac;

/// HMAC-SHA-256 over the concatenation of `parts`.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // PANIC: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length is valid");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// Key derivation: NIST SP 800-108 in counter mode with HMAC-SHA-256, 32-bit little-endian counter and
/// length in bits (SEV-API, "Key Derivation").
pub(crate) fn kdf<const N: usize>(key: &[u8], label: &str, context: &[u8]) -> [u8; N] {
    // CAST: callers derive some dozens of bytes.
    let bits = (N * 8) as u32;
    let mut derived = [0; N];
    for (i, block) in (1u32..).zip(derived.chunks_mut(32)) {
        let parts = [
            &i.to_le_bytes(),
            label.as_bytes(),
            &[0],
            context,
            &bits.to_le_bytes(),
        ];
        let mac = hmac_sha256(key, &parts).finalize().into_bytes();
        block.copy_from_slice(&mac[..block.len()]);
    }
    derived
}

/// A new key.
pub(crate) fn new_key<const N: usize>(random: &mut dyn Random) -> Zeroizing<[u8; N]> {
    let mut key = Zeroizing::new([0; N]);
    random.fill_bytes(&mut *key);
    key
}

/// Takes the next field off the bytes of a structure.
///
/// # Panics
///
/// When there is not as much left.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (field, rest) = bytes.split_first_chunk().expect("long enough");
    *bytes = rest;
    *field
}

/// Copies a big-endian number into a little-endian field, which is zeroed first.
///
/// # Panics
///
/// When the field is shorter than the number.
pub(crate) fn put_le(field: &mut [u8], big_endian: &[u8]) {
    field.fill(0);
    let number = &mut field[..big_endian.len()];
    number.copy_from_slice(big_endian);
    number.reverse();
}

/// Takes a number of at most `N` bytes from a little-endian field, as big-endian bytes.
///
/// `None` when a byte beyond them is not zero.
pub(crate) fn get_le<const N: usize>(field: &[u8]) -> Option<[u8; N]> {
    let (number, rest) = field.split_first_chunk::<N>()?;
    let mut big_endian = *number;
    big_endian.reverse();
    rest.iter().all(|&byte| byte == 0).then_some(big_endian)
}

#[cfg(test)]
mod tests {
    //! Every primitive against OpenSSL.

    use super::{ecc::EcKey, *};
    use openssl::{
        bn::{BigNum, BigNumContext},
        ec::{EcGroup, EcKey as OpensslEcKey},
        ecdsa::EcdsaSig,
        hash::{hash, MessageDigest},
        nid::Nid,
        pkey::PKey,
        rsa::Padding,
        sign::{RsaPssSaltlen, Signer, Verifier},
        symm::{decrypt, Cipher},
    };
    use rand_core::OsRng;

    /// Bytes from hexadecimal.
    pub(super) fn hex<const N: usize>(text: &str) -> [u8; N] {
        assert_eq!(text.len(), 2 * N);
        let number = BigNum::from_hex_str(text).unwrap();
        let bytes = number.to_vec_padded(i32::try_from(N).unwrap()).unwrap();
        bytes.try_into().unwrap()
    }

    #[test]
    fn kdf_is_sp800_108_in_counter_mode() {
        let prf = |counter: u32, bits: u32, context: &[u8]| {
            let key = PKey::hmac(&[5; 32]).unwrap();
            let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
            let counter = counter.to_le_bytes();
            signer.sign_oneshot_to_vec(
                &[&counter, &b"label\0"[..], context, &bits.to_le_bytes()].concat(),
            )
        };
        assert_eq!(
            kdf::<32>(&[5; 32], "label", &[])[..],
            prf(1, 256, &[]).unwrap()
        );
        let both = [
            prf(1, 384, b"context").unwrap(),
            prf(2, 384, b"context").unwrap(),
        ]
        .concat();
        assert_eq!(kdf::<48>(&[5; 32], "label", b"context")[..], both[..48]);
    }

    #[test]
    fn sealed_data_is_aes_ctr_and_hmac() {
        let key = kdf::<32>(&[3; 32], "sev-persistent-encryption", &[]);
        let sealed = seal(
            &SealKey::derive(&[3; 32]),
            &mut OsRng,
            b"some persistent data",
        );
        let (iv, ciphertext) = (&sealed[0x10..0x20], &sealed[0x20..0x34]);
        let data = decrypt(Cipher::aes_256_ctr(), &key, Some(iv), ciphertext).unwrap();
        assert_eq!(data, b"some persistent data");
        let integrity = PKey::hmac(&kdf::<32>(&[3; 32], "sev-persistent-integrity", &[])).unwrap();
        let mut mac = Signer::new(MessageDigest::sha256(), &integrity).unwrap();
        assert_eq!(
            mac.sign_oneshot_to_vec(&sealed[..0x34]).unwrap(),
            sealed[0x34..]
        );
    }

    #[test]
    fn ecdsa_agrees_both_ways_with_either_hash() {
        let group = EcGroup::from_curve_name(Nid::SECP384R1).unwrap();
        for (ours, theirs) in [
            (Hash::Sha256, MessageDigest::sha256()),
            (Hash::Sha384, MessageDigest::sha384()),
        ] {
            let digest = hash(theirs, b"message").unwrap();
            assert_eq!(ours.digest(b"message"), *digest);
            // Ours, checked by them.
            let key = EcKey::generate(&mut OsRng);
            let point = key.public();
            let [x, y] = [point.x, point.y].map(|number| BigNum::from_slice(&number).unwrap());
            let public = OpensslEcKey::from_public_key_affine_coordinates(&group, &x, &y).unwrap();
            let signature = key.sign(ours, b"message");
            let [r, s] =
                [signature.r, signature.s].map(|number| BigNum::from_slice(&number).unwrap());
            let signature = EcdsaSig::from_private_components(r, s).unwrap();
            assert!(signature.verify(&digest, &public).unwrap());
            // Theirs, checked by us.
            let key = OpensslEcKey::generate(&group).unwrap();
            let signature = EcdsaSig::sign(&digest, &key).unwrap();
            let bytes = |number: &openssl::bn::BigNumRef| {
                <[u8; ecc::SCALAR_LEN]>::try_from(number.to_vec_padded(48).unwrap()).unwrap()
            };
            let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
            let mut context = BigNumContext::new().unwrap();
            key.public_key()
                .affine_coordinates(&group, &mut x, &mut y, &mut context)
                .unwrap();
            let point = ecc::EcPoint {
                x: bytes(&x),
                y: bytes(&y),
            };
            let signature = ecc::EcSignature {
                r: bytes(signature.r()),
                s: bytes(signature.s()),
            };
            assert!(point.verify(ours, b"message", &signature));
            assert!(!point.verify(ours, b"massage", &signature));
        }
    }

    #[test]
    fn rsa_pss_agrees_both_ways_with_either_hash() {
        let pem = include_str!("../keys/naples-ask.pem");
        let (ours, theirs) = (
            rsa::RsaKey::from_pem(pem).unwrap(),
            PKey::private_key_from_pem(pem.as_bytes()).unwrap(),
        );
        for (hash, digest) in [
            (Hash::Sha256, MessageDigest::sha256()),
            (Hash::Sha384, MessageDigest::sha384()),
        ] {
            let signature = ours.sign(&mut OsRng, hash, b"message").unwrap();
            let mut verifier = Verifier::new(digest, &theirs).unwrap();
            verifier.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            verifier
                .set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)
                .unwrap();
            assert!(verifier.verify_oneshot(&signature, b"message").unwrap());

            let mut signer = Signer::new(digest, &theirs).unwrap();
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            signer
                .set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)
                .unwrap();
            let signature = signer.sign_oneshot_to_vec(b"message").unwrap();
            assert!(ours.public().verify(hash, b"message", &signature));
            assert!(!ours.public().verify(hash, b"massage", &signature));
        }
    }
}
