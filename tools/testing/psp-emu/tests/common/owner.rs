// SPDX-License-Identifier: GPL-2.0
//! A guest's owner, or another platform, made of OpenSSL alone: it shares no code with what it talks to.
//! Written from the specification (SEV-API, LAUNCH_START, LAUNCH_MEASURE, LAUNCH_SECRET, SEND_START).

use openssl::{
    bn::{BigNum, BigNumContext, BigNumRef},
    derive::Deriver,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private, Public},
    rand::rand_bytes,
    sign::Signer,
    symm::{encrypt, Cipher},
};
use psp_emu::crypto::ecc::EcPoint;

/// Its ECDH key.
pub struct Owner(EcKey<Private>);

/// The keys it shares with the firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub tek: [u8; 16],
    pub tik: [u8; 16],
}

/// A header and encrypted data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub header: [u8; 52],
    pub data: Vec<u8>,
}

impl Owner {
    pub fn new() -> Self {
        Self(EcKey::generate(&curve()).unwrap())
    }

    pub fn point(&self) -> EcPoint {
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        let mut context = BigNumContext::new().unwrap();
        self.0
            .public_key()
            .affine_coordinates(&curve(), &mut x, &mut y, &mut context)
            .unwrap();
        let bytes = |number: &BigNumRef| number.to_vec_padded(48).unwrap().try_into().unwrap();
        EcPoint {
            x: bytes(&x),
            y: bytes(&y),
        }
    }

    /// The shared secret.
    pub fn agree(&self, peer: &EcPoint) -> Vec<u8> {
        let key = PKey::from_ec_key(self.0.clone()).unwrap();
        let peer = PKey::from_ec_key(public_key(peer)).unwrap();
        let mut deriver = Deriver::new(&key).unwrap();
        deriver.set_peer(&peer).unwrap();
        deriver.derive_to_vec().unwrap()
    }

    /// KEK and KIK.
    fn wrap_keys(&self, peer: &EcPoint, nonce: &[u8]) -> ([u8; 16], [u8; 16]) {
        let master = derive(&self.agree(peer), "sev-master-secret", nonce);
        (
            derive(&master, "sev-kek", &[]),
            derive(&master, "sev-kik", &[]),
        )
    }

    /// A new session for a guest of this policy on the platform with this PDH.
    pub fn session(&self, pdh: &EcPoint, policy: u32) -> ([u8; 128], Keys) {
        let keys = Keys {
            tek: random(),
            tik: random(),
        };
        let (nonce, iv): ([u8; 16], [u8; 16]) = (random(), random());
        let (kek, kik) = self.wrap_keys(pdh, &nonce);
        let wrapped = ctr(&kek, &iv, &[keys.tek, keys.tik].concat());
        let wrap_mac = hmac(&kik, &wrapped);
        let policy_mac = hmac(&keys.tik, &policy.to_le_bytes());
        let session = [&nonce[..], &wrapped, &iv, &wrap_mac, &policy_mac].concat();
        (session.try_into().unwrap(), keys)
    }

    /// The keys of a session made for this owner, if both MACs are right.
    pub fn open(&self, peer: &EcPoint, session: &[u8; 128], policy: u32) -> Option<Keys> {
        let (nonce, wrapped, iv) = (&session[..0x10], &session[0x10..0x30], &session[0x30..0x40]);
        let (wrap_mac, policy_mac) = session[0x40..].split_at(32);
        let (kek, kik) = self.wrap_keys(peer, nonce);
        let keys = ctr(&kek, iv, wrapped);
        let (tek, tik) = keys.split_at(16);
        let right =
            hmac(&kik, wrapped) == wrap_mac && hmac(tik, &policy.to_le_bytes()) == policy_mac;
        right.then(|| Keys {
            tek: tek.try_into().unwrap(),
            tik: tik.try_into().unwrap(),
        })
    }
}

impl Keys {
    /// Seals a packet. `code` is 1 for a secret, whose measurement goes with it, 2 for data, 3 for a VMSA.
    pub fn seal(&self, code: u8, measurement: &[u8], plaintext: &[u8]) -> Packet {
        self.seal_flagged(0, code, measurement, plaintext)
    }

    /// As [`Keys::seal`], with flags in the header; 1 is for compressed data.
    pub fn seal_flagged(
        &self,
        flags: u32,
        code: u8,
        measurement: &[u8],
        plaintext: &[u8],
    ) -> Packet {
        let (flags, iv): (_, [u8; 16]) = (flags.to_le_bytes(), random());
        let data = ctr(&self.tek, &iv, plaintext);
        let mac = self.packet_mac(code, measurement, &flags, &iv, &data);
        let header = [&flags[..], &iv, &mac].concat();
        Packet {
            header: header.try_into().unwrap(),
            data,
        }
    }

    /// The plaintext of a packet, if its MAC is right.
    pub fn open(&self, code: u8, measurement: &[u8], packet: &Packet) -> Option<Vec<u8>> {
        let (flags, iv, mac) = (
            &packet.header[..4],
            &packet.header[4..20],
            &packet.header[20..],
        );
        (self.packet_mac(code, measurement, flags, iv, &packet.data) == mac)
            .then(|| ctr(&self.tek, iv, &packet.data))
    }

    fn packet_mac(
        &self,
        code: u8,
        measurement: &[u8],
        flags: &[u8],
        iv: &[u8],
        data: &[u8],
    ) -> [u8; 32] {
        let len = u32::try_from(data.len()).unwrap().to_le_bytes();
        let message = [&[code], flags, iv, &len, &len, data, measurement].concat();
        hmac(&self.tik, &message)
    }

    /// What LAUNCH_MEASURE of this API version and build answers with.
    pub fn measurement(
        &self,
        version: [u8; 3],
        policy: u32,
        digest: &[u8; 32],
        nonce: &[u8; 16],
    ) -> [u8; 32] {
        let message = [&[4], &version[..], &policy.to_le_bytes(), digest, nonce].concat();
        hmac(&self.tik, &message)
    }
}

fn curve() -> EcGroup {
    EcGroup::from_curve_name(Nid::SECP384R1).unwrap()
}

fn public_key(point: &EcPoint) -> EcKey<Public> {
    let [x, y] = [point.x, point.y].map(|number| BigNum::from_slice(&number).unwrap());
    EcKey::from_public_key_affine_coordinates(&curve(), &x, &y).unwrap()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand_bytes(&mut bytes).unwrap();
    bytes
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    let mac = signer.sign_oneshot_to_vec(message).unwrap();
    mac.try_into().unwrap()
}

/// One block of NIST SP 800-108 in counter mode, cut to 128 bits.
fn derive(key: &[u8], label: &str, context: &[u8]) -> [u8; 16] {
    let (counter, bits) = (1u32.to_le_bytes(), 128u32.to_le_bytes());
    let message = [&counter, label.as_bytes(), &[0], context, &bits].concat();
    hmac(key, &message)[..16].try_into().unwrap()
}

/// AES-128-CTR, which is its own inverse.
fn ctr(key: &[u8], iv: &[u8], data: &[u8]) -> Vec<u8> {
    encrypt(Cipher::aes_128_ctr(), key, Some(iv), data).unwrap()
}
