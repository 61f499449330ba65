// SPDX-License-Identifier: GPL-2.0
//! Which key may sign which certificate, and how often.

use psp_emu::{
    cert::{amd::AmdCert, sev::SevCert, Algo, CertError, Family, Usage},
    crypto::{ecc::EcKey, Hash},
    model::{MILAN, MODELS, NAPLES},
    vendor::Vendor,
};
use rand_core::OsRng;

const EC_USAGES: [Usage; 4] = [Usage::Oca, Usage::Pek, Usage::Pdh, Usage::Cek];
const ECDSA: Algo = Algo::ECDSA_SHA256;

fn cert(usage: Usage, key: &EcKey) -> SevCert {
    SevCert::new(MILAN.version, usage, ECDSA, &key.public())
}

#[test]
fn keys_sign_only_what_they_are_for() {
    let allowed = [
        (Usage::Oca, Usage::Oca),
        (Usage::Oca, Usage::Pek),
        (Usage::Cek, Usage::Pek),
        (Usage::Pek, Usage::Pdh),
    ];
    let key = EcKey::generate(&mut OsRng);
    for signer in EC_USAGES {
        for subject in EC_USAGES {
            let mut signed = cert(subject, &key);
            signed.sign(signer, ECDSA, &key).unwrap();
            let expected = match allowed.contains(&(signer, subject)) {
                true => Ok(()),
                false => Err(CertError::Invalid),
            };
            let verified = signed.verify(&cert(signer, &key));
            assert_eq!(verified, expected, "{subject:?} by {signer:?}");
        }
    }
}

#[test]
fn both_slots_are_looked_at_and_a_third_signature_has_no_place() {
    let [oca, cek] = [(); 2].map(|()| EcKey::generate(&mut OsRng));
    let pek_key = EcKey::generate(&mut OsRng);
    let mut pek = cert(Usage::Pek, &pek_key);
    pek.sign(Usage::Oca, ECDSA, &oca).unwrap();
    pek.sign(Usage::Cek, ECDSA, &cek).unwrap();
    assert_eq!(pek.verify(&cert(Usage::Oca, &oca)), Ok(()));
    assert_eq!(pek.verify(&cert(Usage::Cek, &cek)), Ok(()));
    assert_eq!(
        pek.verify(&cert(Usage::Cek, &oca)),
        Err(CertError::BadSignature)
    );
    assert_eq!(pek.sign(Usage::Oca, ECDSA, &oca), Err(CertError::Invalid));
    // Of two signatures by keys of the same kind one is enough, in either order.
    for keys in [[&oca, &cek], [&cek, &oca]] {
        let mut pek = cert(Usage::Pek, &pek_key);
        keys.into_iter()
            .for_each(|key| pek.sign(Usage::Oca, ECDSA, key).unwrap());
        assert_eq!(pek.verify(&cert(Usage::Oca, &oca)), Ok(()));
    }
}

#[test]
fn signatures_are_bound_to_their_algorithm() {
    let key = EcKey::generate(&mut OsRng);
    let sha384 = Algo {
        family: Family::Ecdsa,
        hash: Hash::Sha384,
    };
    let oca = |algo| SevCert::new(MILAN.version, Usage::Oca, algo, &key.public());
    let mut signed = oca(sha384);
    signed.sign(Usage::Oca, sha384, &key).unwrap();
    assert_eq!(signed.verify(&signed), Ok(()));
    assert_eq!(signed.verify(&oca(ECDSA)), Err(CertError::Invalid));
    // A Diffie-Hellman key signs nothing, whatever the slot claims.
    let mut signed = oca(Algo::ECDH_SHA256);
    signed.sign(Usage::Oca, Algo::ECDH_SHA256, &key).unwrap();
    assert_eq!(signed.verify(&signed), Err(CertError::BadSignature));
}

#[test]
fn amd_certificates_are_bound_to_usage_signer_and_size() {
    let vendor = Vendor::of(&MILAN);
    let naples = Vendor::of(&NAPLES);
    assert_eq!(vendor.ask.verify(Usage::Ask, &vendor.ark), Ok(()));
    assert_eq!(
        vendor.ask.verify(Usage::Ark, &vendor.ark),
        Err(CertError::Invalid)
    );
    assert_eq!(
        vendor.ask.verify(Usage::Ask, &vendor.ask),
        Err(CertError::Invalid)
    );
    assert_eq!(
        vendor.ask.verify(Usage::Ask, &naples.ark),
        Err(CertError::Invalid)
    );
    for model in MODELS {
        let ark = Vendor::of(model).ark;
        for at in [0x28, 0x40, 0x141, ark.as_bytes().len() - 1] {
            let mut bytes = ark.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = AmdCert::parse(&bytes).unwrap();
            assert_eq!(
                changed.verify(Usage::Ark, &ark),
                Err(CertError::BadSignature),
                "{at:#x}"
            );
        }
        for len in [0, 0x3f, 0x40, ark.as_bytes().len() - 1] {
            assert_eq!(
                AmdCert::parse(&ark.as_bytes()[..len]),
                Err(CertError::Invalid),
                "{len:#x}"
            );
        }
    }
}
