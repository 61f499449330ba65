// SPDX-License-Identifier: GPL-2.0

//! Executes the mailbox machine of the library: registers, interrupt, memory.
//!
//! The rules are in [`psp::mailbox`]; here is only what they are done with. Everything runs under
//! the command lock ([`Psp::lock`](crate::psp_dev::Psp::lock)), except [`Doorbell`], which the
//! interrupt handler rings.

use kernel::{
    alloc::kvec::PushError,
    device::Device,
    prelude::*,
    sync::aref::ARef,
    time::{
        delay::{
            fsleep,
            udelay, //
        },
        Delta, //
    },
};
use psp::{
    cmd::{
        CmdId,
        Command,
        Completed,
        CMD_BUF_LEN, //
    },
    mailbox::{
        Action,
        CmdResp,
        Event,
        Fault,
        Health,
        Mailbox,
        Mode,
        Request, //
    },
    regs::INT_CMD_COMPLETE,
    status::FwStatus, //
};

use crate::{
    completion::TimedCompletion,
    error::CmdError,
    ffi,
    fw_buf::FwBuf,
    regs::{
        Regs,
        Unbound, //
    },
};

/// What the interrupt handler and the waiter share.
#[pin_data]
pub(crate) struct Doorbell {
    pub(crate) regs: Regs,
    #[pin]
    done: TimedCompletion,
}

impl Doorbell {
    pub(crate) fn new(regs: Regs) -> impl PinInit<Self> {
        pin_init!(Self {
            regs,
            done <- TimedCompletion::new(),
        })
    }

    /// Handles an interrupt; `false` if it was not ours.
    pub(crate) fn interrupt(&self) -> bool {
        match self.regs.take_interrupts() {
            Ok(0) | Err(Unbound) => false,
            Ok(status) => {
                if status & INT_CMD_COMPLETE != 0 {
                    self.done.complete();
                }
                true
            }
        }
    }
}

/// Most buffers that one command points to.
const HOSTAGES: usize = 2;

/// Buffers that a command points to, while the firmware has them.
pub(crate) type Lent<'a> = &'a mut [Option<FwBuf>];

/// The mailbox and the memory that commands go through.
pub(crate) struct Exchange {
    dev: ARef<Device>,
    mailbox: Mailbox,
    /// The command buffer: the caller's struct may be anywhere, this page has an address.
    cmd_buf: Option<FwBuf>,
    /// What an unanswered command pointed to; the firmware may write to it until it answers.
    hostage: KVec<FwBuf>,
    /// Whether the PSP ever answered: the first wait is shorter.
    answered: bool,
}

impl Exchange {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(dev: ARef<Device>) -> Result<Self> {
        Ok(Exchange {
            dev,
            mailbox: Mailbox::new(),
            cmd_buf: Some(FwBuf::new(CMD_BUF_LEN)?),
            hostage: KVec::with_capacity(HOSTAGES, GFP_KERNEL)?,
            answered: false,
        })
    }

    /// Sends a typed command. Buffers it points to are taken away from the caller if the firmware
    /// does not answer.
    ///
    /// # Errors
    ///
    /// [`CmdError::Mailbox`]; a firmware that answers is no error here, whatever it says.
    pub(crate) fn send<C: Command>(
        &mut self,
        bell: &Doorbell,
        cmd: C,
        lent: Lent<'_>,
    ) -> Result<Completed<C>, CmdError> {
        let mut received = cmd;
        let status = self.send_raw(bell, C::ID, received.as_mut_bytes(), lent)?;
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
    pub(crate) fn send_raw(
        &mut self,
        bell: &Doorbell,
        id: CmdId,
        bytes: &mut [u8],
        lent: Lent<'_>,
    ) -> Result<FwStatus, CmdError> {
        if bytes.len() != id.buffer_len() {
            return Err(EINVAL.into());
        }
        let addr = match (&self.cmd_buf, bytes.is_empty()) {
            (_, true) => 0,
            (Some(buf), false) => buf.psp_addr(),
            (None, false) => return Err(ENOMEM.into()),
        };
        let request = Request {
            id,
            addr,
            mode: self.mode(),
            timeout_ms: ffi::timeout_ms(self.answered),
        };

        let outcome = self.run(bell, request, bytes);
        match outcome {
            Ok(status) => {
                self.answered = true;
                if let Some(buf) = &self.cmd_buf {
                    buf.read(bytes)?;
                }
                Ok(status)
            }
            Err(Fault::Timeout) => {
                dev_err!(
                    &*self.dev,
                    "sev command {:#x} timed out, disabling PSP\n",
                    // CAST: the discriminant is the command id.
                    id as u16
                );
                self.take_hostage(lent);
                Err(Fault::Timeout.into())
            }
            Err(Fault::Gone) => {
                self.take_hostage(lent);
                Err(Fault::Gone.into())
            }
            Err(Fault::Dead) => Err(Fault::Dead.into()),
        }
    }

    fn mode(&self) -> Mode {
        if ffi::poll() || ffi::irqs_disabled() {
            Mode::Poll
        } else {
            Mode::Interrupt
        }
    }

    fn run(&mut self, bell: &Doorbell, request: Request, bytes: &[u8]) -> Result<FwStatus, Fault> {
        let lost_before = self.mailbox.lost_interrupts();
        let mut action = self.mailbox.start(request);
        loop {
            let event = match action {
                Action::Done(outcome) => {
                    if self.mailbox.lost_interrupts() != lost_before {
                        dev_warn!(
                            &*self.dev,
                            "SEV: {} completed without its interrupt\n",
                            request.id.name()
                        );
                    }
                    return outcome;
                }
                Action::Read => bell.regs.cmdresp().map(Event::Register),
                Action::Ring { lo, hi, cmdresp } => self.ring(bell, lo, hi, cmdresp, bytes),
                Action::WaitInterrupt { ms } => Ok(if bell.done.wait_timeout_ms(ms) {
                    Event::Interrupt
                } else {
                    Event::WaitOver
                }),
                Action::Delay { us } => {
                    let delta = Delta::from_micros(us.into());
                    if ffi::irqs_disabled() {
                        udelay(delta);
                    } else {
                        fsleep(delta);
                    }
                    Ok(Event::WaitOver)
                }
            };
            action = match event {
                Ok(event) => self.mailbox.step(event),
                Err(Unbound) => return Err(Fault::Gone),
            };
        }
    }

    /// The machine only rings when the firmware is done with everything before, so this is the
    /// moment from which the command buffer and the hostages are ours again.
    fn ring(
        &mut self,
        bell: &Doorbell,
        lo: u32,
        hi: u32,
        cmdresp: CmdResp,
        bytes: &[u8],
    ) -> Result<Event, Unbound> {
        if !self.hostage.is_empty() {
            dev_notice!(&*self.dev, "SEV: the PSP answered late and is back\n");
            self.hostage.clear();
        }
        if let Some(buf) = &mut self.cmd_buf {
            // `send_raw` checked the length; a command buffer is never longer than a page.
            buf.write(bytes).map_err(|_| Unbound)?;
        }
        bell.done.forget();
        bell.regs.ring(lo, hi, cmdresp)?;
        Ok(Event::Rung)
    }

    fn take_hostage(&mut self, lent: Lent<'_>) {
        for slot in lent.iter_mut() {
            if let Some(buf) = slot.take() {
                if let Err(PushError(buf)) = self.hostage.push_within_capacity(buf) {
                    // LEAK: the firmware may still write to it, and there is no room to remember it.
                    // Cannot happen: one command is unanswered at a time, with HOSTAGES at most.
                    buf.leak();
                }
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.mailbox.health() == Health::Ready {
            return;
        }
        // LEAK: the command was never answered; the firmware may still write to all of this.
        let mut bytes = 0;
        for buf in Iterator::chain(self.hostage.drain_all(), self.cmd_buf.take()) {
            bytes += buf.len();
            buf.leak();
        }
        dev_err!(
            &*self.dev,
            "SEV: leaking {} bytes that an unanswered command may still write to\n",
            bytes
        );
    }
}
