// SPDX-License-Identifier: GPL-2.0
//! The emulated AMD: root key (ARK) and SEV signing key (ASK) of each model, which certify every chip.
//!
//! These are test keys. They are public, private halves included, and protect nothing; a chain that
//! ends in them proves only that this emulator made it. `keys/README.rst` says how they came to be.

use crate::{
    cert::{amd::AmdCert, sev::SevCert, Algo, CertError, Usage},
    crypto::{ecc::EcPoint, rsa::RsaKey, Random},
    model::Model,
};

/// The key files of one model.
struct Files {
    model: &'static str,
    ark: &'static [u8],
    ask: &'static [u8],
    ask_key: &'static str,
}

macro_rules! files {
    ($($model:literal),+) => {
        [$(Files {
            model: $model,
            ark: include_bytes!(concat!("../keys/", $model, "-ark.cert")),
            ask: include_bytes!(concat!("../keys/", $model, "-ask.cert")),
            ask_key: include_str!(concat!("../keys/", $model, "-ask.pem")),
        }),+]
    };
}

static FILES: [Files; 5] = files!("naples", "rome", "milan", "genoa", "turin");

/// Whether a certificate is the root of one of the models.
#[must_use]
pub fn is_root(cert: &AmdCert) -> bool {
    FILES.iter().any(|files| files.ark == cert.as_bytes())
}

/// AMD's certificates and signing key for one model.
pub struct Vendor {
    /// The root: signed by itself.
    pub ark: AmdCert,
    /// The signing key: signed by the root.
    pub ask: AmdCert,
    ask_key: RsaKey,
}

impl Vendor {
    /// The keys of a model.
    ///
    /// # Panics
    ///
    /// When the key files in this source tree are damaged; a test reads them all.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        // PANIC: constants of this program.
        let files = FILES
            .iter()
            .find(|files| files.model == model.name)
            .expect("every model");
        Self {
            ark: AmdCert::parse(files.ark).expect("a certificate"),
            ask: AmdCert::parse(files.ask).expect("a certificate"),
            ask_key: RsaKey::from_pem(files.ask_key).expect("a key"),
        }
    }

    /// Certifies a chip endorsement key, as AMD does when the chip is made.
    ///
    /// # Errors
    ///
    /// When the signing key does not fit its algorithm.
    pub fn certify(
        &self,
        model: &Model,
        cek: &EcPoint,
        random: &mut dyn Random,
    ) -> Result<SevCert, CertError> {
        let mut cert = SevCert::new(model.version, Usage::Cek, Algo::ECDSA_SHA256, cek);
        cert.sign_rsa(Usage::Ask, self.ask.algo(), &self.ask_key, random)?;
        Ok(cert)
    }

    /// Signs a firmware image.
    ///
    /// # Errors
    ///
    /// When the signing key does not fit its algorithm.
    pub fn sign(&self, image: &[u8], random: &mut dyn Random) -> Result<Vec<u8>, rsa::Error> {
        self.ask_key.sign(random, self.ask.algo().hash, image)
    }

    /// Whether `cert` is a CEK certificate of this key, signed by the ASK.
    #[must_use]
    pub fn has_certified(&self, cert: &SevCert, cek: &EcPoint) -> bool {
        let expected = SevCert::new(
            crate::model::Version {
                major: 0,
                minor: 0,
                build: 0,
            },
            Usage::Cek,
            Algo::ECDSA_SHA256,
            cek,
        );
        // All but the API version, which is that of the firmware the chip was made with.
        let same_key =
            cert.body()[..4] == expected.body()[..4] && cert.body()[8..] == expected.body()[8..];
        let signed = cert.verify_rsa(Usage::Ask, self.ask.algo(), &self.ask.key());
        same_key && signed.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MODELS;

    #[test]
    fn every_model_has_a_chain_to_its_root() {
        for model in MODELS {
            let vendor = Vendor::of(model);
            assert_eq!(
                vendor.ark.verify(Usage::Ark, &vendor.ark),
                Ok(()),
                "{}",
                model.name
            );
            assert_eq!(
                vendor.ask.verify(Usage::Ask, &vendor.ark),
                Ok(()),
                "{}",
                model.name
            );
            assert_eq!(vendor.ask.key(), vendor.ask_key.public(), "{}", model.name);
        }
    }

    #[test]
    fn roots_differ() {
        for (at, model) in MODELS.iter().enumerate() {
            for other in &MODELS[..at] {
                let (ask, ark) = (Vendor::of(model).ask, Vendor::of(other).ark);
                assert!(
                    ask.verify(Usage::Ask, &ark).is_err(),
                    "{} {}",
                    model.name,
                    other.name
                );
            }
        }
    }
}
