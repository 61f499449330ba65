// SPDX-License-Identifier: GPL-2.0
//! What the tests share: a firmware with some RAM, fed with bytes.
#![allow(dead_code, reason = "each test program uses another part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]

pub mod certs;
pub mod guests;
pub mod machine;
pub mod owner;
pub mod ring;
pub mod states;

use psp_emu::{
    firmware::{Chip, Firmware, Flash, Override, Status, VecFlash},
    memory::{GuestMemory, VecMemory},
    model::Model,
};

/// Command ids, by hand from the specification.
pub mod id {
    pub const INIT: u16 = 0x001;
    pub const SHUTDOWN: u16 = 0x002;
    pub const PLATFORM_RESET: u16 = 0x003;
    pub const PLATFORM_STATUS: u16 = 0x004;
    pub const PEK_GEN: u16 = 0x005;
    pub const PEK_CSR: u16 = 0x006;
    pub const PEK_CERT_IMPORT: u16 = 0x007;
    pub const PDH_CERT_EXPORT: u16 = 0x008;
    pub const PDH_GEN: u16 = 0x009;
    pub const DF_FLUSH: u16 = 0x00a;
    pub const DOWNLOAD_FIRMWARE: u16 = 0x00b;
    pub const GET_ID: u16 = 0x00c;
    pub const INIT_EX: u16 = 0x00d;
    pub const NOP: u16 = 0x00e;
    pub const RING_BUFFER: u16 = 0x00f;
}

/// Where things lie in RAM, which begins at zero.
pub const RAM_LEN: usize = 4 << 20;
pub const COMMAND: u64 = 0x1000;
pub const A: u64 = 0x10000;
pub const B: u64 = 0x20000;
pub const TMR: u64 = 0x10_0000;
pub const NV: u64 = 0x20_0000;

pub const CERT_LEN: usize = 2084;
pub const CHAIN_LEN: usize = 3 * CERT_LEN;

/// Bytes from hexadecimal, blanks ignored.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    assert_eq!(digits.len() % 2, 0, "whole bytes");
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// A firmware and its RAM.
pub struct Platform {
    pub firmware: Firmware,
    pub ram: VecMemory,
}

impl Platform {
    /// A chip with a fixed secret and empty flash.
    pub fn new(model: &'static Model) -> Self {
        Self::with_flash(model, Box::new(VecFlash::default()))
    }

    pub fn with_flash(model: &'static Model, flash: Box<dyn Flash>) -> Self {
        let firmware = Firmware::new(model, Chip::from_secret([7; 32]), flash);
        Self {
            firmware,
            ram: VecMemory::new(0, RAM_LEN),
        }
    }

    /// Puts a command buffer into RAM, runs the command, returns the buffer as it is then.
    pub fn send(&mut self, id: u16, buffer: &[u8]) -> (Status, Vec<u8>) {
        self.ram.write(COMMAND, buffer).unwrap();
        let status = self
            .firmware
            .execute(id, COMMAND, &mut self.ram, Override::default());
        (status, self.read(COMMAND, buffer.len()))
    }

    /// Runs a command; only the status matters.
    pub fn status(&mut self, id: u16, buffer: &[u8]) -> Status {
        self.send(id, buffer).0
    }

    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(addr, &mut bytes).unwrap();
        bytes
    }

    /// INIT without SEV-ES.
    pub fn init(&mut self) {
        assert_eq!(self.status(id::INIT, &[0; 20]), Status::SUCCESS);
    }

    pub fn shutdown(&mut self) {
        assert_eq!(self.status(id::SHUTDOWN, &[]), Status::SUCCESS);
    }

    /// State, owner and CONFIG of PLATFORM_STATUS.
    pub fn state(&mut self) -> (u8, u8, u16) {
        let (status, buffer) = self.send(id::PLATFORM_STATUS, &[0xee; 12]);
        assert_eq!(status, Status::SUCCESS);
        (
            buffer[2],
            buffer[3],
            u16::from_le_bytes([buffer[4], buffer[5]]),
        )
    }

    /// Exports PDH and chain: PDH, PEK, OCA and CEK one after another.
    pub fn export(&mut self) -> Vec<u8> {
        let buffer = export_buffer(A, CERT_LEN as u32, B, CHAIN_LEN as u32);
        assert_eq!(self.status(id::PDH_CERT_EXPORT, &buffer), Status::SUCCESS);
        [self.read(A, CERT_LEN), self.read(B, CHAIN_LEN)].concat()
    }

    /// The PEK's signing request.
    pub fn csr(&mut self) -> Vec<u8> {
        let buffer = address_and_length(A, CERT_LEN as u32);
        assert_eq!(self.status(id::PEK_CSR, &buffer), Status::SUCCESS);
        self.read(A, CERT_LEN)
    }

    /// PEK_CERT_IMPORT of these two certificates.
    pub fn import(&mut self, pek: &[u8], oca: &[u8]) -> Status {
        self.ram.write(A, pek).unwrap();
        self.ram.write(B, oca).unwrap();
        self.status(
            id::PEK_CERT_IMPORT,
            &export_buffer(A, CERT_LEN as u32, B, CERT_LEN as u32),
        )
    }
}

/// The command buffer of GET_ID, PEK_CSR and DOWNLOAD_FIRMWARE.
pub fn address_and_length(addr: u64, len: u32) -> Vec<u8> {
    [&addr.to_le_bytes()[..], &len.to_le_bytes()].concat()
}

/// The command buffer of PDH_CERT_EXPORT and PEK_CERT_IMPORT.
pub fn export_buffer(first: u64, first_len: u32, second: u64, second_len: u32) -> Vec<u8> {
    let mut buffer = address_and_length(first, first_len);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&address_and_length(second, second_len));
    buffer
}
