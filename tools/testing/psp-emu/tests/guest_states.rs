// SPDX-License-Identifier: GPL-2.0
//! Which command may be used in which state: all commands in all states, by hand from the specification.

mod common;

use common::{
    guests::{guest_id, Owner, ES_ASID},
    id,
    states::{GUEST_COMMANDS, RUPDATE, SENT},
    Platform, B, CERT_LEN, RAM_LEN,
};
use psp_emu::{
    firmware::Status,
    model::{MILAN, NAPLES, ROME},
};

const SUCCESS: Status = Status::SUCCESS;
/// SEV-ES, so that all commands apply.
const ES: u32 = 4;

/// What a command does to a guest with an ASID and to one without, in the states LUPDATE, LSECRET, RUNNING,
/// SUPDATE, RUPDATE and SENT.
///
/// `=` success, a digit success and that state (0: gone), `g` INVALID_GUEST_STATE, `i` INACTIVE, `a` ACTIVE.
#[rustfmt::skip] // A table is read by columns.
const TABLE: &[(u16, &str, &str)] = &[
    (guest_id::DECOMMISSION,        "aaaaaa", "000000"),
    (guest_id::ACTIVATE,            "aaaaaa", "=====g"),
    (guest_id::DEACTIVATE,          "======", "iiiiii"),
    (guest_id::GUEST_STATUS,        "======", "======"),
    (guest_id::COPY,                "======", "iiiiii"),
    (guest_id::ACTIVATE_EX,         "=====g", "=====g"),
    (guest_id::LAUNCH_START,        "======", "======"),
    (guest_id::LAUNCH_UPDATE_DATA,  "=ggggg", "iggggg"),
    (guest_id::LAUNCH_UPDATE_VMSA,  "=ggggg", "iggggg"),
    (guest_id::LAUNCH_MEASURE,      "2ggggg", "2ggggg"),
    (guest_id::LAUNCH_SECRET,       "g=gggg", "gigggg"),
    (guest_id::LAUNCH_FINISH,       "g3gggg", "g3gggg"),
    (guest_id::ATTESTATION,         "g===g=", "g===g="),
    (guest_id::SEND_START,          "gg4ggg", "gg4ggg"),
    (guest_id::SEND_UPDATE_DATA,    "ggg=gg", "gggigg"),
    (guest_id::SEND_UPDATE_VMSA,    "ggg=gg", "gggigg"),
    (guest_id::SEND_FINISH,         "ggg6gg", "ggg6gg"),
    (guest_id::SEND_CANCEL,         "ggg3gg", "ggg3gg"),
    (guest_id::RECEIVE_START,       "======", "======"),
    (guest_id::RECEIVE_UPDATE_DATA, "gggg=g", "ggggig"),
    (guest_id::RECEIVE_UPDATE_VMSA, "gggg=g", "ggggig"),
    (guest_id::RECEIVE_FINISH,      "gggg3g", "gggg3g"),
    (guest_id::DBG_DECRYPT,         "======", "iiiiii"),
    (guest_id::DBG_ENCRYPT,         "======", "iiiiii"),
    (guest_id::SWAP_OUT,            "======", "iiiiii"),
    (guest_id::SWAP_IN,             "======", "iiiiii"),
];

/// What a driver can see of platform, guest and RAM.
type Picture = ((u8, u8, u16), (u32, u32, u8), Vec<u8>);

fn picture(psp: &mut Platform, handle: u32) -> Picture {
    // The command buffer's page is the driver's own.
    let ram = psp.read(0x2000, RAM_LEN - 0x2000);
    (psp.state(), psp.guest(handle), ram)
}

#[test]
fn every_command_in_every_state_of_a_guest() {
    assert!(TABLE.iter().map(|row| row.0).eq(GUEST_COMMANDS));
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let owner = Owner::of(&mut psp, ES);
    for state in 1..=6u8 {
        for active in [true, false] {
            let mut guest = psp.guest_in(state, &owner, (ES, ES_ASID), active);
            for (command, with, without) in TABLE {
                let column = if active { with } else { without };
                let expected = column.as_bytes()[usize::from(state) - 1];
                let buffer = psp.valid(*command, &guest);
                let before = picture(&mut psp, guest.handle);
                let (status, answer) = psp.send(*command, &buffer);
                let what = format!("{command:#x} in {state}, active: {active}");
                let refused = match expected {
                    b'g' => Some(Status::INVALID_GUEST_STATE),
                    b'i' => Some(Status::INACTIVE),
                    b'a' => Some(Status::ACTIVE),
                    _ => None,
                };
                assert_eq!(status, refused.unwrap_or(SUCCESS), "{what}");
                if refused.is_some() {
                    assert_eq!(answer, buffer, "{what}");
                    assert!(picture(&mut psp, guest.handle) == before, "{what}");
                    continue;
                }
                let number = match expected {
                    b'=' => state,
                    digit => digit - b'0',
                };
                assert_eq!(psp.guest(guest.handle).2, number, "{what}");
                // From a guest that is as it was before.
                for handle in 1..=2 {
                    psp.plain(guest_id::DEACTIVATE, handle);
                    psp.plain(guest_id::DECOMMISSION, handle);
                }
                assert_eq!(psp.status(id::DF_FLUSH, &[]), SUCCESS);
                guest = psp.guest_in(state, &owner, (ES, ES_ASID), active);
            }
            psp.plain(guest_id::DEACTIVATE, guest.handle);
            assert_eq!(psp.plain(guest_id::DECOMMISSION, guest.handle), SUCCESS);
            assert_eq!(psp.status(id::DF_FLUSH, &[]), SUCCESS);
        }
    }
}

#[test]
fn every_command_without_such_a_guest() {
    for platform_state in 0..=2u8 {
        let mut psp = Platform::new(&MILAN);
        psp.init_for_guests();
        let owner = Owner::of(&mut psp, ES);
        let mut guest = psp.guest_in(3, &owner, (ES, ES_ASID), true);
        match platform_state {
            0 => psp.shutdown(),
            1 => {
                assert_eq!(psp.plain(guest_id::DEACTIVATE, 1), SUCCESS);
                assert_eq!(psp.plain(guest_id::DECOMMISSION, 1), SUCCESS);
            }
            _ => {}
        }
        assert_eq!(psp.state().0, platform_state);
        for handle in [9, 0, 1025, u32::MAX] {
            guest.handle = handle;
            for command in GUEST_COMMANDS {
                let shares = matches!(command, guest_id::LAUNCH_START | guest_id::RECEIVE_START);
                let buffer = match (command, platform_state) {
                    // It needs INIT itself.
                    (guest_id::SEND_START, 0) => vec![0; 0x44],
                    _ => psp.valid(command, &guest),
                };
                let expected = match (platform_state, command) {
                    (0, _) => Status::INVALID_PLATFORM_STATE,
                    (_, guest_id::GUEST_STATUS) => SUCCESS,
                    // Zero is no guest to share with, and a new key then.
                    _ if shares && handle == 0 => continue,
                    _ if shares => Status::INVALID_GUEST,
                    (1, _) => Status::INVALID_PLATFORM_STATE,
                    _ => Status::INVALID_GUEST,
                };
                let before = psp.read(0x2000, RAM_LEN - 0x2000);
                let (status, answer) = psp.send(command, &buffer);
                assert_eq!(
                    status, expected,
                    "{command:#x} of {handle} in {platform_state}"
                );
                assert_eq!(answer, buffer, "{command:#x}");
                assert!(psp.read(0x2000, RAM_LEN - 0x2000) == before, "{command:#x}");
            }
        }
        assert_eq!(psp.state().0, platform_state);
    }
}

#[test]
fn the_platform_keeps_its_identity_while_there_are_guests() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let chain = psp.export();
    let (pek, oca) = chain[CERT_LEN..3 * CERT_LEN].split_at(CERT_LEN);
    assert_eq!(psp.start_anonymously(0, 0), (SUCCESS, 1));
    let refused = Status::INVALID_PLATFORM_STATE;
    assert_eq!(psp.status(id::PEK_GEN, &[]), refused);
    assert_eq!(psp.import(pek, oca), refused);
    assert_eq!(psp.status(id::INIT, &[0; 20]), refused);
    assert_eq!(psp.status(id::INIT_EX, &[0; 36]), refused);
    assert_eq!(psp.status(id::PLATFORM_RESET, &[]), refused);
    assert_eq!(psp.status(id::DOWNLOAD_FIRMWARE, &[0; 12]), refused);
    assert_eq!(psp.export(), chain);
    psp.csr();
    assert_eq!(psp.plain(guest_id::DECOMMISSION, 1), SUCCESS);
    assert_eq!(psp.state().0, 1);
    assert_eq!(psp.status(id::PEK_GEN, &[]), SUCCESS);
    assert_ne!(psp.export(), chain);
}

#[test]
fn a_new_pdh_ends_sessions_that_are_not_open_yet() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let (first, second) = (Owner::of(&mut psp, 0), Owner::of(&mut psp, 0));
    let (status, handle) = psp.start(guest_id::LAUNCH_START, &first, 0, 0);
    assert_eq!((status, handle), (SUCCESS, 1));
    assert_eq!(psp.status(id::PDH_GEN, &[]), SUCCESS);
    // The guest's own session goes on.
    assert_eq!(psp.activate(handle, 100), SUCCESS);
    let (measurement, nonce) = psp.measure(handle);
    let digest = <sha2::Sha256 as sha2::Digest>::digest([]).into();
    let expected = first.keys.measure(MILAN.version, 0, &digest, &nonce);
    assert_eq!(measurement, expected);
    // One made for the old key does not open.
    for command in [guest_id::LAUNCH_START, guest_id::RECEIVE_START] {
        let (status, _) = psp.start(command, &second, 0, 0);
        assert_eq!(status, Status::BAD_MEASUREMENT);
        let again = Owner::of(&mut psp, 0);
        assert_eq!(psp.start(command, &again, 0, 0).0, SUCCESS);
    }
}

#[test]
fn shutdown_takes_all_guests_along() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let owner = Owner::of(&mut psp, ES);
    for (state, asid) in (1..=SENT).zip(1..) {
        psp.guest_in(state, &owner, (ES, asid), state != RUPDATE);
    }
    psp.shutdown();
    assert_eq!(psp.state().0, 0);
    psp.init_for_guests();
    assert_eq!(psp.state().0, 1);
    for handle in 1..=6 {
        assert_eq!(psp.guest(handle), (0, 0, 0));
    }
    // Their ASIDs are free, and handles begin anew.
    let guest = psp.guest_in(3, &owner, (ES, ES_ASID), true);
    assert_eq!(guest.handle, 1);
}

#[test]
fn guests_with_sev_es_need_init_with_it() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    assert_eq!(psp.start_anonymously(0, ES).0, Status::UNSUPPORTED);
    let owner = Owner::of(&mut psp, ES);
    let (status, _) = psp.start(guest_id::RECEIVE_START, &owner, 0, ES);
    assert_eq!(status, Status::UNSUPPORTED);
    assert_eq!(psp.state().0, 1);
    assert_eq!(psp.start_anonymously(0, 0), (SUCCESS, 1));
}

#[test]
fn old_firmware_does_not_know_new_commands() {
    let unknown = |model| {
        let mut psp = Platform::new(model);
        psp.init();
        let unknown = |command: &u16| psp.status(*command, &[0; 64]) == Status::INVALID_COMMAND;
        GUEST_COMMANDS
            .into_iter()
            .filter(unknown)
            .collect::<Vec<_>>()
    };
    let since_0_22 = [
        guest_id::ATTESTATION,
        guest_id::SEND_CANCEL,
        guest_id::SWAP_OUT,
        guest_id::SWAP_IN,
    ];
    assert_eq!(unknown(&NAPLES), since_0_22);
    assert!(unknown(&ROME).is_empty());
    assert!(unknown(&MILAN).is_empty());
}

#[test]
fn needed_lengths_are_told_even_in_the_wrong_state() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let owner = Owner::of(&mut psp, ES);
    let guest = psp.guest_in(1, &owner, (ES, ES_ASID), true);
    // As AMD's firmware does; Linux asks for the length of a session only.
    let mut buffer = psp.valid(guest_id::SEND_START, &guest);
    buffer[0x40..].copy_from_slice(&[0; 4]);
    let before = psp.read(B, 128);
    let (status, answer) = psp.send(guest_id::SEND_START, &buffer);
    assert_eq!(status, Status::INVALID_LEN);
    assert_eq!(answer[0x40..], 128u32.to_le_bytes());
    assert_eq!(psp.read(B, 128), before);
}
