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
    regs::Unbound, //
};

/// The registers that an exchange needs: a PSP's, or a test's.
pub(crate) trait Registers {
    /// Reads the interrupt status and acknowledges just that.
    fn take_interrupts(&self) -> Result<u32, Unbound>;
    /// Reads CMDRESP.
    fn cmdresp(&self) -> Result<CmdResp, Unbound>;
    /// Starts a command: address low, high, then the command word, which is what the PSP waits for.
    fn ring(&self, lo: u32, hi: u32, cmdresp: CmdResp) -> Result<(), Unbound>;
}

/// What the interrupt handler and the waiter share.
#[pin_data]
pub(crate) struct Doorbell<R: Registers> {
    pub(crate) regs: R,
    #[pin]
    done: TimedCompletion,
}

impl<R: Registers> Doorbell<R> {
    pub(crate) fn new(regs: R) -> impl PinInit<Self> {
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
    /// Milliseconds to wait for an answer, given whether there ever was one.
    timeout_ms: fn(bool) -> u32,
}

impl Exchange {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(dev: ARef<Device>, timeout_ms: fn(bool) -> u32) -> Result<Self> {
        Ok(Exchange {
            dev,
            mailbox: Mailbox::new(),
            cmd_buf: Some(FwBuf::new(CMD_BUF_LEN)?),
            hostage: KVec::with_capacity(HOSTAGES, GFP_KERNEL)?,
            answered: false,
            timeout_ms,
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
        bell: &Doorbell<impl Registers>,
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
        bell: &Doorbell<impl Registers>,
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
            timeout_ms: (self.timeout_ms)(self.answered),
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

    fn run(
        &mut self,
        bell: &Doorbell<impl Registers>,
        request: Request,
        bytes: &[u8],
    ) -> Result<FwStatus, Fault> {
        let lost_before = self.mailbox.lost_interrupts();
        let mut action = self.mailbox.start(request);
        loop {
            let event = match action {
                Action::Done(outcome) => {
                    let lost = self.mailbox.lost_interrupts();
                    // The first, the second, the fourth: enough to see it, and that it goes on.
                    if lost != lost_before && lost.is_power_of_two() {
                        dev_warn!(
                            &*self.dev,
                            "SEV: {} completed without its interrupt ({} so far)\n",
                            request.id.name(),
                            lost
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
        bell: &Doorbell<impl Registers>,
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

#[cfg(CONFIG_CCP_SEV_RUST_KUNIT_TEST)]
#[kunit_tests(ccp_sev_mailbox)]
mod tests {
    use super::*;
    use kernel::{
        device::Bound,
        faux,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
    };
    use psp::cmd::platform::{
        PekCsr,
        PekGen, //
    };

    /// Registers of a PSP that answers when the test says so, without interrupts.
    struct Script {
        cmdresp: Atomic<u32>,
        /// What CMDRESP becomes when it is rung.
        answer: Atomic<u32>,
        rings: Atomic<u32>,
    }

    const OK: u32 = CmdResp::response(FwStatus::SUCCESS).raw();
    const TOO_SHORT: u32 = CmdResp::response(FwStatus::INVALID_LEN).raw();
    const SILENT: u32 = 0;

    impl Registers for Script {
        fn take_interrupts(&self) -> Result<u32, Unbound> {
            Ok(INT_CMD_COMPLETE)
        }

        fn cmdresp(&self) -> Result<CmdResp, Unbound> {
            Ok(CmdResp::from_raw(self.cmdresp.load(Relaxed)))
        }

        fn ring(&self, _lo: u32, _hi: u32, _cmdresp: CmdResp) -> Result<(), Unbound> {
            self.rings.fetch_add(1, Relaxed);
            self.cmdresp.store(self.answer.load(Relaxed), Relaxed);
            Ok(())
        }
    }

    struct Fixture {
        exchange: Exchange,
        bell: Pin<KBox<Doorbell<Script>>>,
        _dev: faux::Registration,
    }

    impl Fixture {
        fn new(answer: u32) -> Result<Self> {
            let dev = faux::Registration::new(c"ccp-sev-kunit", None)?;
            let script = Script {
                cmdresp: Atomic::new(0),
                answer: Atomic::new(answer),
                rings: Atomic::new(0),
            };
            let device: &Device<Bound> = dev.as_ref().as_ref();
            Ok(Fixture {
                // TIMEOUT: two of the machine's waits, so that both are seen.
                exchange: Exchange::new(ARef::from(&**device), |_| 300)?,
                bell: KBox::pin_init(Doorbell::new(script), GFP_KERNEL)?,
                _dev: dev,
            })
        }

        fn rings(&self) -> u32 {
            self.bell.regs.rings.load(Relaxed)
        }

        fn pek_gen(&mut self) -> Result<FwStatus, CmdError> {
            let done = self.exchange.send(&self.bell, PekGen, &mut [])?;
            Ok(done.status)
        }
    }

    #[test]
    fn a_refusal_is_an_answer_and_keeps_its_status() -> Result {
        let mut psp = Fixture::new(TOO_SHORT)?;
        let done = psp.exchange.send(&psp.bell, PekCsr::new(0, 0), &mut []);
        assert!(done.is_ok_and(|done| done.status == FwStatus::INVALID_LEN));
        Ok(())
    }

    #[test]
    fn silence_takes_the_buffers_hostage_and_the_late_answer_frees_them() -> Result {
        let mut psp = Fixture::new(SILENT)?;
        let mut lent = [Some(FwBuf::new(64)?)];
        let silent = psp.exchange.send(&psp.bell, PekCsr::new(1, 64), &mut lent);
        assert!(silent.is_err_and(|e| e == CmdError::Mailbox(Fault::Timeout)));
        assert!(lent[0].is_none());
        assert!(psp.exchange.hostage.len() == 1);

        // Nothing is rung while the answer is outstanding.
        assert!(psp.pek_gen() == Err(CmdError::Mailbox(Fault::Dead)));
        assert!(psp.rings() == 1);

        psp.bell.regs.cmdresp.store(OK, Relaxed);
        psp.bell.regs.answer.store(OK, Relaxed);
        assert!(psp.pek_gen() == Ok(FwStatus::SUCCESS));
        assert!(psp.rings() == 2);
        assert!(psp.exchange.hostage.is_empty());
        Ok(())
    }

    #[test]
    fn a_stale_interrupt_is_not_taken_for_the_next_commands() -> Result {
        let mut psp = Fixture::new(OK)?;
        assert!(psp.bell.interrupt());
        assert!(psp.pek_gen() == Ok(FwStatus::SUCCESS));
        assert!(psp.exchange.mailbox.lost_interrupts() == 1);
        Ok(())
    }

    #[test]
    fn all_ones_is_a_device_that_is_gone() -> Result {
        let mut psp = Fixture::new(u32::MAX)?;
        assert!(psp.pek_gen() == Err(CmdError::Mailbox(Fault::Gone)));
        Ok(())
    }

    #[test]
    fn a_raw_command_must_have_its_length() -> Result {
        let mut psp = Fixture::new(OK)?;
        let short = psp
            .exchange
            .send_raw(&psp.bell, CmdId::PekCsr, &mut [0; 11], &mut []);
        assert!(short == Err(CmdError::Prepare(EINVAL)));
        assert!(psp.rings() == 0);
        Ok(())
    }
}
