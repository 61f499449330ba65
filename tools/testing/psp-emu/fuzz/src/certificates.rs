// SPDX-License-Identifier: GPL-2.0
//! Certificates and sessions, changed anywhere.
//!
//! Wrong is: a panic; a session that is accepted though a byte of it was changed; a certificate that is
//! accepted though a byte that is signed, or a byte of the key, was changed.

use super::{
    machine::{World, A, B, C, CERT_LEN, COMMAND, SESSION_LEN},
    ram::Ram,
};
use arbitrary::{Result, Unstructured};
use psp_emu::{
    firmware::{Encryption, Firmware, Override, Status},
    model::MILAN,
};

/// Length in bytes of what a certificate's signatures are made over.
const BODY_LEN: usize = 0x414;
/// Where a certificate has the coordinates of its point, 48 bytes in fields of 72.
const POINTS: [std::ops::Range<usize>; 2] = [0x14..0x14 + 48, 0x5c..0x5c + 48];
const SEV: u32 = 1 << 5;
const DOMAIN: u32 = 1 << 4;

/// Certificates or a session, and where a change of them must be noticed.
struct Blob {
    addr: u64,
    good: &'static [u8],
    bytes: Vec<u8>,
    vital: fn(usize) -> bool,
}

impl Blob {
    fn new(addr: u64, good: &'static [u8], vital: fn(usize) -> bool) -> Self {
        let bytes = good.to_vec();
        Self {
            addr,
            good,
            bytes,
            vital,
        }
    }

    /// Whether a change must be noticed.
    fn is_bad(&self) -> bool {
        let pairs = self.bytes.iter().zip(self.good).enumerate();
        pairs
            .filter(|(at, _)| (self.vital)(*at))
            .any(|(_, (byte, good))| byte != good)
    }
}

fn point(at: usize) -> bool {
    POINTS.iter().any(|point| point.contains(&at))
}

fn first_body(at: usize) -> bool {
    at < BODY_LEN
}

/// In each of the certificates of a chain.
fn any_body(at: usize) -> bool {
    at % CERT_LEN < BODY_LEN
}

/// A command to try, its buffer, and what lies in memory.
struct Attempt {
    id: u16,
    buffer: Vec<u64>,
    blobs: Vec<Blob>,
}

impl Attempt {
    /// LAUNCH_START or RECEIVE_START.
    fn start(id: u16, world: &'static World) -> Self {
        let blobs = vec![
            Blob::new(A, &world.owner, point),
            Blob::new(B, &world.session, |_| true),
        ];
        let buffer = vec![0, A, CERT_LEN as u64, B, SESSION_LEN as u64];
        Self { id, buffer, blobs }
    }

    /// SEND_START of guest 1, which has this policy, to the platform itself.
    fn send(world: &'static World, policy: u32) -> Self {
        // Of the chain a domain needs PEK and OCA, a genuine platform PEK and CEK.
        let vital = match policy == SEV | DOMAIN {
            true => any_body,
            false => first_body,
        };
        let blobs = vec![
            Blob::new(A, &world.pdh, any_body),
            Blob::new(B, &world.chain, vital),
            Blob::new(C, &world.amd, |_| false),
        ];
        let session = C + 0x8000;
        let certs = [A, CERT_LEN as u64, B, 3 * CERT_LEN as u64];
        let rest = [C, world.amd.len() as u64, session, SESSION_LEN as u64];
        Self {
            id: 0x040,
            buffer: [&[1][..], &certs, &rest].concat(),
            blobs,
        }
    }

    /// PEK_CERT_IMPORT of what the platform has made for itself.
    fn import(world: &'static World) -> Self {
        let oca = &world.chain[CERT_LEN..2 * CERT_LEN];
        let blobs = vec![
            Blob::new(A, &world.import, first_body),
            Blob::new(B, oca, first_body),
        ];
        Self {
            id: 0x007,
            buffer: vec![A, CERT_LEN as u64, B, CERT_LEN as u64],
            blobs,
        }
    }
}

/// A chip in a machine.
struct Psp {
    firmware: Firmware,
    ram: Ram,
}

impl Psp {
    fn run(&mut self, id: u16, buffer: &[u64]) -> Status {
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.ram.poke(COMMAND, &bytes);
        self.firmware
            .execute(id, COMMAND, &mut self.ram, Override::default())
    }

    /// Launches guest 1.
    fn launch(&mut self, policy: u32) {
        let start = [u64::from(policy) << 32, 0, 0, 0, 0];
        assert_eq!(self.run(0x030, &start), Status::SUCCESS);
        assert_eq!(self.run(0x033, &[1, C, 48]), Status::SUCCESS);
        assert_eq!(self.run(0x035, &[1]), Status::SUCCESS);
    }
}

/// Runs an input.
///
/// # Panics
///
/// When something is wrong.
pub fn run(input: &[u8]) {
    // An input that is too short ends early.
    let _ = steps(&mut Unstructured::new(input));
}

fn steps(u: &mut Unstructured<'_>) -> Result<()> {
    let world = World::get();
    let mut psp = Psp {
        firmware: world.firmware(&MILAN, Encryption::Aes),
        ram: Ram::new(),
    };
    assert_eq!(psp.run(0x001, &[0; 3]), Status::SUCCESS);
    let mut attempt = match u.int_in_range(0..=3u8)? {
        0 => Attempt::start(0x030, world),
        1 => Attempt::start(0x050, world),
        2 => {
            let policy = *u.choose(&[SEV, DOMAIN, SEV | DOMAIN])?;
            psp.launch(policy);
            Attempt::send(world, policy)
        }
        _ => Attempt::import(world),
    };
    for _ in 0..8 {
        if u.is_empty() {
            break;
        }
        let number = u.choose_index(attempt.blobs.len())?;
        let bytes = &mut attempt.blobs[number].bytes;
        let at = u.choose_index(bytes.len())?;
        bytes[at] = u.arbitrary()?;
    }
    for blob in &attempt.blobs {
        psp.ram.poke(blob.addr, &blob.bytes);
    }
    let (id, status) = (attempt.id, psp.run(attempt.id, &attempt.buffer));
    assert!(status.name().is_some(), "{id:#x}: {status}");
    if attempt.blobs.iter().any(Blob::is_bad) {
        assert_ne!(status, Status::SUCCESS, "{id:#x}");
    }
    if attempt.blobs.iter().all(|blob| blob.bytes == blob.good) {
        assert_eq!(status, Status::SUCCESS, "{id:#x}");
    }
    Ok(())
}
