// SPDX-License-Identifier: GPL-2.0
//! What the firmware answers: reports, keys, the TSC's parameters; and who vouches for reports.

use super::client::{report_request, Guest, KEY_REQ, TSC_INFO_REQ};
use openssl::{
    bn::BigNum,
    ecdsa::EcdsaSig,
    sha::sha384,
    stack::Stack,
    x509::{store::X509StoreBuilder, X509StoreContext, X509},
};
use psp_emu::{
    firmware::Chip,
    model::{Model, GENOA, MILAN, TURIN},
};
use sev::{
    certs::snp::{ca, Certificate, Chain, Verifiable},
    firmware::{guest::AttestationReport, host::CertTableEntry, host::CertType},
};

fn certificates(table: &mut [u8]) -> Vec<CertTableEntry> {
    CertTableEntry::vec_bytes_to_cert_table(table).unwrap()
}

fn certificate(entries: &[CertTableEntry], kind: CertType) -> X509 {
    let entry = entries.iter().find(|entry| entry.cert_type == kind);
    X509::from_der(entry.unwrap().data()).unwrap()
}

/// The leaf's chain by OpenSSL's rules for certificates, against this root.
fn leads_to(root: &X509, intermediate: &X509, leaf: &X509) -> bool {
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(root.clone()).unwrap();
    let store = store.build();
    let mut chain = Stack::new().unwrap();
    chain.push(intermediate.clone()).unwrap();
    let mut context = X509StoreContext::new().unwrap();
    context
        .init(&store, leaf, &chain, |context| context.verify_cert())
        .unwrap()
}

/// By OpenSSL, without any library that knows reports.
fn signed_by(report: &[u8], leaf: &X509) -> bool {
    let number = |at: usize| {
        let mut bytes = report[at..at + 72].to_vec();
        bytes.reverse();
        BigNum::from_slice(&bytes).unwrap()
    };
    let signature = EcdsaSig::from_private_components(number(0x2a0), number(0x2e8)).unwrap();
    let key = leaf.public_key().unwrap().ec_key().unwrap();
    signature.verify(&sha384(&report[..0x2a0]), &key).unwrap()
}

#[test]
fn reports_lead_to_the_emulated_root() {
    for (model, with_vlek) in [
        (&MILAN, false),
        (&MILAN, true),
        (&GENOA, false),
        (&TURIN, false),
        (&TURIN, true),
    ] {
        let name = model.name;
        let mut guest = Guest::on(model, 1, with_vlek);
        let (mut table, report) = guest.certificates(&report_request(7, 0, 0));
        let entries = certificates(&mut table);
        assert_eq!(entries.len(), 3);
        let leaf = match with_vlek {
            true => CertType::VLEK,
            false => CertType::VCEK,
        };
        let leaf = certificate(&entries, leaf);
        let (ask, ark) = (
            certificate(&entries, CertType::ASK),
            certificate(&entries, CertType::ARK),
        );
        let text = String::from_utf8_lossy(&ark.to_text().unwrap()).into_owned();
        assert!(text.contains("of the psp-emu emulator"), "{text}");
        assert!(leads_to(&ark, &ask, &leaf), "{name}");
        assert!(signed_by(&report, &leaf), "{name}");

        let chain = Chain {
            ca: ca::Chain {
                ark: Certificate::from(ark),
                ask: Certificate::from(ask),
            },
            vek: Certificate::from(leaf),
        };
        let parsed = AttestationReport::from_bytes(&report).unwrap();
        (&chain, &parsed).verify().unwrap();
        assert_eq!(parsed.chip_id[..], Chip::from_secret([1; 32]).id());
        assert_eq!(parsed.key_info.signing_key(), u32::from(with_vlek));

        // Not another model's, and not with a bit changed.
        let other: &Model = if name == "milan" { &GENOA } else { &MILAN };
        let (mut table, _) = Guest::on(other, 1, with_vlek).certificates(&report_request(7, 0, 0));
        let other = certificate(&certificates(&mut table), CertType::ARK);
        let ask = certificate(&entries, CertType::ASK);
        let leaf = X509::from(chain.vek);
        assert!(!leads_to(&other, &ask, &leaf), "{name}");
        let mut changed = report.clone();
        changed[0x90] ^= 1;
        assert!(!signed_by(&changed, &leaf), "{name}");
    }
}

#[test]
fn reports_say_what_the_model_is_and_what_was_asked() {
    for (model, version, cpuid, fmc) in [
        (&MILAN, 2, [None; 3], None),
        (&GENOA, 3, [Some(0x19), Some(0x11), Some(1)], None),
        (&TURIN, 3, [Some(0x1a), Some(0x02), Some(1)], Some(1)),
    ] {
        let mut guest = Guest::on(model, 1, false);
        let (status, bytes) = guest.report(&report_request(0xa5, 2, 1));
        assert_eq!(status, 0);
        let report = AttestationReport::from_bytes(&bytes).unwrap();
        assert_eq!(report.version, version, "{}", model.name);
        let found = [report.cpuid_fam_id, report.cpuid_mod_id, report.cpuid_step];
        assert_eq!(found, cpuid, "{}", model.name);
        assert_eq!((report.vmpl, report.sig_algo), (2, 1));
        assert_eq!(report.report_data[..], [0xa5; 64]);
        let (major, minor) = (report.current.major, report.current.minor);
        assert_eq!((major, minor), (model.version.major, model.version.minor));
        // The same firmware since it was launched. Of a version 2 report nobody can tell how its TCB is to be read.
        if version >= 3 {
            assert_eq!(report.reported_tcb.fmc, fmc, "{}", model.name);
        }
        for tcb in [0x38, 0x1e0, 0x1f0] {
            assert_eq!(bytes[tcb..tcb + 8], bytes[0x180..0x188]);
        }
    }
}

#[test]
fn report_requests_are_checked() {
    for (with_vlek, request, want) in [
        (false, report_request(0, 0, 0), 0),
        (false, report_request(0, 3, 1), 0),
        (false, report_request(0, 4, 0), 0x16),
        (false, report_request(0, u32::MAX, 0), 0x16),
        (false, report_request(0, 0, 2), 0x27),
        (false, report_request(0, 0, 3), 0x27),
        (false, report_request(0, 0, 4), 0x16),
        (true, report_request(0, 0, 2), 0),
        (true, report_request(0, 0, 1), 0),
        (true, report_request(0, 0, 3), 0x27),
    ] {
        let mut guest = Guest::on(&MILAN, 1, with_vlek);
        let (status, report) = guest.report(&request);
        assert_eq!(status, want, "{request:x?}");
        assert_eq!(report.iter().all(|&byte| byte == 0), want != 0);
    }
    let mut reserved = report_request(0, 0, 0);
    for at in 0x48..0x60 {
        reserved[at] = 1;
        assert_eq!(
            Guest::on(&MILAN, 1, false).report(&reserved).0,
            0x16,
            "{at}"
        );
        reserved[at] = 0;
    }
}

#[test]
fn the_privilege_level_is_that_of_the_key() {
    let mut guest = Guest::on(&MILAN, 1, false);
    for vmpck in 0..4 {
        for vmpl in 0..4 {
            let request = report_request(0, vmpl, 0);
            let answer = guest.ask(super::client::REPORT_REQ, vmpck, &request);
            let refused = answer[0] == 0x16;
            assert_eq!(refused, vmpl < vmpck.into(), "VMPCK{vmpck}, VMPL{vmpl}");
        }
    }
}

/// A key request: ROOT_KEY_SELECT, fields, VMPL, SVN, TCB.
fn key_request(select: u32, fields: u64, vmpl: u32, svn: u32, tcb: [u8; 8]) -> Vec<u8> {
    [
        &select.to_le_bytes()[..],
        &[0; 4],
        &fields.to_le_bytes(),
        &vmpl.to_le_bytes(),
        &svn.to_le_bytes(),
        &tcb,
    ]
    .concat()
}

fn key(guest: &mut Guest, request: &[u8]) -> Result<[u8; 32], u8> {
    let answer = guest.ask(KEY_REQ, 0, request);
    assert_eq!((answer.len(), &answer[1..32]), (64, &[0; 31][..]));
    let key: [u8; 32] = answer[32..].try_into().unwrap();
    match answer[0] {
        0 => Ok(key),
        status => {
            assert_eq!(key, [0; 32]);
            Err(status)
        }
    }
}

#[test]
fn derived_keys_come_back_and_differ_in_whatever_was_asked_for() {
    let requests = [
        key_request(0, 0, 0, 0, [0; 8]),
        key_request(1, 0, 0, 0, [0; 8]),
        key_request(0, 0, 1, 0, [0; 8]),
        key_request(0, 1, 0, 0, [0; 8]),
        key_request(0, 8, 0, 0, [0; 8]),
        key_request(0, 0x20, 0, 0, [0; 8]),
        key_request(0, 0x20, 0, 0, [1, 0, 0, 0, 0, 0, 0, 0]),
        key_request(0, 0x3f, 0, 0, [0; 8]),
    ];
    let mut guest = Guest::on(&MILAN, 1, false);
    let keys: Vec<_> = requests
        .iter()
        .map(|it| key(&mut guest, it).unwrap())
        .collect();
    for (at, request) in requests.iter().enumerate() {
        assert_eq!(key(&mut guest, request), Ok(keys[at]), "again");
        assert!(!keys[..at].contains(&keys[at]), "{at}");
    }
    // What is not asked for does not matter.
    let tcb = key_request(0, 0, 0, 0, [1; 8]);
    assert_eq!(key(&mut guest, &tcb), Ok(keys[0]));

    // The next guest on this chip has the same keys, but for the one of its own root; on another chip none.
    let mut next = Guest::on(&MILAN, 1, false);
    assert_eq!(key(&mut next, &requests[0]), Ok(keys[0]));
    assert_ne!(key(&mut next, &requests[1]), Ok(keys[1]));
    let mut elsewhere = Guest::on(&MILAN, 2, false);
    assert_ne!(key(&mut elsewhere, &requests[0]), Ok(keys[0]));
    // The VLEK is another root, and the usual one where there is one.
    let mut with_vlek = Guest::on(&MILAN, 1, true);
    assert_ne!(key(&mut with_vlek, &requests[0]), Ok(keys[0]));
    assert_eq!(
        key(&mut with_vlek, &key_request(1 << 1, 0, 0, 0, [0; 8])),
        Ok(keys[0])
    );
}

#[test]
fn key_requests_are_checked() {
    let newer = [0, 0, 0, 0, 0, 0, 25, 0];
    for (request, want) in [
        (key_request(1 << 3, 0, 0, 0, [0; 8]), 0x16),
        (key_request(2 << 1, 0, 0, 0, [0; 8]), 0x27),
        (key_request(3 << 1, 0, 0, 0, [0; 8]), 0x27),
        (key_request(0, 1 << 6, 0, 0, [0; 8]), 0x16),
        (key_request(0, 1 << 63, 0, 0, [0; 8]), 0x16),
        (key_request(0, 0, 4, 0, [0; 8]), 0x16),
        (key_request(0, 1 << 4, 0, 1, [0; 8]), 0x16),
        (key_request(0, 1 << 5, 0, 0, newer), 0x16),
        (key_request(0, 1 << 5, 0, 0, [0, 0, 1, 0, 0, 0, 0, 0]), 0x16),
    ] {
        let mut guest = Guest::on(&MILAN, 1, false);
        assert_eq!(key(&mut guest, &request), Err(want), "{request:x?}");
    }
    let mut reserved = key_request(0, 0, 0, 0, [0; 8]);
    reserved[4] = 1;
    assert_eq!(key(&mut Guest::on(&MILAN, 1, false), &reserved), Err(0x16));
}

#[test]
fn the_tsc_of_later_models_is_a_little_slower_than_it_says() {
    for (model, factor) in [(&MILAN, 0), (&GENOA, 200u32)] {
        let mut guest = Guest::on(model, 1, false);
        let answer = guest.ask(TSC_INFO_REQ, 0, &[0; 128]);
        assert_eq!(answer[..4], [0; 4]);
        assert_eq!(answer[24..28], factor.to_le_bytes());
        assert_eq!(guest.secrets[0x160..0x164], factor.to_le_bytes());
        let mut reserved = [0; 128];
        reserved[127] = 1;
        assert_eq!(guest.ask(TSC_INFO_REQ, 0, &reserved)[0], 0x16);
    }
}
