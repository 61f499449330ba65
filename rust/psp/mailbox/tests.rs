// SPDX-License-Identifier: GPL-2.0

//! The machine under made-up registers, interrupts and clocks.

extern crate std;

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

fn request(mode: Mode, timeout_ms: u32) -> Request {
    Request {
        id: CmdId::PekCsr,
        addr: 0x1_2345_6000,
        mode,
        timeout_ms,
    }
}

const OK: CmdResp = CmdResp::response(FwStatus::SUCCESS);
const BUSY: CmdResp = CmdResp::from_raw(0x0006_0001);

/// Runs an exchange whose register reads are answered by `read`; counts the reads.
fn exchange(
    mailbox: &mut Mailbox,
    request: Request,
    interrupts: bool,
    mut read: impl FnMut(u32) -> CmdResp,
) -> (Result<FwStatus, Fault>, u32, u32) {
    let (mut reads, mut rings) = (0, 0);
    let mut action = mailbox.start(request);
    loop {
        let event = match action {
            Action::Done(outcome) => return (outcome, reads, rings),
            Action::Read => {
                reads += 1;
                Event::Register(read(reads))
            }
            Action::Ring { .. } => {
                rings += 1;
                Event::Rung
            }
            Action::WaitInterrupt { .. } if interrupts => Event::Interrupt,
            Action::WaitInterrupt { .. } => Event::WaitOver,
            Action::Delay { .. } => Event::WaitOver,
        };
        action = mailbox.step(event);
    }
}

/// Sends a command that is not answered at once; the first wait.
fn send(mailbox: &mut Mailbox, request: Request) -> Action {
    mailbox.start(request);
    match mailbox.step(Event::Rung) {
        Action::Read => mailbox.step(Event::Register(BUSY)),
        wait => wait,
    }
}

#[test]
fn an_answered_command_rings_once_and_reads_once() {
    let mut mailbox = Mailbox::new();
    let ring = mailbox.start(request(Mode::Interrupt, 5000));
    assert_eq!(
        ring,
        Action::Ring {
            lo: 0x2345_6000,
            hi: 1,
            cmdresp: CmdResp::from_raw(0x0006_0001),
        }
    );
    let answer = exchange(
        &mut Mailbox::new(),
        request(Mode::Interrupt, 5000),
        true,
        |_| OK,
    );
    assert_eq!(answer, (Ok(FwStatus::SUCCESS), 1, 1));
}

#[test]
fn a_lost_interrupt_costs_one_slice_and_is_counted() {
    let mut mailbox = Mailbox::new();
    let second = |n| if n < 2 { BUSY } else { OK };
    let got = exchange(&mut mailbox, request(Mode::Interrupt, 5000), false, second);
    assert_eq!(got, (Ok(FwStatus::SUCCESS), 2, 1));
    assert_eq!(mailbox.lost_interrupts(), 1);
    assert_eq!(mailbox.health(), Health::Ready);
}

#[test]
fn polling_finds_the_answer_and_counts_no_lost_interrupt() {
    let mut mailbox = Mailbox::new();
    let late = |n| if n < 7 { BUSY } else { OK };
    let got = exchange(&mut mailbox, request(Mode::Poll, 5000), false, late);
    assert_eq!(got, (Ok(FwStatus::SUCCESS), 7, 1));
    assert_eq!(mailbox.lost_interrupts(), 0);
}

#[test]
fn the_timeout_is_the_sum_of_the_waits() {
    let mut mailbox = Mailbox::new();
    let got = exchange(&mut mailbox, request(Mode::Interrupt, 1001), false, |_| {
        BUSY
    });
    assert_eq!(got, (Err(Fault::Timeout), 35, 1));
    assert_eq!(mailbox.health(), Health::Owed { left_us: 0 });
}

#[test]
fn after_a_timeout_nothing_is_rung_until_the_late_answer_is_there() {
    let mut mailbox = Mailbox::new();
    let req = request(Mode::Interrupt, 100);
    exchange(&mut mailbox, req, false, |_| BUSY).0.unwrap_err();
    assert_eq!(
        exchange(&mut mailbox, req, true, |_| BUSY),
        (Err(Fault::Dead), 1, 0)
    );
    assert_eq!(
        exchange(&mut mailbox, req, true, |_| OK),
        (Ok(FwStatus::SUCCESS), 2, 1)
    );
    assert_eq!(mailbox.health(), Health::Ready);
}

#[test]
fn all_ones_is_a_device_that_is_gone() {
    let gone = CmdResp::from_raw(u32::MAX);
    let mut mailbox = Mailbox::new();
    let got = exchange(&mut mailbox, request(Mode::Interrupt, 100), true, |_| gone);
    assert_eq!(got.0, Err(Fault::Gone));
    assert_eq!(mailbox.health(), Health::Owed { left_us: 0 });
}

#[test]
fn whoever_comes_after_a_caller_that_gave_up_waits_for_its_answer() {
    let mut mailbox = Mailbox::new();
    let req = request(Mode::Interrupt, 100);
    send(&mut mailbox, req);
    assert_eq!(
        mailbox.step(Event::GiveUp),
        Action::Done(Err(Fault::GivenUp))
    );
    assert_eq!(mailbox.health(), Health::Owed { left_us: 100_000 });
    // Two looks in vain, then the owed answer, then one's own.
    let late = |n| if n < 3 { BUSY } else { OK };
    assert_eq!(
        exchange(&mut mailbox, req, true, late),
        (Ok(FwStatus::SUCCESS), 4, 1)
    );
    assert_eq!(mailbox.health(), Health::Ready);
}

#[test]
fn an_answer_that_is_owed_for_too_long_is_a_dead_psp() {
    let mut mailbox = Mailbox::new();
    let req = request(Mode::Interrupt, 100);
    send(&mut mailbox, req);
    mailbox.step(Event::GiveUp);
    // At once, and after 30, 60, 90 and 100 ms.
    assert_eq!(
        exchange(&mut mailbox, req, false, |_| BUSY),
        (Err(Fault::Dead), 5, 0)
    );
    assert_eq!(
        exchange(&mut mailbox, req, false, |_| BUSY),
        (Err(Fault::Dead), 1, 0)
    );
}

#[test]
fn interrupts_that_keep_getting_lost_are_not_waited_for() {
    let mut mailbox = Mailbox::new();
    let req = request(Mode::Interrupt, 5000);
    let first_wait = |mailbox: &mut Mailbox| {
        let action = send(mailbox, req);
        mailbox.step(Event::WaitOver);
        mailbox.step(Event::Register(OK));
        action
    };
    for _ in 0..DISTRUST_AFTER {
        assert_eq!(first_wait(&mut mailbox), Action::WaitInterrupt { ms: 30 });
    }
    assert_eq!(first_wait(&mut mailbox), Action::WaitInterrupt { ms: 1 });
    // One that comes is trusted again.
    let second = |n| if n < 2 { BUSY } else { OK };
    exchange(&mut mailbox, req, true, second).0.unwrap();
    assert_eq!(first_wait(&mut mailbox), Action::WaitInterrupt { ms: 30 });
}

#[test]
fn looking_at_once_is_given_up_where_it_is_in_vain() {
    let mut mailbox = Mailbox::new();
    let req = request(Mode::Interrupt, 5000);
    // Answered at once: one read each, and no wait.
    for _ in 0..10 {
        assert_eq!(exchange(&mut mailbox, req, true, |_| OK).1, 1);
    }
    // Answered with the interrupt: one read each, and a second one ever more rarely.
    let looks = (0..2000)
        .filter(|_| {
            mailbox.start(req);
            let looked = mailbox.step(Event::Rung) == Action::Read;
            if looked {
                mailbox.step(Event::Register(BUSY));
            }
            mailbox.step(Event::Interrupt);
            mailbox.step(Event::Register(OK));
            looked
        })
        .count();
    assert_eq!(looks, 10);
    assert_eq!(mailbox.lost_interrupts(), 0);
}

#[test]
fn polling_slows_down_with_the_time_that_has_passed() {
    let mut mailbox = Mailbox::new();
    let silent = exchange(&mut mailbox, request(Mode::Poll, 100_000), false, |_| BUSY);
    assert_eq!(silent.0, Err(Fault::Timeout));
    // At a pace of 10 us that would be ten million.
    assert!(silent.1 < 3500, "{} looks", silent.1);
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        Just(Event::Rung),
        Just(Event::WaitOver),
        Just(Event::Interrupt),
        Just(Event::GiveUp),
        any::<u32>().prop_map(|raw| Event::Register(CmdResp::from_raw(raw))),
        Just(Event::Register(BUSY)),
    ];
    proptest::collection::vec(event, 0..200)
}

proptest! {
    /// Whatever happens in whatever order: one start, at most one ring, and never a ring while
    /// the mailbox is suspect and nothing was seen in the register.
    #[test]
    fn any_event_order_rings_at_most_once(events in events(), poll: bool, suspect: bool) {
        let mut mailbox = Mailbox::new();
        if suspect {
            mailbox.health = Health::Owed { left_us: 50_000 };
        }
        let mode = if poll { Mode::Poll } else { Mode::Interrupt };
        let mut action = mailbox.start(request(mode, 1000));
        let mut rung = false;
        let mut answered = false;
        for event in events {
            if let Action::Done(_) = action {
                break;
            }
            if let Action::Ring { .. } = action {
                prop_assert!(!suspect || answered);
                if event == Event::Rung {
                    prop_assert!(!rung);
                    rung = true;
                }
            }
            if let Event::Register(r) = event {
                answered |= r.status().is_some();
            }
            action = mailbox.step(event);
        }
    }

    /// Every exchange ends when the firmware never answers, however long the timeout.
    #[test]
    fn a_silent_psp_ends_in_a_timeout(timeout_ms in 0u32..200_000, storm: bool) {
        let mut mailbox = Mailbox::new();
        let got = exchange(&mut mailbox, request(Mode::Interrupt, timeout_ms), storm, |_| BUSY);
        prop_assert_eq!(got.0, Err(Fault::Timeout));
    }
}
