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
mod tests;
