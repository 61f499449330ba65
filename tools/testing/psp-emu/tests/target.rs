// SPDX-License-Identifier: GPL-2.0
//! Where a guest may be sent to, and how a platform proves that it may.

mod common;

use common::{
    certs::{Certs, Domain, SESSION},
    guests::guest_id,
    Platform,
};
use psp_emu::{
    firmware::Status,
    model::{GENOA, MILAN, NAPLES, ROME},
    vendor::Vendor,
};

const SUCCESS: Status = Status::SUCCESS;
const INVALID: Status = Status::INVALID_CERTIFICATE;
const BAD: Status = Status::BAD_SIGNATURE;
const LEN: Status = Status::INVALID_LEN;
const NOSEND: u32 = 1 << 3;
const DOMAIN: u32 = 1 << 4;
const SEV: u32 = 1 << 5;

/// A guest in RUNNING.
fn running(psp: &mut Platform, policy: u32) -> u32 {
    let (status, handle) = psp.start_anonymously(0, policy);
    assert_eq!(status, SUCCESS);
    psp.measure(handle);
    assert_eq!(psp.plain(guest_id::LAUNCH_FINISH, handle), SUCCESS);
    handle
}

/// Tries to send a running guest of this policy; whether it worked must show in its state.
fn send(psp: &mut Platform, policy: u32, to: &Certs) -> Status {
    let handle = running(psp, policy);
    let status = psp.send_start(handle, to);
    let (state, session) = (psp.guest(handle).2, psp.read(SESSION, 128));
    assert_eq!(state, if status == SUCCESS { 4 } else { 3 });
    assert_eq!(session == [0xee; 128], status != SUCCESS);
    assert_eq!(psp.plain(guest_id::DECOMMISSION, handle), SUCCESS);
    status
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn nosend_keeps_the_guest_here() {
    let mut psp = Platform::of_chip(&MILAN, 1);
    let own = Certs::of(&mut psp, &MILAN, 1);
    assert_eq!(send(&mut psp, 0, &own), SUCCESS);
    for policy in [NOSEND, NOSEND | SEV, NOSEND | DOMAIN] {
        assert_eq!(send(&mut psp, policy, &own), Status::POLICY_FAILURE);
    }
}

#[test]
fn domain_keeps_the_guest_with_one_owner() {
    let (domain, others) = (Domain::new(), Domain::new());
    let mut psp = Platform::of_chip(&MILAN, 1);
    domain.take(&mut psp);
    let target = |secret: u8, owner: Option<&Domain>| {
        let mut psp = Platform::of_chip(&GENOA, secret);
        owner.inspect(|owner| owner.take(&mut psp));
        Certs::of(&mut psp, &GENOA, secret)
    };
    let same = target(2, Some(&domain));
    let other = target(3, Some(&others));
    let own = target(4, None);
    assert_eq!(send(&mut psp, DOMAIN, &same), SUCCESS);
    assert_eq!(send(&mut psp, DOMAIN | SEV, &same), SUCCESS);
    assert_eq!(send(&mut psp, DOMAIN, &other), Status::POLICY_FAILURE);
    assert_eq!(send(&mut psp, DOMAIN, &own), Status::POLICY_FAILURE);
    assert_eq!(send(&mut psp, DOMAIN | SEV, &other), Status::POLICY_FAILURE);
    assert_eq!(send(&mut psp, 0, &other), SUCCESS);

    let body = 0x50;
    let stolen = other.with(|certs| certs.oca = same.oca.clone());
    let refused = [
        (stolen, BAD),
        (same.with(|certs| certs.oca = flipped(&same.oca, 0x4)), BAD),
        (same.with(|certs| certs.pek = flipped(&same.pek, body)), BAD),
        (same.with(|certs| certs.pdh = flipped(&same.pdh, body)), BAD),
        (same.with(|certs| certs.pdh = other.pdh.clone()), BAD),
        (same.with(|certs| certs.oca = vec![]), LEN),
        (same.with(|certs| certs.pdh = same.pdh[1..].to_vec()), LEN),
    ];
    for (number, (certs, expected)) in refused.into_iter().enumerate() {
        assert_eq!(send(&mut psp, DOMAIN, &certs), expected, "{number}");
    }
}

#[test]
fn sev_keeps_the_guest_on_genuine_platforms() {
    let mut psp = Platform::of_chip(&MILAN, 1);
    let certs = |model, secret| Certs::of(&mut Platform::of_chip(model, secret), model, secret);
    let (genoa, other) = (certs(&GENOA, 2), certs(&GENOA, 3));
    assert_eq!(send(&mut psp, SEV, &genoa), SUCCESS);
    assert_eq!(
        send(&mut psp, SEV, &certs(&NAPLES, 2)),
        SUCCESS,
        "RSA of 2048 bits"
    );
    let milan = Vendor::of(&MILAN);
    let mut unsigned = genoa.cek.clone();
    unsigned[0x414..].fill(0);
    unsigned[0x414..0x418].copy_from_slice(&0x1000u32.to_le_bytes());
    unsigned[0x61c..0x620].copy_from_slice(&0x1000u32.to_le_bytes());
    let key = 0x50;
    let refused = [
        (
            "another ARK",
            genoa.with(|certs| certs.ark = milan.ark.as_bytes().to_vec()),
            INVALID,
        ),
        (
            "another ASK",
            genoa.with(|certs| certs.ask = milan.ask.as_bytes().to_vec()),
            INVALID,
        ),
        (
            "ASK as root",
            genoa.with(|certs| certs.ark = genoa.ask.clone()),
            INVALID,
        ),
        (
            "ARK's key",
            genoa.with(|certs| certs.ark = flipped(&genoa.ark, 0x140)),
            INVALID,
        ),
        (
            "ASK's key",
            genoa.with(|certs| certs.ask = flipped(&genoa.ask, 0x340)),
            BAD,
        ),
        (
            "ASK's signature",
            genoa.with(|certs| certs.ask = flipped(&genoa.ask, 0x600)),
            BAD,
        ),
        (
            "CEK unsigned",
            genoa.with(|certs| certs.cek = unsigned),
            INVALID,
        ),
        (
            "CEK's key",
            genoa.with(|certs| certs.cek = flipped(&genoa.cek, key)),
            BAD,
        ),
        (
            "CEK's signature",
            genoa.with(|certs| certs.cek = flipped(&genoa.cek, 0x420)),
            BAD,
        ),
        (
            "another CEK",
            genoa.with(|certs| certs.cek = other.cek.clone()),
            BAD,
        ),
        (
            "PEK's key",
            genoa.with(|certs| certs.pek = flipped(&genoa.pek, key)),
            BAD,
        ),
        (
            "another PEK",
            genoa.with(|certs| certs.pek = other.pek.clone()),
            BAD,
        ),
        (
            "PDH's key",
            genoa.with(|certs| certs.pdh = flipped(&genoa.pdh, key)),
            BAD,
        ),
        (
            "another PDH",
            genoa.with(|certs| certs.pdh = other.pdh.clone()),
            BAD,
        ),
        ("no ARK", genoa.with(|certs| certs.ark = vec![]), LEN),
        ("no CEK", genoa.with(|certs| certs.cek = vec![]), LEN),
    ];
    for (what, certs, expected) in refused {
        let status = send(&mut psp, SEV, &certs);
        assert_eq!(status, expected, "{what}");
        if !what.contains("PDH") {
            assert_eq!(send(&mut psp, 0, &certs), SUCCESS, "{what}: nobody asked");
        }
    }
}

#[test]
fn sev_keeps_the_guest_on_firmware_as_new_as_its_policy_wants() {
    let mut psp = Platform::of_chip(&MILAN, 1);
    let certs = |model, secret| Certs::of(&mut Platform::of_chip(model, secret), model, secret);
    let (rome, genoa) = (certs(&ROME, 2), certs(&GENOA, 2));
    let api = |major: u8, minor: u8| u32::from_le_bytes([0, 0, major, minor]);
    let refused = Status::POLICY_FAILURE;
    for (policy, to, expected) in [
        (SEV | api(0, 24), &rome, SUCCESS),
        (SEV | api(0, 25), &rome, refused),
        (SEV | api(1, 0), &rome, refused),
        (SEV | api(1, 55), &genoa, SUCCESS),
        // Without SEV nobody vouches for what the certificates say. The target itself will refuse.
        (api(1, 0), &rome, SUCCESS),
    ] {
        assert_eq!(send(&mut psp, policy, to), expected, "{policy:#x}");
    }
}
