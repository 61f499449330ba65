// SPDX-License-Identifier: GPL-2.0
//! Drivers come and go, and how it must end.

use super::super::virtual_host::{ram::Owner, Core};
use super::Session;
use psp::{
    cmd::{
        platform::{PdhGen, TMR_LEN},
        CMD_BUF_LEN,
    },
    error::Errno,
    mailbox::Mode,
};
use std::time::Duration;

/// Pages below which the machine is switched off and on, because so much was leaked.
const FEW_PAGES: usize = 512;

impl Session<'_> {
    pub(super) fn give_tmr(&mut self) {
        if self.core().has_tmr() {
            return;
        }
        // CAST: 1 MiB.
        if let Some(tmr) = self.world.alloc(TMR_LEN as usize) {
            self.core().give_tmr(tmr);
        }
    }

    pub(super) fn recover(&mut self) {
        let Some(cmd_buf) = self.world.alloc(CMD_BUF_LEN) else {
            return;
        };
        let leaked = self.world.pages().1;
        self.world.machine().watch.forgiven = self.core().is_dead();
        let (_, result) = self.call(|core| core.recover(cmd_buf));
        self.coverage.outcome(&result);
        if self.world.pages().1 > leaked {
            self.coverage.event("given up");
        }
        if result.is_ok() {
            assert!(!self.core().is_dead());
            self.misled = false;
        }
    }

    pub(super) fn sleep(&mut self) {
        let (before, rested) = self.with_file(Core::rest);
        if let Err(reason) = rested {
            self.not_ready(&before, reason);
            return;
        }
        // Without a fault nothing is lost but what nobody has.
        let calm = before.truth.is_some() && !self.misled;
        if let (Some((state, _)), true) = (self.truth(), calm) {
            assert_eq!(state, 0, "asleep");
        }
        let (_, early) = self.call(Core::init);
        let early = early.map_err(|error| error.cause);
        assert_eq!(early, Err(Errno::EBUSY.into()));
        self.coverage.outcome(&early);
        self.world.machine().device.reset();
        self.call(Core::wake);
        self.misled = true;
    }

    /// What the driver's own code does around that, see `registry::remove()` and `driver::bring_up()`.
    pub(super) fn rebind(&mut self, tmr: bool, registers_go: bool) {
        let (_, ()) = self.call(Core::retire);
        let (_, closed) = self.call(Core::init);
        let closed = closed.map_err(|error| error.cause);
        assert_eq!(closed, Err(Errno::ENODEV.into()));
        self.coverage.outcome(&closed);
        if registers_go {
            self.world.machine().unbound = true;
            self.status();
            self.world.machine().unbound = false;
        }
        self.unbind();
        if self.world.machine().ram.count(Owner::Free) < FEW_PAGES {
            self.world.machine().power_cycle();
        }
        self.bind(tmr);
    }

    pub(super) fn unbind(&mut self) {
        self.check_counters();
        self.core = None;
        assert_eq!(self.world.pages().0, 0, "the driver keeps memory");
    }

    pub(super) fn bind(&mut self, tmr: bool) {
        let mut machine = self.world.machine();
        machine.watch.forgiven = true;
        machine.watch.late_answers = 0;
        machine.watch.disown();
        (machine.ring_count, machine.rings) = Default::default();
        machine.enable_interrupts();
        drop(machine);
        self.late_answers = 0;
        self.misled = true;
        self.core = Some(self.world.driver(tmr, self.file.is_some()));
        self.status();
        if self.core().is_initialised() {
            self.shutdown();
        }
    }

    pub(super) fn power_cycle(&mut self) {
        self.unbind();
        self.world.machine().power_cycle();
        self.bind(true);
    }

    /// Whether CMDRESP has no answer.
    fn is_stuck(&self) -> bool {
        let cmdresp = self.world.machine().peek_cmdresp();
        cmdresp.is_all_ones() || cmdresp.status().is_none()
    }

    /// The faults end: everything must work again, and nothing may be left when the driver goes.
    ///
    /// # Panics
    ///
    /// When that is not so.
    pub fn finish(mut self, with_keys: bool) {
        self.no_faults();
        self.world.machine().pass(Duration::from_secs(3600));
        self.world.machine().mode = Mode::Interrupt;
        if self.is_stuck() {
            self.core().status().expect_err("no answer");
            self.recover();
        }
        if self.is_stuck() {
            // A PSP that is still busy, or gone.
            self.world.machine().device.reset();
            self.misled = true;
        }
        if self.single(Core::status).is_err() {
            // The answer to what was given up.
            self.single(Core::status).expect("status");
        }
        self.misled = false;
        self.disk_full = false;
        let (_, done) = self.with_file(Core::init);
        done.expect("INIT");
        self.check_flushed();
        if with_keys {
            self.with_file(|core| core.call(PdhGen)).1.expect("PDH_GEN");
        }
        self.call(Core::retire);
        assert_eq!(self.truth(), Some((0, 0)), "retired");
        let leaked = self.world.pages().1;
        self.unbind();
        assert_eq!(
            self.world.pages().1,
            leaked,
            "a driver that retires leaks nothing"
        );
    }
}
