// SPDX-License-Identifier: GPL-2.0
//! What an exchange does when interrupts get lost, answers come late or never, and callers are killed.

mod virtual_host;

use psp::{
    cmd::{
        platform::{GetId, PdhCertExport, PdhGen, PlatformStatus},
        CmdId,
    },
    error::{CmdError, Errno},
    host::{Level, Memory},
    mailbox::{Fault, Mode},
    platform::PlatformState,
    status::FwStatus,
};
use psp_emu::model::MILAN;
use std::{rc::Rc, time::Duration};
use virtual_host::{ram::Buf, Core, World, TIMEOUTS_MS};

const TIMEOUT: Duration = Duration::from_millis(TIMEOUTS_MS[0] as u64);
const LATER_TIMEOUT: Duration = Duration::from_millis(TIMEOUTS_MS[1] as u64);

/// A driver without TMR, which has pages enough to count.
fn milan(faults: &[&str]) -> (Rc<World>, Core) {
    let world = World::new(&MILAN, faults);
    let core = world.driver(false, false);
    (world, core)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn fault(fault: Fault) -> CmdError {
    CmdError::Mailbox(fault)
}

/// GET_ID into a page of its own, which is returned if it is still the caller's.
fn get_id(world: &Rc<World>, core: &mut Core) -> (Result<FwStatus, CmdError>, Option<Buf>) {
    let mut bufs = [world.alloc(128)];
    let cmd = GetId::new(bufs[0].as_ref().unwrap().psp_addr(), 128);
    let status = core.send(cmd, &mut bufs).map(|done| done.status);
    let [buf] = bufs;
    (status, buf)
}

fn killed_after(world: &Rc<World>, time: Duration) {
    let mut machine = world.machine();
    machine.kill_at = Some(machine.now + time);
}

#[test]
fn a_lost_interrupt_costs_30_ms_and_after_three_of_them_one() {
    // Not at once: then nobody waits for an interrupt.
    let (world, mut core) = milan(&["late:1", "lost-irq:any:5"]);
    for cost in [30, 30, 30, 1, 1, 1] {
        let before = world.machine().now;
        core.status().unwrap();
        assert_eq!(world.machine().now - before, ms(cost));
    }
    // One that comes is trusted again.
    world.fault("lost-irq:any:1");
    let before = world.machine().now;
    core.status().unwrap();
    assert_eq!(world.machine().now - before, ms(30));
    assert_eq!(world.ledger().lost_interrupts, 6);
    let lines: Vec<_> = [1, 2, 4]
        .map(|n| format!("SEV: PLATFORM_STATUS completed without its interrupt ({n} so far)"))
        .into();
    let log = &world.machine().log;
    assert_eq!(
        log.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>(),
        lines
    );
    assert!(log.iter().all(|(level, _)| *level == Level::Warning));
}

#[test]
fn an_answer_without_interrupt_is_seen_late_by_a_quarter_of_its_time_at_most() {
    let (world, mut core) = milan(&["lost-irq", "late:200:any"]);
    for _ in 0..3 {
        core.status().unwrap();
    }
    let before = world.machine().now;
    core.status().unwrap();
    let took = world.machine().now - before;
    assert!(took >= ms(200) && took <= ms(250), "{took:?}");
}

#[test]
fn the_timeout_is_as_long_as_it_says_with_and_without_interrupts() {
    for (mode, distrust) in [
        (Mode::Interrupt, false),
        (Mode::Interrupt, true),
        (Mode::Poll, false),
    ] {
        let (world, mut core) = milan(&[]);
        world.machine().mode = mode;
        core.status().unwrap();
        if distrust {
            world.fault("lost-irq:any:3");
            for _ in 0..3 {
                core.status().unwrap();
            }
        }
        world.fault("no-response");
        let before = world.machine().now;
        assert_eq!(core.status(), Err(fault(Fault::Timeout)));
        assert_eq!(world.machine().now - before, LATER_TIMEOUT, "{mode:?}");
    }
}

#[test]
fn the_first_wait_is_shorter_and_ends_with_the_c_drivers_line() {
    let (world, mut core) = milan(&["no-response"]);
    assert_eq!(core.call(PdhGen), Err(fault(Fault::Timeout)));
    let machine = world.machine();
    assert_eq!(machine.now, TIMEOUT);
    assert!(machine.logged(
        Level::Error,
        "sev command 0x9 timed out, disabling PSP (PDH_GEN, no answer for 5000 ms)"
    ));
}

#[test]
fn memory_of_a_late_command_is_kept_until_its_answer_was_seen() {
    let (world, mut core) = milan(&["late:7000:GET_ID:1"]);
    let (status, buf) = get_id(&world, &mut core);
    assert_eq!(status, Err(fault(Fault::Timeout)));
    assert!(buf.is_none(), "a hostage");
    assert_eq!(world.pages().0, 2);

    world.machine().pass(ms(3000));
    assert_eq!(
        world.pages().0,
        2,
        "the answer is there, and nobody has seen it"
    );
    core.status().unwrap();
    assert_eq!(world.pages().0, 1);
    assert_eq!(world.ledger().late_answers, 1);
    assert!(world.machine().logged(
        Level::Info,
        "SEV: the PSP answered late and is back (GET_ID)"
    ));
    drop(core);
    assert_eq!(world.pages(), (0, 0));
}

#[test]
fn refusals_name_the_command_that_is_owed_ever_more_rarely() {
    let (world, mut core) = milan(&["no-response:GET_ID"]);
    get_id(&world, &mut core).0.unwrap_err();
    world.machine().log.clear();
    for _ in 0..5 {
        world.machine().pass(ms(1000));
        assert_eq!(core.status(), Err(fault(Fault::Dead)));
    }
    let log: Vec<_> = world.machine().log.drain(..).collect();
    let line = |seconds, n| {
        let line = format!(
            "SEV: PLATFORM_STATUS not sent: the PSP has not answered GET_ID for {seconds} s ({n} refused so far); \
             it is used again as soon as it answers; else write 1 to sev_reset of its device, or power-cycle"
        );
        (Level::Error, line)
    };
    assert_eq!(log, [line(6, 1), line(7, 2), line(9, 4)]);
    // What was not sent is no command.
    let ledger = world.ledger();
    let counted: Vec<_> = ledger
        .commands()
        .map(|(id, counters)| (id, counters.count, counters.failures))
        .collect();
    assert_eq!(
        counted,
        [(CmdId::PlatformStatus, 0, 5), (CmdId::GetId, 1, 1)]
    );
}

#[test]
fn whoever_comes_after_a_killed_caller_waits_for_the_answer_to_it() {
    let (world, mut core) = milan(&["late:3000:GET_ID:1"]);
    killed_after(&world, ms(1000));
    let (status, buf) = get_id(&world, &mut core);
    assert_eq!(status, Err(fault(Fault::GivenUp)));
    assert!(buf.is_none() && !core.is_dead());
    assert_eq!(world.machine().now, ms(1000));

    world.machine().kill_at = None;
    assert_eq!(core.status().unwrap().state, PlatformState::Uninit);
    assert_eq!(world.machine().now, ms(3000));
    assert_eq!(world.pages().0, 1);
}

#[test]
fn two_killed_callers_in_a_row_send_one_command() {
    let (world, mut core) = milan(&["late:3000:PLATFORM_STATUS:1"]);
    for second in [1, 2] {
        killed_after(&world, ms(1000));
        assert_eq!(core.status(), Err(fault(Fault::GivenUp)));
        assert_eq!(world.machine().now, ms(1000 * second));
    }
    assert_eq!(world.machine().rings[&0x004], 1);
    let counters = world
        .ledger()
        .commands()
        .next()
        .map(|(_, c)| (c.count, c.failures));
    assert_eq!(counters, Some((1, 2)), "the second was not sent");
    world.machine().kill_at = None;
    core.status().unwrap();
}

#[test]
fn an_answer_that_is_owed_by_a_killed_caller_has_no_more_time_than_any() {
    let (world, mut core) = milan(&["no-response:PLATFORM_STATUS:1"]);
    killed_after(&world, ms(1000));
    assert_eq!(core.status(), Err(fault(Fault::GivenUp)));
    world.machine().kill_at = None;
    assert_eq!(core.call(PdhGen), Err(fault(Fault::Dead)));
    // Slices do not end when a caller is killed, but the PSP gets no more than one of them extra.
    let waited = world.machine().now;
    assert!(
        waited >= TIMEOUT && waited <= TIMEOUT + ms(30),
        "{waited:?}"
    );
    assert!(core.is_dead());
}

#[test]
fn a_command_that_does_more_than_ask_is_not_left_by_a_killed_caller() {
    let (world, mut core) = milan(&["late:3000:PDH_GEN:1"]);
    core.init().unwrap();
    killed_after(&world, ms(1000));
    core.call(PdhGen).unwrap();
    assert_eq!(world.machine().now, ms(3000));
    core.shutdown().unwrap();
}

#[test]
fn two_buffers_are_two_hostages() {
    let (world, mut core) = milan(&["no-response:PDH_CERT_EXPORT"]);
    core.init().unwrap();
    let mut bufs = [2084, 6252].map(|len| world.alloc(len));
    let [pdh, chain] = bufs.each_ref().map(|buf| buf.as_ref().unwrap().psp_addr());
    let cmd = PdhCertExport::new((pdh, 2084), (chain, 6252));
    assert_eq!(
        core.send(cmd, &mut bufs).map(|done| done.status),
        Err(fault(Fault::Timeout))
    );
    assert!(bufs.iter().all(Option::is_none));
    assert_eq!(world.pages().0, 1 + 1 + 2);
    drop(core);
    // The firmware may write there until it is switched off.
    assert_eq!(world.pages(), (0, 4));
}

#[test]
fn what_a_raw_command_was_lent_is_a_hostage_too() {
    let (world, mut core) = milan(&["late:7000:GET_ID:1"]);
    let mut bufs = [world.alloc(128)];
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&bufs[0].as_ref().unwrap().psp_addr().to_le_bytes());
    bytes[8] = 128;
    let status = core.send_raw(CmdId::GetId, &mut bytes, &mut bufs);
    assert_eq!(status, Err(fault(Fault::Timeout)));
    assert!(bufs[0].is_none(), "the caller cannot free it");
    world.machine().pass(ms(7000));
    core.status().unwrap();
    assert_eq!(world.pages().0, 1, "the command buffer alone");
}

#[test]
fn sev_reset_gives_up_what_was_never_answered_and_says_how_much() {
    let (world, mut core) = milan(&["forgotten:GET_ID:1"]);
    get_id(&world, &mut core).0.unwrap_err();
    assert_eq!(core.status(), Err(fault(Fault::Dead)));
    world.machine().log.clear();

    let cmd_buf = world.alloc(4096).unwrap();
    assert_eq!(core.recover(cmd_buf).unwrap().state, PlatformState::Uninit);
    assert_eq!(world.pages(), (1, 2));
    let log: Vec<_> = world.machine().log.drain(..).collect();
    assert_eq!(
        log[1..],
        [
            (
                Level::Warning,
                "SEV: reset: leaking 4224 bytes that an unanswered command may still write to"
                    .into()
            ),
            (Level::Info, "SEV: reset: the PSP answers again".into()),
        ]
    );
    drop(core);
    assert_eq!(world.pages(), (0, 2));
}

#[test]
fn a_command_without_a_buffer_costs_no_memory() {
    let (world, mut core) = milan(&["no-response:PDH_GEN"]);
    core.call(PdhGen).unwrap_err();
    drop(core);
    assert_eq!(world.pages(), (0, 0));
}

#[test]
fn interrupts_are_on_again_after_sleep_and_after_sev_reset() {
    let (world, mut core) = milan(&["late:1"]);
    core.status().unwrap();
    core.rest().unwrap();
    world.machine().device.reset();
    core.wake();
    core.status().unwrap();
    assert_eq!(world.ledger().lost_interrupts, 0, "sleep");
    world.machine().device.reset();
    core.recover(world.alloc(4096).unwrap()).unwrap();
    assert_eq!(world.ledger().lost_interrupts, 0, "sev_reset");
}

#[test]
fn sev_reset_of_a_psp_that_has_answered_leaks_nothing() {
    let (world, mut core) = milan(&["late:7000:GET_ID:1"]);
    get_id(&world, &mut core).0.unwrap_err();
    world.machine().pass(ms(3000));
    core.recover(world.alloc(4096).unwrap()).unwrap();
    drop(core);
    assert_eq!(world.pages(), (0, 0));
}

#[test]
fn sev_reset_gets_over_all_ones_in_cmdresp_alone() {
    let (world, mut core) = milan(&["garbage:0xffffffff:GET_ID:1"]);
    assert_eq!(get_id(&world, &mut core).0, Err(fault(Fault::Gone)));
    assert_eq!(core.status(), Err(fault(Fault::Gone)));
    let cmd_buf = world.alloc(4096).unwrap();
    assert_eq!(core.recover(cmd_buf).unwrap().state, PlatformState::Uninit);
    core.status().unwrap();
    // A device that is not there is not asked, and costs no memory.
    let (world, mut core) = milan(&["vanish:GET_ID"]);
    get_id(&world, &mut core).0.unwrap_err();
    for _ in 0..2 {
        let recovered = core.recover(world.alloc(4096).unwrap());
        assert_eq!(recovered, Err(fault(Fault::Gone)));
    }
    assert_eq!(world.pages(), (2, 0), "what the firmware had, and no more");
    drop(core);
    assert_eq!(world.pages(), (0, 2));
}

#[test]
fn sev_reset_of_a_psp_that_stays_silent_fails_and_can_be_tried_again() {
    let (world, mut core) = milan(&["forgotten:any:2"]);
    core.status().unwrap_err();
    let silent = core.recover(world.alloc(4096).unwrap());
    assert_eq!(silent, Err(fault(Fault::Timeout)));
    let last = world.machine().log.pop();
    let line = "SEV: reset: no success (no answer), rc -110";
    assert_eq!(last, Some((Level::Error, line.to_owned())));
    core.recover(world.alloc(4096).unwrap()).unwrap();
    assert_eq!(world.pages().1, 2);
}

#[test]
fn after_sev_reset_an_answer_to_what_was_given_up_is_not_believed() {
    // The device is busy until then, and takes no other command.
    let (world, mut core) = milan(&["late:7000:GET_ID:1"]);
    get_id(&world, &mut core).0.unwrap_err();
    let recovered = core.recover(world.alloc(4096).unwrap());
    assert!(
        matches!(recovered, Err(CmdError::Malformed(_))),
        "{recovered:?}"
    );
    core.status().unwrap();
}

#[test]
fn registers_that_are_taken_away_cost_no_memory() {
    let (world, mut core) = milan(&[]);
    core.status().unwrap();
    world.machine().unbound = true;
    let (status, buf) = get_id(&world, &mut core);
    assert_eq!(status, Err(fault(Fault::Gone)));
    assert!(buf.is_some());
    drop((core, buf));
    assert_eq!(world.pages(), (0, 0));
}

#[test]
fn a_device_that_vanishes_is_gone_and_keeps_what_it_had() {
    let (world, mut core) = milan(&["vanish:GET_ID"]);
    let (status, buf) = get_id(&world, &mut core);
    assert_eq!(status, Err(fault(Fault::Gone)));
    assert!(buf.is_none());
    assert_eq!(core.status(), Err(fault(Fault::Gone)));
    drop(core);
    assert_eq!(world.pages(), (0, 2));
}

#[test]
fn a_raw_command_has_the_length_of_the_command() {
    let (world, mut core) = milan(&[]);
    for len in [0, 11, 13, 4096] {
        let refused = core.send_raw(CmdId::PlatformStatus, &mut vec![0; len], &mut []);
        assert_eq!(refused, Err(Errno::EINVAL.into()));
    }
    assert!(world.machine().records.is_empty());
}

#[test]
fn what_the_firmware_leaves_of_a_refused_command_is_copied_back() {
    let (_world, mut core) = milan(&[]);
    let mut bytes = [0; 12];
    let status = core.send_raw(CmdId::GetId, &mut bytes, &mut []);
    assert_eq!(status, Ok(FwStatus::INVALID_LEN));
    assert_eq!(bytes[8..], [64, 0, 0, 0]);
}

#[test]
fn errno_and_error_field_of_every_failure_are_the_c_drivers() {
    // errno, and what becomes of the caller's `error` field: PARITY of /dev/sev.
    for (faults, before, errno, fw_error) in [
        (&["status:0x13:any"][..], 0, 5, Some(0x13)),
        (&["no-response:any"], 0, 110, Some(0)),
        (&["no-response:any"], 1, 16, None),
        (&["all-ones"], 0, 19, None),
        (&["status:SUCCESS:any"], 0, 5, Some(0)),
    ] {
        let (_world, mut core) = milan(faults);
        for _ in 0..before {
            core.call(PlatformStatus::default()).unwrap_err();
        }
        let error = core.call(PlatformStatus::default()).unwrap_err();
        assert_eq!(
            (error.errno().0, error.fw_error()),
            (errno, fw_error),
            "{faults:?}"
        );
    }
}
