// SPDX-License-Identifier: GPL-2.0
//! The driver core's channel against the emulator: what each fault of the host means to it.

use super::client::{Guest, DATA, REQUEST, RESPONSE};
use aes_gcm::{aead::AeadInPlace, Aes256Gcm, KeyInit};
use psp::guest_msg::{
    Aead, CertTable, Channel, Exit, ExitInfo2, Exited, Failure, Forged, GivenUp, Message, MsgType,
    NotAnAnswer, Oddity, ReportRequest, ReportResponseHeader, Request, SecretsPage, Slot, Step,
    Vmpck, VmpckId, Why,
};
use psp_emu::{memory::GuestMemory, model::MILAN};
use std::{cell::Cell, rc::Rc};
use zerocopy::{FromBytes, IntoBytes};

struct Gcm(Aes256Gcm);

impl Aead for Gcm {
    fn seal(&mut self, iv: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        let tag = self.0.encrypt_in_place_detached(iv.into(), aad, text);
        tag.unwrap().into()
    }

    fn open(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), Forged> {
        let opened = self
            .0
            .decrypt_in_place_detached(iv.into(), aad, text, tag.into());
        opened.map_err(|_| Forged)
    }
}

#[derive(Clone, Default)]
struct Place(Rc<Cell<u32>>);

impl Slot for Place {
    fn counter(&self) -> u32 {
        self.0.get()
    }

    fn set_counter(&mut self, counter: u32) {
        self.0.set(counter);
    }

    fn destroy_key(&mut self) {}
}

/// A channel with the key of VMPL 0, found in the secrets page.
fn channel(guest: &Guest) -> Channel<Gcm, Place> {
    let mut secrets = SecretsPage::read_from_bytes(&guest.secrets).unwrap();
    let id = VmpckId::ALL[0];
    let key = Vmpck::take(&mut secrets.vmpcks[usize::from(id.index())]).unwrap();
    Channel::new(
        id,
        Gcm(Aes256Gcm::new(key.bytes().into())),
        Place::default(),
    )
}

/// An exchange as a driver does it; gives up after five times busy.
fn ask(
    guest: &mut Guest,
    channel: &mut Channel<Gcm, Place>,
    exit: Exit,
    pages: u32,
) -> Result<Vec<u8>, Failure> {
    let (mut page, mut out) = (Message::zeroed(), vec![0xee; 4000]);
    let payload = ReportRequest::new([3; 64], 0);
    let request = Request {
        msg_type: MsgType::REPORT_REQ,
        msg_version: 1,
        payload: payload.as_bytes(),
        exit,
    };
    let mut exchange = channel.begin(&request, &mut page)?;
    guest.ram.write(REQUEST, page.as_bytes()).unwrap();
    guest.ram.write(RESPONSE, &[0; 0x1000]).unwrap();
    let mut busy = 0;
    loop {
        let code = u32::try_from(exchange.exit().code()).unwrap();
        let (firmware, vmm) = guest.exit(code, pages);
        let exited = Exited {
            exitinfo2: ExitInfo2(u64::from(vmm) << 32 | u64::from(firmware)),
            pages: guest.read(0x20),
        };
        guest.ram.read(RESPONSE, page.as_mut_bytes()).unwrap();
        exchange = match exchange.answered(exited, &mut page, &mut out) {
            Step::Done(len) => {
                out.truncate(len);
                return Ok(out);
            }
            Step::Failed(failure) => return Err(failure),
            Step::Plain(same) => same,
            Step::Busy(same) if busy < 5 => {
                busy += 1;
                same
            }
            Step::Busy(same) => return Err(same.give_up(GivenUp::TimeOver)),
        };
    }
}

#[test]
fn the_driver_core_gets_reports_and_certificates() {
    let mut guest = Guest::on(&MILAN, 1, false);
    let mut channel = channel(&guest);
    for (exit, pages) in [(Exit::Request, 0), (Exit::Extended, 2), (Exit::Extended, 4)] {
        let answer = ask(&mut guest, &mut channel, exit, pages).unwrap();
        let report = ReportResponseHeader::report(&answer).unwrap();
        assert_eq!((report.len(), &report[0x50..0x90]), (0x4a0, &[3; 64][..]));
    }
    let mut table = vec![0; 0x2000];
    guest.ram.read(DATA, &mut table).unwrap();
    let table = CertTable::new(&table);
    assert_eq!(table.extent().oddity, None);
    let entries: Vec<_> = table.entries().collect();
    assert_eq!(entries.len(), 3);
    assert!(entries
        .iter()
        .all(|entry| entry.bytes.is_some_and(|it| it[0] == 0x30)));
}

#[test]
fn the_driver_core_survives_what_it_may_survive() {
    for fault in ["busy:3", "table:1"] {
        let mut guest = Guest::on(&MILAN, 1, false);
        let mut channel = channel(&guest);
        guest.fault(fault);
        assert!(
            ask(&mut guest, &mut channel, Exit::Extended, 4).is_ok(),
            "{fault}"
        );
    }
    let mut table = vec![0; 0x4000];
    let mut guest = Guest::on(&MILAN, 1, false);
    let mut channel = channel(&guest);
    guest.fault("table:1");
    ask(&mut guest, &mut channel, Exit::Extended, 4).unwrap();
    guest.ram.read(DATA, &mut table).unwrap();
    assert_eq!(
        CertTable::new(&table).extent().oddity,
        Some(Oddity::Truncated)
    );

    for (offered, fault, needed) in [(0, "busy:1", 2), (1, "busy:1", 2), (4, "pages:9:1", 9)] {
        guest.fault(fault);
        let failure = ask(&mut guest, &mut channel, Exit::Extended, offered).unwrap_err();
        assert_eq!(failure.why, Why::CertificatesTooSmall { pages: needed });
        assert!(!failure.key_destroyed);
        assert!(ask(&mut guest, &mut channel, Exit::Request, 0).is_ok());
    }
}

#[test]
fn the_driver_core_destroys_its_key_when_it_has_to() {
    for (fault, why) in [
        ("busy", Why::GivenUp(GivenUp::TimeOver)),
        ("lost:1", Why::Refused),
        ("silent:1", Why::NotAnAnswer(NotAnAnswer::Seqno(0))),
        ("short:1", Why::NotAnAnswer(NotAnAnswer::Forged)),
        ("long:1", Why::NotAnAnswer(NotAnAnswer::Len(0xffff))),
        ("replay:1", Why::NotAnAnswer(NotAnAnswer::Seqno(2))),
        ("reordered:1", Why::NotAnAnswer(NotAnAnswer::Seqno(2))),
        ("wrong-tag:1", Why::NotAnAnswer(NotAnAnswer::Forged)),
        ("wrong-seqno:1", Why::NotAnAnswer(NotAnAnswer::Seqno(5))),
        ("wrong-type:1", Why::NotAnAnswer(NotAnAnswer::Type(8))),
        ("wrong-version:1", Why::NotAnAnswer(NotAnAnswer::Version(2))),
        ("status:INVALID_PARAM:1", Why::Refused),
        ("vmm-error:3:1", Why::Refused),
    ] {
        let mut guest = Guest::on(&MILAN, 1, false);
        let mut channel = channel(&guest);
        ask(&mut guest, &mut channel, Exit::Request, 0).unwrap();
        guest.fault(fault);
        let failure = ask(&mut guest, &mut channel, Exit::Extended, 4).unwrap_err();
        assert_eq!((failure.why, failure.key_destroyed), (why, true), "{fault}");
        let failure = ask(&mut guest, &mut channel, Exit::Request, 0).unwrap_err();
        assert_eq!(failure.why, Why::NoKey, "{fault}");
    }
}
