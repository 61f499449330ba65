// SPDX-License-Identifier: GPL-2.0
//! The platform's identity: the keys OCA, PEK and PDH, their certificates, and who owns the platform.
//!
//! What signs what: OCA itself, OCA and CEK the PEK, PEK the PDH. A platform nobody has taken
//! ownership of holds the OCA's private key itself; after PEK_CERT_IMPORT the owner does.

use crate::{
    cert::{
        sev::{SevCert, LEN as CERT_LEN},
        Algo, CertError, Usage,
    },
    crypto::{
        ecc::{EcKey, SCALAR_LEN},
        Random,
    },
    model::Version,
};

/// Who has the private half of the OCA.
#[derive(Clone)]
pub(super) enum Owner {
    Platform(EcKey),
    External,
}

/// What survives power cycles, in flash or in the NV area of INIT_EX.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) owner: Owner,
    pub(super) oca_cert: SevCert,
    pek: EcKey,
    pub(super) pek_cert: SevCert,
    pdh: EcKey,
    pub(super) pdh_cert: SevCert,
}

/// What making keys and certificates takes.
pub(super) struct Maker<'a> {
    pub(super) version: Version,
    pub(super) cek: &'a EcKey,
    pub(super) random: &'a mut dyn Random,
}

impl Maker<'_> {
    /// A new key and its certificate, not yet signed.
    fn key(&mut self, usage: Usage, algo: Algo) -> (EcKey, SevCert) {
        let key = EcKey::generate(self.random);
        let cert = SevCert::new(self.version, usage, algo, &key.public());
        (key, cert)
    }

    fn pdh(&mut self, pek: &EcKey) -> Result<(EcKey, SevCert), CertError> {
        let (pdh, mut cert) = self.key(Usage::Pdh, Algo::ECDH_SHA256);
        cert.sign(Usage::Pek, Algo::ECDSA_SHA256, pek)?;
        Ok((pdh, cert))
    }
}

impl Identity {
    /// New keys throughout; the platform owns itself.
    pub(super) fn generate(maker: &mut Maker<'_>) -> Result<Self, CertError> {
        let (oca, mut oca_cert) = maker.key(Usage::Oca, Algo::ECDSA_SHA256);
        oca_cert.sign(Usage::Oca, Algo::ECDSA_SHA256, &oca)?;
        let (pek, mut pek_cert) = maker.key(Usage::Pek, Algo::ECDSA_SHA256);
        pek_cert.sign(Usage::Oca, Algo::ECDSA_SHA256, &oca)?;
        pek_cert.sign(Usage::Cek, Algo::ECDSA_SHA256, maker.cek)?;
        let (pdh, pdh_cert) = maker.pdh(&pek)?;
        Ok(Self {
            owner: Owner::Platform(oca),
            oca_cert,
            pek,
            pek_cert,
            pdh,
            pdh_cert,
        })
    }

    /// The private key guests' owners agree on keys with.
    pub(super) fn pdh(&self) -> &EcKey {
        &self.pdh
    }

    /// The private key that signs for the platform.
    pub(super) fn pek(&self) -> &EcKey {
        &self.pek
    }

    /// The same identity with a new PDH.
    pub(super) fn with_new_pdh(&self, maker: &mut Maker<'_>) -> Result<Self, CertError> {
        let (pdh, pdh_cert) = maker.pdh(&self.pek)?;
        Ok(Self {
            pdh,
            pdh_cert,
            ..self.clone()
        })
    }

    /// The same identity in the hands of an owner who has signed the PEK with this OCA. The PDH is new,
    /// so that nothing agreed on before lasts.
    ///
    /// # Errors
    ///
    /// When a certificate is not valid, or the PEK is not this platform's.
    pub(super) fn with_owner(
        &self,
        mut pek_cert: SevCert,
        oca_cert: SevCert,
        maker: &mut Maker<'_>,
    ) -> Result<Self, CertError> {
        oca_cert.verify(&oca_cert)?;
        pek_cert.verify(&oca_cert)?;
        if pek_cert.body() != self.pek_cert.body() {
            return Err(CertError::Invalid);
        }
        pek_cert.take_signature(Usage::Cek, &self.pek_cert)?;
        let owned = Self {
            owner: Owner::External,
            pek_cert,
            oca_cert,
            ..self.clone()
        };
        owned.with_new_pdh(maker)
    }

    /// The bytes kept in persistent storage (sealed there): owner, scalars of OCA, PEK and PDH, then
    /// their certificates. The OCA's scalar is zero when the owner has it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (external, oca) = match &self.owner {
            Owner::Platform(oca) => (0, oca.scalar()),
            Owner::External => (1, [0; SCALAR_LEN]),
        };
        let mut bytes = vec![external];
        for scalar in [oca, self.pek.scalar(), self.pdh.scalar()] {
            bytes.extend_from_slice(&scalar);
        }
        for cert in [&self.oca_cert, &self.pek_cert, &self.pdh_cert] {
            bytes.extend_from_slice(cert.as_bytes());
        }
        bytes
    }

    /// Reads what [`Identity::to_bytes`] wrote; `None` when it is anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[external], bytes) = bytes.split_first_chunk()?;
        let (oca, bytes) = bytes.split_first_chunk()?;
        let (pek, bytes) = bytes.split_first_chunk()?;
        let (pdh, bytes) = bytes.split_first_chunk()?;
        let (oca_cert, bytes) = bytes.split_first_chunk::<CERT_LEN>()?;
        let (pek_cert, bytes) = bytes.split_first_chunk::<CERT_LEN>()?;
        let (pdh_cert, []) = bytes.split_first_chunk::<CERT_LEN>()? else {
            return None;
        };
        let owner = match external {
            0 => Owner::Platform(EcKey::from_scalar(oca)?),
            1 => Owner::External,
            _ => return None,
        };
        Some(Self {
            owner,
            oca_cert: SevCert::from(*oca_cert),
            pek: EcKey::from_scalar(pek)?,
            pek_cert: SevCert::from(*pek_cert),
            pdh: EcKey::from_scalar(pdh)?,
            pdh_cert: SevCert::from(*pdh_cert),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    fn identity(cek: &EcKey) -> Identity {
        let version = Version {
            major: 1,
            minor: 55,
            build: 21,
        };
        Identity::generate(&mut Maker {
            version,
            cek,
            random: &mut OsRng,
        })
        .unwrap()
    }

    #[test]
    fn stored_identity_is_the_same() {
        let identity = identity(&EcKey::generate(&mut OsRng));
        let bytes = identity.to_bytes();
        assert_eq!(Identity::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn other_bytes_are_no_identity() {
        let mut bytes = identity(&EcKey::generate(&mut OsRng)).to_bytes();
        assert!(Identity::from_bytes(&bytes[1..]).is_none());
        bytes.push(0);
        assert!(Identity::from_bytes(&bytes).is_none());
        bytes.pop();
        bytes[0] = 2;
        assert!(Identity::from_bytes(&bytes).is_none());
        bytes[0] = 0;
        bytes[1..1 + SCALAR_LEN].fill(0);
        assert!(
            Identity::from_bytes(&bytes).is_none(),
            "zero is no private key"
        );
    }
}
