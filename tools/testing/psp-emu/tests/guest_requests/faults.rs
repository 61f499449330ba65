// SPDX-License-Identifier: GPL-2.0
//! What a guest sees of each fault of its host.

use super::client::{
    report_request, Guest, Head, DATA, EXTENDED, PLAIN, REPORT_REQ, REQUEST, RESPONSE,
};
use psp_emu::{guest_requests::fault::FAULTS, memory::GuestMemory, model::MILAN};

/// A guest that has had one answer before the fault, and its next request.
fn met(fault: &str) -> (Guest, Head) {
    let mut guest = Guest::on(&MILAN, 1, false);
    guest.ask(REPORT_REQ, 0, &report_request(0, 0, 0));
    guest.ram.write(RESPONSE, &[0; 0x1000]).unwrap();
    guest.fault(fault);
    let head = guest.next(REPORT_REQ, 0);
    let page = guest.message(head, &report_request(0, 0, 0));
    guest.ram.write(REQUEST, &page).unwrap();
    (guest, head)
}

fn response(guest: &Guest) -> Vec<u8> {
    let mut page = vec![0; 0x1000];
    guest.ram.read(RESPONSE, &mut page).unwrap();
    page
}

#[test]
fn whoever_changes_an_answer_is_found_out() {
    for fault in [
        "garbage:1",
        "short:1",
        "long:1",
        "wrong-tag:1",
        "wrong-seqno:1",
        "wrong-type:1",
        "wrong-version:1",
        "silent:1",
        "replay:1",
        "reordered:1",
    ] {
        let (mut guest, head) = met(fault);
        assert_eq!(guest.exit(PLAIN, 0), (0, 0), "{fault}");
        assert!(guest.opened(head).is_none(), "{fault}");
        assert_eq!(
            response(&guest) == [0; 0x1000],
            fault == "silent:1",
            "{fault}"
        );
    }
}

#[test]
fn old_answers_are_those_of_old_requests() {
    for fault in ["replay:1", "reordered:1"] {
        let (mut guest, head) = met(fault);
        guest.exit(PLAIN, 0);
        let old = Head {
            seqno: head.seqno - 2,
            ..head
        };
        assert!(guest.opened(old).is_some(), "{fault}");
        // With replay the firmware has not seen the request.
        let (again, _) = guest.exit(PLAIN, 0);
        assert_eq!(again, if fault == "replay:1" { 0 } else { 0x1d });
    }
}

#[test]
fn a_guest_that_starts_again_gets_no_old_answer() {
    for fault in ["replay:1", "reordered:1"] {
        let mut guest = Guest::on(&MILAN, 1, false);
        guest.ask(REPORT_REQ, 0, &report_request(0, 0, 0));
        guest.device.reset();
        guest.counters[0] = 0;
        guest.ram.write(RESPONSE, &[0; 0x1000]).unwrap();
        guest.fault(fault);
        assert_eq!(guest.exit(PLAIN, 0), (0, 0));
        assert_eq!(response(&guest), [0; 0x1000], "{fault}");
    }
}

#[test]
fn busy_hosts_have_done_nothing_or_said_so() {
    let (mut guest, head) = met("busy:2");
    assert_eq!(guest.exit(PLAIN, 0), (0, 2));
    assert_eq!(guest.exit(EXTENDED, 4), (0, 2));
    assert_eq!(guest.exit(PLAIN, 0), (0, 0));
    assert!(guest.opened(head).is_some());

    let (mut guest, _) = met("lost:1");
    assert_eq!(guest.exit(PLAIN, 0), (0, 2));
    assert_eq!(guest.exit(PLAIN, 0), (0x1d, 0), "the number is used up");
}

#[test]
fn refusals_reach_neither_firmware_nor_ram() {
    for (fault, want) in [("status:0x1d:1", (0x1d, 0)), ("vmm-error:3:1", (0, 3))] {
        let (mut guest, head) = met(fault);
        assert_eq!(guest.exit(PLAIN, 0), want);
        assert_eq!(response(&guest), [0; 0x1000]);
        assert_eq!(guest.exit(PLAIN, 0), (0, 0));
        assert!(guest.opened(head).is_some());
    }
}

#[test]
fn absurd_certificates() {
    let (mut guest, _) = met("pages:0xffffffff:1");
    assert_eq!(guest.exit(EXTENDED, 4), (0, 1));
    assert_eq!(guest.read(0x20), u32::MAX);

    let (mut guest, head) = met("table:1");
    assert_eq!(guest.exit(EXTENDED, 4), (0, 0));
    assert!(guest.opened(head).is_some());
    let mut table = [0; 48];
    guest.ram.read(DATA, &mut table).unwrap();
    let number = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
    assert!(number(16).checked_add(number(20)).is_none());
    assert!(number(40) > 0x4000);
}

/// A fault without a test here would be one that nobody has seen.
#[test]
fn every_fault_does_something() {
    for fault in FAULTS {
        let with = |spec: Option<&str>| {
            let (mut guest, head) = met(spec.unwrap_or("busy:0"));
            let told = guest.exit(EXTENDED, 4);
            let mut table = vec![0; 0x4000];
            guest.ram.read(DATA, &mut table).unwrap();
            (told, guest.opened(head).is_some(), table[16..24].to_vec())
        };
        assert_ne!(with(Some(fault.example)), with(None), "{}", fault.name);
    }
}

const DOCUMENTATION: &str = include_str!("../../../../../Documentation/psp-emu.rst");

#[test]
fn documentation_has_the_faults_that_there_are() {
    let (_, section) = DOCUMENTATION.split_once("\nThe guest device\n").unwrap();
    let (_, table) = section.split_once("\nFault ").unwrap();
    let rows = table.split("\n\n").next().unwrap().lines();
    let rows = rows.filter_map(|line| line.strip_prefix("``"));
    let documented: Vec<_> = rows.map(|row| row.split_once("``").unwrap().0).collect();
    let known: Vec<_> = FAULTS.iter().map(|fault| fault.to_string()).collect();
    assert_eq!(documented, known);
}
