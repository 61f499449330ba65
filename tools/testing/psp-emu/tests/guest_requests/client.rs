// SPDX-License-Identifier: GPL-2.0
//! A guest: registers, RAM, and messages made by OpenSSL.

use openssl::symm::{decrypt_aead, encrypt_aead, Cipher};
use psp_emu::{
    firmware::Chip,
    guest_requests::{
        certificates::Chain,
        device::Device,
        fault::Faults,
        firmware::{Firmware, Signers},
        generation::Generation,
        guest::Guest as Launched,
        host::Host,
    },
    memory::{GuestMemory, VecMemory},
    model::Model,
};
use rand_core::OsRng;

pub(crate) const REQUEST: u64 = 0x1000;
pub(crate) const RESPONSE: u64 = 0x2000;
pub(crate) const DATA: u64 = 0x4000;
pub(crate) const RAM_LEN: usize = 0x1_0000;
pub(crate) const SECRETS: u64 = 0x7fff_f000;

pub(crate) const PLAIN: u32 = 0x8000_0011;
pub(crate) const EXTENDED: u32 = 0x8000_0012;

pub(crate) const KEY_REQ: u8 = 3;
pub(crate) const REPORT_REQ: u8 = 5;
pub(crate) const TSC_INFO_REQ: u8 = 17;

/// What a header says besides lengths.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) seqno: u64,
    pub(crate) msg_type: u8,
    pub(crate) version: u8,
    pub(crate) vmpck: u8,
}

pub(crate) struct Guest {
    pub(crate) device: Device,
    pub(crate) ram: VecMemory,
    pub(crate) secrets: Vec<u8>,
    pub(crate) counters: [u64; 4],
}

impl Guest {
    /// Launches a guest on the chip with this secret.
    pub(crate) fn on(model: &'static Model, secret: u8, with_vlek: bool) -> Self {
        let generation = Generation::of(model).unwrap();
        let chip = Chip::from_secret([secret; 32]);
        let signers = Signers::of(&chip, generation, with_vlek);
        let chain = Chain::of(generation, signers.usual(), &chip.id(), &mut OsRng).unwrap();
        let launched = Launched::launch(&mut OsRng);
        let secrets = launched.secrets_page(generation).to_vec();
        let firmware = Firmware::new(model, generation, &chip, signers, launched);
        let host = Host::new(firmware, chain.table(), Faults::default());
        Self {
            device: Device::new(host, SECRETS),
            ram: VecMemory::new(0, RAM_LEN),
            secrets,
            counters: [0; 4],
        }
    }

    /// Lets a fault happen from now on.
    pub(crate) fn fault(&mut self, spec: &str) {
        self.device.host.faults.add(spec.parse().unwrap());
    }

    pub(crate) fn write(&mut self, register: u64, value: u32) {
        let bytes = value.to_le_bytes();
        self.device.bar0_write(register, &bytes, &mut self.ram);
    }

    pub(crate) fn read(&self, register: u64) -> u32 {
        let mut bytes = [0; 4];
        self.device.bar0_read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Calls the host; returns the firmware's status and the host's error.
    pub(crate) fn exit(&mut self, code: u32, pages: u32) -> (u32, u32) {
        for (register, value) in [(0x08, REQUEST), (0x10, RESPONSE), (0x18, DATA)] {
            self.write(register, value as u32);
            self.write(register + 4, 0);
        }
        self.write(0x20, pages);
        self.write(0x24, code);
        (self.read(0x28), self.read(0x2c))
    }

    pub(crate) fn key(&self, vmpck: u8) -> &[u8] {
        &self.secrets[0x20 + 0x20 * usize::from(vmpck)..][..0x20]
    }

    /// A page with a message, by OpenSSL.
    pub(crate) fn message(&self, head: Head, payload: &[u8]) -> Vec<u8> {
        let mut page = vec![0; 0x1000];
        page[0x20..0x28].copy_from_slice(&head.seqno.to_le_bytes());
        page[0x30..0x34].copy_from_slice(&[1, 1, 0x60, 0]);
        page[0x34..0x36].copy_from_slice(&[head.msg_type, head.version]);
        page[0x36..0x38].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_le_bytes());
        page[0x3c] = head.vmpck;
        let iv = [&page[0x20..0x28], &[0; 4]].concat();
        let mut tag = [0; 16];
        let cipher = Cipher::aes_256_gcm();
        let key = self.key(head.vmpck);
        let aad = &page[0x30..0x60];
        let sealed = encrypt_aead(cipher, key, Some(&iv), aad, payload, &mut tag).unwrap();
        page[..16].copy_from_slice(&tag);
        page[0x60..][..sealed.len()].copy_from_slice(&sealed);
        page
    }

    /// Decrypts what the response page holds, if it is the answer to this.
    pub(crate) fn opened(&self, head: Head) -> Option<Vec<u8>> {
        let mut page = vec![0; 0x1000];
        self.ram.read(RESPONSE, &mut page).unwrap();
        let seqno = u64::from_le_bytes(page[0x20..0x28].try_into().unwrap());
        let want = [head.msg_type + 1, 1];
        if seqno != head.seqno + 1 || page[0x34..0x36] != want || page[0x3c] != head.vmpck {
            return None;
        }
        let iv = [&page[0x20..0x28], &[0; 4]].concat();
        let len = usize::from(u16::from_le_bytes(page[0x36..0x38].try_into().unwrap()));
        let sealed = page.get(0x60..0x60 + len)?;
        let (cipher, key) = (Cipher::aes_256_gcm(), self.key(head.vmpck));
        decrypt_aead(
            cipher,
            key,
            Some(&iv),
            &page[0x30..0x60],
            sealed,
            &page[..16],
        )
        .ok()
    }

    pub(crate) fn next(&self, msg_type: u8, vmpck: u8) -> Head {
        Head {
            seqno: self.counters[usize::from(vmpck)] + 1,
            msg_type,
            version: 1,
            vmpck,
        }
    }

    /// Sends a request which is answered, and returns the payload of the answer.
    pub(crate) fn ask(&mut self, msg_type: u8, vmpck: u8, payload: &[u8]) -> Vec<u8> {
        let head = self.next(msg_type, vmpck);
        let page = self.message(head, payload);
        self.ram.write(REQUEST, &page).unwrap();
        assert_eq!(self.exit(PLAIN, 0), (0, 0));
        self.counters[usize::from(vmpck)] += 2;
        self.opened(head).expect("an answer")
    }

    /// A report on these bytes: status, and the report.
    pub(crate) fn report(&mut self, request: &[u8; 0x60]) -> (u32, Vec<u8>) {
        let answer = self.ask(REPORT_REQ, 0, request);
        assert_eq!(answer.len(), 0x20 + 0x4a0);
        assert_eq!(answer[4..8], 0x4a0u32.to_le_bytes());
        (
            u32::from_le_bytes(answer[..4].try_into().unwrap()),
            answer[0x20..].to_vec(),
        )
    }

    /// The certificate table, from an extended request; also the report.
    pub(crate) fn certificates(&mut self, request: &[u8; 0x60]) -> (Vec<u8>, Vec<u8>) {
        let head = self.next(REPORT_REQ, 0);
        let page = self.message(head, request);
        self.ram.write(REQUEST, &page).unwrap();
        assert_eq!(self.exit(EXTENDED, 4), (0, 0));
        self.counters[0] += 2;
        let answer = self.opened(head).expect("an answer");
        let mut table = vec![0; 0x4000];
        self.ram.read(DATA, &mut table).unwrap();
        (table, answer[0x20..].to_vec())
    }
}

/// A report request.
pub(crate) fn report_request(data: u8, vmpl: u32, key_select: u32) -> [u8; 0x60] {
    let mut request = [0; 0x60];
    request[..0x40].fill(data);
    request[0x40..0x44].copy_from_slice(&vmpl.to_le_bytes());
    request[0x44..0x48].copy_from_slice(&key_select.to_le_bytes());
    request
}
