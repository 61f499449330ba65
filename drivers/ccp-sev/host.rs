// SPDX-License-Identifier: GPL-2.0

//! The world of the driver core ([`psp::host`]): registers, interrupt, log, caches, time.

use kernel::{
    device::Device,
    fmt, new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
    time::{
        delay::{
            fsleep,
            udelay, //
        },
        Delta, //
    },
};
use psp::{
    cmd::CmdId,
    cmdresp::CmdResp,
    error::CmdError,
    host::{
        Gone,
        Host,
        Level,
        Patience,
        Wake, //
    },
    ledger::Ledger,
    mailbox::Mode,
    regs::INT_CMD_COMPLETE,
    status::FwStatus, //
};

use crate::{
    completion::TimedCompletion,
    ffi,
    fw_buf::FwBuf, //
};

/// The registers that an exchange needs: a PSP's, or a test's.
pub(crate) trait Registers {
    /// Reads the interrupt status and acknowledges just that.
    fn take_interrupts(&self) -> Result<u32, Gone>;
    /// Reads CMDRESP.
    fn cmdresp(&self) -> Result<CmdResp, Gone>;
    /// Starts a command: address low, high, then the command word, which is what the PSP waits for.
    fn ring(&self, lo: u32, hi: u32, cmdresp: CmdResp) -> Result<(), Gone>;
    /// Whether the capabilities can be read.
    fn is_there(&self) -> bool;
    /// Turns all interrupts on or off.
    fn enable_interrupts(&self, on: bool) -> Result<(), Gone>;
}

/// What the command lock does not protect: the interrupt handler and reports use it meanwhile.
#[pin_data]
pub(crate) struct Shared<R: Registers> {
    pub(crate) dev: ARef<Device>,
    pub(crate) regs: R,
    #[pin]
    done: TimedCompletion,
    #[pin]
    ledger: Mutex<KBox<Ledger>>,
}

/// A ledger is too large for the stack; this is copied.
static EMPTY_LEDGER: Ledger = Ledger::new();

impl<R: Registers> Shared<R> {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(dev: ARef<Device>, regs: R) -> Result<Arc<Self>> {
        let mut ledger = KBox::<Ledger>::new_uninit(GFP_KERNEL)?;
        // SAFETY: Both are valid for a `Ledger`, which has no destructor and no references; after the
        // copy it is initialised.
        let ledger = unsafe {
            core::ptr::copy_nonoverlapping(&raw const EMPTY_LEDGER, ledger.as_mut_ptr(), 1);
            ledger.assume_init()
        };
        Arc::pin_init(
            pin_init!(Shared {
                dev,
                regs,
                done <- TimedCompletion::new(),
                ledger <- new_mutex!(ledger, "ccp_sev_ledger"),
            }),
            GFP_KERNEL,
        )
    }

    /// Handles an interrupt; `false` if it was not ours.
    pub(crate) fn interrupt(&self) -> bool {
        match self.regs.take_interrupts() {
            Ok(0) | Err(Gone) => false,
            Ok(status) => {
                if status & INT_CMD_COMPLETE != 0 {
                    self.done.complete();
                }
                true
            }
        }
    }

    /// Lets `access` at the ledger. Never waits for the firmware.
    pub(crate) fn ledger<T>(&self, access: impl FnOnce(&mut Ledger) -> T) -> T {
        access(&mut self.ledger.lock())
    }
}

/// The driver core's view of it.
pub(crate) struct KernelHost<R: Registers> {
    shared: Arc<Shared<R>>,
    poll: bool,
    /// Nothing else runs any more: no interrupt, no sleep.
    panicking: bool,
}

impl<R: Registers> KernelHost<R> {
    pub(crate) fn new(shared: Arc<Shared<R>>) -> Self {
        KernelHost {
            shared,
            poll: ffi::poll(),
            panicking: false,
        }
    }

    /// From now on nobody else runs.
    pub(crate) fn panic(&mut self) {
        self.panicking = true;
    }
}

/// TIMEOUT: what a panicking machine waits for its last command.
const PANIC_TIMEOUT_MS: u32 = 1000;

/// Longest busy wait at once. CAST: where it is widened to a usize, which has at least 32 bits here.
const PANIC_DELAY_US: u32 = 1000;

impl<R: Registers> Host for KernelHost<R> {
    type Memory = FwBuf;

    fn cmdresp(&mut self) -> Result<CmdResp, Gone> {
        self.shared.regs.cmdresp()
    }

    fn ring(&mut self, lo: u32, hi: u32, cmdresp: CmdResp) -> Result<(), Gone> {
        self.shared.done.forget();
        self.shared.regs.ring(lo, hi, cmdresp)
    }

    fn is_there(&mut self) -> bool {
        self.shared.regs.is_there()
    }

    fn enable_interrupts(&mut self) {
        let _ = self.shared.regs.enable_interrupts(true);
    }

    fn wait(&mut self, ms: u32, patience: Patience) -> Wake {
        self.shared.done.wait_timeout_ms(ms, patience)
    }

    fn delay(&mut self, us: u32, patience: Patience) -> Wake {
        if self.panicking {
            // More than a few milliseconds at once `udelay()` does not take.
            for done in (0..us).step_by(PANIC_DELAY_US as usize) {
                udelay(Delta::from_micros(PANIC_DELAY_US.min(us - done).into()));
            }
        } else if patience == Patience::Killable && ffi::fatal_signal_pending() {
            return Wake::Killed;
        } else {
            fsleep(Delta::from_micros(us.into()));
        }
        Wake::TimeOver
    }

    fn mode(&self) -> Mode {
        if self.poll || self.panicking {
            Mode::Poll
        } else {
            Mode::Interrupt
        }
    }

    fn timeout_ms(&self, answered: bool) -> u32 {
        if self.panicking {
            PANIC_TIMEOUT_MS
        } else {
            ffi::timeout_ms(answered)
        }
    }

    fn now_us(&self) -> u64 {
        ffi::now_us()
    }

    fn flush_caches(&mut self) {
        ffi::wbinvd_on_all_cpus();
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        match level {
            Level::Error => dev_err!(&*self.shared.dev, "{}\n", line),
            Level::Warning => dev_warn!(&*self.shared.dev, "{}\n", line),
            Level::Info => dev_info!(&*self.shared.dev, "{}\n", line),
        }
    }

    fn trace(&self, id: CmdId, outcome: Result<FwStatus, CmdError>, us: u64) {
        ffi::trace_command(&self.shared.dev, id, outcome, us);
    }

    fn ledger<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        self.shared.ledger(change)
    }
}

#[cfg(CONFIG_CCP_SEV_RUST_KUNIT_TEST)]
#[kunit_tests(ccp_sev_host)]
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
    use psp::{
        cmd::{
            platform::{
                PekCsr,
                PekGen, //
            },
            CMD_BUF_LEN, //
        },
        driver::Driver,
        mailbox::Fault, //
    };

    /// Registers of a PSP that answers when the test says so, without interrupts.
    struct Script {
        cmdresp: Atomic<u32>,
        /// What CMDRESP becomes when it is rung.
        answer: Atomic<u32>,
        rings: Atomic<u32>,
        /// Looks that find no answer yet.
        in_vain: Atomic<u32>,
    }

    const OK: u32 = CmdResp::response(FwStatus::SUCCESS).raw();
    const TOO_SHORT: u32 = CmdResp::response(FwStatus::INVALID_LEN).raw();

    impl Registers for Script {
        fn take_interrupts(&self) -> Result<u32, Gone> {
            Ok(INT_CMD_COMPLETE)
        }

        fn cmdresp(&self) -> Result<CmdResp, Gone> {
            let in_vain = self.in_vain.load(Relaxed);
            self.in_vain.store(in_vain.saturating_sub(1), Relaxed);
            Ok(CmdResp::from_raw(if in_vain > 0 {
                0
            } else {
                self.cmdresp.load(Relaxed)
            }))
        }

        fn ring(&self, _lo: u32, _hi: u32, _cmdresp: CmdResp) -> Result<(), Gone> {
            self.rings.fetch_add(1, Relaxed);
            self.cmdresp.store(self.answer.load(Relaxed), Relaxed);
            Ok(())
        }

        fn is_there(&self) -> bool {
            true
        }

        fn enable_interrupts(&self, _on: bool) -> Result<(), Gone> {
            Ok(())
        }
    }

    struct Fixture {
        driver: Driver<KernelHost<Script>>,
        shared: Arc<Shared<Script>>,
        _dev: faux::Registration,
    }

    impl Fixture {
        fn new(answer: u32) -> Result<Self> {
            let dev = faux::Registration::new(c"ccp-sev-kunit", None)?;
            let script = Script {
                cmdresp: Atomic::new(0),
                answer: Atomic::new(answer),
                rings: Atomic::new(0),
                in_vain: Atomic::new(0),
            };
            let device: &Device<Bound> = dev.as_ref().as_ref();
            let shared = Shared::new(ARef::from(&**device), script)?;
            let cmd_buf = FwBuf::new(CMD_BUF_LEN)?;
            Ok(Fixture {
                driver: Driver::new(KernelHost::new(shared.clone()), cmd_buf, None, None),
                shared,
                _dev: dev,
            })
        }

        fn rings(&self) -> u32 {
            self.shared.regs.rings.load(Relaxed)
        }

        fn pek_gen(&mut self) -> Result<FwStatus, CmdError> {
            Ok(self.driver.send(PekGen, &mut [])?.status)
        }
    }

    #[test]
    fn a_refusal_is_an_answer_and_keeps_its_status() -> Result {
        let mut psp = Fixture::new(TOO_SHORT)?;
        let done = psp.driver.send(PekCsr::new(0, 0), &mut []);
        assert!(done.is_ok_and(|done| done.status == FwStatus::INVALID_LEN));
        Ok(())
    }

    #[test]
    fn a_stale_interrupt_is_not_taken_for_the_next_commands() -> Result {
        let mut psp = Fixture::new(OK)?;
        assert!(psp.shared.interrupt());
        psp.shared.regs.in_vain.store(1, Relaxed);
        assert!(psp.pek_gen() == Ok(FwStatus::SUCCESS));
        assert!(psp.shared.ledger(|ledger| ledger.lost_interrupts) == 1);
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
        let short = psp.driver.send_raw(CmdId::PekCsr, &mut [0; 11], &mut []);
        assert!(short == Err(CmdError::Prepare(psp::error::Errno::EINVAL)));
        assert!(psp.rings() == 0);
        Ok(())
    }
}
