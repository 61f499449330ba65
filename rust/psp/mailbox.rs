// SPDX-License-Identifier: GPL-2.0

//! The mailbox exchange as a state machine.
//!
//! The machine decides, an executor does: ring the registers, wait, read CMDRESP. There are two
//! executors in the driver, one that waits for the interrupt and one that polls with interrupts
//! off; time reaches the machine only as "the wait you asked for is over".
//!
//! What it does differently from Linux' C driver: an interrupt that got lost costs one slice of
//! waiting, not the PSP, because the register is read again after each slice. And a PSP that did
//! not answer in time is *suspect*, not dead: the next command first looks whether the late answer
//! has arrived meanwhile, and if so the mailbox is usable again without a reboot.

use crate::cmd::CmdId;
use crate::status::FwStatus;

/// The CMDRESP register.
///
/// Written: command in bits 26:16, interrupt on completion (IOC) in bit 0. Read back: response in
/// bit 31, status in bits 15:0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmdResp(u32);

impl CmdResp {
    /// Bit 0 of a command: raise an interrupt on completion.
    pub const IOC: u32 = 1 << 0;
    /// Lowest bit of the command id.
    pub const CMD_SHIFT: u32 = 16;
    /// Bits of the command id.
    pub const CMD_MASK: u32 = 0x7ff << Self::CMD_SHIFT;
    /// Bit 31 of a response: the command completed.
    pub const RESPONSE: u32 = 1 << 31;
    /// Status bits of a response.
    pub const STATUS_MASK: u32 = 0xffff;

    /// The word that starts a command.
    pub const fn command(id: CmdId, ioc: bool) -> Self {
        // CAST: widening u16 to u32 in a const context.
        let id = (id as u32) << Self::CMD_SHIFT;
        CmdResp(if ioc { id | Self::IOC } else { id })
    }

    /// The word that answers a command.
    pub const fn response(status: FwStatus) -> Self {
        CmdResp(Self::RESPONSE | status.code() as u32)
    }

    /// Takes the register's value.
    pub const fn from_raw(raw: u32) -> Self {
        CmdResp(raw)
    }

    /// The register's value.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The command id, whether known or not.
    pub const fn id(self) -> u16 {
        // CAST: masked to 11 bits.
        ((self.0 & Self::CMD_MASK) >> Self::CMD_SHIFT) as u16
    }

    /// Whether an interrupt was asked for.
    pub const fn ioc(self) -> bool {
        self.0 & Self::IOC != 0
    }

    /// The status, once the firmware has answered.
    pub const fn status(self) -> Option<FwStatus> {
        if self.0 & Self::RESPONSE == 0 {
            None
        } else {
            // CAST: masked to 16 bits.
            Some(FwStatus::new((self.0 & Self::STATUS_MASK) as u16))
        }
    }

    /// Whether the read went nowhere: the device is gone or blocked.
    pub const fn is_all_ones(self) -> bool {
        self.0 == u32::MAX
    }
}

/// How the executor learns that a command completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It sleeps until the interrupt.
    Interrupt,
    /// It reads the register every few microseconds (interrupts are off).
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
    /// Wait for the interrupt, at most so many milliseconds; report [`Event::Interrupt`] or
    /// [`Event::WaitOver`].
    WaitInterrupt {
        /// Milliseconds.
        ms: u32,
    },
    /// Busy-wait so many microseconds, then report [`Event::WaitOver`].
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
}

/// Why an exchange ended without a firmware status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No answer in time. The firmware may still write to the command's memory.
    Timeout,
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
    /// A command was not answered in time: look before ringing, and touch none of its memory.
    Suspect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Looking whether the late answer is there.
    Looking(Request),
    /// Ring was asked for.
    Ringing(Request),
    /// Waiting; so many microseconds are left.
    Waiting {
        mode: Mode,
        left_us: u64,
    },
    /// Looking at the register after a wait; `left_us` as above.
    Checking {
        mode: Mode,
        left_us: u64,
        woken: bool,
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
}

/// Longest wait for an interrupt before the register is looked at.
///
/// TIMEOUT: 250 ms is what a lost interrupt costs; the longest normal commands take seconds, so the
/// extra reads are few.
const INTERRUPT_SLICE_US: u64 = 250_000;

/// Time between two looks at the register when polling.
///
/// TIMEOUT: as Linux' C driver, which polls at the same pace.
const POLL_SLICE_US: u64 = 10;

/// What an interrupt costs of the time that is left, so that a storm of them ends too.
const SPURIOUS_US: u64 = 1000;

impl Mailbox {
    /// A mailbox that has not been used yet.
    pub const fn new() -> Self {
        Mailbox {
            state: State::Idle,
            health: Health::Ready,
            lost_interrupts: 0,
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

    /// Begins an exchange; feed the outcome of each action to [`step`](Self::step).
    ///
    /// An exchange that was abandoned half-way counts as a timeout: nobody saw its answer.
    pub fn start(&mut self, request: Request) -> Action {
        if self.state != State::Idle {
            self.health = Health::Suspect;
        }
        match self.health {
            Health::Ready => self.ring(request),
            Health::Suspect => {
                self.state = State::Looking(request);
                Action::Read
            }
        }
    }

    /// Takes the outcome of the last action and says what to do next.
    ///
    /// An event that does not answer the last action changes nothing: wake-ups may be spurious.
    pub fn step(&mut self, event: Event) -> Action {
        match (self.state, event) {
            (_, Event::Register(r)) if r.is_all_ones() => {
                self.health = Health::Suspect;
                self.finish(Err(Fault::Gone))
            }
            (State::Looking(request), Event::Register(r)) => match r.status() {
                Some(_) => {
                    self.health = Health::Ready;
                    self.ring(request)
                }
                None => self.finish(Err(Fault::Dead)),
            },
            (State::Ringing(request), Event::Rung) => {
                self.wait(request.mode, u64::from(request.timeout_ms) * 1000)
            }
            (State::Waiting { mode, left_us }, Event::Interrupt) => {
                let left_us = left_us.saturating_sub(SPURIOUS_US);
                self.check(mode, left_us, true)
            }
            (State::Waiting { mode, left_us }, Event::WaitOver) => {
                let left_us = left_us.saturating_sub(slice(mode, left_us));
                self.check(mode, left_us, false)
            }
            (
                State::Checking {
                    mode,
                    left_us,
                    woken,
                },
                Event::Register(r),
            ) => match r.status() {
                Some(status) => {
                    if mode == Mode::Interrupt && !woken {
                        self.lost_interrupts = self.lost_interrupts.saturating_add(1);
                    }
                    self.finish(Ok(status))
                }
                None if left_us == 0 => {
                    self.health = Health::Suspect;
                    self.finish(Err(Fault::Timeout))
                }
                None => self.wait(mode, left_us),
            },
            (state, _) => again(state),
        }
    }

    fn ring(&mut self, request: Request) -> Action {
        self.state = State::Ringing(request);
        again(self.state)
    }

    fn wait(&mut self, mode: Mode, left_us: u64) -> Action {
        self.state = State::Waiting { mode, left_us };
        again(self.state)
    }

    fn check(&mut self, mode: Mode, left_us: u64, woken: bool) -> Action {
        self.state = State::Checking {
            mode,
            left_us,
            woken,
        };
        Action::Read
    }

    fn finish(&mut self, outcome: Result<FwStatus, Fault>) -> Action {
        self.state = State::Idle;
        Action::Done(outcome)
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

/// Microseconds of the next wait.
fn slice(mode: Mode, left_us: u64) -> u64 {
    match mode {
        Mode::Interrupt => left_us.min(INTERRUPT_SLICE_US),
        Mode::Poll => left_us.min(POLL_SLICE_US),
    }
}

/// The action a state is waiting for.
fn again(state: State) -> Action {
    match state {
        State::Idle => Action::Done(Err(Fault::Dead)),
        State::Looking(_) | State::Checking { .. } => Action::Read,
        State::Ringing(request) => Action::Ring {
            // CAST: the two halves.
            lo: request.addr as u32,
            hi: (request.addr >> 32) as u32,
            cmdresp: CmdResp::command(request.id, request.mode == Mode::Interrupt),
        },
        // CAST: a slice is at most INTERRUPT_SLICE_US.
        State::Waiting { mode, left_us } => match mode {
            Mode::Interrupt => Action::WaitInterrupt {
                ms: slice(mode, left_us).div_ceil(1000) as u32,
            },
            Mode::Poll => Action::Delay {
                us: slice(mode, left_us) as u32,
            },
        },
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

    #[test]
    fn the_command_word_has_the_wider_sev_command_field() {
        assert_eq!(CmdResp::command(CmdId::PekCsr, true).raw(), 0x0006_0001);
        assert_eq!(CmdResp::command(CmdId::SnpCommit, false).raw(), 0x00cb_0000);
        assert_eq!(CmdResp::from_raw(0x07ff_0000).id(), 0x7ff);
        assert_eq!(
            CmdResp::from_raw(0x8000_0004).status(),
            Some(FwStatus::INVALID_LEN)
        );
        assert_eq!(CmdResp::from_raw(0x0000_0004).status(), None);
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
        let got = exchange(&mut mailbox, request(Mode::Interrupt, 5000), false, |_| OK);
        assert_eq!(got, (Ok(FwStatus::SUCCESS), 1, 1));
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
        assert_eq!(got, (Err(Fault::Timeout), 5, 1));
        assert_eq!(mailbox.health(), Health::Suspect);
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
        assert_eq!(mailbox.health(), Health::Suspect);
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            Just(Event::Rung),
            Just(Event::WaitOver),
            Just(Event::Interrupt),
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
                mailbox.health = Health::Suspect;
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
