// SPDX-License-Identifier: GPL-2.0
//! Platforms with certificates that somebody else checks: several chips, several owners.

use super::{
    guests::{guest_id, PAGE},
    Platform, A, B, CERT_LEN, RAM_LEN,
};
use crate::buffer;
use psp_emu::{
    cert::{sev::SevCert, Algo, Usage},
    crypto::ecc::EcKey,
    firmware::{Chip, Firmware, Status, VecFlash},
    memory::{GuestMemory, VecMemory},
    model::{Model, MILAN},
    vendor::Vendor,
};
use rand_core::OsRng;

/// Where SEND_START finds AMD's certificates, and where it puts the session.
const AMD: u64 = B + 3 * PAGE;
pub const SESSION: u64 = B + 5 * PAGE;

/// Who owns platforms: a certificate authority.
pub struct Domain {
    oca: SevCert,
    key: EcKey,
}

impl Domain {
    pub fn new() -> Self {
        let key = EcKey::generate(&mut OsRng);
        let mut oca = SevCert::new(MILAN.version, Usage::Oca, Algo::ECDSA_SHA256, &key.public());
        oca.sign(Usage::Oca, Algo::ECDSA_SHA256, &key).unwrap();
        Self { oca, key }
    }

    /// Takes a platform that is in PSTATE.INIT.
    pub fn take(&self, psp: &mut Platform) {
        let csr: [u8; CERT_LEN] = psp.csr().try_into().unwrap();
        let mut pek = SevCert::from(csr);
        pek.sign(Usage::Oca, Algo::ECDSA_SHA256, &self.key).unwrap();
        let status = psp.import(pek.as_bytes(), self.oca.as_bytes());
        assert_eq!(status, Status::SUCCESS);
    }
}

/// What a sending platform is told of the receiving one.
#[derive(Clone)]
pub struct Certs {
    pub pdh: Vec<u8>,
    pub pek: Vec<u8>,
    pub oca: Vec<u8>,
    pub cek: Vec<u8>,
    pub ask: Vec<u8>,
    pub ark: Vec<u8>,
}

impl Certs {
    /// Those of a platform made by [`Platform::of_chip`]. AMD has signed its CEK.
    pub fn of(psp: &mut Platform, model: &Model, secret: u8) -> Self {
        let chain = psp.export();
        let nth = |n: usize| chain[n * CERT_LEN..][..CERT_LEN].to_vec();
        let vendor = Vendor::of(model);
        let cek = Chip::from_secret([secret; 32]).cek().public();
        let cek = vendor.certify(model, &cek, &mut OsRng).unwrap();
        Self {
            pdh: nth(0),
            pek: nth(1),
            oca: nth(2),
            cek: cek.as_bytes().to_vec(),
            ask: vendor.ask.as_bytes().to_vec(),
            ark: vendor.ark.as_bytes().to_vec(),
        }
    }

    /// The same with a change.
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }
}

impl Platform {
    /// A chip of its own, in PSTATE.INIT with SEV-ES.
    pub fn of_chip(model: &'static Model, secret: u8) -> Self {
        let flash = Box::new(VecFlash::default());
        let mut psp = Self {
            firmware: Firmware::new(model, Chip::from_secret([secret; 32]), flash),
            ram: VecMemory::new(0, RAM_LEN),
        };
        psp.init_for_guests();
        psp
    }

    /// SEND_START to the platform of these certificates.
    pub fn send_start(&mut self, handle: u32, to: &Certs) -> Status {
        let chain = [&to.pek[..], &to.oca, &to.cek].concat();
        let amd = [&to.ask[..], &to.ark].concat();
        for (addr, bytes) in [(A, &to.pdh), (B, &chain), (AMD, &amd)] {
            self.ram.write(addr, bytes).unwrap();
        }
        self.ram.write(SESSION, &[0xee; 128]).unwrap();
        let platform = buffer![A, to.pdh.len() as u32, 0u32, B, chain.len() as u32, 0u32];
        let rest = buffer![AMD, amd.len() as u32, 0u32, SESSION, 128u32];
        let buffer = [buffer![handle, 0u32], platform, rest].concat();
        self.status(guest_id::SEND_START, &buffer)
    }
}
