// SPDX-License-Identifier: GPL-2.0
//! The owner against a platform made for the test: its keys are known, so that the test can play the firmware.

use super::{chain::Roots, library::LibraryOwner, report, vmsa, Order, Owner};
use crate::{
    cheat::flip,
    image::{self, PAGE},
    messages::{Measurement, PlatformChain, CERTIFICATE_LEN, REPORT_LEN},
    policy,
};
use codicon::Encoder;
use openssl::{
    derive::Deriver,
    ecdsa::EcdsaSig,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Padding,
    sha::sha256,
    sign::{RsaPssSaltlen, Signer},
    symm,
};
use sev::certs::sev::{
    sev::{Certificate, Usage},
    PrivateKey, Signer as _,
};

const KEYS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tools/testing/psp-emu/keys"
);

/// Offset of the first signature in a certificate, which is where what is signed ends.
const SIGNATURE: usize = 0x414;
const POLICY: u32 = policy::NODBG;
const VERSION: [u8; 3] = [1, 55, 21];
const NONCE: [u8; 16] = [7; 16];

struct Platform {
    pek: PKey<Private>,
    pdh: PKey<Private>,
    chain: PlatformChain,
    roots: Roots,
}

impl Platform {
    fn new() -> Self {
        let (cek, cek_key) = Certificate::generate(Usage::CEK).unwrap();
        let (mut oca, oca_key) = Certificate::generate(Usage::OCA).unwrap();
        let (mut pek, pek_key) = Certificate::generate(Usage::PEK).unwrap();
        let (mut pdh, pdh_key) = Certificate::generate(Usage::PDH).unwrap();
        oca_key.sign(&mut oca).unwrap();
        cek_key.sign(&mut pek).unwrap();
        oca_key.sign(&mut pek).unwrap();
        pek_key.sign(&mut pdh).unwrap();
        let mut cek = encoded(&cek);
        sign_as_amd(&mut cek);
        let chain = [encoded(&pdh), encoded(&pek), encoded(&oca), cek].concat();
        Self {
            pek: private(&pek_key),
            pdh: private(&pdh_key),
            chain: PlatformChain(chain),
            roots: Roots([key_file("milan-ask.cert"), key_file("milan-ark.cert")].concat()),
        }
    }

    /// The keys in an owner's session, TEK and TIK, as the firmware gets at them (SEV-API, "Key Derivation").
    fn open(&self, certificate: &[u8], session: &[u8]) -> ([u8; 16], [u8; 16]) {
        let peer = point(certificate);
        let mut deriver = Deriver::new(&self.pdh).unwrap();
        deriver.set_peer(&peer).unwrap();
        let (nonce, rest) = session.split_at(16);
        let (wrapped, rest) = rest.split_at(32);
        let (iv, rest) = rest.split_at(16);
        let (wrap_mac, policy_mac) = rest.split_at(32);
        let master = derive(
            &deriver.derive_to_vec().unwrap(),
            "sev-master-secret",
            nonce,
        );
        let kek = derive(&master, "sev-kek", &[]);
        let kik = derive(&master, "sev-kik", &[]);
        assert_eq!(hmac(&kik, wrapped), wrap_mac);
        let keys = symm::decrypt(symm::Cipher::aes_128_ctr(), &kek, Some(iv), wrapped).unwrap();
        let (tek, tik) = keys.split_at(16);
        assert_eq!(hmac(tik, &POLICY.to_le_bytes()), policy_mac);
        (tek.try_into().unwrap(), tik.try_into().unwrap())
    }

    fn report(&self, order: &Order) -> [u8; REPORT_LEN] {
        let mut report = [&NONCE[..], &order.digest(), &order.policy.to_le_bytes()].concat();
        let key = self.pek.ec_key().unwrap();
        let signature = EcdsaSig::sign(&sha256(&report), &key).unwrap();
        report.resize(64, 0);
        for number in [signature.r(), signature.s()] {
            let mut bytes = number.to_vec_padded(72).unwrap();
            bytes.reverse();
            report.extend(bytes);
        }
        report.try_into().unwrap()
    }
}

fn encoded(certificate: &Certificate) -> Vec<u8> {
    let mut bytes = Vec::new();
    certificate.encode(&mut bytes, ()).unwrap();
    bytes
}

fn private(key: &PrivateKey<Usage>) -> PKey<Private> {
    let mut der = Vec::new();
    key.encode(&mut der, ()).unwrap();
    PKey::private_key_from_der(&der).unwrap()
}

fn key_file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{KEYS}/{name}")).unwrap()
}

/// Signs a CEK with the ASK that the emulated PSP has in AMD's stead.
fn sign_as_amd(certificate: &mut [u8]) {
    let key = PKey::private_key_from_pem(&key_file("milan-ask.pem")).unwrap();
    let mut signer = Signer::new(MessageDigest::sha384(), &key).unwrap();
    signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
    signer
        .set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)
        .unwrap();
    let mut signature = signer
        .sign_oneshot_to_vec(&certificate[..SIGNATURE])
        .unwrap();
    signature.reverse();
    let place = &mut certificate[SIGNATURE..];
    place[..4].copy_from_slice(&0x13u32.to_le_bytes());
    place[4..8].copy_from_slice(&0x101u32.to_le_bytes());
    place[8..8 + signature.len()].copy_from_slice(&signature);
}

/// The public key of a PDH certificate.
fn point(certificate: &[u8]) -> PKey<openssl::pkey::Public> {
    use openssl::{bn::BigNum, ec, nid::Nid};
    let number = |offset: usize| {
        let mut bytes = certificate[offset..offset + 72].to_vec();
        bytes.reverse();
        BigNum::from_slice(&bytes).unwrap()
    };
    let group = ec::EcGroup::from_curve_name(Nid::SECP384R1).unwrap();
    let key = ec::EcKey::from_public_key_affine_coordinates(&group, &number(0x14), &number(0x5c));
    PKey::from_ec_key(key.unwrap()).unwrap()
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.sign_oneshot_to_vec(data).unwrap()
}

/// NIST SP 800-108 in counter mode, one block of it.
fn derive(key: &[u8], label: &str, context: &[u8]) -> [u8; 16] {
    let input = [
        &1u32.to_le_bytes(),
        label.as_bytes(),
        &[0],
        context,
        &128u32.to_le_bytes(),
    ]
    .concat();
    hmac(key, &input)[..16].try_into().unwrap()
}

/// What the firmware would say was launched.
fn measurement(tik: &[u8], policy: u32, digest: [u8; 32]) -> Measurement {
    let input = [&[4], &VERSION[..], &policy.to_le_bytes(), &digest, &NONCE].concat();
    Measurement {
        version: VERSION,
        blob: [hmac(tik, &input), NONCE.to_vec()]
            .concat()
            .try_into()
            .unwrap(),
    }
}

#[test]
fn a_broken_chain_is_refused_and_the_link_named() {
    let platform = Platform::new();
    let order = Order::new(POLICY).unwrap();
    let refusal = |chain: &PlatformChain, roots: &Roots| {
        let session = LibraryOwner::new(&order, roots.clone()).session(chain);
        session.err().map(|error| error.to_string())
    };
    assert_eq!(refusal(&platform.chain, &platform.roots), None);
    // The changed byte is of the public key, so it is the certificate's own signature that breaks.
    for (index, message) in [
        "the PDH is not signed by the PEK",
        "the PEK is not signed by the CEK",
        "the OCA does not sign itself",
        "the CEK is not signed by the ASK",
    ]
    .into_iter()
    .enumerate()
    {
        let mut chain = platform.chain.clone();
        flip(&mut chain.0, index * CERTIFICATE_LEN + 0x14);
        assert_eq!(refusal(&chain, &platform.roots).as_deref(), Some(message));
    }
    let mut roots = platform.roots.clone();
    flip(&mut roots.0, 0x200);
    assert_eq!(
        refusal(&platform.chain, &roots).as_deref(),
        Some("the ASK is not signed by the ARK")
    );
    let other = Roots([key_file("turin-ask.cert"), key_file("turin-ark.cert")].concat());
    assert_eq!(
        refusal(&platform.chain, &other).as_deref(),
        Some("the CEK is not signed by the ASK")
    );
    let short = PlatformChain(platform.chain.0[..5000].to_vec());
    assert_eq!(
        refusal(&short, &platform.roots).as_deref(),
        Some("the platform's chain is malformed")
    );
}

#[test]
fn the_secret_is_for_the_measured_guest_only() {
    let platform = Platform::new();
    let order = Order::new(POLICY).unwrap();
    let answer = |change: &dyn Fn(&mut Measurement), policy, digest| {
        let mut owner = LibraryOwner::new(&order, platform.roots.clone());
        let session = owner.session(&platform.chain).unwrap();
        let keys = platform.open(&session.certificate, &session.session);
        let mut measurement = measurement(&keys.1, policy, digest);
        change(&mut measurement);
        owner
            .secret(&measurement)
            .map(|packet| (packet, measurement, keys))
    };

    let (packet, measurement, (tek, tik)) = answer(&|_| {}, POLICY, order.digest()).unwrap();
    let (flags_iv, mac) = packet.header.split_at(20);
    let len = u32::try_from(packet.payload.len()).unwrap().to_le_bytes();
    let signed = [
        &[1],
        flags_iv,
        &len,
        &len,
        &packet.payload,
        &measurement.blob[..32],
    ];
    assert_eq!(hmac(&tik, &signed.concat()), mac);
    let iv = &flags_iv[4..];
    let cipher = symm::Cipher::aes_128_ctr();
    let plain = symm::decrypt(cipher, &tek, Some(iv), &packet.payload).unwrap();
    assert_eq!(plain[40..72], order.disk_key);

    assert!(answer(&|_| {}, 0, order.digest()).is_err());
    assert!(answer(&|_| {}, POLICY, [0; 32]).is_err());
    assert!(answer(&|m| m.version[2] += 1, POLICY, order.digest()).is_err());
    assert!(answer(&|m| flip(&mut m.blob, 0), POLICY, order.digest()).is_err());
    assert!(answer(&|m| flip(&mut m.blob, 47), POLICY, order.digest()).is_err());
}

#[test]
fn only_a_true_and_fresh_report_is_believed() {
    let platform = Platform::new();
    let order = Order::new(POLICY).unwrap();
    let report = platform.report(&order);
    let refusal = |report: &[u8; REPORT_LEN], nonce, order: &Order| {
        let result = report::verify(report, nonce, order, &platform.chain);
        result.err().map(|error| error.to_string())
    };
    assert_eq!(refusal(&report, &NONCE, &order), None);
    assert_eq!(
        refusal(&report, &[8; 16], &order).as_deref(),
        Some("the report has another nonce")
    );
    let mut other = Order::new(POLICY).unwrap();
    other.content[0x1000] ^= 1;
    assert_eq!(
        refusal(&report, &NONCE, &other).as_deref(),
        Some("the report is about another image")
    );
    let other = Order::new(POLICY | 2).unwrap();
    assert_eq!(
        refusal(&report, &NONCE, &other).as_deref(),
        Some("the report is about another policy")
    );
    for at in [0, 0x10, 0x30, 0x40, 0x88] {
        let mut changed = report;
        flip(&mut changed, at);
        assert_eq!(
            refusal(&changed, &NONCE, &order).as_deref(),
            Some("the report is not signed by the platform's PEK"),
            "{at:#x}"
        );
    }
}

#[test]
fn the_digest_is_of_the_regions_in_order_and_of_the_processor() {
    let mut content: Vec<u8> = image::regions()
        .into_iter()
        .flat_map(|region| region.bytes)
        .collect();
    assert_eq!(content.len(), 17 * PAGE);
    assert_eq!(Order::new(POLICY).unwrap().digest(), sha256(&content));
    content.extend(vmsa::at_reset());
    assert_eq!(Order::new(policy::ES).unwrap().digest(), sha256(&content));
}
