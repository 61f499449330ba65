// SPDX-License-Identifier: GPL-2.0
//! A model of what the driver core may do, and a session with it: after every step the driver, the device and the
//! memory are looked at.
#![allow(unreachable_pub, reason = "a part of a test program")]

pub mod coverage;
mod life;
mod platform;
mod single;
pub mod step;

use super::virtual_host::{chip::persistent_data, Core, World, TIMEOUTS_MS};
use coverage::Coverage;
use psp::cmdresp::CmdResp;
use psp::mailbox::Mode;
use psp_emu::{
    device::{
        fault::{Fault, Faults, Kind},
        latency::Latency,
    },
    model::{Model, MILAN, NAPLES, ROME},
};
use single::raw_bytes;
use std::{rc::Rc, time::Duration};
use step::{Kill, Step};

const RAM_LEN: usize = 6 << 20;
/// Time that a call may take beyond its timeouts.
const SLACK: Duration = Duration::from_millis(100);

/// One for each way to be updated.
const MODELS: [&Model; 3] = [&MILAN, &ROME, &NAPLES];

/// What is known before a call, to be compared with what is afterwards.
struct Before {
    now: Duration,
    rings: u64,
    dead: bool,
    /// What the firmware says if it is asked: state and guests.
    truth: Option<(u8, u32)>,
    /// All registers read as ones, or there are none.
    gone: bool,
    /// CMDRESP has a response.
    answered: bool,
    /// CMDRESP after the call.
    after: CmdResp,
}

/// A driver and its device.
pub struct Session<'a> {
    world: Rc<World>,
    core: Option<Core>,
    coverage: &'a mut Coverage,
    /// The faults that the device has, with what is left of their counts.
    faults: Vec<Fault>,
    /// The file of the persistent data, if they are kept in one, and whether it can be written.
    file: Option<Vec<u8>>,
    disk_full: bool,
    /// The file has not what it should, because it could not be written.
    unsaved: bool,
    /// The firmware has lost its state, or told it wrongly, and the driver may not know.
    misled: bool,
    /// Answers in this driver's life that came after their callers had gone.
    late_answers: u32,
}

impl<'a> Session<'a> {
    /// A driver on a device that is fine; `kind` chooses which.
    pub fn new(kind: u64, coverage: &'a mut Coverage) -> Self {
        // CAST: below 3.
        let model = MODELS[(kind % 3) as usize];
        let world = World::with_ram(model, Faults::default(), RAM_LEN);
        if kind & 4 != 0 {
            world.machine().device.latency = Latency::HARDWARE;
        }
        coverage.sequences += 1;
        // The oldest has no INIT_EX.
        let nv = kind & 24 == 0 && model != &NAPLES;
        let file = nv.then(|| persistent_data().to_vec());
        let core = world.driver(kind & 96 != 0, file.is_some());
        Self {
            world,
            core: Some(core),
            coverage,
            faults: Vec::new(),
            file,
            disk_full: false,
            unsaved: false,
            misled: false,
            late_answers: 0,
        }
    }

    /// # Panics
    ///
    /// When something is as it must not be.
    pub fn step(&mut self, step: Step, kill: Kill) {
        self.coverage.steps += 1;
        {
            let mut machine = self.world.machine();
            machine.log.clear();
            machine.kill_at = kill.map(|after| machine.now + after);
        }
        self.run(step);
        self.world.machine().kill_at = None;
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Status => self.status(),
            Step::Send { id, len } => self.send(id, len),
            Step::Raw { id, seed } => self.raw(id, &raw_bytes(id, seed)),
            Step::WrongLength(id) => self.wrong_length(id),
            Step::Init => self.init(),
            Step::InitUnread => self.init_unread(),
            Step::Shutdown => self.shutdown(),
            Step::Prepared { id, may_init } => self.prepared(id, may_init),
            Step::FactoryReset => self.factory_reset(),
            Step::Update(image) => self.update(image),
            Step::DiskFull(full) => self.disk_full = full,
            Step::NewFile(byte) => {
                if let Some(file) = &mut self.file {
                    file.fill(byte);
                    self.unsaved = true;
                }
            }
            Step::GiveTmr => self.give_tmr(),
            Step::Recover => self.recover(),
            Step::Rebind { tmr, registers_go } => self.rebind(tmr, registers_go),
            Step::PowerCycle => self.power_cycle(),
            Step::Sleep => self.sleep(),
            Step::DeviceReset => {
                self.world.machine().device.reset();
                self.misled = true;
            }
            Step::Fault(fault) => {
                self.world.machine().device.faults.add(fault);
                self.faults.push(fault);
            }
            Step::NoFaults => self.no_faults(),
            Step::Pass(time) => self.world.machine().pass(time),
            Step::Poll(poll) => {
                self.world.machine().mode = if poll { Mode::Poll } else { Mode::Interrupt };
            }
        }
    }

    fn no_faults(&mut self) {
        self.world.machine().device.faults.clear();
        self.faults.clear();
    }

    fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("a driver")
    }

    fn before(&mut self) -> Before {
        let dead = self.core().is_dead();
        let mut machine = self.world.machine();
        machine.records.clear();
        let cmdresp = machine.peek_cmdresp();
        Before {
            now: machine.now,
            rings: machine.ring_count,
            dead,
            truth: machine.truth(),
            gone: machine.is_gone(),
            answered: cmdresp.status().is_some(),
            after: cmdresp,
        }
    }

    /// Calls the driver, and looks at what is always so after that.
    fn call<T>(&mut self, call: impl FnOnce(&mut Core) -> T) -> (Before, T) {
        let mut before = self.before();
        let result = call(self.core());
        self.note_faults();
        let mut machine = self.world.machine();
        before.after = machine.peek_cmdresp();
        let rings = machine.ring_count - before.rings;
        // What was owed by an earlier caller had its own time.
        let exchanges = u32::try_from(rings + 1).expect("a few");
        let longest = Duration::from_millis(TIMEOUTS_MS[1].into());
        let took = machine.now - before.now;
        assert!(took <= longest * exchanges + SLACK, "a call took {took:?}");
        let late = machine.watch.late_answers;
        machine.watch.abandon();
        drop(machine);
        if late > self.late_answers {
            self.coverage.event("late answer");
        }
        self.late_answers = late;
        self.check_ledger();
        self.check_state();
        (before, result)
    }

    /// Which faults the commands of this call have met; uses up their counts as the device does.
    fn note_faults(&mut self) {
        let machine = self.world.machine();
        for record in &machine.records {
            for fault in &mut self.faults {
                if fault.command.is_some_and(|command| command != record.id) {
                    continue;
                }
                match &mut fault.count {
                    Some(0) => continue,
                    Some(count) => *count -= 1,
                    None => {}
                }
                self.coverage.fault(fault.kind);
                // A garbled answer may say of what was done that it was not.
                self.misled |= matches!(
                    fault.kind,
                    Kind::Forgotten | Kind::StateLoss | Kind::Garbage(_)
                );
            }
        }
        let of_device = |fault: &&Fault| matches!(fault.kind, Kind::AllOnes | Kind::StuckBusy);
        for fault in self.faults.iter().filter(of_device) {
            self.coverage.fault(fault.kind);
        }
    }

    /// The books agree with what was sent.
    fn check_ledger(&self) {
        let machine = self.world.machine();
        let ledger = self.world.ledger();
        let counted: u64 = ledger.commands().map(|(_, counters)| counters.count).sum();
        assert_eq!(counted, machine.ring_count, "commands counted");
        assert_eq!(
            ledger.late_answers, machine.watch.late_answers,
            "late answers"
        );
    }

    /// The same for each command.
    fn check_counters(&self) {
        let machine = self.world.machine();
        for (id, counters) in self.world.ledger().commands() {
            // CAST: the discriminant is the id.
            let rings = machine.rings.get(&(id as u16)).copied().unwrap_or(0);
            assert_eq!(counters.count, rings, "{} counted", id.name());
        }
    }

    /// The driver does not believe in an INIT that is not there.
    fn check_state(&mut self) {
        let initialised = self.core().is_initialised();
        if let Some((0, _)) = self.world.machine().truth() {
            assert!(!initialised || self.misled, "initialised, but in UNINIT");
        }
    }

    fn truth(&self) -> Option<(u8, u32)> {
        self.world.machine().truth()
    }
}
