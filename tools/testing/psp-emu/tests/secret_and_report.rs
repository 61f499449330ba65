// SPDX-License-Identifier: GPL-2.0
//! What a guest's owner learns of a launch and brings into it: measurement, transcript, secrets, reports. The
//! owner here is OpenSSL.

mod common;

use common::{
    guests::{guest_id, start_buffer, transport_buffer, update_buffer, ASID, ES_ASID, GUEST, PAGE},
    hex,
    owner::{Keys, Owner},
    states::{LSECRET, RUNNING, RUPDATE, SENT, SUPDATE},
    Platform, A, B, CERT_LEN, RAM_LEN,
};
use openssl::{
    bn::BigNum,
    ec::{EcGroup, EcKey},
    ecdsa::EcdsaSig,
    nid::Nid,
    sha::sha256,
};
use psp_emu::{
    cert::{sev::SevCert, Algo, Usage},
    firmware::{Chip, Firmware, Status, VecFlash},
    memory::{GuestMemory, VecMemory},
    model::MILAN,
};
use std::sync::{Arc, Mutex};

const SUCCESS: Status = Status::SUCCESS;
const ES: u32 = 4;
/// API and build number of the model.
const VERSION: [u8; 3] = [1, 55, 21];

/// LAUNCH_START by an owner; the guest is active.
fn start(psp: &mut Platform, policy: u32, asid: u32) -> (u32, Keys) {
    let owner = Owner::new();
    let pdh: [u8; CERT_LEN] = psp.export()[..CERT_LEN].try_into().unwrap();
    let (session, keys) = owner.session(&SevCert::from(pdh).dh_point().unwrap(), policy);
    let algo = Algo::ECDH_SHA256;
    let cert = SevCert::new(MILAN.version, Usage::Pdh, algo, &owner.point());
    psp.ram.write(A, cert.as_bytes()).unwrap();
    psp.ram.write(B, &session).unwrap();
    let buffer = start_buffer(0, policy, (A, CERT_LEN as u32), (B, 128));
    let (status, buffer) = psp.send(guest_id::LAUNCH_START, &buffer);
    let handle = u32::from_le_bytes(buffer[..4].try_into().unwrap());
    assert_eq!((status, psp.activate(handle, asid)), (SUCCESS, SUCCESS));
    (handle, keys)
}

fn update_vmsa(psp: &mut Platform, handle: u32, addr: u64, vmsa: &[u8]) -> Status {
    psp.ram.write(addr, vmsa).unwrap();
    let buffer = update_buffer(handle, addr, vmsa.len() as u32);
    psp.status(guest_id::LAUNCH_UPDATE_VMSA, &buffer)
}

#[test]
fn secrets_are_taken_with_the_right_measurement_only() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let (handle, keys) = start(&mut psp, 0, ASID);
    let (measurement, _) = psp.measure(handle);
    let (len, addr, bad) = (
        Status::INVALID_LEN,
        Status::INVALID_ADDRESS,
        Status::BAD_MEASUREMENT,
    );
    let end = RAM_LEN as u64;
    let mut secret =
        |packet: &common::owner::Packet, header: u32, guest: (u64, u32), trans: u32| {
            psp.ram.write(A, &packet.header).unwrap();
            psp.ram.write(B, &packet.data).unwrap();
            let before = psp.read(0x2000, RAM_LEN - 0x2000);
            let buffer = transport_buffer(handle, (A, header), guest, (B, trans));
            let status = psp.status(guest_id::LAUNCH_SECRET, &buffer);
            let changed = psp.read(0x2000, RAM_LEN - 0x2000) != before;
            assert!(status == SUCCESS || !changed, "{status}");
            status
        };
    let seal = |flags, length| keys.seal_flagged(flags, 1, &measurement, &vec![7; length]);
    for (flags, header, at, guest, trans, expected) in [
        (0, 52, GUEST + 8, 16, 16, addr),
        (0, 52, end - 16, 32, 32, addr),
        (0, 52, end, 16, 16, addr),
        (0, 52, u64::MAX - 15, 16, 16, addr),
        (0, 52, GUEST, 0, 0, len),
        (0, 52, GUEST, 8, 8, len),
        (0, 52, GUEST, 16, 32, len),
        (0, 52, GUEST, 32, 16, len),
        (0, 52, GUEST, 0x4010, 0x4010, len),
        (0, 51, GUEST, 16, 16, len),
        (0, 53, GUEST, 16, 16, len),
        (1, 52, GUEST, 16, 16, Status::UNSUPPORTED),
        (0, 52, GUEST, 16, 16, SUCCESS),
        (0, 52, GUEST, 0x4000, 0x4000, SUCCESS),
        (0, 52, end - 16, 16, 16, SUCCESS),
    ] {
        let packet = seal(flags, trans.max(guest) as usize);
        let status = secret(&packet, header, (at, guest), trans);
        assert_eq!(status, expected, "{header} {at:#x} {guest} {trans}");
    }
    for wrong in [[0; 32], keys.measurement(VERSION, 0, &[0; 32], &[0; 16])] {
        let packet = keys.seal(1, &wrong, &[7; 16]);
        assert_eq!(secret(&packet, 52, (GUEST, 16), 16), bad);
    }
    for at in 0..52 + 16 {
        let mut packet = seal(0, 16);
        match at {
            0..52 => packet.header[at] ^= 1,
            _ => packet.data[at - 52] ^= 1,
        }
        assert_eq!(secret(&packet, 52, (GUEST, 16), 16), bad, "{at}");
    }
    let last = keys.seal(1, &measurement, b"the disk's key..");
    assert_eq!(secret(&last, 52, (GUEST, 16), 16), SUCCESS);
    let taken = psp.decrypt(handle, GUEST, 32).unwrap();
    assert_eq!(taken, [&b"the disk's key.."[..], &[7; 16]].concat());
}

#[test]
fn regions_are_measured_in_their_order() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let vmsa: Vec<u8> = (0..4096u32).map(|at| (at % 251) as u8).collect();
    let (first, second) = ([1; 4096], [2; 0x1_2340]);
    let mut launch = |order: &[&[u8]], asid: u32| {
        let (handle, keys) = start(&mut psp, ES, asid);
        let mut addr = GUEST;
        for data in order {
            assert_eq!(psp.update(handle, addr, data), SUCCESS);
            addr += 0x2_0000;
        }
        // As the owner knows it, with bytes the firmware will replace.
        assert_eq!(update_vmsa(&mut psp, handle, addr, &vmsa), SUCCESS);
        let taken = psp.decrypt(handle, addr, 4096).unwrap();
        assert_eq!(
            (&taken[..0x380], &taken[0x390..]),
            (&vmsa[..0x380], &vmsa[0x390..])
        );
        assert_ne!(taken[0x380..0x390], vmsa[0x380..0x390]);
        let (measurement, nonce) = psp.measure(handle);
        let digest = sha256(&[&order.concat()[..], &vmsa].concat());
        let expected = keys.measurement(VERSION, ES, &digest, &nonce);
        assert_eq!(measurement, expected);
        let buffer = buffer![handle, 0u32, A, 1u64, 2u64, 0xd0u32];
        assert_eq!(psp.status(guest_id::ATTESTATION, &buffer), SUCCESS);
        assert_eq!(psp.read(A + 16, 32), digest);
        (digest, nonce)
    };
    let one = launch(&[&first, &second], 1);
    let other = launch(&[&second, &first], 2);
    let same = launch(&[&first, &second], 3);
    assert_ne!(one.0, other.0);
    assert_eq!(one.0, same.0);
    assert_ne!(one.1, same.1, "MNONCE");
    // Without any region, too.
    launch(&[], 4);
}

#[test]
fn a_transcript_leads_to_the_measurement() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (sink, flash) = (seen.clone(), Box::new(VecFlash::default()));
    let firmware = Firmware::new(&MILAN, Chip::from_secret([7; 32]), flash);
    let observer = move |transcript: &psp_emu::firmware::transcript::Transcript| {
        sink.lock().unwrap().push(transcript.to_json());
    };
    let mut psp = Platform {
        firmware: firmware.with_transcripts(Box::new(observer)),
        ram: VecMemory::new(0, RAM_LEN),
    };
    psp.init_for_guests();
    let policy = ES | 0x25 | 0x1600_0000;
    let (handle, keys) = start(&mut psp, policy, ES_ASID);
    let vmsa = [0x33; 4096];
    assert_eq!(psp.update(handle, GUEST, &[1; 0x3000]), SUCCESS);
    assert_eq!(psp.update(handle, GUEST + 0x3000, &[]), Status::INVALID_LEN);
    assert_eq!(psp.update(handle, GUEST + 0x8000, &[2; 16]), SUCCESS);
    assert_eq!(update_vmsa(&mut psp, handle, GUEST + PAGE, &vmsa), SUCCESS);
    assert!(seen.lock().unwrap().is_empty());
    let (measurement, nonce) = psp.measure(handle);

    let json: serde_json::Value = {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        serde_json::from_str(&seen[0]).unwrap()
    };
    let regions = json["regions"].as_array().unwrap();
    let expected: [(&str, u64, &[u8]); 3] = [
        ("data", GUEST, &[1; 0x3000]),
        ("data", GUEST + 0x8000, &[2; 16]),
        ("vmsa", GUEST + PAGE, &vmsa),
    ];
    assert_eq!(regions.len(), expected.len());
    for (region, (kind, address, contents)) in regions.iter().zip(expected) {
        assert_eq!(region["kind"], kind);
        assert_eq!(region["address"], address);
        assert_eq!(region["length"], contents.len());
        assert_eq!(hex(region["sha256"].as_str().unwrap()), sha256(contents));
    }
    // From here on the transcript and the owner's keys alone.
    let bytes = |field: &str| hex(json["measured"][field].as_str().unwrap());
    let number = |field: &str| json[field].as_u64().unwrap() as u8;
    let version = ["api_major", "api_minor", "build"].map(number);
    let said = json["policy"].as_u64().unwrap() as u32;
    let digest = bytes("launch_digest").try_into().unwrap();
    let said_nonce = bytes("nonce").try_into().unwrap();
    let computed = keys.measurement(version, said, &digest, &said_nonce);
    assert_eq!((computed, said_nonce), (measurement, nonce));
    assert_eq!(bytes("measurement"), measurement);
    let contents = [&[1; 0x3000][..], &[2; 16], &vmsa].concat();
    assert_eq!(digest, sha256(&contents));
}

/// A number as certificates and reports have it: little-endian, in a longer field.
fn number(bytes: &[u8]) -> BigNum {
    let big_endian: Vec<u8> = bytes[..72].iter().rev().copied().collect();
    BigNum::from_slice(&big_endian).unwrap()
}

/// Whether the key of an exported certificate has signed the report.
fn is_signed(report: &[u8], pek: &[u8]) -> bool {
    let curve = EcGroup::from_curve_name(Nid::SECP384R1).unwrap();
    let (x, y) = (number(&pek[0x14..]), number(&pek[0x5c..]));
    let key = EcKey::from_public_key_affine_coordinates(&curve, &x, &y).unwrap();
    let (r, s) = (number(&report[0x40..]), number(&report[0x88..]));
    let signature = EcdsaSig::from_private_components(r, s).unwrap();
    signature.verify(&sha256(&report[..0x34]), &key).unwrap()
}

#[test]
fn reports_are_signed_by_the_pek() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let pek = psp.export()[CERT_LEN..2 * CERT_LEN].to_vec();
    let owner = common::guests::Owner::of(&mut psp, 0);
    let digest = sha256(&[0x5a; 4096]);
    let attest = |psp: &mut Platform, handle: u32, nonce: u64, len: u32| {
        let buffer = buffer![handle, 0u32, A, nonce, !nonce, len];
        let (status, answer) = psp.send(guest_id::ATTESTATION, &buffer);
        (status, answer[0x20..].to_vec(), psp.read(A, 0xd0))
    };
    for (state, asid) in [LSECRET, RUNNING, SUPDATE, SENT].into_iter().zip(ASID..) {
        let guest = psp.guest_in(state, &owner, (0, asid), state != SENT).handle;
        psp.ram.write(A, &[0xee; 0xd0]).unwrap();
        for len in [0, 0xcf] {
            let (status, needed, untouched) = attest(&mut psp, guest, 5, len);
            assert_eq!((status, needed), (Status::INVALID_LEN, vec![0xd0, 0, 0, 0]));
            assert_eq!(untouched, [0xee; 0xd0]);
        }
        let (status, len, report) = attest(&mut psp, guest, 5, 0x1000);
        assert_eq!((status, len), (SUCCESS, vec![0xd0, 0, 0, 0]));
        let said = [
            &5u64.to_le_bytes()[..],
            &(!5u64).to_le_bytes(),
            &digest,
            &[0; 4],
        ]
        .concat();
        assert_eq!(report[..0x34], said);
        // Usage PEK, ECDSA with SHA-256, reserved.
        assert_eq!(report[0x34..0x40], buffer![0x1002u32, 2u32, 0u32]);
        assert!(is_signed(&report, &pek));
        for at in 0..0x34 {
            let mut changed = report.clone();
            changed[at] ^= 1;
            assert!(!is_signed(&changed, &pek), "{at:#x}");
        }
        let (_, _, again) = attest(&mut psp, guest, 6, 0xd0);
        assert!(is_signed(&again, &pek));
        assert_ne!(again[..0x10], report[..0x10]);
    }
    // Of a guest from elsewhere the platform knows no digest.
    let guest = psp.guest_in(RUPDATE, &owner, (0, ASID + 4), true).handle;
    assert_eq!(psp.plain(guest_id::RECEIVE_FINISH, guest), SUCCESS);
    let (status, _, report) = attest(&mut psp, guest, 5, 0xd0);
    assert_eq!((status, &report[0x10..0x30]), (SUCCESS, &[0; 32][..]));
    assert!(is_signed(&report, &pek));
}
