// SPDX-License-Identifier: GPL-2.0
//! What the firmware takes for a message.

use super::client::{report_request, Guest, Head, PLAIN, REPORT_REQ, REQUEST};
use proptest::{collection::vec, prelude::*};
use psp_emu::{memory::GuestMemory, model::MILAN};

const INVALID_PARAM: u32 = 0x16;
const BAD_MEASUREMENT: u32 = 0x0b;
const AEAD_OFLOW: u32 = 0x1d;

fn send(guest: &mut Guest, page: &[u8]) -> u32 {
    guest.ram.write(REQUEST, page).unwrap();
    let (firmware, vmm) = guest.exit(PLAIN, 0);
    assert_eq!(vmm, 0);
    firmware
}

#[test]
fn numbers_are_taken_once_and_in_order() {
    let mut guest = Guest::on(&MILAN, 1, false);
    let request = report_request(0, 0, 0);
    for seqno in [0, 2, 3, 1 << 32 | 1, u64::MAX] {
        let page = guest.message(
            Head {
                seqno,
                ..guest.next(REPORT_REQ, 0)
            },
            &request,
        );
        assert_eq!(send(&mut guest, &page), AEAD_OFLOW, "{seqno}");
    }
    // Refusals have used nothing up.
    let first = guest.message(guest.next(REPORT_REQ, 0), &request);
    assert_eq!(send(&mut guest, &first), 0);
    assert_eq!(send(&mut guest, &first), AEAD_OFLOW, "again");
    guest.counters[0] = 2;
    guest.ask(REPORT_REQ, 0, &request);
    // Each key counts for itself.
    let request = report_request(0, 3, 0);
    guest.ask(REPORT_REQ, 3, &request);
}

#[test]
fn every_byte_of_a_message_counts() {
    let mut guest = Guest::on(&MILAN, 1, false);
    let good = guest.message(guest.next(REPORT_REQ, 0), &report_request(0, 0, 0));
    for at in (0..16).chain(0x20..0x28).chain(0x30..0x60 + 0x60) {
        let mut page = good.clone();
        page[at] ^= 0x01;
        let want = match at {
            // The cipher, lengths.
            0x30..=0x33 | 0x36 => INVALID_PARAM,
            // The key: none, or the next one.
            _ => BAD_MEASUREMENT,
        };
        assert_eq!(send(&mut guest, &page), want, "{at:#x}");
    }
    for (at, value) in [(0x37, 0x10), (0x3c, 4), (0x3c, 0xff)] {
        let mut page = good.clone();
        page[at] = value;
        assert_eq!(send(&mut guest, &page), INVALID_PARAM, "{at:#x}");
    }
    assert_eq!(send(&mut guest, &good), 0);
}

#[test]
fn types_versions_and_lengths_are_checked() {
    for (msg_type, len) in [
        (0, 96),
        (1, 96),
        (6, 96),
        (7, 96),
        (18, 96),
        (255, 96),
        (5, 80),
        (3, 16),
        (17, 112),
    ] {
        let mut guest = Guest::on(&MILAN, 1, false);
        let page = guest.message(guest.next(msg_type, 0), &vec![0; len]);
        assert_eq!(send(&mut guest, &page), INVALID_PARAM, "{msg_type} {len}");
        // It has not been taken.
        guest.ask(REPORT_REQ, 0, &report_request(0, 0, 0));
    }
    for version in [0, 2, 255] {
        let mut guest = Guest::on(&MILAN, 1, false);
        let head = guest.next(REPORT_REQ, 0);
        let page = guest.message(Head { version, ..head }, &report_request(0, 0, 0));
        assert_eq!(send(&mut guest, &page), INVALID_PARAM, "version {version}");
    }
    let mut guest = Guest::on(&MILAN, 1, false);
    let page = guest.message(guest.next(REPORT_REQ, 0), &[]);
    assert_eq!(send(&mut guest, &page), INVALID_PARAM);
}

#[test]
fn a_guest_that_starts_again_starts_with_the_first_number() {
    let mut guest = Guest::on(&MILAN, 1, false);
    let request = report_request(0, 0, 0);
    guest.ask(REPORT_REQ, 0, &request);
    guest.device.reset();
    guest.counters[0] = 0;
    guest.ask(REPORT_REQ, 0, &request);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    /// Whatever a guest encrypts: it is answered or refused, and the next message is taken.
    #[test]
    fn no_payload_upsets_the_firmware(
        msg_type in prop_oneof![Just(3u8), Just(5), Just(17), any::<u8>()],
        vmpck in 0u8..4,
        payload in vec(prop_oneof![Just(0u8), any::<u8>()], 0..0x200),
    ) {
        let mut guest = Guest::on(&MILAN, 1, false);
        let head = guest.next(msg_type, vmpck);
        let page = guest.message(head, &payload);
        if send(&mut guest, &page) == 0 {
            let answer = guest.opened(head).expect("an answer");
            prop_assert!(matches!(answer[0], 0 | 0x16 | 0x27) && answer[1..4] == [0; 3]);
            guest.counters[usize::from(vmpck)] += 2;
        }
        guest.ask(REPORT_REQ, vmpck, &report_request(0, 3, 0));
    }
}
