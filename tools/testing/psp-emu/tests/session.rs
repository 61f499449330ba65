// SPDX-License-Identifier: GPL-2.0
//! Sessions, packets and measurements against two other implementations: one over OpenSSL alone, and
//! virtee's `sev`, with which owners launch guests.

mod common;

use codicon::{Decoder, Encoder};
use common::owner::{Keys, Owner, Packet};
use psp_emu::{
    cert::{sev::SevCert, Algo, Usage},
    crypto::{
        ecc::{EcKey, EcPoint},
        session::{Session, SessionError, TransportKeys},
        transport::{Context, PacketHeader},
        BadMac, Hash,
    },
    model::{Version, MILAN},
};
use rand_core::OsRng;
use sev::{
    certs::sev::sev::Certificate,
    firmware::host::{Build, Version as SevVersion},
    launch::sev::{HeaderFlags, Measurement, Policy, PolicyFlags, Session as SevSession},
};

/// No debugging, SEV-ES, platforms with SEV and API 1.55 or later.
const POLICY: u32 = 0x3701_0025;
const MEASUREMENT: [u8; 32] = [0xa5; 32];
const VERSION: Version = Version {
    major: 1,
    minor: 55,
    build: 21,
};

/// A firmware's PDH and an owner with a session between them.
struct Pair {
    pdh: EcKey,
    owner: Owner,
    session: [u8; 128],
    ours: TransportKeys,
    theirs: Keys,
}

impl Pair {
    fn new() -> Self {
        let (pdh, owner) = (EcKey::generate(&mut OsRng), Owner::new());
        let (session, theirs) = owner.session(&pdh.public(), POLICY);
        let ours = Session::from_bytes(&session)
            .open(&pdh, &owner.point())
            .unwrap();
        Self {
            pdh,
            owner,
            session,
            ours,
            theirs,
        }
    }
}

/// Every context with its code and what its MAC covers at the end.
fn contexts() -> [(Context<'static>, u8, &'static [u8]); 3] {
    let secret = Context::Secret {
        measurement: &MEASUREMENT,
    };
    [
        (secret, 1, &MEASUREMENT),
        (Context::Data, 2, &[]),
        (Context::Vmsa, 3, &[]),
    ]
}

fn seal(keys: &TransportKeys, context: Context<'_>, plaintext: &[u8]) -> Packet {
    let mut data = plaintext.to_vec();
    let header = keys.seal(context, &mut data, &mut OsRng).to_bytes();
    Packet { header, data }
}

/// Opens a packet; one that does not open must be left alone.
fn open(keys: &TransportKeys, context: Context<'_>, packet: &Packet) -> Result<Vec<u8>, BadMac> {
    let mut data = packet.data.clone();
    let opened = keys.open(
        context,
        &PacketHeader::from_bytes(&packet.header),
        &mut data,
    );
    if opened.is_err() {
        assert_eq!(data, packet.data);
    }
    opened.map(|()| data)
}

/// The same bytes with one bit changed, for each bit of them.
fn with_each_bit_changed(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

#[test]
fn both_sides_agree_on_a_secret() {
    let (key, owner) = (EcKey::generate(&mut OsRng), Owner::new());
    let secret = key.agree(&owner.point()).unwrap();
    assert_eq!(secret[..], owner.agree(&key.public()));
}

/// The first vector for P-384 of NIST's "ECC CDH Primitive" test.
#[test]
fn ecdh_matches_nists_vector() {
    let number = |text: &str| common::hex(text).try_into().unwrap();
    let key = EcKey::from_scalar(&number(
        "3cc3122a68f0d95027ad38c067916ba0eb8c38894d22e1b15618b6818a661774\
         ad463b205da88cf699ab4d43c9cf98a1",
    ));
    let peer = EcPoint {
        x: number(
            "a7c76b970c3b5fe8b05d2838ae04ab47697b9eaf52e764592efda27fe7513272\
             734466b400091adbf2d68c58e0c50066",
        ),
        y: number(
            "ac68f19f2e1cb879aed43a9969b91a0839c4c38a49749b661efedf243451915e\
             d0905a32b060992b468c64766fc8437a",
        ),
    };
    let secret = number(
        "5f9d29dc5e31a163060356213669c8ce132e22f57c9a04f40ba7fcead493b457\
         e5621e766c40a2e3d4d6a04b25e533f1",
    );
    assert_eq!(key.unwrap().agree(&peer), Some(secret));
}

#[test]
fn an_owners_session_opens() {
    let pair = Pair::new();
    let session = Session::from_bytes(&pair.session);
    assert!(session.vouches_for(&pair.ours, POLICY));
    assert_eq!(session.to_bytes(), pair.session);
    // Both keys are the owner's: a packet needs both.
    let packet = pair.theirs.seal(2, &[], b"guest memory");
    let opened = open(&pair.ours, Context::Data, &packet);
    assert_eq!(opened.as_deref(), Ok(&b"guest memory"[..]));
}

#[test]
fn an_owner_opens_our_session() {
    let (pdh, owner) = (EcKey::generate(&mut OsRng), Owner::new());
    let create = || Session::create(&pdh, &owner.point(), POLICY, &mut OsRng).unwrap();
    let (session, ours) = create();
    let theirs = owner.open(&pdh.public(), &session.to_bytes(), POLICY);
    let packet = seal(&ours, Context::Data, b"guest memory");
    let opened = theirs.as_ref().unwrap().open(2, &[], &packet);
    assert_eq!(opened.as_deref(), Some(&b"guest memory"[..]));
    assert!(session.vouches_for(&ours, POLICY));
    // Nothing is used twice: not the keys, nor nonce and IV.
    let (second, _) = create();
    let again = owner
        .open(&pdh.public(), &second.to_bytes(), POLICY)
        .unwrap();
    let theirs = theirs.unwrap();
    assert!(theirs.tek != again.tek && theirs.tik != again.tik && theirs.tek != theirs.tik);
    let (first, second) = (session.to_bytes(), second.to_bytes());
    assert!(first[..0x10] != second[..0x10] && first[0x30..0x40] != second[0x30..0x40]);
}

#[test]
fn every_changed_bit_of_a_session_is_noticed() {
    let pair = Pair::new();
    for changed in with_each_bit_changed(&pair.session) {
        let session = Session::from_bytes(&changed.clone().try_into().unwrap());
        let opened = session.open(&pair.pdh, &pair.owner.point());
        let accepted = opened.is_ok_and(|keys| session.vouches_for(&keys, POLICY));
        assert!(!accepted, "{changed:x?}");
    }
}

#[test]
fn every_changed_bit_of_a_policy_is_noticed() {
    let pair = Pair::new();
    let session = Session::from_bytes(&pair.session);
    for bit in 0..32 {
        assert!(
            !session.vouches_for(&pair.ours, POLICY ^ (1 << bit)),
            "{bit}"
        );
    }
}

#[test]
fn sessions_between_others_do_not_open() {
    let pair = Pair::new();
    let session = Session::from_bytes(&pair.session);
    let other = EcKey::generate(&mut OsRng);
    let opened = session.open(&other, &pair.owner.point());
    assert_eq!(opened.err(), Some(SessionError::BadMac));
    let opened = session.open(&pair.pdh, &other.public());
    assert_eq!(opened.err(), Some(SessionError::BadMac));
}

#[test]
fn a_peer_off_the_curve_is_refused() {
    let pair = Pair::new();
    let session = Session::from_bytes(&pair.session);
    let mut twisted = pair.owner.point();
    twisted.y[47] ^= 1;
    let ones = EcPoint {
        x: [0xff; 48],
        y: [0xff; 48],
    };
    let zero = EcPoint {
        x: [0; 48],
        y: [0; 48],
    };
    for peer in [twisted, ones, zero] {
        assert_eq!(pair.pdh.agree(&peer), None);
        let opened = session.open(&pair.pdh, &peer);
        assert_eq!(opened.err(), Some(SessionError::InvalidPoint));
        assert!(Session::create(&pair.pdh, &peer, POLICY, &mut OsRng).is_none());
    }
}

#[test]
fn packets_open_on_the_other_side() {
    let pair = Pair::new();
    for (context, code, tail) in contexts() {
        for len in [1, 15, 16, 17, 4096, 16384] {
            let plaintext: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let packet = pair.theirs.seal(code, tail, &plaintext);
            assert_eq!(open(&pair.ours, context, &packet), Ok(plaintext.clone()));
            let packet = seal(&pair.ours, context, &plaintext);
            assert_eq!(packet.header[..4], [0; 4]);
            // One byte in 256 is encrypted to itself.
            if len > 8 {
                assert_ne!(packet.data, plaintext);
            }
            assert_eq!(pair.theirs.open(code, tail, &packet), Some(plaintext));
        }
    }
}

#[test]
fn every_changed_bit_of_a_packet_is_noticed() {
    let pair = Pair::new();
    for (context, ..) in contexts() {
        let packet = seal(&pair.ours, context, &[0x5a; 48]);
        for header in with_each_bit_changed(&packet.header) {
            let changed = Packet {
                header: header.try_into().unwrap(),
                ..packet.clone()
            };
            assert_eq!(open(&pair.ours, context, &changed), Err(BadMac));
        }
        for data in with_each_bit_changed(&packet.data) {
            let changed = Packet {
                data,
                ..packet.clone()
            };
            assert_eq!(open(&pair.ours, context, &changed), Err(BadMac));
        }
        for len in 0..packet.data.len() {
            let changed = Packet {
                data: packet.data[..len].to_vec(),
                ..packet.clone()
            };
            assert_eq!(open(&pair.ours, context, &changed), Err(BadMac));
        }
    }
}

#[test]
fn packets_open_in_their_context_and_with_their_keys_only() {
    let pair = Pair::new();
    for (i, (sealed_for, ..)) in contexts().into_iter().enumerate() {
        let packet = seal(&pair.ours, sealed_for, b"guest memory");
        for (j, (opened_for, ..)) in contexts().into_iter().enumerate() {
            let opened = open(&pair.ours, opened_for, &packet);
            assert_eq!(opened.is_ok(), i == j, "{sealed_for:?} {opened_for:?}");
        }
        assert!(open(&Pair::new().ours, sealed_for, &packet).is_err());
    }
    // A secret is for one launch.
    let measurement = &[0xa6; 32];
    let packet = seal(&pair.ours, contexts()[0].0, b"secret");
    assert!(open(&pair.ours, Context::Secret { measurement }, &packet).is_err());
}

#[test]
fn no_two_packets_have_the_same_iv() {
    let pair = Pair::new();
    let [first, second] = [(); 2].map(|()| seal(&pair.ours, Context::Data, b"guest memory"));
    assert_ne!(first.header[4..20], second.header[4..20]);
    assert_ne!(first.data, second.data);
}

#[test]
fn owners_verify_measurements() {
    let pair = Pair::new();
    let (digest, nonce) = ([0x11; 32], [0x22; 16]);
    assert_eq!(
        pair.ours.measure(VERSION, POLICY, &digest, &nonce),
        pair.theirs
            .measurement([1, 55, 21], POLICY, &digest, &nonce)
    );
}

/// virtee's `sev` as the owner, from the session to the secret.
#[test]
fn a_guest_of_virtees_sev_launches() {
    let pdh = EcKey::generate(&mut OsRng);
    let cert = SevCert::new(MILAN.version, Usage::Pdh, Algo::ECDH_SHA256, &pdh.public());
    let cert = Certificate::decode(&mut &cert.as_bytes()[..], ()).unwrap();
    // Not `Policy::from`, which takes each half of the API version for four bits.
    let policy = Policy {
        flags: PolicyFlags::from_bits_retain(0x0025),
        minfw: SevVersion {
            major: 0x01,
            minor: 0x37,
        },
    };
    let owner = sev::session::Session::try_from(policy).unwrap();
    let start = owner.start_pdh(cert).unwrap();

    let session = Session::from_bytes(&session_bytes(&start.session));
    let keys = session.open(&pdh, &certified_point(&start.cert)).unwrap();
    assert!(session.vouches_for(&keys, POLICY));

    let mut owner = owner.measure().unwrap();
    owner.update_data(b"the guest's firmware").unwrap();
    let digest = Hash::Sha256.digest(b"the guest's firmware");
    let mnonce = [0x22; 16];
    let measure = keys.measure(VERSION, POLICY, &digest.try_into().unwrap(), &mnonce);
    let build = Build {
        version: SevVersion {
            major: VERSION.major,
            minor: VERSION.minor,
        },
        build: VERSION.build,
    };
    let owner = owner
        .verify(build, Measurement { measure, mnonce })
        .expect("the owner trusts the measurement");

    let secret = owner
        .secret(HeaderFlags::default(), b"the key of the disk")
        .unwrap();
    let header = [&[0; 4][..], &secret.header.iv, &secret.header.mac];
    let packet = Packet {
        header: header.concat().try_into().unwrap(),
        data: secret.ciphertext,
    };
    let context = Context::Secret {
        measurement: &measure,
    };
    let opened = open(&keys, context, &packet);
    assert_eq!(opened.as_deref(), Ok(&b"the key of the disk"[..]));
}

fn session_bytes(session: &SevSession) -> [u8; 128] {
    let fields = [
        &session.nonce[..],
        &session.wrap_tk,
        &session.wrap_iv,
        &session.wrap_mac,
        &session.policy_mac,
    ];
    fields.concat().try_into().unwrap()
}

/// The public key of a certificate: 72 bytes little-endian each, of which 48 are used.
fn certified_point(cert: &Certificate) -> EcPoint {
    let mut bytes = Vec::new();
    cert.encode(&mut bytes, ()).unwrap();
    let number = |at: usize| {
        let mut number: [u8; 48] = bytes[at..at + 48].try_into().unwrap();
        number.reverse();
        number
    };
    EcPoint {
        x: number(0x14),
        y: number(0x5c),
    }
}
