// SPDX-License-Identifier: GPL-2.0
//! A guest goes from one platform to another. They share nothing but certificates and what the host carries.

mod common;

use common::{
    certs::{Certs, SESSION},
    guests::{guest_id, transport_buffer, Owner, ES_ASID, GUEST, PAGE},
    owner,
    states::{RUNNING, RUPDATE, SENT, SUPDATE, VMSA},
    Platform, A, B, CERT_LEN, RAM_LEN,
};
use psp_emu::{
    cert::{sev::SevCert, Algo, Usage},
    crypto::transport::{Context, PacketHeader},
    firmware::Status,
    memory::GuestMemory,
    model::{GENOA, MILAN},
};

const SUCCESS: Status = Status::SUCCESS;
const ES: u32 = 4;
/// Where the guest lies on the target.
const THERE: u64 = GUEST + 0x2_0000;
/// Where the firmware changes a VMSA it takes: reserved, and the address of its checksum.
const OWN: std::ops::Range<usize> = 0x380..0x390;

type Packet = (PacketHeader, Vec<u8>);

/// Two platforms in the middle of a migration.
struct Migration {
    from: Platform,
    source: u32,
    to: Platform,
    target: u32,
}

impl Migration {
    /// SEND_START and RECEIVE_START of a guest with SEV-ES, which is active on both sides.
    fn start() -> Self {
        let mut from = Platform::of_chip(&MILAN, 1);
        let owner = Owner::of(&mut from, ES);
        let source = from.guest_in(RUNNING, &owner, (ES, ES_ASID), true).handle;
        let mut to = Platform::of_chip(&GENOA, 2);
        let target = send(&mut from, source, &mut to);
        assert_eq!(to.activate(target, 7), SUCCESS);
        Self {
            from,
            source,
            to,
            target,
        }
    }

    fn take(&mut self, command: u16, addr: u64, len: u32) -> Packet {
        take(&mut self.from, command, self.source, addr, len)
    }

    fn data(&mut self, len: u32) -> Packet {
        self.take(guest_id::SEND_UPDATE_DATA, GUEST, len)
    }

    /// A command of the target, which must take the packet.
    fn put(&mut self, command: u16, offset: u64, packet: &Packet) {
        let addr = THERE + offset;
        let status = self.to.packet(command, self.target, addr, packet);
        assert_eq!(status, SUCCESS);
    }

    /// A command of the target, which must refuse and write nothing.
    fn refuses(&mut self, command: u16, packet: &Packet) -> Status {
        self.to.ram.write(THERE, &[0xee; 4096]).unwrap();
        let status = self.to.packet(command, self.target, THERE, packet);
        assert_ne!(status, SUCCESS);
        assert_eq!(self.to.read(THERE, 4096), [0xee; 4096]);
        status
    }
}

/// SEND_START, the session is carried over, RECEIVE_START; the new guest.
fn send(from: &mut Platform, guest: u32, to: &mut Platform) -> u32 {
    let policy = from.guest(guest).0;
    let certs = Certs::of(to, &GENOA, 2);
    assert_eq!(from.send_start(guest, &certs), SUCCESS);
    let (session, pdh) = (from.read(SESSION, 128), from.export()[..CERT_LEN].to_vec());
    receive(to, &pdh, &session, policy)
}

fn receive(to: &mut Platform, pdh: &[u8], session: &[u8], policy: u32) -> u32 {
    to.ram.write(A, pdh).unwrap();
    to.ram.write(B, session).unwrap();
    let buffer = common::guests::start_buffer(0, policy, (A, CERT_LEN as u32), (B, 128));
    let (status, buffer) = to.send(guest_id::RECEIVE_START, &buffer);
    assert_eq!(status, SUCCESS);
    u32::from_le_bytes(buffer[..4].try_into().unwrap())
}

/// SEND_UPDATE_DATA or SEND_UPDATE_VMSA.
fn take(from: &mut Platform, command: u16, guest: u32, addr: u64, len: u32) -> Packet {
    let buffer = transport_buffer(guest, (A, 52), (addr, len), (B, len));
    assert_eq!(from.status(command, &buffer), SUCCESS);
    let header: [u8; 52] = from.read(A, 52).try_into().unwrap();
    (
        PacketHeader::from_bytes(&header),
        from.read(B, len as usize),
    )
}

#[test]
fn memory_and_registers_are_the_same_on_the_other_side() {
    let mut m = Migration::start();
    // Different pages, not all of them whole; one written by the host for the guest.
    m.from.ram.write(A, &[0x42; 48]).unwrap();
    let write = common::guests::debug_buffer(m.source, A, GUEST + 0x3000, 48);
    assert_eq!(m.from.status(guest_id::DBG_ENCRYPT, &write), SUCCESS);
    let pieces = [(0, 4096u32), (0x3000, 32), (0x3020, 16), (0x4000, 16384)];
    for (offset, len) in pieces {
        let here = m
            .from
            .decrypt(m.source, GUEST + offset, len as usize)
            .unwrap();
        let packet = m.take(guest_id::SEND_UPDATE_DATA, GUEST + offset, len);
        assert_ne!(packet.1, here);
        m.put(guest_id::RECEIVE_UPDATE_DATA, offset, &packet);
        assert_eq!(
            m.to.decrypt(m.target, THERE + offset, len as usize)
                .unwrap(),
            here
        );
        // Neither the source's ciphertext nor that of the packet.
        let there = m.to.read(THERE + offset, len as usize);
        assert!(![&here, &packet.1, &m.from.read(GUEST + offset, len as usize)].contains(&&there));
    }
    let packet = m.take(guest_id::SEND_UPDATE_VMSA, VMSA, 4096);
    let here = m.from.decrypt(m.source, VMSA, 4096).unwrap();
    m.put(guest_id::RECEIVE_UPDATE_VMSA, PAGE, &packet);
    let there = m.to.decrypt(m.target, THERE + PAGE, 4096).unwrap();
    assert_eq!(there[..OWN.start], here[..OWN.start]);
    assert_eq!(there[OWN.end..], here[OWN.end..]);

    assert_eq!(m.from.plain(guest_id::SEND_FINISH, m.source), SUCCESS);
    assert_eq!(m.to.plain(guest_id::RECEIVE_FINISH, m.target), SUCCESS);
    assert_eq!(m.from.guest(m.source).2, SENT);
    assert_eq!(m.to.guest(m.target), (ES, 7, RUNNING));

    // And on: what was received can be sent.
    let again = m.target;
    let mut third = Platform::of_chip(&GENOA, 2);
    let guest = send(&mut m.to, again, &mut third);
    assert_eq!(third.activate(guest, 3), SUCCESS);
    let packet = take(
        &mut m.to,
        guest_id::SEND_UPDATE_VMSA,
        again,
        THERE + PAGE,
        4096,
    );
    let put = third.packet(guest_id::RECEIVE_UPDATE_VMSA, guest, GUEST, &packet);
    assert_eq!(put, SUCCESS);
    assert_eq!(third.decrypt(guest, GUEST, 64).unwrap(), here[..64]);
}

#[test]
fn every_changed_byte_of_a_packet_is_noticed() {
    let mut m = Migration::start();
    let data = m.data(32);
    for at in 0..52 + 32 {
        let mut bytes = [&data.0.to_bytes()[..], &data.1].concat();
        bytes[at] ^= 0x80;
        let (header, rest) = bytes.split_first_chunk().unwrap();
        let changed = (PacketHeader::from_bytes(header), rest.to_vec());
        let status = m.refuses(guest_id::RECEIVE_UPDATE_DATA, &changed);
        assert_eq!(status, Status::BAD_MEASUREMENT, "{at}");
    }
    let (shorter, longer) = (data.1[..16].to_vec(), [&data.1[..], &[0; 16]].concat());
    for changed in [shorter, longer] {
        let status = m.refuses(guest_id::RECEIVE_UPDATE_DATA, &(data.0, changed));
        assert_eq!(status, Status::BAD_MEASUREMENT);
    }
    let put =
        m.to.packet(guest_id::RECEIVE_UPDATE_DATA, m.target, THERE, &data);
    assert_eq!(put, SUCCESS);
    assert_ne!(m.data(32), data, "no packet is made twice");
}

#[test]
fn a_packet_is_for_one_purpose_and_one_guest() {
    let mut m = Migration::start();
    let data = m.data(4096);
    let vmsa = m.take(guest_id::SEND_UPDATE_VMSA, VMSA, 4096);
    let bad = Status::BAD_MEASUREMENT;
    assert_eq!(m.refuses(guest_id::RECEIVE_UPDATE_VMSA, &data), bad);
    assert_eq!(m.refuses(guest_id::RECEIVE_UPDATE_DATA, &vmsa), bad);
    let (first, mut second) = (m.target, Migration::start());
    assert_eq!(second.refuses(guest_id::RECEIVE_UPDATE_DATA, &data), bad);

    // An owner's session opens for both ways of starting; its packets do for one each.
    let psp = &mut m.to;
    let owner = Owner::of(psp, ES);
    let (status, launched) = psp.start(guest_id::LAUNCH_START, &owner, 0, ES);
    assert_eq!((status, psp.activate(launched, 8)), (SUCCESS, SUCCESS));
    let (status, received) = psp.start(guest_id::RECEIVE_START, &owner, 0, ES);
    assert_eq!((status, psp.activate(received, 9)), (SUCCESS, SUCCESS));
    let (measurement, _) = psp.measure(launched);
    let secret = Context::Secret {
        measurement: &measurement,
    };
    let another = Context::Secret {
        measurement: &[0; 32],
    };
    for (context, command, guest, expected) in [
        (secret, guest_id::RECEIVE_UPDATE_DATA, received, bad),
        (secret, guest_id::RECEIVE_UPDATE_VMSA, received, bad),
        (Context::Data, guest_id::LAUNCH_SECRET, launched, bad),
        (Context::Vmsa, guest_id::LAUNCH_SECRET, launched, bad),
        (another, guest_id::LAUNCH_SECRET, launched, bad),
        (Context::Data, guest_id::RECEIVE_UPDATE_DATA, first, bad),
        (secret, guest_id::LAUNCH_SECRET, launched, SUCCESS),
        (
            Context::Data,
            guest_id::RECEIVE_UPDATE_DATA,
            received,
            SUCCESS,
        ),
        (
            Context::Vmsa,
            guest_id::RECEIVE_UPDATE_VMSA,
            received,
            SUCCESS,
        ),
    ] {
        let packet = owner.packet(context, &[1; 4096]);
        let status = psp.packet(command, guest, GUEST, &packet);
        assert_eq!(status, expected, "{context:?} by {command:#x}");
    }
}

#[test]
fn lengths_and_addresses_of_packets_have_limits() {
    let mut m = Migration::start();
    let (len, addr) = (Status::INVALID_LEN, Status::INVALID_ADDRESS);
    let end = RAM_LEN as u64;
    // Header, piece of the guest, packet.
    for (header, guest, packet, expected) in [
        ((A, 52), (GUEST, 0u32), (B, 0u32), len),
        ((A, 52), (GUEST, 8), (B, 8), len),
        ((A, 52), (GUEST, 0x4010), (B, 0x4010), len),
        ((A, 52), (GUEST, 0xffff_fff0), (B, 0xffff_fff0), len),
        ((A, 51), (GUEST, 16), (B, 16), len),
        ((A, 52), (GUEST + 8, 16), (B, 16), addr),
        ((A, 52), (end, 16), (B, 16), addr),
        ((A, 52), (end - 16, 32), (B, 32), addr),
        ((A, 52), (GUEST, 16), (end - 8, 16), addr),
        ((end - 51, 52), (GUEST, 16), (B, 16), addr),
        ((A, 52), (GUEST, 0x4000), (B, 0x4000), SUCCESS),
        ((A, 52), (end - 16, 16), (B, 16), SUCCESS),
    ] {
        let buffer = transport_buffer(m.source, header, guest, packet);
        let before = m.from.read(0x2000, RAM_LEN - 0x2000);
        let status = m.from.status(guest_id::SEND_UPDATE_DATA, &buffer);
        assert_eq!(status, expected, "SEND {guest:x?} {packet:x?}");
        assert_eq!(
            m.from.read(0x2000, RAM_LEN - 0x2000) == before,
            expected != SUCCESS
        );

        // The target gets a packet that is good as far as it lies in RAM.
        if packet.0 == B && (16..=0x4000).contains(&guest.1) {
            let (good, data) = m.data(guest.1);
            m.to.ram.write(A, &good.to_bytes()).unwrap();
            m.to.ram.write(B, &data).unwrap();
        }
        let buffer = transport_buffer(m.target, header, guest, packet);
        let before = m.to.read(0x2000, RAM_LEN - 0x2000);
        let status = m.to.status(guest_id::RECEIVE_UPDATE_DATA, &buffer);
        assert_eq!(status, expected, "RECEIVE {guest:x?} {packet:x?}");
        assert_eq!(
            m.to.read(0x2000, RAM_LEN - 0x2000) == before,
            expected != SUCCESS
        );
    }
    // More room than a packet needs; a packet that is not as long as it says.
    let buffer = transport_buffer(m.source, (A, 60), (GUEST, 16), (B, 32));
    let (status, answer) = m.from.send(guest_id::SEND_UPDATE_DATA, &buffer);
    let lengths = [0x10, 0x30].map(|at| u32::from_le_bytes(answer[at..at + 4].try_into().unwrap()));
    assert_eq!((status, lengths), (SUCCESS, [52, 16]));
    let buffer = transport_buffer(m.target, (A, 52), (THERE, 16), (B, 32));
    assert_eq!(m.to.status(guest_id::RECEIVE_UPDATE_DATA, &buffer), len);
}

#[test]
fn only_a_vmsa_is_sent_as_one() {
    let mut m = Migration::start();
    let mut send_vmsa = |addr: u64, len: u32| {
        let buffer = transport_buffer(m.source, (A, 52), (addr, len), (B, len));
        m.from.status(guest_id::SEND_UPDATE_VMSA, &buffer)
    };
    assert_eq!(send_vmsa(GUEST, 4096), Status::INVALID_PARAM);
    assert_eq!(send_vmsa(VMSA, 2048), Status::INVALID_PARAM);
    assert_eq!(send_vmsa(VMSA, 8192), Status::INVALID_PARAM);
    assert_eq!(send_vmsa(VMSA, 4096), SUCCESS);
    // One the host has changed.
    m.from.ram.write(A, &[1; 16]).unwrap();
    let change = common::guests::debug_buffer(m.source, A, VMSA, 16);
    assert_eq!(m.from.status(guest_id::DBG_ENCRYPT, &change), SUCCESS);
    let buffer = transport_buffer(m.source, (A, 52), (VMSA, 4096), (B, 4096));
    let status = m.from.status(guest_id::SEND_UPDATE_VMSA, &buffer);
    assert_eq!(status, Status::INVALID_PARAM);
}

#[test]
fn a_cancelled_guest_runs_on_and_can_be_sent_again() {
    let mut m = Migration::start();
    let old = m.data(16);
    assert_eq!(m.from.plain(guest_id::SEND_CANCEL, m.source), SUCCESS);
    assert_eq!(m.from.guest(m.source), (ES, ES_ASID, RUNNING));
    let target = send(&mut m.from, m.source, &mut m.to);
    assert_eq!(m.from.guest(m.source).2, SUPDATE);
    assert_eq!(m.to.activate(target, 8), SUCCESS);
    m.target = target;
    assert_eq!(
        m.refuses(guest_id::RECEIVE_UPDATE_DATA, &old),
        Status::BAD_MEASUREMENT
    );
    let new = m.data(16);
    let put =
        m.to.packet(guest_id::RECEIVE_UPDATE_DATA, target, THERE, &new);
    assert_eq!(put, SUCCESS);
    assert_eq!(m.to.guest(target).2, RUPDATE);
}

#[test]
fn linux_asks_for_lengths_with_empty_buffers() {
    let mut m = Migration::start();
    let length =
        |buffer: &[u8], at: usize| u32::from_le_bytes(buffer[at..at + 4].try_into().unwrap());
    let empty = |handle: u32, len: usize| {
        let mut buffer = handle.to_le_bytes().to_vec();
        buffer.resize(len, 0);
        buffer
    };
    for command in [guest_id::SEND_UPDATE_DATA, guest_id::SEND_UPDATE_VMSA] {
        let (status, answer) = m.from.send(command, &empty(m.source, 0x34));
        assert_eq!((status, length(&answer, 0x10)), (Status::INVALID_LEN, 52));
        assert_eq!(length(&answer, 0x30), 0);
        let short = transport_buffer(m.source, (A, 51), (GUEST, 64), (B, 64));
        let (status, answer) = m.from.send(command, &short);
        assert_eq!((status, length(&answer, 0x10)), (Status::INVALID_LEN, 52));
    }
    assert_eq!(m.from.plain(guest_id::SEND_CANCEL, m.source), SUCCESS);
    let (status, answer) = m.from.send(guest_id::SEND_START, &empty(m.source, 0x44));
    assert_eq!((status, length(&answer, 0x40)), (Status::INVALID_LEN, 128));
    assert_eq!(m.from.guest(m.source).2, RUNNING);
}

#[test]
fn compressed_packets_are_not_understood() {
    let mut psp = Platform::of_chip(&MILAN, 1);
    let owner = owner::Owner::new();
    let pdh: [u8; CERT_LEN] = psp.export()[..CERT_LEN].try_into().unwrap();
    let (session, keys) = owner.session(&SevCert::from(pdh).dh_point().unwrap(), 0);
    let algo = Algo::ECDH_SHA256;
    let cert = SevCert::new(MILAN.version, Usage::Pdh, algo, &owner.point());
    let guest = receive(&mut psp, cert.as_bytes(), &session, 0);
    assert_eq!(psp.activate(guest, 100), SUCCESS);
    for (flags, expected) in [(1, Status::UNSUPPORTED), (0, SUCCESS)] {
        let packet = keys.seal_flagged(flags, 2, &[], &[7; 32]);
        let packet = (PacketHeader::from_bytes(&packet.header), packet.data);
        let status = psp.packet(guest_id::RECEIVE_UPDATE_DATA, guest, GUEST, &packet);
        assert_eq!(status, expected);
        assert_eq!(psp.read(GUEST, 32) == [0; 32], expected != SUCCESS);
    }
}
