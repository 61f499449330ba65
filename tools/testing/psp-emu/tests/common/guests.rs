// SPDX-License-Identifier: GPL-2.0
//! What the tests of guests share: command buffers by hand, and a guest's owner.

use super::{id, Platform, A, B, CERT_LEN, TMR};
use psp_emu::{
    cert::{sev::SevCert, Algo, Usage},
    crypto::{
        ecc::EcKey,
        session::{Session, TransportKeys},
        transport::{Context, PacketHeader},
    },
    firmware::Status,
    memory::GuestMemory,
    model::MILAN,
};
use rand_core::OsRng;

/// Command ids, by hand from the specification.
pub mod guest_id {
    pub const DECOMMISSION: u16 = 0x020;
    pub const ACTIVATE: u16 = 0x021;
    pub const DEACTIVATE: u16 = 0x022;
    pub const GUEST_STATUS: u16 = 0x023;
    pub const COPY: u16 = 0x024;
    pub const ACTIVATE_EX: u16 = 0x025;
    pub const LAUNCH_START: u16 = 0x030;
    pub const LAUNCH_UPDATE_DATA: u16 = 0x031;
    pub const LAUNCH_UPDATE_VMSA: u16 = 0x032;
    pub const LAUNCH_MEASURE: u16 = 0x033;
    pub const LAUNCH_SECRET: u16 = 0x034;
    pub const LAUNCH_FINISH: u16 = 0x035;
    pub const ATTESTATION: u16 = 0x036;
    pub const SEND_START: u16 = 0x040;
    pub const SEND_UPDATE_DATA: u16 = 0x041;
    pub const SEND_UPDATE_VMSA: u16 = 0x042;
    pub const SEND_FINISH: u16 = 0x043;
    pub const SEND_CANCEL: u16 = 0x044;
    pub const RECEIVE_START: u16 = 0x050;
    pub const RECEIVE_UPDATE_DATA: u16 = 0x051;
    pub const RECEIVE_UPDATE_VMSA: u16 = 0x052;
    pub const RECEIVE_FINISH: u16 = 0x053;
    pub const DBG_DECRYPT: u16 = 0x060;
    pub const DBG_ENCRYPT: u16 = 0x061;
    pub const SWAP_OUT: u16 = 0x070;
    pub const SWAP_IN: u16 = 0x071;
}

/// Where guests lie in RAM: apart from everything `common` uses.
pub const GUEST: u64 = 0x30_0000;
/// A free ASID for guests without SEV-ES, and one for guests with it.
pub const ASID: u32 = 100;
pub const ES_ASID: u32 = 1;
/// A page of a guest.
pub const PAGE: u64 = 0x1000;

/// Joins the parts of a command buffer.
#[macro_export]
macro_rules! buffer {
    ($($number:expr),* $(,)?) => { [$(&$number.to_le_bytes()[..]),*].concat() };
}

/// The buffer of LAUNCH_START and RECEIVE_START.
pub fn start_buffer(handle: u32, policy: u32, cert: (u64, u32), session: (u64, u32)) -> Vec<u8> {
    buffer![handle, policy, cert.0, cert.1, 0u32, session.0, session.1]
}

/// The buffer of LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA and LAUNCH_MEASURE.
pub fn update_buffer(handle: u32, addr: u64, len: u32) -> Vec<u8> {
    buffer![handle, 0u32, addr, len]
}

/// The buffer of LAUNCH_SECRET, SEND_UPDATE_* and RECEIVE_UPDATE_*.
pub fn transport_buffer(
    handle: u32,
    header: (u64, u32),
    guest: (u64, u32),
    data: (u64, u32),
) -> Vec<u8> {
    buffer![handle, 0u32, header.0, header.1, 0u32, guest.0, guest.1, 0u32, data.0, data.1]
}

/// The buffer of DBG_DECRYPT and DBG_ENCRYPT.
pub fn debug_buffer(handle: u32, src: u64, dst: u64, len: u32) -> Vec<u8> {
    buffer![handle, 0u32, src, dst, len]
}

/// A guest's owner, and what it shares with the platform.
pub struct Owner {
    key: EcKey,
    pub keys: TransportKeys,
    session: Session,
}

impl Owner {
    /// An owner who has made a session for a guest of this policy on `platform`.
    pub fn of(platform: &mut Platform, policy: u32) -> Self {
        let pdh: [u8; CERT_LEN] = platform.export()[..CERT_LEN].try_into().unwrap();
        let point = SevCert::from(pdh).dh_point().unwrap();
        let key = EcKey::generate(&mut OsRng);
        let (session, keys) = Session::create(&key, &point, policy, &mut OsRng).unwrap();
        Self { key, keys, session }
    }

    /// The certificate of its public key.
    pub fn cert(&self) -> Vec<u8> {
        let cert = SevCert::new(
            MILAN.version,
            Usage::Pdh,
            Algo::ECDH_SHA256,
            &self.key.public(),
        );
        cert.as_bytes().to_vec()
    }

    /// The session as it lies in memory.
    pub fn session(&self) -> Vec<u8> {
        self.session.to_bytes().to_vec()
    }

    /// A packet: header and data.
    pub fn packet(&self, context: Context<'_>, data: &[u8]) -> (PacketHeader, Vec<u8>) {
        let mut data = data.to_vec();
        let header = self.keys.seal(context, &mut data, &mut OsRng);
        (header, data)
    }
}

impl Platform {
    /// INIT with SEV-ES, and DF_FLUSH, after which guests can be activated.
    pub fn init_for_guests(&mut self) {
        let init = buffer![1u16, 0u16, 0u32, TMR, 0x10_0000u32];
        assert_eq!(self.status(id::INIT, &init), Status::SUCCESS);
        assert_eq!(self.status(id::DF_FLUSH, &[]), Status::SUCCESS);
    }

    /// LAUNCH_START or RECEIVE_START with an owner's session; the status, and the guest's handle.
    pub fn start(&mut self, command: u16, owner: &Owner, share: u32, policy: u32) -> (Status, u32) {
        self.ram.write(A, &owner.cert()).unwrap();
        self.ram.write(B, &owner.session()).unwrap();
        let buffer = start_buffer(share, policy, (A, CERT_LEN as u32), (B, 128));
        let (status, buffer) = self.send(command, &buffer);
        (status, u32::from_le_bytes(buffer[..4].try_into().unwrap()))
    }

    /// LAUNCH_START without a session.
    pub fn start_anonymously(&mut self, share: u32, policy: u32) -> (Status, u32) {
        let buffer = start_buffer(share, policy, (0, 0), (0, 0));
        let (status, buffer) = self.send(guest_id::LAUNCH_START, &buffer);
        (status, u32::from_le_bytes(buffer[..4].try_into().unwrap()))
    }

    /// A command whose buffer is a handle.
    pub fn plain(&mut self, command: u16, handle: u32) -> Status {
        self.status(command, &handle.to_le_bytes())
    }

    pub fn activate(&mut self, handle: u32, asid: u32) -> Status {
        self.status(guest_id::ACTIVATE, &buffer![handle, asid])
    }

    /// LAUNCH_UPDATE_DATA of `data` at `addr`.
    pub fn update(&mut self, handle: u32, addr: u64, data: &[u8]) -> Status {
        self.ram.write(addr, data).unwrap();
        let buffer = update_buffer(handle, addr, data.len() as u32);
        self.status(guest_id::LAUNCH_UPDATE_DATA, &buffer)
    }

    /// LAUNCH_MEASURE: measurement and nonce.
    pub fn measure(&mut self, handle: u32) -> ([u8; 32], [u8; 16]) {
        let buffer = update_buffer(handle, A, 48);
        assert_eq!(
            self.status(guest_id::LAUNCH_MEASURE, &buffer),
            Status::SUCCESS
        );
        let answer = self.read(A, 48);
        (
            answer[..32].try_into().unwrap(),
            answer[32..].try_into().unwrap(),
        )
    }

    /// LAUNCH_SECRET of `packet`, to `addr`.
    pub fn secret(&mut self, handle: u32, addr: u64, packet: &(PacketHeader, Vec<u8>)) -> Status {
        self.packet(guest_id::LAUNCH_SECRET, handle, addr, packet)
    }

    /// A command that takes a packet in.
    pub fn packet(
        &mut self,
        command: u16,
        handle: u32,
        addr: u64,
        (header, data): &(PacketHeader, Vec<u8>),
    ) -> Status {
        self.ram.write(A, &header.to_bytes()).unwrap();
        self.ram.write(B, data).unwrap();
        let len = data.len() as u32;
        self.status(
            command,
            &transport_buffer(handle, (A, 52), (addr, len), (B, len)),
        )
    }

    /// DBG_DECRYPT of `len` bytes at `addr`.
    pub fn decrypt(&mut self, handle: u32, addr: u64, len: usize) -> Result<Vec<u8>, Status> {
        let buffer = debug_buffer(handle, addr, A, len as u32);
        match self.status(guest_id::DBG_DECRYPT, &buffer) {
            Status::SUCCESS => Ok(self.read(A, len)),
            status => Err(status),
        }
    }

    /// Policy, ASID and state of GUEST_STATUS.
    pub fn guest(&mut self, handle: u32) -> (u32, u32, u8) {
        let (status, buffer) = self.send(guest_id::GUEST_STATUS, &buffer![handle, 0u64, 0xeeu8]);
        assert_eq!(status, Status::SUCCESS);
        let word = |at: usize| u32::from_le_bytes(buffer[at..at + 4].try_into().unwrap());
        (word(4), word(8), buffer[12])
    }

    /// A guest of `policy` with `data` at [`GUEST`], up to LAUNCH_FINISH.
    pub fn launch(&mut self, policy: u32, asid: u32, data: &[u8]) -> (u32, Owner) {
        let owner = Owner::of(self, policy);
        let (status, handle) = self.start(guest_id::LAUNCH_START, &owner, 0, policy);
        assert_eq!(status, Status::SUCCESS);
        assert_eq!(self.activate(handle, asid), Status::SUCCESS);
        assert_eq!(self.update(handle, GUEST, data), Status::SUCCESS);
        self.measure(handle);
        assert_eq!(self.plain(guest_id::LAUNCH_FINISH, handle), Status::SUCCESS);
        (handle, owner)
    }
}
