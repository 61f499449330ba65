// SPDX-License-Identifier: GPL-2.0
//! What a guest's owner can rely on: the policy, and that nobody has changed the session.

mod common;

use common::{
    guests::{debug_buffer, guest_id, start_buffer, Owner, ASID, GUEST},
    Platform, A, B, CERT_LEN,
};
use psp_emu::{
    firmware::Status,
    memory::GuestMemory,
    model::{MILAN, MODELS},
};

const SUCCESS: Status = Status::SUCCESS;
const NODBG: u32 = 1 << 0;
const NOKS: u32 = 1 << 1;
const STARTS: [u16; 2] = [guest_id::LAUNCH_START, guest_id::RECEIVE_START];

/// A guest in LUPDATE with an ASID.
fn guest(psp: &mut Platform, policy: u32, asid: u32) -> u32 {
    let (status, handle) = psp.start_anonymously(0, policy);
    assert_eq!(status, SUCCESS);
    assert_eq!(psp.activate(handle, asid), SUCCESS);
    handle
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn nodbg_keeps_the_host_out() {
    let mut psp = Platform::of_chip(&MILAN, 1);
    for (policy, asid) in [(0, ASID), (NODBG, ASID + 1)] {
        let handle = guest(&mut psp, policy, asid);
        assert_eq!(psp.update(handle, GUEST, b"sixteen letters."), SUCCESS);
        let before = psp.read(GUEST, 16);
        psp.ram.write(A, &[0x11; 32]).unwrap();
        let encrypt = debug_buffer(handle, A, GUEST, 16);
        let encrypted = psp.status(guest_id::DBG_ENCRYPT, &encrypt);
        let decrypted = psp.decrypt(handle, GUEST, 16);
        if policy == 0 {
            assert_eq!((encrypted, decrypted), (SUCCESS, Ok(vec![0x11; 16])));
        } else {
            let refused = Status::POLICY_FAILURE;
            assert_eq!((encrypted, decrypted), (refused, Err(refused)));
            assert_eq!((psp.read(GUEST, 16), psp.read(A, 1)), (before, vec![0x11]));
        }
    }
}

#[test]
fn keys_are_shared_by_guests_of_the_same_policy_unless_noks() {
    let mut psp = Platform::of_chip(&MILAN, 1);
    let first = guest(&mut psp, 0, ASID);
    assert_eq!(psp.update(first, GUEST, b"sixteen letters."), SUCCESS);
    let (status, second) = psp.start_anonymously(first, 0);
    assert_eq!((status, second), (SUCCESS, 2));
    let stranger = guest(&mut psp, 0, ASID + 2);
    assert_eq!(psp.activate(second, ASID + 1), SUCCESS);
    assert_eq!(psp.decrypt(second, GUEST, 16).unwrap(), b"sixteen letters.");
    assert_ne!(
        psp.decrypt(stranger, GUEST, 16).unwrap(),
        b"sixteen letters."
    );
    // The key outlives the guest it was made for.
    assert_eq!(psp.plain(guest_id::DEACTIVATE, first), SUCCESS);
    assert_eq!(psp.plain(guest_id::DECOMMISSION, first), SUCCESS);
    assert_eq!(psp.decrypt(second, GUEST, 16).unwrap(), b"sixteen letters.");

    let alone = guest(&mut psp, NOKS, ASID + 3);
    let owner = Owner::of(&mut psp, NOKS);
    for command in STARTS {
        for (share, policy) in [(alone, NOKS), (second, NODBG), (second, NOKS), (alone, 0)] {
            let (status, _) = match (command, policy) {
                (guest_id::LAUNCH_START, _) => psp.start_anonymously(share, policy),
                (_, NOKS) => psp.start(command, &owner, share, policy),
                _ => continue,
            };
            assert_eq!(status, Status::POLICY_FAILURE, "{command:#x} {policy}");
        }
    }
}

#[test]
fn reserved_bits_and_newer_firmware_are_refused() {
    for model in MODELS {
        let mut psp = Platform::of_chip(model, 1);
        let (major, minor) = (model.version.major, model.version.minor);
        let api = |major: u8, minor: u8| u32::from_le_bytes([0, 0, major, minor]);
        let reserved = (6..16).map(|bit| (1 << bit, false));
        let versions = [
            (api(major, minor), true),
            (api(0, 255), major > 0),
            (api(major, minor + 1), false),
            (api(major + 1, 0), false),
            (api(255, 255), false),
        ];
        for (policy, accepted) in reserved.chain(versions) {
            let expected = match accepted {
                true => SUCCESS,
                false => Status::POLICY_FAILURE,
            };
            let (status, _) = psp.start_anonymously(0, policy);
            assert_eq!(status, expected, "{} {policy:#x}", model.name);
        }
        let owner = Owner::of(&mut psp, 0x40);
        for command in STARTS {
            let (status, _) = psp.start(command, &owner, 0, 0x40);
            assert_eq!(status, Status::POLICY_FAILURE, "the owner agrees");
        }
    }
}

#[test]
fn every_byte_of_a_session_and_of_the_owners_key_matters() {
    let mut psp = Platform::of_chip(&MILAN, 1);
    let (policy, certificate) = (NODBG, Status::INVALID_CERTIFICATE);
    let owner = Owner::of(&mut psp, policy);
    let (cert, session) = (owner.cert(), owner.session());
    let mut start = |cert: &[u8], session: &[u8], policy: u32, lengths: (u32, u32)| {
        psp.ram.write(A, cert).unwrap();
        psp.ram.write(B, session).unwrap();
        let buffer = start_buffer(0, policy, (A, lengths.0), (B, lengths.1));
        let statuses = STARTS.map(|command| psp.status(command, &buffer));
        assert_eq!(statuses[0], statuses[1]);
        assert_eq!(psp.state().0 == 2, statuses[0] == SUCCESS);
        for handle in 1..=2 {
            psp.plain(guest_id::DECOMMISSION, handle);
        }
        statuses[0]
    };
    let right = (CERT_LEN as u32, 128);
    assert_eq!(start(&cert, &session, policy, right), SUCCESS);
    for at in 0..session.len() {
        let status = start(&cert, &flipped(&session, at), policy, right);
        assert_eq!(status, Status::BAD_MEASUREMENT, "session, {at:#x}");
    }
    for policy in [0, NODBG | NOKS] {
        let status = start(&cert, &session, policy, right);
        assert_eq!(status, Status::BAD_MEASUREMENT, "another policy");
    }
    // Version, usage, algorithm, curve; both coordinates.
    for at in [0, 3, 8, 0xc, 0x10, 0x14, 0x43, 0x44, 0x5b, 0x5c, 0x8b, 0x8c] {
        let status = start(&flipped(&cert, at), &session, policy, right);
        assert_eq!(status, certificate, "certificate, {at:#x}");
    }
    let stranger = Owner::of(&mut Platform::of_chip(&MILAN, 2), policy);
    let status = start(&stranger.cert(), &session, policy, right);
    assert_eq!(status, Status::BAD_MEASUREMENT, "another key");
    let status = start(&stranger.cert(), &stranger.session(), policy, right);
    assert_eq!(status, Status::BAD_MEASUREMENT, "for another platform");
    for lengths in [
        (right.0 - 1, 128),
        (right.0 + 1, 128),
        (right.0, 127),
        (right.0, 129),
        (0, 0),
    ] {
        let status = start(&cert, &session, policy, lengths);
        assert_eq!(status, Status::INVALID_LEN, "{lengths:?}");
    }
}
