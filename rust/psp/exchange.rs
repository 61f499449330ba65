// SPDX-License-Identifier: GPL-2.0

//! One exchange with the firmware: executes the [`mailbox`](crate::mailbox) machine and watches over
//! the memory that commands go through.

use crate::cmd::{CmdId, Command, Completed};
use crate::cmdresp::CmdResp;
use crate::error::{CmdError, Errno};
use crate::host::{Gone, Host, Level, Memory, Patience, Wake};
use crate::mailbox::{Action, Event, Fault, Health, Mailbox, Request};
use crate::status::FwStatus;

/// Most buffers that one command points to.
pub const MAX_LENT: usize = 2;

/// Buffers that a command points to. They are taken away from the caller if the firmware may still use
/// them after the exchange.
pub type Lent<'a, M> = &'a mut [Option<M>];

/// A command whose answer is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The command.
    pub id: CmdId,
    /// When it was sent, as [`Host::now_us`] counts.
    pub since_us: u64,
}

/// The mailbox and the memory that commands go through.
pub struct Exchange<M: Memory> {
    mailbox: Mailbox,
    /// The command buffer: the caller's struct may be anywhere, this has an address.
    cmd_buf: M,
    /// What an unanswered command pointed to; the firmware may write to it until it answers.
    hostage: [Option<M>; MAX_LENT],
    /// Whether the PSP ever answered: the first wait is shorter.
    answered: bool,
    /// Whether the last exchange got as far as sending its command.
    sent: bool,
    /// When the last exchange began.
    began_us: u64,
    owed: Option<Owed>,
}

impl<M: Memory> Exchange<M> {
    /// For a mailbox that is idle. Commands go through `cmd_buf`, which has as many bytes as the
    /// longest command at least.
    pub fn new(cmd_buf: M) -> Self {
        Exchange {
            mailbox: Mailbox::new(),
            cmd_buf,
            hostage: [const { None }; MAX_LENT],
            answered: false,
            sent: false,
            began_us: 0,
            owed: None,
        }
    }

    /// The command whose answer is owed, if the next exchange cannot simply go ahead.
    pub fn owed(&self) -> Option<Owed> {
        self.owed
    }

    /// When the last exchange began, as [`Host::now_us`] counts.
    pub fn began_us(&self) -> u64 {
        self.began_us
    }

    /// Whether the last exchange sent its command.
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// Whether an answer did not come in time: commands are refused until it does.
    pub fn is_dead(&self) -> bool {
        self.mailbox.health() == (Health::Owed { left_us: 0 })
    }

    /// Sends a typed command.
    ///
    /// # Errors
    ///
    /// [`CmdError::Mailbox`]; a firmware that answers is no error here, whatever it says.
    pub fn send<C: Command>(
        &mut self,
        host: &mut impl Host<Memory = M>,
        cmd: C,
        lent: Lent<'_, M>,
        patience: Patience,
    ) -> Result<Completed<C>, CmdError> {
        let mut received = cmd;
        let status = self.send_raw(host, C::ID, received.as_mut_bytes(), lent, patience)?;
        Ok(Completed {
            status,
            sent: cmd,
            received,
        })
    }

    /// Sends a command as bytes and puts what the firmware left of them back, also after a refusal:
    /// that is how lengths are negotiated.
    ///
    /// # Errors
    ///
    /// [`CmdError::Mailbox`] if there was no answer, `EINVAL` if the bytes are not as many as the
    /// command has.
    pub fn send_raw(
        &mut self,
        host: &mut impl Host<Memory = M>,
        id: CmdId,
        bytes: &mut [u8],
        lent: Lent<'_, M>,
        patience: Patience,
    ) -> Result<FwStatus, CmdError> {
        self.sent = false;
        self.began_us = host.now_us();
        if bytes.len() != id.buffer_len() {
            return Err(Errno::EINVAL.into());
        }
        let request = Request {
            id,
            addr: if bytes.is_empty() {
                0
            } else {
                self.cmd_buf.psp_addr()
            },
            mode: host.mode(),
            timeout_ms: host.timeout_ms(self.answered),
        };
        match self.run(host, request, bytes, patience) {
            Ok(status) => {
                self.answered = true;
                if !bytes.is_empty() {
                    self.cmd_buf.read(bytes).map_err(|_| Errno::EINVAL)?;
                }
                Ok(status)
            }
            Err(fault) => {
                if self.sent {
                    self.owed = Some(Owed {
                        id,
                        since_us: self.began_us,
                    });
                    self.take_hostage(lent);
                }
                if fault == Fault::Timeout {
                    host.log(
                        Level::Error,
                        // CAST: the discriminant is the command id.
                        format_args!(
                            "sev command {:#x} timed out, disabling PSP ({}, no answer for {} ms)",
                            id as u16,
                            id.name(),
                            request.timeout_ms
                        ),
                    );
                }
                Err(fault.into())
            }
        }
    }

    fn run(
        &mut self,
        host: &mut impl Host<Memory = M>,
        request: Request,
        bytes: &[u8],
        patience: Patience,
    ) -> Result<FwStatus, Fault> {
        let lost_before = self.mailbox.lost_interrupts();
        let mut action = self.mailbox.start(request);
        loop {
            let event = match action {
                Action::Done(outcome) => {
                    self.note_lost(host, request.id, lost_before);
                    return outcome;
                }
                Action::Read => host.cmdresp().map(Event::Register),
                Action::Ring { lo, hi, cmdresp } => self.ring(host, lo, hi, cmdresp, bytes),
                Action::WaitInterrupt { ms } => Ok(host.wait(ms, patience).into()),
                Action::Delay { us } => Ok(host.delay(us, patience).into()),
            };
            // Registers that went away with the device read as all ones.
            let event = event.unwrap_or(Event::Register(CmdResp::from_raw(u32::MAX)));
            action = self.mailbox.step(event);
        }
    }

    /// The machine only rings when the firmware is done with everything before, so this is the
    /// moment from which the command buffer and the hostages are ours again.
    fn ring(
        &mut self,
        host: &mut impl Host<Memory = M>,
        lo: u32,
        hi: u32,
        cmdresp: CmdResp,
        bytes: &[u8],
    ) -> Result<Event, Gone> {
        if let Some(owed) = self.owed.take() {
            self.hostage = [const { None }; MAX_LENT];
            host.ledger(|ledger| ledger.late_answers += 1);
            host.log(
                Level::Info,
                format_args!(
                    "SEV: the PSP answered late and is back ({})",
                    owed.id.name()
                ),
            );
        }
        // Lengths were checked, and no command is longer than the buffer.
        self.cmd_buf.write(bytes).map_err(|_| Gone)?;
        host.ring(lo, hi, cmdresp)?;
        self.sent = true;
        Ok(Event::Rung)
    }

    fn note_lost(&self, host: &impl Host<Memory = M>, id: CmdId, lost_before: u32) {
        let lost = self.mailbox.lost_interrupts();
        if lost == lost_before {
            return;
        }
        host.ledger(|ledger| ledger.lost_interrupts = lost);
        // The first, the second, the fourth: enough to see it, and that it goes on.
        if lost.is_power_of_two() {
            host.log(
                Level::Warning,
                format_args!(
                    "SEV: {} completed without its interrupt ({lost} so far)",
                    id.name()
                ),
            );
        }
    }

    fn take_hostage(&mut self, lent: Lent<'_, M>) {
        // None of these slots is taken: what is owed was cleared before this command was rung.
        for (slot, buf) in Iterator::zip(self.hostage.iter_mut(), lent.iter_mut()) {
            *slot = buf.take();
        }
        for mut buf in lent.iter_mut().filter_map(Option::take) {
            // LEAK: no command has so many.
            buf.leak();
        }
    }

    /// Ends the wait for an answer that will not come: what the firmware may still write to is given up
    /// for ever, and commands go through `cmd_buf` from now on. Returns how many bytes are given up.
    ///
    /// Only for whoever has reason to think that the firmware does not run that command any more.
    pub fn give_up(&mut self, cmd_buf: M) -> usize {
        let bytes = self.leak();
        self.hostage = [const { None }; MAX_LENT];
        self.cmd_buf = cmd_buf;
        self.owed = None;
        self.answered = false;
        self.mailbox.forgive();
        bytes
    }

    /// Gives up what the firmware may still write to; returns its bytes.
    fn leak(&mut self) -> usize {
        let Some(owed) = self.owed else {
            return 0;
        };
        let mut bytes = 0;
        let cmd_buf = (owed.id.buffer_len() > 0).then_some(&mut self.cmd_buf);
        for buf in self.hostage.iter_mut().flatten().chain(cmd_buf) {
            bytes += buf.len();
            // LEAK: the command was never answered; the firmware may still write to all of this.
            buf.leak();
        }
        bytes
    }
}

impl<M: Memory> Drop for Exchange<M> {
    fn drop(&mut self) {
        self.leak();
    }
}

impl From<Wake> for Event {
    fn from(wake: Wake) -> Self {
        match wake {
            Wake::Interrupt => Event::Interrupt,
            Wake::TimeOver => Event::WaitOver,
            Wake::Killed => Event::GiveUp,
        }
    }
}
