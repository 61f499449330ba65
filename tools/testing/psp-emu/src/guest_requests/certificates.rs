// SPDX-License-Identifier: GPL-2.0
//! X.509 certificates as AMD's key server hands them out: ARK, ASK and VCEK, or ARK, ASVK and VLEK.
//!
//! The chain is AMD's in form: RSA-4096 with PSS and SHA-384, a P-384 leaf with AMD's extensions. In names it is
//! not: every authority's says that it is an emulator's. Root and intermediates are files in `keys/`, as the
//! keys are; the leaf is made when the emulator starts.

use super::{
    firmware::{Endorsement, Signer},
    generation::{Generation, Tcb},
};
use crate::crypto::{
    ecc::EcPoint,
    rsa::{RsaKey, RsaPublic},
    Hash, Random,
};
use rsa::{pkcs1::EncodeRsaPublicKey, BigUint, RsaPublicKey};
use sha2::Sha384;
use std::{str::FromStr, time::Duration};
use x509_cert::{
    certificate::Version,
    der::{
        asn1::{Any, BitString, Ia5StringRef, ObjectIdentifier, OctetString, UtcTime},
        Encode,
    },
    ext::{
        pkix::{BasicConstraints, KeyUsage, KeyUsages},
        Extension,
    },
    name::Name,
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
    Certificate, TbsCertificate,
};

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("certificate: {0}")]
pub struct CertificateError(String);

impl From<x509_cert::der::Error> for CertificateError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self(error.to_string())
    }
}

/// An authority whose certificates are files in `keys/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The root.
    Ark,
    /// Signs chips' keys.
    Ask,
    /// Signs keys that hosts load.
    Asvk,
}

impl Authority {
    fn name(self, generation: &str) -> Result<Name, CertificateError> {
        let common_name = match self {
            Self::Ark => format!("ARK-{generation} of the psp-emu emulator"),
            Self::Ask => format!("SEV-{generation} of the psp-emu emulator"),
            Self::Asvk => format!("SEV-VLEK-{generation} of the psp-emu emulator"),
        };
        name(&common_name)
    }

    fn serial(self) -> [u8; 2] {
        match self {
            Self::Ark => [1, 0],
            Self::Ask => [1, 1],
            Self::Asvk => [1, 2],
        }
    }
}

fn name(common_name: &str) -> Result<Name, CertificateError> {
    let text = format!("CN={common_name},O=Emulated\\, not Advanced Micro Devices,OU=Testing");
    Ok(Name::from_str(&text)?)
}

/// AMD's arc of object identifiers: SEV.
fn amd(arcs: &[u32]) -> Result<ObjectIdentifier, CertificateError> {
    let all = [1, 3, 6, 1, 4, 1, 3704, 1].iter().chain(arcs).copied();
    ObjectIdentifier::from_arcs(all).map_err(|error| CertificateError(error.to_string()))
}

fn extension(
    oid: ObjectIdentifier,
    critical: bool,
    value: &impl Encode,
) -> Result<Extension, CertificateError> {
    Ok(Extension {
        extn_id: oid,
        critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

/// What an authority may do.
fn authority_extensions() -> Result<Vec<Extension>, CertificateError> {
    let constraints = BasicConstraints {
        ca: true,
        path_len_constraint: None,
    };
    let usage = KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign);
    Ok(vec![
        extension(ObjectIdentifier::new_unwrap("2.5.29.15"), true, &usage)?,
        extension(
            ObjectIdentifier::new_unwrap("2.5.29.19"),
            true,
            &constraints,
        )?,
    ])
}

/// What AMD writes into a leaf (AMD 57230, "VCEK Certificate and KDS Interface").
fn leaf_extensions(
    generation: &Generation,
    endorsement: Endorsement,
    chip_id: &[u8; 64],
) -> Result<Vec<Extension>, CertificateError> {
    let Tcb {
        fmc,
        boot_loader,
        tee,
        snp,
        microcode,
    } = generation.tcb;
    let product = Ia5StringRef::new(generation.product)?;
    let mut extensions = vec![
        extension(amd(&[1])?, false, &0u8)?,
        extension(amd(&[2])?, false, &product)?,
    ];
    let parts = [boot_loader, tee, snp, 0, 0, 0, 0, microcode];
    for (arc, part) in (1..).zip(parts.into_iter().chain(fmc)) {
        extensions.push(extension(amd(&[3, arc])?, false, &part)?);
    }
    extensions.push(match endorsement {
        Endorsement::Vcek => extension(amd(&[4])?, false, &OctetString::new(&chip_id[..])?)?,
        // Which cloud provider's.
        Endorsement::Vlek => extension(amd(&[5])?, false, &Ia5StringRef::new("psp-emu")?)?,
    });
    Ok(extensions)
}

fn rsa_spki(key: &RsaPublic) -> Result<SubjectPublicKeyInfoOwned, CertificateError> {
    let number = |bytes: &[u8]| BigUint::from_bytes_be(bytes);
    let public = RsaPublicKey::new(number(&key.modulus), number(&key.exponent))
        .map_err(|error| CertificateError(error.to_string()))?;
    let der = public
        .to_pkcs1_der()
        .map_err(|error| CertificateError(error.to_string()))?;
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            // rsaEncryption
            oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"),
            parameters: Some(Any::null()),
        },
        subject_public_key: BitString::from_bytes(der.as_bytes())?,
    })
}

fn ec_spki(point: &EcPoint) -> Result<SubjectPublicKeyInfoOwned, CertificateError> {
    // secp384r1
    let curve = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            // id-ecPublicKey
            oid: ObjectIdentifier::new_unwrap("1.2.840.10045.2.1"),
            parameters: Some(Any::from(curve)),
        },
        subject_public_key: BitString::from_bytes(&[&[4], &point.x[..], &point.y].concat())?,
    })
}

/// What a certificate says, and of whom.
struct Statement {
    subject: Name,
    key: SubjectPublicKeyInfoOwned,
    serial: Vec<u8>,
    extensions: Vec<Extension>,
}

impl Statement {
    fn sign(
        self,
        issuer: Name,
        key: &RsaKey,
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, CertificateError> {
        let algorithm = rsa::pss::get_default_pss_signature_algo_id::<Sha384>()
            .map_err(|error| CertificateError(error.to_string()))?;
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&self.serial)?,
            signature: algorithm.clone(),
            issuer,
            validity: validity()?,
            subject: self.subject,
            subject_public_key_info: self.key,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(self.extensions),
        };
        let signature = key
            .sign(random, Hash::Sha384, &tbs_certificate.to_der()?)
            .map_err(|error| CertificateError(error.to_string()))?;
        let certificate = Certificate {
            tbs_certificate,
            signature_algorithm: algorithm,
            signature: BitString::from_bytes(&signature)?,
        };
        Ok(certificate.to_der()?)
    }
}

/// From 2020 to the end of what its form of dates can say, 2049, so that clocks do not matter.
fn validity() -> Result<Validity, CertificateError> {
    let time = |seconds| UtcTime::from_unix_duration(Duration::from_secs(seconds));
    Ok(Validity {
        not_before: Time::UtcTime(time(1_577_836_800)?),
        not_after: Time::UtcTime(time(2_524_607_999)?),
    })
}

/// Makes the certificate of an authority. The root signs all of them, itself too.
///
/// # Errors
///
/// When the keys are none of RSA.
pub fn certify_authority(
    authority: Authority,
    generation: &str,
    key: &RsaPublic,
    ark: &RsaKey,
    random: &mut dyn Random,
) -> Result<Vec<u8>, CertificateError> {
    let statement = Statement {
        subject: authority.name(generation)?,
        key: rsa_spki(key)?,
        serial: authority.serial().to_vec(),
        extensions: authority_extensions()?,
    };
    statement.sign(Authority::Ark.name(generation)?, ark, random)
}

/// The files of one generation in `keys/`.
struct Files {
    name: &'static str,
    ark: &'static [u8],
    ask: &'static [u8],
    ask_key: &'static str,
    asvk: &'static [u8],
    asvk_key: &'static str,
}

macro_rules! files {
    ($(($name:literal, $file:literal)),+) => {
        [$(Files {
            name: $name,
            ark: include_bytes!(concat!("../../keys/", $file, "-ark.der")),
            ask: include_bytes!(concat!("../../keys/", $file, "-ask.der")),
            ask_key: include_str!(concat!("../../keys/", $file, "-ask.pem")),
            asvk: include_bytes!(concat!("../../keys/", $file, "-asvk.der")),
            asvk_key: include_str!(concat!("../../keys/", $file, "-asvk.pem")),
        }),+]
    };
}

static FILES: [Files; 3] = files!(("Milan", "milan"), ("Genoa", "genoa"), ("Turin", "turin"));

/// GUIDs of certificates (GHCB 4.1.8.1), in the order in which they are printed.
const VCEK_GUID: u128 = 0x63da758d_e664_4564_adc5_f4b93be8accd;
const VLEK_GUID: u128 = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1;
const ASK_GUID: u128 = 0x4ab7b379_bbac_4fe4_a02f_05aef327c782;
const ARK_GUID: u128 = 0xc0b406a4_a803_4952_9743_3fb6014cd0ae;

/// The certificates that lead from a signer to the root, in DER.
pub struct Chain {
    endorsement: Endorsement,
    pub leaf: Vec<u8>,
    /// ASK or ASVK.
    pub intermediate: Vec<u8>,
    pub ark: Vec<u8>,
}

impl Chain {
    /// The chain of a signer of a chip.
    ///
    /// # Errors
    ///
    /// When the key files in this source tree are damaged; a test reads them all.
    pub fn of(
        generation: &Generation,
        signer: &Signer,
        chip_id: &[u8; 64],
        random: &mut dyn Random,
    ) -> Result<Self, CertificateError> {
        let files = FILES.iter().find(|files| files.name == generation.name);
        let files = files.ok_or_else(|| CertificateError("no key files".to_owned()))?;
        let (subject, authority, intermediate, key) = match signer.endorsement {
            Endorsement::Vcek => ("SEV-VCEK", Authority::Ask, files.ask, files.ask_key),
            Endorsement::Vlek => ("SEV-VLEK", Authority::Asvk, files.asvk, files.asvk_key),
        };
        let key = RsaKey::from_pem(key).map_err(|error| CertificateError(error.to_string()))?;
        let statement = Statement {
            subject: name(subject)?,
            key: ec_spki(&signer.key.public())?,
            // As AMD's VCEKs: all have the same.
            serial: vec![0],
            extensions: leaf_extensions(generation, signer.endorsement, chip_id)?,
        };
        Ok(Self {
            endorsement: signer.endorsement,
            leaf: statement.sign(authority.name(generation.name)?, &key, random)?,
            intermediate: intermediate.to_vec(),
            ark: files.ark.to_vec(),
        })
    }

    /// The table that an extended guest request leaves with the guest: for each certificate its GUID, where it
    /// begins and how long it is; an entry of zeros; the certificates.
    #[must_use]
    pub fn table(&self) -> Vec<u8> {
        const ENTRY_LEN: usize = 24;
        let leaf = match self.endorsement {
            Endorsement::Vcek => VCEK_GUID,
            Endorsement::Vlek => VLEK_GUID,
        };
        let certificates = [
            (leaf, &self.leaf),
            (ASK_GUID, &self.intermediate),
            (ARK_GUID, &self.ark),
        ];
        let mut table = Vec::new();
        let mut at = ENTRY_LEN * (certificates.len() + 1);
        for (guid, certificate) in certificates {
            table.extend(guid.to_be_bytes());
            // CAST: three certificates of some kilobytes.
            table.extend((at as u32).to_le_bytes());
            table.extend((certificate.len() as u32).to_le_bytes());
            at += certificate.len();
        }
        table.extend([0; ENTRY_LEN]);
        for (_, certificate) in certificates {
            table.extend(certificate);
        }
        table
    }
}
