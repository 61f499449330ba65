// SPDX-License-Identifier: GPL-2.0
//! ASIDs, handles, and when caches must be written back before an ASID is used again.

mod common;

use common::{
    guests::{guest_id, Owner, ASID, ES_ASID},
    id,
    states::{LUPDATE, RUNNING, RUPDATE, SENT, SUPDATE},
    Platform, A, RAM_LEN,
};
use psp_emu::{
    firmware::{cores::Cores, Chip, Firmware, Status, VecFlash},
    memory::VecMemory,
    model::{GENOA, MILAN, MODELS, NAPLES, ROME, TURIN},
};
use std::sync::{Arc, Mutex};

const SUCCESS: Status = Status::SUCCESS;
const ES: u32 = 4;

fn activate_ex(psp: &mut Platform, length: u32, handle: u32, asid: u32, ids: (u32, u64)) -> Status {
    psp.status(
        guest_id::ACTIVATE_EX,
        &buffer![length, handle, asid, ids.0, ids.1],
    )
}

#[test]
fn every_model_has_its_range_of_asids() {
    let limits = [
        (&NAPLES, 1, 15),
        (&ROME, 100, 509),
        (&MILAN, 100, 509),
        (&GENOA, 100, 1006),
        (&TURIN, 100, 1006),
    ];
    assert_eq!(
        limits.map(|(model, ..)| model.name),
        MODELS.map(|model| model.name)
    );
    for (model, first, last) in limits {
        let mut psp = Platform::new(model);
        psp.init_for_guests();
        for (policy, range) in [(0, first..=last), (ES, 1..=first - 1)] {
            let (status, handle) = psp.start_anonymously(0, policy);
            assert_eq!(status, SUCCESS);
            for asid in [0, 1, first - 1, first, last, last + 1, u32::MAX] {
                let expected = match range.contains(&asid) {
                    true => SUCCESS,
                    false => Status::INVALID_ASID,
                };
                let what = format!("{} {policy} {asid}", model.name);
                assert_eq!(psp.activate(handle, asid), expected, "{what}");
                let now = if expected == SUCCESS { asid } else { 0 };
                assert_eq!(psp.guest(handle).1, now, "{what}");
                psp.plain(guest_id::DEACTIVATE, handle);
                let status = activate_ex(&mut psp, 0x18, handle, asid, (1, A));
                assert_eq!(status, expected, "{what}");
                psp.plain(guest_id::DEACTIVATE, handle);
            }
        }
    }
}

#[test]
fn an_asid_has_one_guest_and_a_guest_one_asid() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    for handle in 1..=2 {
        assert_eq!(psp.start_anonymously(0, 0), (SUCCESS, handle));
    }
    assert_eq!(psp.activate(1, ASID), SUCCESS);
    assert_eq!(psp.activate(2, ASID), Status::ASID_OWNED);
    assert_eq!(
        activate_ex(&mut psp, 0x18, 2, ASID, (1, A)),
        Status::ASID_OWNED
    );
    assert_eq!(psp.activate(1, ASID), Status::ASID_OWNED);
    assert_eq!(psp.activate(1, ASID + 1), Status::ACTIVE);
    assert_eq!(psp.activate(2, ASID + 1), SUCCESS);
    assert_eq!(psp.plain(guest_id::DECOMMISSION, 1), Status::ACTIVE);
    assert_eq!(psp.guest(1), (0, ASID, LUPDATE));
    assert_eq!(psp.plain(guest_id::DEACTIVATE, 1), SUCCESS);
    assert_eq!(psp.plain(guest_id::DEACTIVATE, 1), Status::INACTIVE);
    assert_eq!(psp.plain(guest_id::DECOMMISSION, 1), SUCCESS);
    assert_eq!(psp.guest(2), (0, ASID + 1, LUPDATE));
}

#[test]
fn activate_ex_takes_apic_ids_and_more_of_them_later() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    assert_eq!(psp.start_anonymously(0, 0), (SUCCESS, 1));
    let beyond = RAM_LEN as u64 - 1020;
    let refused = [
        (0x17, (1, A), Status::INVALID_PARAM),
        (0x19, (1, A), Status::INVALID_PARAM),
        (0x18, (0, A), Status::INVALID_PARAM),
        (0x18, (257, A), Status::INVALID_PARAM),
        (0x18, (u32::MAX, A), Status::INVALID_PARAM),
        (0x18, (256, beyond), Status::INVALID_ADDRESS),
        (0x18, (1, u64::MAX - 1), Status::INVALID_ADDRESS),
    ];
    for (length, ids, status) in refused {
        assert_eq!(
            activate_ex(&mut psp, length, 1, ASID, ids),
            status,
            "{ids:x?}"
        );
        assert_eq!(psp.guest(1).1, 0);
    }
    for ids in [(255, beyond), (256, A), (1, A)] {
        assert_eq!(activate_ex(&mut psp, 0x18, 1, ASID, ids), SUCCESS);
        assert_eq!(psp.guest(1).1, ASID);
    }
    let other = activate_ex(&mut psp, 0x18, 1, ASID + 1, (1, A));
    assert_eq!(other, Status::ACTIVE);
}

#[test]
fn an_asid_must_be_flushed_when_its_guest_may_have_run() {
    let mut psp = Platform::new(&MILAN);
    let init = buffer![1u16, 0u16, 0u32, common::TMR, 0x10_0000u32];
    assert_eq!(psp.status(id::INIT, &init), SUCCESS);
    let (_, probe) = psp.start_anonymously(0, ES);
    assert_eq!(
        psp.activate(probe, ES_ASID),
        Status::DFFLUSH_REQUIRED,
        "INIT"
    );
    assert_eq!(psp.status(id::DF_FLUSH, &[]), SUCCESS);
    let owner = Owner::of(&mut psp, ES);
    for (state, ran) in [
        (LUPDATE, false),
        (RUPDATE, false),
        (RUNNING, true),
        (SUPDATE, true),
        (SENT, true),
    ] {
        let guest = psp.guest_in(state, &owner, (ES, ES_ASID), true);
        assert_eq!(psp.plain(guest_id::DEACTIVATE, guest.handle), SUCCESS);
        assert_eq!(psp.activate(probe, ES_ASID + 1), SUCCESS, "another");
        assert_eq!(psp.plain(guest_id::DEACTIVATE, probe), SUCCESS);
        if ran {
            for _ in 0..2 {
                let refused = psp.activate(probe, ES_ASID);
                assert_eq!(refused, Status::DFFLUSH_REQUIRED, "{state}");
            }
            assert_eq!(psp.plain(guest_id::DECOMMISSION, guest.handle), SUCCESS);
            let refused = activate_ex(&mut psp, 0x18, probe, ES_ASID, (1, A));
            assert_eq!(refused, Status::DFFLUSH_REQUIRED, "{state}");
            assert_eq!(psp.status(id::DF_FLUSH, &[]), SUCCESS);
        }
        assert_eq!(psp.activate(probe, ES_ASID), SUCCESS, "{state}");
        assert_eq!(psp.plain(guest_id::DEACTIVATE, probe), SUCCESS);
    }
    // A guest that is running when it gets the ASID may run at once.
    let guest = psp.guest_in(RUNNING, &owner, (ES, ES_ASID), false);
    assert_eq!(psp.activate(guest.handle, ES_ASID), SUCCESS);
    assert_eq!(psp.plain(guest_id::DEACTIVATE, guest.handle), SUCCESS);
    assert_eq!(psp.activate(probe, ES_ASID), Status::DFFLUSH_REQUIRED);
    psp.shutdown();
    assert_eq!(psp.status(id::INIT, &init), SUCCESS);
    psp.start_anonymously(0, ES);
    assert_eq!(psp.activate(1, ES_ASID), Status::DFFLUSH_REQUIRED);
}

/// Cores that say how often each has executed WBINVD.
#[derive(Clone)]
struct Counted(Arc<Mutex<Vec<u64>>>);

impl Counted {
    fn wbinvd(&self, cores: &[usize]) {
        let mut counters = self.0.lock().unwrap();
        cores.iter().for_each(|&core| counters[core] += 1);
    }
}

impl Cores for Counted {
    fn writebacks(&self) -> Option<Vec<u64>> {
        Some(self.0.lock().unwrap().clone())
    }
}

#[test]
fn every_core_must_execute_wbinvd_before_df_flush() {
    let cores = Counted(Arc::new(Mutex::new(vec![5, 0, 7])));
    let flash = Box::new(VecFlash::default());
    let firmware = Firmware::new(&MILAN, Chip::from_secret([7; 32]), flash);
    let mut psp = Platform {
        firmware: firmware.with_cores(Box::new(cores.clone())),
        ram: VecMemory::new(0, RAM_LEN),
    };
    let flush = |psp: &mut Platform| psp.status(id::DF_FLUSH, &[]);
    assert_eq!(flush(&mut psp), SUCCESS, "nothing has run yet");
    psp.init();
    let owner = Owner::of(&mut psp, 0);
    let (_, probe) = psp.start_anonymously(0, 0);
    for done in [&[][..], &[0, 1], &[0, 0, 1]] {
        cores.wbinvd(done);
        assert_eq!(flush(&mut psp), Status::WBINVD_REQUIRED, "core 2 forgot it");
        assert_eq!(psp.activate(probe, ASID), Status::DFFLUSH_REQUIRED);
    }
    cores.wbinvd(&[2]);
    assert_eq!(flush(&mut psp), SUCCESS);
    assert_eq!(flush(&mut psp), SUCCESS, "nothing has run since");

    let launched = psp.guest_in(LUPDATE, &owner, (0, ASID), true);
    assert_eq!(psp.plain(guest_id::DEACTIVATE, launched.handle), SUCCESS);
    assert_eq!(flush(&mut psp), SUCCESS, "it never ran");

    let running = psp.guest_in(RUNNING, &owner, (0, ASID), true);
    cores.wbinvd(&[0, 1, 2]);
    assert_eq!(psp.plain(guest_id::DEACTIVATE, running.handle), SUCCESS);
    assert_eq!(flush(&mut psp), Status::WBINVD_REQUIRED, "too early");
    cores.wbinvd(&[0, 2]);
    assert_eq!(flush(&mut psp), Status::WBINVD_REQUIRED, "core 1 forgot it");
    assert_eq!(psp.activate(probe, ASID), Status::DFFLUSH_REQUIRED);
    cores.wbinvd(&[1]);
    assert_eq!(flush(&mut psp), SUCCESS);
    assert_eq!(psp.activate(probe, ASID), SUCCESS);
}

#[test]
fn there_are_1024_handles_and_the_lowest_free_one_is_next() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    for handle in 1..=1024 {
        assert_eq!(psp.start_anonymously(0, 0), (SUCCESS, handle));
    }
    let owner = Owner::of(&mut psp, 0);
    for command in [guest_id::LAUNCH_START, guest_id::RECEIVE_START] {
        let (status, handle) = psp.start(command, &owner, 0, 0);
        assert_eq!((status, handle), (Status::RESOURCE_LIMIT, 0));
    }
    let (_, status) = psp.send(id::PLATFORM_STATUS, &[0; 12]);
    assert_eq!(status[8..], 1024u32.to_le_bytes());
    for handle in [1024, 17, 700] {
        assert_eq!(psp.plain(guest_id::DECOMMISSION, handle), SUCCESS);
        assert_eq!(psp.guest(handle), (0, 0, 0));
    }
    for handle in [17, 700, 1024] {
        assert_eq!(psp.start_anonymously(0, 0), (SUCCESS, handle));
    }
    assert_eq!(psp.start_anonymously(0, 0).0, Status::RESOURCE_LIMIT);
}
