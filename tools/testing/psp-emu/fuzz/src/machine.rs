// SPDX-License-Identifier: GPL-2.0
//! A chip that is the same in every run, and a guest's owner who knows it.

use super::ram::Ram;
use psp_emu::{
    cert::{sev::SevCert, Algo, Usage},
    crypto::{
        ecc::EcKey,
        session::{Session, TransportKeys},
        Random,
    },
    firmware::{Chip, Encryption, Firmware, Flash, Override, Status, VecFlash},
    model::{Model, MILAN},
    vendor::Vendor,
};
use rand_core::{CryptoRng, Error, RngCore};
use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

/// Where things lie in RAM.
pub const COMMAND: u64 = 0x1000;
pub const A: u64 = 0x1_0000;
pub const B: u64 = 0x2_0000;
pub const C: u64 = 0x3_0000;
pub const TMR: u64 = 0x10_0000;
pub const TMR_LEN: u64 = 0x10_0000;
pub const NV: u64 = 0x20_0000;
pub const GUEST: u64 = 0x30_0000;

pub const CERT_LEN: usize = 2084;
pub const SESSION_LEN: usize = 128;

/// The same numbers every time (splitmix64).
struct Repeatable(u64);

impl RngCore for Repeatable {
    fn next_u32(&mut self) -> u32 {
        // CAST: the low half.
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

// It is not; nothing here is worth a secret.
impl CryptoRng for Repeatable {}

/// A source of randomness that is the same in every run.
pub fn random() -> Box<dyn Random> {
    Box::new(Repeatable(1))
}

/// Flash whose contents can be looked at from outside.
#[derive(Clone, Default)]
struct SharedFlash(Arc<Mutex<VecFlash>>);

impl SharedFlash {
    fn with<T>(&self, work: impl FnOnce(&mut VecFlash) -> T) -> T {
        work(&mut self.0.lock().expect("one thread"))
    }
}

impl Flash for SharedFlash {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        self.with(|flash| flash.read())
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.with(|flash| flash.write(data))
    }

    fn erase(&mut self) -> io::Result<()> {
        self.with(VecFlash::erase)
    }
}

/// What takes long to make and is the same in every run.
pub struct World {
    flash: Vec<u8>,
    /// The certificate of a guest's owner.
    pub owner: [u8; CERT_LEN],
    /// The owner's session for a guest of policy zero.
    pub session: [u8; SESSION_LEN],
    /// The keys in it.
    pub keys: TransportKeys,
    /// PDH of the chip; PEK, OCA and CEK; ASK and ARK.
    pub pdh: Vec<u8>,
    pub chain: Vec<u8>,
    pub amd: Vec<u8>,
    /// What PEK_CERT_IMPORT takes: the PEK signed by the OCA alone.
    pub import: [u8; CERT_LEN],
}

impl World {
    /// The only one.
    pub fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::new)
    }

    fn new() -> Self {
        let flash = SharedFlash::default();
        let chip = Chip::from_secret([7; Chip::SECRET_LEN]);
        let mut firmware =
            Firmware::new(&MILAN, chip.clone(), Box::new(flash.clone())).with_random(random());
        let mut ram = Ram::new();
        let mut run = |id: u16, buffer: &[u8]| {
            ram.poke(COMMAND, buffer);
            let status = firmware.execute(id, COMMAND, &mut ram, Override::default());
            assert_eq!(status, Status::SUCCESS, "{id:#x}");
        };
        run(0x001, &[0; 20]);
        let export = [A, CERT_LEN as u64, B, 3 * CERT_LEN as u64];
        run(0x008, &export.map(u64::to_le_bytes).concat()[..28]);
        let pdh: [u8; CERT_LEN] = ram.peek(A);
        let chain: [u8; 2 * CERT_LEN] = ram.peek(B);
        let pek: [u8; CERT_LEN] = ram.peek(B);
        let pek = SevCert::from(pek);
        let mut import = pek.unsigned();
        import
            .take_signature(Usage::Oca, &pek)
            .expect("a signature");
        let vendor = Vendor::of(&MILAN);
        let cek = vendor.certify(&MILAN, &chip.cek().public(), &mut *random());
        let key = EcKey::generate(&mut *random());
        let point = SevCert::from(pdh).dh_point().expect("a PDH");
        let (session, keys) =
            Session::create(&key, &point, 0, &mut *random()).expect("a point of the curve");
        let owner = SevCert::new(MILAN.version, Usage::Pdh, Algo::ECDH_SHA256, &key.public());
        Self {
            flash: flash.with(|flash| flash.0.clone()).expect("an identity"),
            owner: *owner.as_bytes(),
            session: session.to_bytes(),
            keys,
            pdh: pdh.to_vec(),
            chain: [&chain[..], cek.expect("a key that fits").as_bytes()].concat(),
            amd: [vendor.ask.as_bytes(), vendor.ark.as_bytes()].concat(),
            import: *import.as_bytes(),
        }
    }

    /// The chip after power-on: it knows who it is, so that INIT takes little time.
    pub fn firmware(&self, model: &'static Model, encryption: Encryption) -> Firmware {
        let flash = VecFlash(Some(self.flash.clone()));
        Firmware::new(
            model,
            Chip::from_secret([7; Chip::SECRET_LEN]),
            Box::new(flash),
        )
        .with_random(random())
        .with_encryption(encryption)
    }
}
