// SPDX-License-Identifier: GPL-2.0

//! The mailbox exchange as a state machine.
//!
//! The machine decides, an executor does ([`exchange`](crate::exchange)): ring the registers, wait,
//! read CMDRESP. Time reaches the machine only as "the wait you asked for is over".
//!
//! What it does differently from Linux' C driver:
//!
//! - An interrupt that got lost costs one slice of waiting, not the PSP, because the register is read
//!   again after each slice. When interrupts keep getting lost, the slices start short.
//! - A PSP that is known to answer at once (an emulated one) is looked at before anybody sleeps.
//! - A caller may give up before the answer is there. The answer is then *owed*: the next exchange
//!   waits for it before it rings.
//! - A PSP that did not answer in time owes its answer, too: the next exchange looks once whether it
//!   has come, and if so the mailbox is usable again without a reboot.

use crate::cmd::CmdId;
use crate::cmdresp::CmdResp;
use crate::status::FwStatus;

/// How the executor learns that a command completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It sleeps until the interrupt.
    Interrupt,
    /// It reads the register again and again.
    Poll,
}

/// What the executor has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read CMDRESP and report it as [`Event::Register`].
    Read,
    /// Write the address registers, low half first, then CMDRESP; then report [`Event::Rung`].
    Ring {
        /// Low half of the command buffer's address.
        lo: u32,
        /// High half of the command buffer's address.
        hi: u32,
        /// The word for CMDRESP.
        cmdresp: CmdResp,
    },
    /// Wait for the interrupt, at most so many milliseconds; report [`Event::Interrupt`],
    /// [`Event::WaitOver`] or [`Event::GiveUp`].
    WaitInterrupt {
        /// Milliseconds.
        ms: u32,
    },
    /// Let so many microseconds pass, then report [`Event::WaitOver`] or [`Event::GiveUp`].
    Delay {
        /// Microseconds.
        us: u32,
    },
    /// The exchange is over.
    Done(Result<FwStatus, Fault>),
}

/// What the executor reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The registers were written.
    Rung,
    /// CMDRESP as it was read.
    Register(CmdResp),
    /// The interrupt came; it may be spurious.
    Interrupt,
    /// The wait ended without an interrupt.
    WaitOver,
    /// The caller does not want to wait any longer.
    GiveUp,
}

/// Why an exchange ended without a firmware status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No answer in time. The firmware may still write to the command's memory.
    Timeout,
    /// The caller gave up. If the command was sent, the firmware may still write to its memory.
    GivenUp,
    /// An earlier command has not been answered to this day; nothing was sent.
    Dead,
    /// The registers read all ones: the device is gone.
    Gone,
}

/// Condition of the mailbox between exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The next command may be rung.
    Ready,
    /// The answer to an earlier command is owed: see it before ringing, and touch none of that
    /// command's memory.
    Owed {
        /// Microseconds until the PSP counts as dead; zero if it does.
        left_us: u64,
    },
}

/// An answer that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    /// To be rung once the answer is there: the one that is waited for is owed by an earlier command.
    next: Option<Request>,
    mode: Mode,
    waited_us: u64,
    left_us: u64,
}

/// Why the register is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// An interrupt came.
    Interrupt,
    /// A wait was over without one.
    WaitOver,
    /// To know before waiting.
    AtOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Ring was asked for.
    Ringing(Request),
    /// A wait was asked for.
    Waiting(Wait),
    /// A look at the register was asked for.
    Checking {
        wait: Wait,
        why: Why,
    },
}

/// A command to exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which command.
    pub id: CmdId,
    /// Address of the command buffer as the firmware wants it, zero for none.
    pub addr: u64,
    /// How to wait.
    pub mode: Mode,
    /// Milliseconds until the PSP counts as not answering.
    pub timeout_ms: u32,
}

/// The driver's half of the mailbox protocol.
#[derive(Debug)]
pub struct Mailbox {
    state: State,
    health: Health,
    lost_interrupts: u32,
    /// Commands in a row that completed without their interrupt.
    lost_in_a_row: u32,
    /// Commands to come that are not looked at at once.
    patient: u32,
    /// How many that were when the PSP last did not answer at once.
    patience: u32,
}

/// Longest wait for an interrupt before the register is looked at.
///
/// TIMEOUT: 30 ms, and what timers are late, is what a lost interrupt costs. Commands that are answered
/// sooner need no extra read, which is most of them; one that takes a second needs 33.
const INTERRUPT_SLICE_US: u64 = 30_000;

/// Shortest wait for an interrupt that is not expected to come.
const DISTRUST_SLICE_US: u64 = 1000;

/// So many lost interrupts in a row, and the next is not expected to come.
const DISTRUST_AFTER: u32 = 3;

/// Shortest time between two looks at the register when polling.
///
/// TIMEOUT: as Linux' C driver, which polls at this pace throughout.
const POLL_SLICE_US: u64 = 10;

/// Most commands between two looks at once that were in vain.
const MAX_PATIENCE: u32 = 1023;

/// What an interrupt costs of the time that is left, so that a storm of them ends too.
const SPURIOUS_US: u64 = 1000;

impl Mailbox {
    /// A mailbox that has not been used yet.
    pub const fn new() -> Self {
        Mailbox {
            state: State::Idle,
            health: Health::Ready,
            lost_interrupts: 0,
            lost_in_a_row: 0,
            patient: 0,
            patience: 0,
        }
    }

    /// Condition of the mailbox.
    pub fn health(&self) -> Health {
        self.health
    }

    /// How many commands completed without the interrupt they asked for.
    pub fn lost_interrupts(&self) -> u32 {
        self.lost_interrupts
    }

    /// Forgets that an answer is owed. Only for whoever makes sure that the firmware does not answer
    /// any more, or that it does no harm when it does.
    pub fn forgive(&mut self) {
        self.health = Health::Ready;
    }

    /// Begins an exchange; feed the outcome of each action to [`step`](Self::step).
    ///
    /// An exchange that was abandoned half-way counts as a timeout: nobody saw its answer.
    pub fn start(&mut self, request: Request) -> Action {
        if self.state != State::Idle {
            self.health = Health::Owed { left_us: 0 };
        }
        match self.health {
            Health::Ready => self.ring(request),
            Health::Owed { left_us } => self.check(
                Wait {
                    next: Some(request),
                    mode: request.mode,
                    waited_us: 0,
                    left_us,
                },
                Why::AtOnce,
            ),
        }
    }

    /// Takes the outcome of the last action and says what to do next.
    ///
    /// An event that does not answer the last action changes nothing: wake-ups may be spurious.
    pub fn step(&mut self, event: Event) -> Action {
        match (self.state, event) {
            (_, Event::Register(r)) if r.is_all_ones() => {
                self.health = Health::Owed { left_us: 0 };
                self.finish(Err(Fault::Gone))
            }
            (State::Ringing(request), Event::Rung) => self.rung(Wait {
                next: None,
                mode: request.mode,
                waited_us: 0,
                left_us: u64::from(request.timeout_ms) * 1000,
            }),
            (State::Waiting(wait), Event::Interrupt) => {
                self.check(wait.after(SPURIOUS_US), Why::Interrupt)
            }
            (State::Waiting(wait), Event::WaitOver) => {
                let slice = self.slice(&wait);
                self.check(wait.after(slice), Why::WaitOver)
            }
            (State::Waiting(wait), Event::GiveUp) => {
                self.health = Health::Owed {
                    left_us: wait.left_us,
                };
                self.finish(Err(Fault::GivenUp))
            }
            (State::Checking { wait, why }, Event::Register(r)) => match r.status() {
                Some(status) => self.answered(wait, why, status),
                None if wait.left_us > 0 => {
                    if why == Why::AtOnce && wait.next.is_none() {
                        self.patience = (2 * self.patience + 1).min(MAX_PATIENCE);
                        self.patient = self.patience;
                    }
                    self.wait(wait)
                }
                None => {
                    self.health = Health::Owed { left_us: 0 };
                    self.finish(Err(match wait.next {
                        None => Fault::Timeout,
                        Some(_) => Fault::Dead,
                    }))
                }
            },
            _ => self.again(),
        }
    }

    /// After a command was sent. One look at once is what a PSP that takes its time costs at first; it is
    /// then repeated ever more rarely.
    fn rung(&mut self, wait: Wait) -> Action {
        if wait.mode == Mode::Interrupt && self.patient == 0 {
            return self.check(wait, Why::AtOnce);
        }
        self.patient = self.patient.saturating_sub(1);
        self.wait(wait)
    }

    fn answered(&mut self, wait: Wait, why: Why, status: FwStatus) -> Action {
        self.health = Health::Ready;
        match why {
            Why::Interrupt => self.lost_in_a_row = 0,
            Why::WaitOver if wait.mode == Mode::Interrupt => {
                self.lost_in_a_row = self.lost_in_a_row.saturating_add(1);
                self.lost_interrupts = self.lost_interrupts.saturating_add(1);
            }
            Why::WaitOver => {}
            Why::AtOnce => self.patience = 0,
        }
        match wait.next {
            None => self.finish(Ok(status)),
            Some(request) => self.ring(request),
        }
    }

    fn ring(&mut self, request: Request) -> Action {
        self.state = State::Ringing(request);
        self.again()
    }

    fn wait(&mut self, wait: Wait) -> Action {
        self.state = State::Waiting(wait);
        self.again()
    }

    fn check(&mut self, wait: Wait, why: Why) -> Action {
        self.state = State::Checking { wait, why };
        Action::Read
    }

    fn finish(&mut self, outcome: Result<FwStatus, Fault>) -> Action {
        self.state = State::Idle;
        Action::Done(outcome)
    }

    /// Microseconds until the next look at the register.
    ///
    /// Waits that nothing ends early grow with the time that has passed, so that a look comes late by a
    /// quarter of the command's own time at most.
    fn slice(&self, wait: &Wait) -> u64 {
        let quarter = wait.waited_us / 4;
        let slice = match wait.mode {
            Mode::Interrupt if self.lost_in_a_row < DISTRUST_AFTER => INTERRUPT_SLICE_US,
            // In whole milliseconds, because that is what waits for interrupts are in.
            Mode::Interrupt => (quarter / 1000 * 1000).clamp(DISTRUST_SLICE_US, INTERRUPT_SLICE_US),
            Mode::Poll => quarter.clamp(POLL_SLICE_US, INTERRUPT_SLICE_US),
        };
        slice.min(wait.left_us)
    }

    /// The action that the state is waiting for.
    fn again(&self) -> Action {
        match self.state {
            State::Idle => Action::Done(Err(Fault::Dead)),
            State::Checking { .. } => Action::Read,
            State::Ringing(request) => Action::Ring {
                // CAST: the two halves.
                lo: request.addr as u32,
                hi: (request.addr >> 32) as u32,
                cmdresp: CmdResp::command(request.id, request.mode == Mode::Interrupt),
            },
            // CAST: a slice is at most INTERRUPT_SLICE_US.
            State::Waiting(wait) => match wait.mode {
                Mode::Interrupt => Action::WaitInterrupt {
                    ms: self.slice(&wait).div_ceil(1000) as u32,
                },
                Mode::Poll => Action::Delay {
                    us: self.slice(&wait) as u32,
                },
            },
        }
    }
}

impl Wait {
    /// The same wait, so much later.
    fn after(self, us: u64) -> Self {
        Wait {
            waited_us: self.waited_us.saturating_add(us),
            left_us: self.left_us.saturating_sub(us),
            ..self
        }
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
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
}
