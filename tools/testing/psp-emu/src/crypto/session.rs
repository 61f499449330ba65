// SPDX-License-Identifier: GPL-2.0
//! The session by which a guest's owner, or a sending platform, hands the transport keys of a guest to the
//! firmware (SEV-API, LAUNCH_START, SEND_START, RECEIVE_START; table "Session Data Buffer").
//!
//! ```text
//! 0x00  16  NONCE       context of the master secret
//! 0x10  32  WRAP_TK     TEK and TIK, AES-128-CTR with the KEK
//! 0x30  16  WRAP_IV     initial counter block of WRAP_TK
//! 0x40  32  WRAP_MAC    HMAC-SHA-256 with the KIK over WRAP_TK
//! 0x60  32  POLICY_MAC  HMAC-SHA-256 with the TIK over the policy
//! ```
//!
//! KEK (key encryption key) and KIK (key integrity key) are derived from the master secret, which is derived
//! from what both sides' PDH agree on by ECDH.

use super::{
    ecc::{EcKey, EcPoint},
    hmac_sha256, kdf, new_key, take, Random,
};
use aes::{
    cipher::{KeyIvInit, StreamCipher},
    Aes128,
};
use hmac::Mac;
use zeroize::Zeroizing;

type Aes128Ctr = ctr::Ctr128BE<Aes128>;

/// A 128-bit key, zeroed when dropped.
type Key = Zeroizing<[u8; 16]>;

/// Length of a session in bytes.
pub const LEN: usize = 128;

/// The keys a guest's owner, or another platform, and the firmware share. Zeroed when dropped; no `Debug`
/// shows them.
///
/// The default are the keys of a guest launched without a session: zero, as in AMD's firmware.
#[derive(Clone, Default)]
pub struct TransportKeys {
    /// Transport encryption key.
    pub(super) tek: Key,
    /// Transport integrity key.
    pub(super) tik: Key,
}

/// The session as it is handed over. Its contents may be anything until opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    nonce: [u8; 16],
    wrap_tk: [u8; 32],
    wrap_iv: [u8; 16],
    wrap_mac: [u8; 32],
    policy_mac: [u8; 32],
}

/// Why a session does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The peer's public key is not a point of the curve.
    #[error("the peer's public key is not a point of the curve")]
    InvalidPoint,
    /// WRAP_MAC is wrong: the session was changed, or made for another PDH.
    #[error("the MAC of the wrapped keys is wrong")]
    BadMac,
}

/// The keys that protect the transport keys on their way.
struct WrapKeys {
    kek: Key,
    kik: Key,
}

impl WrapKeys {
    fn agree(key: &EcKey, peer: &EcPoint, nonce: &[u8; 16]) -> Option<Self> {
        let secret = Zeroizing::new(key.agree(peer)?);
        Some(Self::derive(&*secret, nonce))
    }

    fn derive(secret: &[u8], nonce: &[u8; 16]) -> Self {
        let master: Key = kdf(secret, "sev-master-secret", nonce).into();
        Self {
            kek: kdf(&*master, "sev-kek", &[]).into(),
            kik: kdf(&*master, "sev-kik", &[]).into(),
        }
    }

    /// Encrypts or decrypts WRAP_TK, which is the same in this mode.
    fn crypt(&self, wrap_iv: &[u8; 16], wrap_tk: &mut [u8; 32]) {
        Aes128Ctr::new((&*self.kek).into(), wrap_iv.into()).apply_keystream(wrap_tk);
    }
}

impl TransportKeys {
    fn generate(random: &mut dyn Random) -> Self {
        Self {
            tek: new_key(random),
            tik: new_key(random),
        }
    }
}

impl Session {
    /// Takes a session apart.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; LEN]) -> Self {
        let mut rest = &bytes[..];
        Self {
            nonce: take(&mut rest),
            wrap_tk: take(&mut rest),
            wrap_iv: take(&mut rest),
            wrap_mac: take(&mut rest),
            policy_mac: take(&mut rest),
        }
    }

    /// The session as it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let fields: [&[u8]; 5] = [
            &self.nonce,
            &self.wrap_tk,
            &self.wrap_iv,
            &self.wrap_mac,
            &self.policy_mac,
        ];
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&fields.concat());
        bytes
    }

    /// The receiver's side: the transport keys, unwrapped with what our `key` (the PDH) and the `peer`'s
    /// public key agree on.
    ///
    /// WRAP_MAC does not cover WRAP_IV: that it was changed shows in [`Session::vouches_for`] only.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub fn open(&self, key: &EcKey, peer: &EcPoint) -> Result<TransportKeys, SessionError> {
        let wrap = WrapKeys::agree(key, peer, &self.nonce).ok_or(SessionError::InvalidPoint)?;
        hmac_sha256(&*wrap.kik, &[&self.wrap_tk])
            .verify_slice(&self.wrap_mac)
            .map_err(|_| SessionError::BadMac)?;
        let mut keys = Zeroizing::new(self.wrap_tk);
        wrap.crypt(&self.wrap_iv, &mut keys);
        let mut rest = &keys[..];
        Ok(TransportKeys {
            tek: take(&mut rest).into(),
            tik: take(&mut rest).into(),
        })
    }

    /// Whether the session was made for a guest of this policy.
    #[must_use]
    pub fn vouches_for(&self, keys: &TransportKeys, policy: u32) -> bool {
        hmac_sha256(&*keys.tik, &[&policy.to_le_bytes()])
            .verify_slice(&self.policy_mac)
            .is_ok()
    }

    /// The sender's side: fresh transport keys, wrapped for the owner of `peer`'s private key. `None` when
    /// `peer` is not on the curve.
    #[must_use]
    pub fn create(
        key: &EcKey,
        peer: &EcPoint,
        policy: u32,
        random: &mut dyn Random,
    ) -> Option<(Self, TransportKeys)> {
        let (mut nonce, mut wrap_iv) = ([0; 16], [0; 16]);
        random.fill_bytes(&mut nonce);
        random.fill_bytes(&mut wrap_iv);
        let wrap = WrapKeys::agree(key, peer, &nonce)?;
        let keys = TransportKeys::generate(random);

        let mut wrap_tk = [0; 32];
        let (tek, tik) = wrap_tk.split_at_mut(16);
        tek.copy_from_slice(&*keys.tek);
        tik.copy_from_slice(&*keys.tik);
        wrap.crypt(&wrap_iv, &mut wrap_tk);

        let mac = |key: &Key, data: &[u8]| hmac_sha256(&**key, &[data]).finalize().into_bytes();
        let session = Self {
            nonce,
            wrap_tk,
            wrap_iv,
            wrap_mac: mac(&wrap.kik, &wrap_tk).into(),
            policy_mac: mac(&keys.tik, &policy.to_le_bytes()).into(),
        };
        Some((session, keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::tests::hex;

    /// The vector of the unit tests of virtee's `sev`: everything that goes in is zero.
    #[test]
    fn matches_the_published_session() {
        let wrap = WrapKeys::derive(&[0; 16], &[0; 16]);
        let mut wrap_tk = [0; 32];
        wrap.crypt(&[0; 16], &mut wrap_tk);
        assert_eq!(
            wrap_tk,
            hex("2137bc7f9bb8bd7c3e55a576a15d3454b3856b8ba27afadf46dcfee9f02c02c4")
        );
        let wrap_mac = hmac_sha256(&*wrap.kik, &[&wrap_tk]).finalize().into_bytes();
        let published = "3176c0752738bd9d5e86689534020f528c088f16238826b000b327dee6aeed7d";
        assert_eq!(wrap_mac[..], hex::<32>(published));
        let session = Session {
            nonce: [0; 16],
            wrap_tk,
            wrap_iv: [0; 16],
            wrap_mac: wrap_mac.into(),
            policy_mac: hex("aa7855e13839dd767cd5da7c1ff5036540c9264b7a803029315e55375287b4af"),
        };
        assert!(session.vouches_for(&TransportKeys::default(), 0));
        assert!(!session.vouches_for(&TransportKeys::default(), 1));
    }
}
