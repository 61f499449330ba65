// SPDX-License-Identifier: GPL-2.0
//! SNP_GUEST_REQUEST: takes a message of the guest and answers it.

use super::{
    derived_key,
    generation::Generation,
    guest::Guest,
    message::{self, Header, Page},
    report::{self, Platform},
};
use crate::{
    crypto::{ecc::EcKey, kdf},
    firmware::{Chip, Status},
    model::{Model, Version},
};

const KEY_REQ: u8 = 3;
const REPORT_REQ: u8 = 5;
const TSC_INFO_REQ: u8 = 17;
/// Version of every message.
const MESSAGE_VERSION: u8 = 1;
/// Length in bytes of TSC_INFO's request and answer.
const TSC_INFO_LEN: usize = 0x80;
/// GUEST_TSC_SCALE of a guest whose TSC is the host's: 8.32 fixed point.
const TSC_SCALE_ONE: u64 = 1 << 32;
/// A report or a key comes behind so many bytes.
const RESPONSE_HEADER_LEN: usize = 0x20;

/// Which certificate vouches for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endorsement {
    /// The chip's own.
    Vcek,
    /// The cloud provider's, loaded by the host.
    Vlek,
}

/// A key that signs reports.
pub struct Signer {
    pub endorsement: Endorsement,
    pub key: EcKey,
}

/// The keys of a chip that sign reports.
pub struct Signers {
    pub vcek: Signer,
    /// If one is loaded.
    pub vlek: Option<Signer>,
}

impl Signers {
    /// Those of a chip with the firmware that its flash has; `with_vlek` loads a VLEK.
    #[must_use]
    pub fn of(chip: &Chip, generation: &Generation, with_vlek: bool) -> Self {
        let signer = |endorsement, label| Signer {
            endorsement,
            key: derive(chip, label, &generation.tcb.to_bytes()),
        };
        Self {
            vcek: signer(Endorsement::Vcek, "psp-emu-vcek"),
            vlek: with_vlek.then(|| signer(Endorsement::Vlek, "psp-emu-vlek")),
        }
    }

    /// The one that signs when the guest does not care.
    #[must_use]
    pub fn usual(&self) -> &Signer {
        self.vlek.as_ref().unwrap_or(&self.vcek)
    }
}

fn derive(chip: &Chip, label: &str, tcb: &[u8; 8]) -> EcKey {
    // All but one in 2^190 candidates are scalars of P-384.
    let mut candidates = (0u8..=u8::MAX).filter_map(|attempt| {
        let context = [&tcb[..], &[attempt]].concat();
        EcKey::from_scalar(&kdf(chip.secret(), label, &context))
    });
    // PANIC: 256 misses in a row do not happen.
    candidates.next().expect("a scalar within 256 attempts")
}

/// The key that KEY_SEL names.
///
/// # Errors
///
/// `INVALID_KEY` when there is none.
pub(super) fn key_for(signers: &Signers, key_select: u32) -> Result<&Signer, Status> {
    match key_select {
        0 => Ok(signers.usual()),
        1 => Ok(&signers.vcek),
        2 => signers.vlek.as_ref().ok_or(Status::INVALID_KEY),
        _ => Err(Status::INVALID_KEY),
    }
}

/// So many bytes of a request.
pub(super) fn number<const N: usize>(request: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&request[at..][..N]);
    bytes
}

/// The part of a chip's firmware that answers guests, with its one guest.
pub struct Firmware {
    generation: &'static Generation,
    version: Version,
    chip_id: [u8; 64],
    signers: Signers,
    guest: Guest,
}

impl Firmware {
    /// For a guest that has just been launched on a chip.
    #[must_use]
    pub fn new(
        model: &Model,
        generation: &'static Generation,
        chip: &Chip,
        signers: Signers,
        guest: Guest,
    ) -> Self {
        Self {
            generation,
            version: model.version,
            chip_id: chip.id(),
            signers,
            guest,
        }
    }

    /// The guest starts again with the secrets page it had: all counters are zero.
    pub fn restart_guest(&mut self) {
        self.guest.counters = [0; 4];
    }

    /// Answers a message.
    ///
    /// # Errors
    ///
    /// The status of SNP_GUEST_REQUEST. Nothing has happened then, and the message has not been taken.
    pub fn request(&mut self, page: &Page) -> Result<Box<Page>, Status> {
        let header = Header::parse(page)?;
        let vmpck = usize::from(header.vmpck);
        let key = self.guest.vmpcks.get(vmpck).ok_or(Status::INVALID_PARAM)?;
        let key = key.clone();
        let payload = message::open(&key, &header, page)?;
        // A number is taken once and in order; the answer has the one after it.
        let counter = self.guest.counters[vmpck];
        if counter == u64::MAX - 1 || header.seqno != counter + 1 {
            return Err(Status::AEAD_OFLOW);
        }
        if header.version != MESSAGE_VERSION {
            return Err(Status::INVALID_PARAM);
        }
        let answer = self.answer(&header, &payload)?;
        let header = Header {
            seqno: header.seqno + 1,
            msg_type: header.msg_type + 1,
            ..header
        };
        self.guest.counters[vmpck] = counter + 2;
        Ok(message::seal(&key, &header, &answer))
    }

    /// The payload of the answer. What is wrong inside the request is told inside the answer.
    fn answer(&self, header: &Header, payload: &[u8]) -> Result<Vec<u8>, Status> {
        match header.msg_type {
            KEY_REQ => {
                let request = payload.first_chunk().ok_or(Status::INVALID_PARAM)?;
                let (guest, vmpck) = (&self.guest, header.vmpck);
                let key =
                    derived_key::derive(request, vmpck, guest, self.generation, &self.signers);
                let mut answer = vec![0; derived_key::RESPONSE_LEN];
                match key {
                    Ok(key) => answer[RESPONSE_HEADER_LEN..].copy_from_slice(&key[..]),
                    Err(status) => answer[..2].copy_from_slice(&status.0.to_le_bytes()),
                }
                Ok(answer)
            }
            REPORT_REQ => {
                let request = payload.first_chunk().ok_or(Status::INVALID_PARAM)?;
                let platform = Platform {
                    generation: self.generation,
                    version: self.version,
                    chip_id: self.chip_id,
                };
                let report =
                    report::make(request, header.vmpck, &self.guest, &platform, &self.signers);
                let mut answer = vec![0; RESPONSE_HEADER_LEN + report::LEN];
                // CAST: 1184.
                answer[4..8].copy_from_slice(&(report::LEN as u32).to_le_bytes());
                match report {
                    Ok(report) => answer[RESPONSE_HEADER_LEN..].copy_from_slice(&report),
                    Err(status) => answer[..2].copy_from_slice(&status.0.to_le_bytes()),
                }
                Ok(answer)
            }
            TSC_INFO_REQ => {
                let request: &[u8; TSC_INFO_LEN] =
                    payload.first_chunk().ok_or(Status::INVALID_PARAM)?;
                let mut answer = vec![0; TSC_INFO_LEN];
                if request.iter().any(|&byte| byte != 0) {
                    answer[..2].copy_from_slice(&Status::INVALID_PARAM.0.to_le_bytes());
                } else {
                    answer[8..16].copy_from_slice(&TSC_SCALE_ONE.to_le_bytes());
                    answer[24..28].copy_from_slice(&self.generation.tsc_factor.to_le_bytes());
                }
                Ok(answer)
            }
            _ => Err(Status::INVALID_PARAM),
        }
    }
}
