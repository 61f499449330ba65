// SPDX-License-Identifier: GPL-2.0
//! The platform's life as the driver core leads it: INIT and its failures, guests, the end.

mod virtual_host;

use psp::{
    cmd::{
        platform::{DfFlush, PdhGen, PekCsr, PekGen, PlatformReset, Shutdown, NV_LEN},
        CmdId, Command,
    },
    driver::{InitError, NotReady},
    error::{CmdError, Errno},
    host::Level,
    ledger::InitKind,
    mailbox::{Fault, Mode},
    platform::PlatformState,
    status::FwStatus,
    uapi::NO_FW_CALL,
};
use psp_emu::model::MILAN;
use std::{rc::Rc, time::Duration};
use virtual_host::{
    chip::persistent_data,
    kvm,
    ram::{KVM, PAGE},
    Core, World,
};

const UNINIT: u8 = 0;
const INIT: u8 = 1;
const WORKING: u8 = 2;
const TMR_PAGES: usize = 256;
const NONE: [u16; 0] = [];

/// A driver with a TMR.
fn milan(faults: &[&str]) -> (Rc<World>, Core) {
    let world = World::new(&MILAN, faults);
    let core = world.driver(true, false);
    (world, core)
}

fn silent() -> CmdError {
    CmdError::Mailbox(Fault::Timeout)
}

#[test]
fn init_flushes_once_and_says_what_runs() {
    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    assert_eq!(world.commands(), [0x004, 0x001, 0x00a]);
    assert_eq!(world.machine().writebacks(), 1);
    let line = (Level::Info, "SEV API:1.55 build:21".to_owned());
    assert_eq!(world.machine().log, [line]);
    assert_eq!(world.ledger().init, Some(InitKind::Init));
    core.init().unwrap();
    assert_eq!(world.commands(), NONE, "it is initialised");
    core.shutdown().unwrap();
    core.shutdown().unwrap();
    assert_eq!(world.commands(), [0x002]);
    assert_eq!(world.machine().writebacks(), 2);
}

#[test]
fn every_way_users_saw_init_refused_comes_with_a_hint() {
    // The command, its status as `error` of the caller, and the line of the log.
    for (status, line) in [
        ("0x1", "0x0001 (INVALID_PLATFORM_STATE), rc -5: another kernel or an earlier failure left the platform in this state: unload KVM and the driver and load them again"),
        ("0x3", "0x0003 (INVALID_CONFIG), rc -5: the BIOS has memory encryption or SNP set up in a way this firmware does not accept: check SMEE, SNP and the minimum SEV-ES ASID there, and update BIOS and SEV firmware together"),
        ("0xe", "0x000e (WBINVD_REQUIRED), rc -5: old firmware on several sockets is known for this: update it"),
        ("0x13", "0x0013 (HWERROR_PLATFORM), rc -5: enable SMEE in the BIOS, and install a SEV firmware file for this processor"),
        ("0x8003", "0x8003, rc -5: the PSP runs no usable SEV firmware: update the BIOS, and install a SEV firmware file for this processor"),
        ("0x8004", "0x8004, rc -5: the PSP runs no usable SEV firmware: update the BIOS, and install a SEV firmware file for this processor"),
    ] {
        let (world, mut core) = milan(&[&format!("status:{status}:INIT")]);
        let code = u16::from_str_radix(&status[2..], 16).unwrap();
        for _ in 0..3 {
            let refused = InitError {
                cause: CmdError::Firmware(FwStatus::new(code)),
                fw_error: code.into(),
            };
            assert_eq!(core.init(), Err(refused));
        }
        // The first and the second time.
        assert_eq!(world.errors(), vec![format!("SEV: INIT failed {line}"); 2]);
        // One that is refused has no memory.
        core.retire();
        drop(core);
        assert_eq!(world.pages(), (0, 0), "{status}");
    }
}

#[test]
fn without_memory_for_a_tmr_there_is_sev_without_es() {
    let world = World::new(&MILAN, &[]);
    let mut core = world.driver(false, false);
    core.init().unwrap();
    assert!(world.machine().logged(
        Level::Warning,
        "SEV: TMR allocation failed, SEV-ES support unavailable"
    ));
    assert!(!core.has_tmr() && !core.status().unwrap().es);
    core.give_tmr(world.alloc(1 << 20).unwrap());
    assert_eq!(world.ledger().tmr_len, None, "not the firmware's");
    core.shutdown().unwrap();
    core.init().unwrap();
    assert!(core.status().unwrap().es);
    assert_eq!(world.ledger().tmr_len, Some(1 << 20));
    core.shutdown().unwrap();
}

#[test]
fn a_tmr_that_came_after_init_is_not_the_firmwares() {
    let world = World::new(&MILAN, &["status:0x14:SHUTDOWN"]);
    let mut core = world.driver(false, false);
    core.init().unwrap();
    core.give_tmr(world.alloc(1 << 20).unwrap());
    core.retire();
    drop(core);
    assert_eq!(world.pages(), (0, 0));
}

#[test]
fn a_flush_that_failed_is_owed_until_it_succeeds() {
    let (world, mut core) = milan(&["status:0x14:DF_FLUSH:2"]);
    for _ in 0..2 {
        let refused = InitError {
            cause: CmdError::Firmware(FwStatus::HWERROR_UNSAFE),
            fw_error: 0,
        };
        assert_eq!(core.init(), Err(refused));
        assert!(world.machine().watch.flush_due);
    }
    core.init().unwrap();
    assert_eq!(world.commands(), [0x004, 0x001, 0x00a, 0x00a, 0x00a]);
    assert_eq!(world.machine().writebacks(), 3);
    core.shutdown().unwrap();
}

#[test]
fn an_init_that_is_answered_late_is_found_out_and_flushed_for() {
    let (world, mut core) = milan(&["late:200000:INIT:1"]);
    let error = core.init().unwrap_err();
    assert_eq!((error.cause, error.fw_error), (silent(), 0));
    world.machine().pass(Duration::from_secs(200));
    core.init().unwrap();
    assert_eq!(world.commands(), [0x004, 0x001, 0x004, 0x00a]);
    assert!(!world.machine().watch.flush_due);
    assert_eq!(world.ledger().init, Some(InitKind::Init));
    core.shutdown().unwrap();
}

#[test]
fn an_init_that_was_done_and_not_admitted_is_found_out() {
    let (world, mut core) = milan(&["garbage:0x80001234:INIT:1"]);
    let error = core.init().unwrap_err();
    assert_eq!(error.fw_error, 0x1234);
    assert_eq!(world.state(), INIT);
    core.init().unwrap();
    assert!(!world.machine().watch.flush_due);
    core.retire();
    assert_eq!(world.state(), UNINIT);
}

#[test]
fn a_platform_whose_state_cannot_be_asked_is_not_initialised() {
    let (world, mut core) = milan(&["no-response"]);
    let error = core.init().unwrap_err();
    assert_eq!((error.cause, error.fw_error), (silent(), NO_FW_CALL));
    assert_eq!(world.commands(), [0x004]);
}

#[test]
fn a_firmware_that_forgot_is_initialised_again() {
    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    world.fault("state-loss:PDH_GEN:1");
    let forgot = CmdError::Firmware(FwStatus::INVALID_PLATFORM_STATE);
    assert_eq!(core.call(PdhGen), Err(forgot));
    core.init().unwrap();
    core.call(PdhGen).unwrap();
    core.shutdown().unwrap();
}

/// A command for which an idle platform is initialised, and how it ends.
fn prepared(core: &mut Core, may_init: bool) -> Result<Result<(), CmdError>, NotReady> {
    core.prepared::<PdhGen, _>(may_init, |core| core.call(PdhGen))
}

#[test]
fn a_platform_is_left_as_it_was_found() {
    for (faults, expected) in [
        (&[][..], Ok(Ok(()))),
        (
            &["status:0x13:PDH_GEN"],
            Ok(Err(CmdError::Firmware(FwStatus::HWERROR_PLATFORM))),
        ),
        (
            &["status:0x13:DF_FLUSH"],
            Err(NotReady::Failed {
                cause: CmdError::Firmware(FwStatus::HWERROR_PLATFORM),
                fw_error: Some(0),
            }),
        ),
        (
            &["status:0x13:INIT"],
            Err(NotReady::Failed {
                cause: CmdError::Firmware(FwStatus::HWERROR_PLATFORM),
                fw_error: Some(0x13),
            }),
        ),
    ] {
        let (world, mut core) = milan(faults);
        assert_eq!(prepared(&mut core, true), expected, "{faults:?}");
        assert_eq!(world.state(), UNINIT, "{faults:?}");
        assert!(!core.is_initialised());
    }
    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    assert_eq!(prepared(&mut core, true), Ok(Ok(())));
    assert_eq!(world.state(), INIT);
    core.shutdown().unwrap();
}

#[test]
fn a_flush_that_finds_another_state_does_not_leave_the_platform_initialised() {
    let (world, mut core) = milan(&["status:0x1:DF_FLUSH"]);
    assert!(matches!(
        prepared(&mut core, true),
        Err(NotReady::Failed { .. })
    ));
    assert_eq!(world.state(), UNINIT);
}

#[test]
fn whether_guests_exist_is_asked_before_they_would_be_lost() {
    let (_world, mut core) = milan(&[]);
    let reset = |core: &mut Core| core.prepared::<PlatformReset, _>(false, |_| ());
    core.init().unwrap();
    let guest = kvm::launch(&mut core);
    assert_eq!(reset(&mut core), Err(NotReady::GuestsActive));
    // The firmware says that there is one, and then there is none.
    core.status().unwrap();
    kvm::decommission(&mut core, guest);
    assert_eq!(reset(&mut core), Ok(()));
}

#[test]
fn who_may_only_read_does_not_initialise() {
    let (world, mut core) = milan(&[]);
    assert_eq!(prepared(&mut core, false), Err(NotReady::ReadOnly));
    core.init().unwrap();
    assert_eq!(prepared(&mut core, false), Ok(Ok(())));
    let unasked = prepared(&mut world.driver(true, false), false);
    assert_eq!(unasked, Ok(Ok(())), "another driver finds it initialised");
    core.shutdown().unwrap();
}

#[test]
fn a_state_that_cannot_be_asked_is_no_firmware_call() {
    let (_world, mut core) = milan(&["no-response"]);
    let failed = |cause, fw_error| {
        Err(NotReady::Failed {
            cause,
            fw_error: Some(fw_error),
        })
    };
    assert_eq!(prepared(&mut core, true), failed(silent(), 0));
    let dead = CmdError::Mailbox(Fault::Dead);
    assert_eq!(prepared(&mut core, true), failed(dead, NO_FW_CALL));
}

#[test]
fn a_closing_shutdown_that_fails_does_not_hide_the_result() {
    let (world, mut core) = milan(&["status:0x14:SHUTDOWN:1"]);
    assert_eq!(prepared(&mut core, true), Ok(Ok(())));
    assert_eq!(
        world.errors(),
        ["SEV: failed to SHUTDOWN 0x0014 (HWERROR_UNSAFE), rc -5: power-cycle the machine before it is trusted with guests"]
    );
    assert!(core.is_initialised());
    core.retire();
}

#[test]
fn a_factory_reset_shuts_down_and_refuses_while_guests_exist() {
    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    let guest = kvm::launch(&mut core);
    assert_eq!(core.factory_reset(), Err(NotReady::GuestsActive));
    assert_eq!(world.state(), WORKING);
    kvm::decommission(&mut core, guest);
    core.factory_reset().unwrap();
    assert_eq!(world.state(), UNINIT);
}

#[test]
fn whoever_retires_shuts_down_and_initialises_no_more() {
    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    core.retire();
    assert_eq!(world.state(), UNINIT);
    let error = core.init().unwrap_err();
    assert_eq!(error.cause, Errno::ENODEV.into());
    drop(core);
    assert_eq!(world.pages(), (0, 0));
    // One that was never used has nothing to say.
    world.commands();
    world.driver(true, false).retire();
    assert_eq!(world.commands(), NONE);
}

#[test]
fn retiring_takes_back_what_an_unanswered_init_had_if_the_answer_has_come() {
    for (waited, leaked) in [(1, TMR_PAGES + 1), (200, 0)] {
        let (world, mut core) = milan(&["late:200000:INIT:1"]);
        core.init().unwrap_err();
        world.machine().pass(Duration::from_secs(waited));
        core.retire();
        drop(core);
        assert_eq!(world.pages(), (0, leaked), "{waited} s later");
    }
}

#[test]
fn what_the_firmware_does_not_give_back_is_leaked_and_said_to_be() {
    let world = World::new(&MILAN, &["status:0x14:SHUTDOWN"]);
    let mut core = world.driver(true, true);
    core.load_nv(persistent_data());
    core.init().unwrap();
    core.retire();
    world.errors();
    drop(core);
    assert_eq!(world.pages(), (0, TMR_PAGES + NV_LEN as usize / PAGE));
    assert_eq!(
        world.errors(),
        [
            "SEV: leaking 1048576 bytes that the firmware did not give back",
            "SEV: leaking 32768 bytes that the firmware did not give back"
        ]
    );
}

#[test]
fn a_driver_that_never_initialised_leaks_nothing_whatever_the_psp_does() {
    for fault in ["no-response", "all-ones", "stuck-busy", "status:0x13"] {
        let (world, mut core) = milan(&[]);
        world.machine().device.faults.clear();
        world.fault(fault);
        core.call(Shutdown).unwrap_err();
        core.call(DfFlush).unwrap_err();
        core.retire();
        drop(core);
        assert_eq!(world.pages(), (0, 0), "{fault}");
    }
}

#[test]
fn a_status_that_is_killed_after_an_unanswered_init_does_not_free_the_tmr() {
    let (world, mut core) = milan(&["late:200000:INIT:1"]);
    core.init().unwrap_err();
    world.machine().pass(Duration::from_secs(200));
    world.fault("late:9000:PLATFORM_STATUS");
    let now = world.machine().now;
    world.machine().kill_at = Some(now);
    let killed = core.status();
    assert_eq!(killed, Err(CmdError::Mailbox(Fault::GivenUp)));
    assert!(!core.is_dead());
    drop(core);
    assert_eq!(world.pages(), (0, TMR_PAGES + 1));
}

#[test]
fn a_panic_shuts_down_unless_somebody_is_waited_for() {
    let (world, mut core) = milan(&[]);
    core.panic();
    assert_eq!(world.commands(), NONE, "nothing to shut down");
    core.init().unwrap();
    world.commands();
    world.machine().mode = Mode::Poll;
    core.panic();
    assert_eq!(world.commands(), [0x002]);
    // Nothing is freed on a machine that panics.
    std::mem::forget(core);

    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    world.fault("no-response:PEK_CSR");
    let mut query = [0; PekCsr::ID.buffer_len()];
    assert_eq!(
        core.send_raw(CmdId::PekCsr, &mut query, &mut []),
        Err(silent())
    );
    world.commands();
    core.panic();
    assert_eq!(world.commands(), NONE);
    std::mem::forget(core);
}

#[test]
fn guests_keep_the_machine_awake_whatever_else_was_refused() {
    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    let guest = kvm::launch(&mut core);
    // Not while guests exist, which leaves the platform's state to be asked for.
    core.call(PekGen).unwrap_err();
    assert_eq!(core.rest(), Err(NotReady::GuestsActive));
    kvm::decommission(&mut core, guest);
    core.rest().unwrap();
    assert_eq!(world.state(), UNINIT);
    assert_eq!(core.init().unwrap_err().cause, Errno::EBUSY.into());
    core.wake();
    core.init().unwrap();
    core.shutdown().unwrap();
}

#[test]
fn guests_are_kvms_business_and_come_and_go() {
    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    let guest = kvm::launch(&mut core);
    assert_eq!(core.status().unwrap().guest_count, 1);
    let mut activate = [guest.to_le_bytes(), 100u32.to_le_bytes()].concat();
    let status = core.send_raw(CmdId::Activate, &mut activate, &mut []);
    assert_eq!(status, Ok(FwStatus::SUCCESS));
    let mut data = [
        &guest.to_le_bytes()[..],
        &[0; 4],
        &KVM.start.to_le_bytes(),
        &[0, 16, 0, 0],
    ]
    .concat();
    let status = core.send_raw(CmdId::LaunchUpdateData, &mut data, &mut []);
    assert_eq!(status, Ok(FwStatus::SUCCESS));
    assert_ne!(
        world.machine().ram.peek::<16>(KVM.start),
        [0; 16],
        "encrypted"
    );
    let status = core.send_raw(CmdId::Deactivate, &mut guest.to_le_bytes(), &mut []);
    assert_eq!(status, Ok(FwStatus::SUCCESS));
    kvm::decommission(&mut core, guest);
    assert_eq!(core.status().unwrap().state, PlatformState::Init);
    core.shutdown().unwrap();
}

#[test]
fn a_platform_that_another_kernel_left_initialised_is_initialised_anew() {
    // The TMR that it was given is ordinary memory of this kernel's, until SHUTDOWN is not refused.
    let (world, mut core) = milan(&["status:0x14:SHUTDOWN:1"]);
    core.init().unwrap();
    world.commands();
    let mut next = world.driver(true, false);
    assert_eq!(next.status().unwrap().state, PlatformState::Init);
    let refused = InitError {
        cause: CmdError::Firmware(FwStatus::HWERROR_UNSAFE),
        fw_error: 0x14,
    };
    assert_eq!(next.init(), Err(refused));
    assert_eq!(world.commands(), [0x004, 0x002]);
    next.init().unwrap();
    assert_eq!(world.commands(), [0x002, 0x001, 0x00a]);
    next.init().unwrap();
    assert_eq!(world.commands(), NONE, "it is ours");
    next.shutdown().unwrap();
    assert_eq!(world.state(), UNINIT);
    // Nobody frees what was that kernel's.
    std::mem::forget(core);
}
