// SPDX-License-Identifier: GPL-2.0
//! Keys, certificates and ownership, judged by the library `sevctl` judges real platforms with.

mod common;

use codicon::{Decoder, Encoder};
use common::{address_and_length, export_buffer, id, Platform, A, B, CERT_LEN, CHAIN_LEN, RAM_LEN};
use psp_emu::{
    firmware::{Chip, Firmware, Override, Status, VecFlash},
    memory::GuestMemory,
    model::{Model, MILAN, MODELS},
    vendor::Vendor,
};
use rand_core::OsRng;
use sev::certs::sev::{
    ca,
    sev::{Certificate, Chain, Usage},
    PrivateKey, Signer, Verifiable,
};

const SUCCESS: Status = Status::SUCCESS;

fn bytes(cert: &Certificate) -> Vec<u8> {
    let mut bytes = Vec::new();
    cert.encode(&mut bytes, ()).unwrap();
    bytes
}

/// An exported chain with the CEK as AMD certified it, as `sevctl export` puts it together.
fn chain(model: &Model, exported: &[u8]) -> Chain {
    let mut chain = Chain::decode(exported, ()).unwrap();
    let cek = Chip::from_secret([7; 32]).cek().public();
    let certified = Vendor::of(model).certify(model, &cek, &mut OsRng).unwrap();
    chain.cek = Certificate::decode(&certified.as_bytes()[..], ()).unwrap();
    chain
}

fn ca_chain(model: &Model) -> ca::Chain {
    let vendor = Vendor::of(model);
    let bytes = [vendor.ask.as_bytes(), vendor.ark.as_bytes()].concat();
    ca::Chain::decode(&bytes[..], ()).unwrap()
}

/// An owner: certificate and key, made as `sevctl generate` does.
fn owner() -> (Certificate, PrivateKey<Usage>) {
    let (mut oca, key) = Certificate::generate(Usage::OCA).unwrap();
    key.sign(&mut oca).unwrap();
    (oca, key)
}

/// The owner's signature on a platform's PEK, as `sevctl provision` makes it.
fn signed_pek(psp: &mut Platform, key: &PrivateKey<Usage>) -> Certificate {
    let mut pek = Certificate::decode(&psp.csr()[..], ()).unwrap();
    key.sign(&mut pek).unwrap();
    pek
}

fn owned_platform() -> Platform {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let (oca, key) = owner();
    let pek = signed_pek(&mut psp, &key);
    assert_eq!(psp.import(&bytes(&pek), &bytes(&oca)), SUCCESS);
    psp
}

#[test]
fn exported_chain_leads_to_the_root_on_every_model() {
    for model in MODELS {
        let mut psp = Platform::new(model);
        psp.init();
        let (chain, ca) = (chain(model, &psp.export()), ca_chain(model));
        chain.verify().unwrap();
        let ask = ca.verify().unwrap();
        (ask, &chain.cek).verify().unwrap();
    }
}

#[test]
fn cek_is_exported_without_signature() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let exported = Chain::decode(&psp.export()[..], ()).unwrap();
    let ask = ca_chain(&MILAN).ask;
    assert!((&ask, &exported.cek).verify().is_err());
    // The rest of it is the certified one.
    assert_eq!(
        bytes(&exported.cek)[..0x414],
        bytes(&chain(&MILAN, &psp.export()).cek)[..0x414]
    );
}

#[test]
fn chain_of_another_model_does_not_verify() {
    let [_, rome, milan, ..] = MODELS;
    let mut psp = Platform::new(milan);
    psp.init();
    let chain = chain(milan, &psp.export());
    assert!((&ca_chain(rome).ask, &chain.cek).verify().is_err());
}

#[test]
fn every_changed_byte_of_a_signed_part_is_noticed() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let exported = psp.export();
    // PDH and PEK: the key, and the coordinates of its point.
    for cert in [0, CERT_LEN] {
        for at in [0x4, 0x5, 0x14, 0x40, 0x5c, 0xa3, 0x100, 0x413] {
            let mut changed = exported.clone();
            changed[cert + at] ^= 1;
            let verified = Chain::decode(&changed[..], ()).map(|chain| chain.verify().is_ok());
            assert!(!verified.unwrap_or(false), "{:#x}", cert + at);
        }
    }
}

#[test]
fn identity_survives_shutdown_and_power_cycle() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let before = psp.export();
    psp.shutdown();
    psp.init();
    assert_eq!(psp.export(), before);
    psp.firmware.reset();
    assert_eq!(psp.state(), (0, 0, 0));
    psp.init();
    assert_eq!(psp.export(), before);
}

/// Which of PDH, PEK, OCA, CEK differ between two exports.
fn differing(one: &[u8], other: &[u8]) -> [bool; 4] {
    [0, 1, 2, 3].map(|at| one[at * CERT_LEN..][..CERT_LEN] != other[at * CERT_LEN..][..CERT_LEN])
}

#[test]
fn commands_renew_what_they_should() {
    for (id, expected) in [
        (id::PDH_GEN, [true, false, false, false]),
        (id::PEK_GEN, [true, true, true, false]),
    ] {
        let mut psp = Platform::new(&MILAN);
        psp.init();
        let before = psp.export();
        assert_eq!(psp.status(id, &[]), SUCCESS);
        let after = psp.export();
        assert_eq!(differing(&before, &after), expected, "{id:#x}");
        chain(&MILAN, &after).verify().unwrap();
        psp.shutdown();
        psp.init();
        assert_eq!(psp.export(), after, "{id:#x} lasts");
    }
}

#[test]
fn platform_reset_renews_all_but_the_chip() {
    let mut psp = owned_platform();
    let before = psp.export();
    psp.shutdown();
    assert_eq!(psp.status(id::PLATFORM_RESET, &[]), SUCCESS);
    psp.init();
    assert_eq!(psp.state().1, 0, "self-owned");
    let after = psp.export();
    assert_eq!(differing(&before, &after), [true, true, true, false]);
    chain(&MILAN, &after).verify().unwrap();
}

#[test]
fn csr_is_the_pek_without_signatures() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let csr = psp.csr();
    let pek = psp.export()[CERT_LEN..2 * CERT_LEN].to_vec();
    assert_eq!(csr[..0x414], pek[..0x414]);
    for slot in [0x414, 0x61c] {
        assert_eq!(csr[slot..][..8], [0x00, 0x10, 0, 0, 0, 0, 0, 0]);
        assert_eq!(csr[slot + 8..][..512], [0; 512]);
    }
}

#[test]
fn short_buffers_get_the_needed_lengths() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    for len in [0, 1, 2083] {
        let answer = psp.send(id::PEK_CSR, &address_and_length(A, len));
        assert_eq!(answer, (Status::INVALID_LEN, address_and_length(A, 2084)));
    }
    let needed = export_buffer(A, 2084, B, 6252);
    for (pdh, chain) in [(0, 0), (2083, 6252), (2084, 6251)] {
        let answer = psp.send(id::PDH_CERT_EXPORT, &export_buffer(A, pdh, B, chain));
        assert_eq!(
            answer,
            (Status::INVALID_LEN, needed.clone()),
            "{pdh} {chain}"
        );
    }
    assert_eq!(psp.read(A, 16), [0; 16], "nothing written");
    // Longer is fine, and the true length comes back.
    let answer = psp.send(id::PDH_CERT_EXPORT, &export_buffer(A, 0x3000, B, 0x3000));
    assert_eq!(answer, (SUCCESS, needed));
}

#[test]
fn outputs_outside_ram_write_nothing() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let end = RAM_LEN as u64;
    for (pdh, chain) in [(A, end - 6000), (end - 2000, B), (A, u64::MAX)] {
        let status = psp.status(id::PDH_CERT_EXPORT, &export_buffer(pdh, 2084, chain, 6252));
        assert_eq!(status, Status::INVALID_ADDRESS);
        assert_eq!(
            (psp.read(A, 16), psp.read(B, 16)),
            (vec![0; 16], vec![0; 16])
        );
    }
    let status = psp.status(id::PEK_CSR, &address_and_length(end - 2000, 2084));
    assert_eq!(status, Status::INVALID_ADDRESS);
}

#[test]
fn owner_takes_the_platform_once() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let before = psp.export();
    let (oca, key) = owner();
    let pek = signed_pek(&mut psp, &key);
    assert_eq!(psp.import(&bytes(&pek), &bytes(&oca)), SUCCESS);
    assert_eq!(psp.state(), (1, 1, 0));

    let after = psp.export();
    let owned = chain(&MILAN, &after);
    owned.verify().unwrap();
    assert_eq!(bytes(&owned.oca), bytes(&oca));
    assert_eq!(
        after[CERT_LEN..][..0x414],
        before[CERT_LEN..][..0x414],
        "the PEK's key stays"
    );
    assert_ne!(after[..0x414], before[..0x414], "the PDH does not");

    assert_eq!(
        psp.import(&bytes(&pek), &bytes(&oca)),
        Status::ALREADY_OWNED
    );
    psp.shutdown();
    assert_eq!(psp.state().1, 0, "not shown in UNINIT");
    psp.init();
    assert_eq!(psp.state().1, 1);
    assert_eq!(psp.export(), after);
}

#[test]
fn pek_gen_gives_up_the_owner() {
    let mut psp = owned_platform();
    assert_eq!(psp.status(id::PEK_GEN, &[]), SUCCESS);
    assert_eq!(psp.state().1, 0);
    chain(&MILAN, &psp.export()).verify().unwrap();
}

#[test]
fn imports_that_do_not_hold_are_refused() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let before = psp.export();
    let (oca, key) = owner();
    let pek = bytes(&signed_pek(&mut psp, &key));
    let oca = bytes(&oca);
    let (other_oca, other_key) = owner();
    let foreign = {
        let mut other = Platform::new(&MILAN);
        let flash = Box::new(VecFlash::default());
        other.firmware = Firmware::new(&MILAN, Chip::from_secret([9; 32]), flash);
        other.init();
        bytes(&signed_pek(&mut other, &key))
    };
    let unsigned = psp.csr();
    let set = |cert: &[u8], at: usize, value: u8| {
        let mut cert = cert.to_vec();
        assert_ne!(cert[at], value);
        cert[at] = value;
        cert
    };
    let flip = |cert: &[u8], at: usize| set(cert, at, cert[at] ^ 1);
    let (bad, invalid) = (Status::BAD_SIGNATURE, Status::INVALID_CERTIFICATE);
    for (what, pek, oca, expected) in [
        (
            "signed by someone else",
            bytes(&signed_pek(&mut psp, &other_key)),
            oca.clone(),
            bad,
        ),
        (
            "another owner's certificate",
            pek.clone(),
            bytes(&other_oca),
            bad,
        ),
        ("not signed at all", unsigned, oca.clone(), invalid),
        ("the PEK of another platform", foreign, oca.clone(), invalid),
        ("a changed PEK", flip(&pek, 0x20), oca.clone(), bad),
        (
            "a changed signature of the PEK",
            flip(&pek, 0x420),
            oca.clone(),
            bad,
        ),
        ("a changed OCA", pek.clone(), flip(&oca, 0x6), bad),
        (
            "a changed signature of the OCA",
            pek.clone(),
            flip(&oca, 0x420),
            bad,
        ),
        (
            "an OCA off the curve",
            pek.clone(),
            flip(&oca, 0x14),
            invalid,
        ),
        (
            "an OCA of another curve",
            pek.clone(),
            set(&oca, 0x10, 1),
            invalid,
        ),
        (
            "an OCA for something else",
            pek.clone(),
            set(&oca, 0x8, 2),
            invalid,
        ),
        (
            "an OCA of unknown algorithm",
            pek.clone(),
            set(&oca, 0xc, 9),
            invalid,
        ),
        (
            "a slot with usage and no algorithm",
            set(&pek, 0x61d, 0x11),
            oca.clone(),
            bad,
        ),
        ("PEK and OCA exchanged", oca.clone(), pek.clone(), invalid),
        ("zeros", vec![0; CERT_LEN], vec![0; CERT_LEN], invalid),
        ("ones", vec![0xff; CERT_LEN], vec![0xff; CERT_LEN], invalid),
    ] {
        assert_eq!(psp.import(&pek, &oca), expected, "{what}");
        assert_eq!(psp.export(), before, "{what}");
    }
    assert_eq!(psp.state().1, 0);
    // All that did no harm.
    assert_eq!(psp.import(&pek, &oca), SUCCESS);
}

#[test]
fn imports_of_other_lengths_are_refused() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    for (pek, oca) in [(0, 0), (2083, 2084), (2084, 2085), (2084, u32::MAX)] {
        let status = psp.status(id::PEK_CERT_IMPORT, &export_buffer(A, pek, B, oca));
        assert_eq!(status, Status::INVALID_LEN, "{pek} {oca}");
    }
    let buffer = export_buffer(A, 2084, RAM_LEN as u64 - 2083, 2084);
    assert_eq!(
        psp.status(id::PEK_CERT_IMPORT, &buffer),
        Status::INVALID_ADDRESS
    );
}

#[test]
fn overrides_answer_in_the_commands_place() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let over = Override {
        status: Some(Status::ACTIVE),
        length: None,
    };
    let status = psp.firmware.execute(id::SHUTDOWN, 0, &mut psp.ram, over);
    assert_eq!((status, psp.state().0), (Status::ACTIVE, 1), "not run");
    let over = Override {
        status: None,
        length: Some(u32::MAX),
    };
    psp.ram
        .write(0x1000, &export_buffer(A, 2084, B, CHAIN_LEN as u32))
        .unwrap();
    assert_eq!(
        psp.firmware
            .execute(id::PDH_CERT_EXPORT, 0x1000, &mut psp.ram, over),
        SUCCESS
    );
    assert_eq!(
        psp.read(0x1000, 28),
        export_buffer(A, u32::MAX, B, u32::MAX)
    );
}
