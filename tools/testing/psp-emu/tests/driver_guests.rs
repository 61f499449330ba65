// SPDX-License-Identifier: GPL-2.0
//! What the driver core says of guests' commands that the firmware refuses.

mod virtual_host;

use psp::{cmd::CmdId, host::Level, status::FwStatus};
use psp_emu::model::MILAN;
use std::time::Duration;
use virtual_host::{
    kvm,
    ram::{KVM, PAGE},
    Core, World,
};

/// Sends a command whose struct has these words at these offsets.
fn send(core: &mut Core, id: CmdId, words: &[(usize, u32)]) -> FwStatus {
    let mut bytes = vec![0; id.buffer_len()];
    for &(at, word) in words {
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    core.send_raw(id, &mut bytes, &mut []).unwrap()
}

#[test]
fn a_refusal_names_the_guest_its_asid_and_its_memory() {
    let world = World::new(&MILAN, &["status:INVALID_ADDRESS:LAUNCH_UPDATE_DATA"]);
    let mut core = world.driver(true, false);
    core.init().unwrap();
    let guest = kvm::launch(&mut core);
    // CAST: below 4 GiB.
    let update = [(0, guest), (8, KVM.start as u32), (16, PAGE as u32)];
    let refused = |whom: &str| {
        format!(
            "SEV: LAUNCH_UPDATE_DATA of {whom}, address {:#x} failed 0x0009 (INVALID_ADDRESS), rc -5",
            KVM.start
        )
    };
    send(&mut core, CmdId::LaunchUpdateData, &update);
    assert_eq!(world.errors(), [refused(&format!("guest {guest}"))]);
    for asid in [107, 108] {
        let activate = [(0, guest), (4, asid)];
        assert_eq!(
            send(&mut core, CmdId::Activate, &activate),
            FwStatus::SUCCESS
        );
        send(&mut core, CmdId::LaunchUpdateData, &update);
        let whom = format!("guest {guest} (ASID {asid})");
        assert_eq!(world.errors(), [refused(&whom)]);
        assert_eq!(
            send(&mut core, CmdId::Deactivate, &[(0, guest)]),
            FwStatus::SUCCESS
        );
    }
    send(&mut core, CmdId::LaunchUpdateData, &update);
    assert_eq!(
        world.errors(),
        [refused(&format!("guest {guest}"))],
        "it has none"
    );
    send(&mut core, CmdId::LaunchStart, &[(0, 77), (4, 5)]);
    assert_eq!(
        world.errors(),
        ["SEV: LAUNCH_START of a guest with policy 0x5 and the keys of guest 77 failed 0x0010 (INVALID_GUEST), rc -5"]
    );
    kvm::decommission(&mut core, guest);
    core.shutdown().unwrap();
}

#[test]
fn who_asks_for_a_length_is_not_refused() {
    let world = World::new(&MILAN, &[]);
    let mut core = world.driver(true, false);
    core.init().unwrap();
    let guest = kvm::launch(&mut core);
    let status = send(&mut core, CmdId::LaunchMeasure, &[(0, guest)]);
    assert_eq!((status, world.errors()), (FwStatus::INVALID_LEN, vec![]));
    kvm::decommission(&mut core, guest);
    core.shutdown().unwrap();
}

#[test]
fn whoever_is_refused_again_and_again_does_not_fill_the_log() {
    let world = World::new(&MILAN, &[]);
    let mut core = world.driver(true, false);
    core.init().unwrap();
    // Another makes the platform WORKING.
    let guest = kvm::launch(&mut core);
    let refused = "SEV: LAUNCH_FINISH of guest 9 failed 0x0010 (INVALID_GUEST), rc -5";
    for spell in 0..2 {
        for _ in 0..1000 {
            send(&mut core, CmdId::LaunchFinish, &[(0, 9)]);
        }
        let mut errors = world.errors();
        if spell > 0 {
            let unsaid = errors.remove(0);
            assert_eq!(
                unsaid,
                "SEV: 990 refusals of guests' commands were not logged"
            );
        }
        assert_eq!(errors, [refused; 10]);
        world.machine().pass(Duration::from_secs(5));
    }
    assert!(
        !world.machine().logged(Level::Error, refused),
        "all were seen"
    );
    kvm::decommission(&mut core, guest);
    core.shutdown().unwrap();
}
