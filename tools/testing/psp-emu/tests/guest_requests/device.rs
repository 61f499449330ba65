// SPDX-License-Identifier: GPL-2.0
//! Registers, places in RAM, extended requests.

use super::client::{
    report_request, Guest, DATA, EXTENDED, PLAIN, RAM_LEN, REPORT_REQ, REQUEST, RESPONSE, SECRETS,
};
use proptest::prelude::*;
use psp_emu::{memory::GuestMemory, model::MILAN};

const GENERIC: (u32, u32) = (0, u32::MAX);

#[test]
fn it_says_what_it_is_and_where_the_secrets_are() {
    let guest = Guest::on(&MILAN, 1, false);
    let mut config = [0; 64];
    guest.device.config_read(0, &mut config);
    assert_eq!(config[..4], [0x34, 0x12, 0x50, 0x5e]);
    assert_eq!(config[8..12], [0x01, 0x00, 0x80, 0x08]);
    assert_eq!((guest.read(0x00), guest.read(0x04)), (0x4c56_4553, 1));
    let secrets = u64::from(guest.read(0x34)) << 32 | u64::from(guest.read(0x30));
    assert_eq!(secrets, SECRETS);
    assert_eq!(guest.secrets.len(), 0x1000);
    assert_eq!(guest.secrets[..4], [3, 0, 0, 0]);
    assert!(guest.secrets[0xa0..0x100].iter().all(|&byte| byte == 0));
}

#[test]
fn bar_0_is_4_kib_of_memory() {
    let mut guest = Guest::on(&MILAN, 1, false);
    guest.device.config_write(0x10, &[0xff; 4]);
    let mut bar = [0; 4];
    guest.device.config_read(0x10, &mut bar);
    assert_eq!(u32::from_le_bytes(bar), 0xffff_f000);
}

#[test]
fn addresses_have_to_be_pages_of_ram() {
    let mut guest = Guest::on(&MILAN, 1, false);
    let page = guest.message(guest.next(REPORT_REQ, 0), &report_request(0, 0, 0));
    guest.ram.write(REQUEST, &page).unwrap();
    for (register, value) in [
        (0x08, REQUEST as u32 + 8),
        (0x08, RAM_LEN as u32),
        (0x0c, 0x80),
        (0x10, RESPONSE as u32 + 1),
        (0x10, RAM_LEN as u32),
        (0x14, 1),
        (0x18, DATA as u32 + 1),
        (0x18, RAM_LEN as u32 - 0x1000),
        (0x20, u32::MAX),
    ] {
        for (at, good) in [(0x08, REQUEST), (0x10, RESPONSE), (0x18, DATA), (0x20, 4)] {
            guest.write(at, good as u32);
        }
        guest.write(0x0c, 0);
        guest.write(0x14, 0);
        guest.write(register, value);
        guest.write(0x24, EXTENDED);
        let got = (guest.read(0x28), guest.read(0x2c));
        assert_eq!(got, GENERIC, "{register:#x} {value:#x}");
    }
    for code in [0, 0x8000_0010, 0x8000_0013, u32::MAX] {
        assert_eq!(guest.exit(code, 0), GENERIC, "{code:#x}");
    }
    // Nothing of that was a message.
    guest.ask(REPORT_REQ, 0, &report_request(0, 0, 0));
}

#[test]
fn certificates_that_do_not_fit_leave_the_message_for_another_try() {
    let mut guest = Guest::on(&MILAN, 1, false);
    let head = guest.next(REPORT_REQ, 0);
    let page = guest.message(head, &report_request(0, 0, 0));
    guest.ram.write(REQUEST, &page).unwrap();
    for offered in [0, 1] {
        assert_eq!(guest.exit(EXTENDED, offered), (0, 1));
        assert_eq!(guest.read(0x20), 2);
        assert!(guest.opened(head).is_none());
    }
    assert_eq!(guest.exit(PLAIN, 0), (0, 0));
    assert!(guest.opened(head).is_some());
    let mut data = [0; 0x4000];
    guest.ram.read(DATA, &mut data).unwrap();
    assert_eq!(data, [0; 0x4000]);
}

#[test]
fn certificates_stay_within_the_pages_offered() {
    let mut guest = Guest::on(&MILAN, 1, false);
    let page = guest.message(guest.next(REPORT_REQ, 0), &report_request(0, 0, 0));
    guest.ram.write(REQUEST, &page).unwrap();
    guest.ram.write(DATA + 0x2000, &[0xee; 0x1000]).unwrap();
    assert_eq!(guest.exit(EXTENDED, 2), (0, 0));
    let mut behind = [0; 0x1000];
    guest.ram.read(DATA + 0x2000, &mut behind).unwrap();
    assert_eq!(behind, [0xee; 0x1000]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..Default::default() })]

    /// Any accesses, and any message: no panic, and the device goes on.
    #[test]
    fn nothing_upsets_it(
        accesses in proptest::collection::vec((0u64..0x40, any::<u32>(), 0usize..9), 0..40),
        message in proptest::collection::vec(any::<u8>(), 0x60..0x200),
    ) {
        let mut guest = Guest::on(&MILAN, 1, false);
        guest.ram.write(REQUEST, &message).unwrap();
        for (offset, value, len) in accesses {
            let bytes = u64::from(value).to_le_bytes();
            guest.device.bar0_write(offset, &bytes[..len], &mut guest.ram);
            let mut read = vec![0; len];
            guest.device.bar0_read(offset, &mut read);
        }
        guest.exit(EXTENDED, 4);
        guest.ask(REPORT_REQ, 0, &report_request(0, 0, 0));
    }
}
