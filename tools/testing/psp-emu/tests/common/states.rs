// SPDX-License-Identifier: GPL-2.0
//! Guests in any state, and for every guest command a buffer with which it would do in the right one.

use super::{
    guests::{
        debug_buffer, guest_id, start_buffer, transport_buffer, update_buffer, Owner, GUEST, PAGE,
    },
    id, Platform, A, B, CERT_LEN,
};
use crate::buffer;
use psp_emu::{crypto::transport::Context, firmware::Status, memory::GuestMemory};

/// State of a guest as GUEST_STATUS tells it.
pub const LUPDATE: u8 = 1;
pub const LSECRET: u8 = 2;
pub const RUNNING: u8 = 3;
pub const SUPDATE: u8 = 4;
pub const RUPDATE: u8 = 5;
pub const SENT: u8 = 6;

/// Where the VMSA of a guest with SEV-ES is; its data is at [`GUEST`].
pub const VMSA: u64 = GUEST + PAGE;

/// Command ids, all that are about a guest.
pub const GUEST_COMMANDS: [u16; 26] = [
    guest_id::DECOMMISSION,
    guest_id::ACTIVATE,
    guest_id::DEACTIVATE,
    guest_id::GUEST_STATUS,
    guest_id::COPY,
    guest_id::ACTIVATE_EX,
    guest_id::LAUNCH_START,
    guest_id::LAUNCH_UPDATE_DATA,
    guest_id::LAUNCH_UPDATE_VMSA,
    guest_id::LAUNCH_MEASURE,
    guest_id::LAUNCH_SECRET,
    guest_id::LAUNCH_FINISH,
    guest_id::ATTESTATION,
    guest_id::SEND_START,
    guest_id::SEND_UPDATE_DATA,
    guest_id::SEND_UPDATE_VMSA,
    guest_id::SEND_FINISH,
    guest_id::SEND_CANCEL,
    guest_id::RECEIVE_START,
    guest_id::RECEIVE_UPDATE_DATA,
    guest_id::RECEIVE_UPDATE_VMSA,
    guest_id::RECEIVE_FINISH,
    guest_id::DBG_DECRYPT,
    guest_id::DBG_ENCRYPT,
    guest_id::SWAP_OUT,
    guest_id::SWAP_IN,
];

/// A guest, and who launched it.
pub struct Made<'a> {
    pub handle: u32,
    pub policy: u32,
    pub asid: Option<u32>,
    pub measurement: [u8; 32],
    pub owner: &'a Owner,
}

impl Platform {
    /// A guest in `state`, which has this ASID if it has any. With SEV-ES it has a VMSA.
    pub fn guest_in<'a>(
        &mut self,
        state: u8,
        owner: &'a Owner,
        (policy, asid): (u32, u32),
        active: bool,
    ) -> Made<'a> {
        let start = match state {
            RUPDATE => guest_id::RECEIVE_START,
            _ => guest_id::LAUNCH_START,
        };
        let (status, handle) = self.start(start, owner, 0, policy);
        assert_eq!(status, Status::SUCCESS);
        let mut guest = Made {
            handle,
            policy,
            asid: None,
            measurement: [0; 32],
            owner,
        };
        assert_eq!(self.activate(handle, asid), Status::SUCCESS);
        if state == RUPDATE {
            self.fill(&guest, Context::Data);
        } else {
            assert_eq!(self.update(handle, GUEST, &[0x5a; 4096]), Status::SUCCESS);
        }
        if policy & 4 != 0 && state == RUPDATE {
            self.fill(&guest, Context::Vmsa);
        } else if policy & 4 != 0 {
            let buffer = update_buffer(handle, VMSA, 4096);
            assert_eq!(
                self.status(guest_id::LAUNCH_UPDATE_VMSA, &buffer),
                Status::SUCCESS
            );
        }
        if !matches!(state, LUPDATE | RUPDATE) {
            guest.measurement = self.measure(handle).0;
        }
        let rest: &[u16] = match state {
            RUNNING => &[guest_id::LAUNCH_FINISH],
            SUPDATE => &[guest_id::LAUNCH_FINISH, guest_id::SEND_START],
            SENT => &[
                guest_id::LAUNCH_FINISH,
                guest_id::SEND_START,
                guest_id::SEND_FINISH,
            ],
            _ => &[],
        };
        for &command in rest {
            let buffer = self.valid(command, &guest);
            assert_eq!(self.status(command, &buffer), Status::SUCCESS);
        }
        if active {
            guest.asid = Some(asid);
        } else {
            assert_eq!(self.plain(guest_id::DEACTIVATE, handle), Status::SUCCESS);
            assert_eq!(self.status(id::DF_FLUSH, &[]), Status::SUCCESS);
        }
        assert_eq!(self.guest(handle), (policy, guest.asid.unwrap_or(0), state));
        guest
    }

    /// Receives a page from the owner.
    fn fill(&mut self, guest: &Made<'_>, context: Context<'_>) {
        let (command, addr) = match context {
            Context::Vmsa => (guest_id::RECEIVE_UPDATE_VMSA, VMSA),
            _ => (guest_id::RECEIVE_UPDATE_DATA, GUEST),
        };
        let packet = guest.owner.packet(context, &[0x5a; 4096]);
        assert_eq!(
            self.packet(command, guest.handle, addr, &packet),
            Status::SUCCESS
        );
    }

    /// Prepares memory for a command, all of whose parameters are right for this guest; its buffer.
    ///
    /// LAUNCH_START and RECEIVE_START are to share the guest's key.
    pub fn valid(&mut self, command: u16, guest: &Made<'_>) -> Vec<u8> {
        let (h, owner) = (guest.handle, guest.owner);
        let page = 4096u32;
        match command {
            guest_id::ACTIVATE => buffer![h, 5u32],
            guest_id::GUEST_STATUS => buffer![h, 0u64, 0u8],
            guest_id::COPY => buffer![h, page, GUEST, GUEST + 0x4000],
            guest_id::ACTIVATE_EX => {
                self.ram.write(A, &[0; 4]).unwrap();
                buffer![0x18u32, h, guest.asid.unwrap_or(5), 1u32, A]
            }
            guest_id::LAUNCH_START | guest_id::RECEIVE_START => {
                self.ram.write(A, &owner.cert()).unwrap();
                self.ram.write(B, &owner.session()).unwrap();
                start_buffer(h, guest.policy, (A, CERT_LEN as u32), (B, 128))
            }
            guest_id::LAUNCH_UPDATE_DATA | guest_id::LAUNCH_UPDATE_VMSA => {
                update_buffer(h, GUEST + 0x2000, page)
            }
            guest_id::LAUNCH_MEASURE => update_buffer(h, A, 48),
            guest_id::LAUNCH_SECRET => {
                let measurement = &guest.measurement;
                self.lay(owner, Context::Secret { measurement });
                transport_buffer(h, (A, 52), (GUEST, page), (B, page))
            }
            guest_id::ATTESTATION => buffer![h, 0u32, A, 7u64, 7u64, 0xd0u32],
            guest_id::SEND_START => {
                self.export();
                let certs = buffer![h, 0u32, A, CERT_LEN as u32, 0u32];
                let rest = buffer![0u64, 0u64, 0u64, 0u64, B, 128u32];
                [certs, rest].concat()
            }
            guest_id::SEND_UPDATE_DATA => transport_buffer(h, (A, 52), (GUEST, page), (B, page)),
            guest_id::SEND_UPDATE_VMSA => transport_buffer(h, (A, 52), (VMSA, page), (B, page)),
            guest_id::RECEIVE_UPDATE_DATA | guest_id::RECEIVE_UPDATE_VMSA => {
                let context = match command {
                    guest_id::RECEIVE_UPDATE_DATA => Context::Data,
                    _ => Context::Vmsa,
                };
                self.lay(owner, context);
                transport_buffer(h, (A, 52), (GUEST + 0x2000, page), (B, page))
            }
            guest_id::DBG_DECRYPT => debug_buffer(h, GUEST, A, page),
            guest_id::DBG_ENCRYPT => debug_buffer(h, A, GUEST, page),
            guest_id::SWAP_OUT => buffer![h, 0u32, GUEST, GUEST + 0x5000, B, 0u64],
            guest_id::SWAP_IN => {
                self.ram.write(B, &[0; 64]).unwrap();
                let out = self.valid(guest_id::SWAP_OUT, guest);
                let _ = self.status(guest_id::SWAP_OUT, &out);
                buffer![h, 0u32, GUEST + 0x5000, GUEST + 0x6000, B]
            }
            _ => buffer![h],
        }
    }

    /// Puts a packet of a page where [`Platform::valid`] says it is.
    fn lay(&mut self, owner: &Owner, context: Context<'_>) {
        let (header, data) = owner.packet(context, &[0x77; 4096]);
        self.ram.write(A, &header.to_bytes()).unwrap();
        self.ram.write(B, &data).unwrap();
    }
}
