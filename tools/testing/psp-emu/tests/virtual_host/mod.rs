// SPDX-License-Identifier: GPL-2.0
//! The world of the driver core without a kernel: an emulated PSP, RAM of which every page has an owner, and a
//! clock that only waiting moves. Whoever breaks a rule of [`watch`] or [`ram`] panics.
#![allow(dead_code, reason = "each test program uses another part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]

pub mod chip;
pub mod kvm;
pub mod ram;
pub mod watch;

use psp::{
    cmd::{platform::NV_LEN, platform::TMR_LEN, CmdId, CMD_BUF_LEN},
    cmdresp::CmdResp,
    driver::Driver,
    error::CmdError,
    host::{Gone, Host, Level, Patience, Wake},
    ledger::Ledger,
    mailbox::Mode,
    regs::{RegisterMap, DEVICES, INT_CMD_COMPLETE},
    status::FwStatus,
};
use psp_emu::{
    device::{fault::Faults, Accesses, Device, Outcome, Record},
    model::Model,
};
use ram::{Buf, Owner, Ram};
use std::{
    cell::{RefCell, RefMut},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc,
    },
    time::Duration,
};
use watch::Watch;

/// The driver core in this world.
pub type Core = Driver<VirtualHost>;

/// Milliseconds until a command counts as not answered: before the first answer, and later.
pub const TIMEOUTS_MS: [u32; 2] = [5000, 100_000];

/// More looks at CMDRESP than any timeout needs.
const ENDLESS: u32 = 100_000;

/// Everything but the driver.
pub struct Machine {
    pub device: Device,
    pub ram: Ram,
    pub watch: Watch,
    map: RegisterMap,
    pub now: Duration,
    pub mode: Mode,
    /// When whoever waits is killed.
    pub kill_at: Option<Duration>,
    /// The registers are taken away from the driver, as when its device is unbound.
    pub unbound: bool,
    /// The test asks the firmware, not the driver.
    asking: bool,
    /// How often the driver has waited for the answer to one command.
    waits: u32,
    /// An interrupt told of a completion that nobody has waited for yet.
    done: bool,
    writebacks: Arc<AtomicU64>,
    /// Lines of the log.
    pub log: Vec<(Level, String)>,
    /// How often the driver has rung, and for which command.
    pub ring_count: u64,
    pub rings: BTreeMap<u16, u64>,
    /// Commands that the device has taken.
    pub records: Vec<Record>,
    /// Accesses from one command word to the next: a whole round.
    pub round: Accesses,
}

/// A machine that driver and test have in common.
pub struct World {
    machine: RefCell<Machine>,
    ledger: RefCell<Ledger>,
}

/// The driver's view of it.
#[derive(Clone)]
pub struct VirtualHost(Rc<World>);

impl Machine {
    fn new(model: &'static Model, faults: Faults, ram_len: usize) -> Self {
        let writebacks = Arc::new(AtomicU64::new(0));
        let device = Device::new(model, chip::firmware(model, writebacks.clone()), faults);
        // The driver finds the map by the PCI id, so the test does too.
        let mut id = [0; 2];
        device.config_read(2, &mut id);
        let id = u16::from_le_bytes(id);
        let (_, map) = DEVICES.into_iter().find(|(known, _)| *known == id).unwrap();
        let mut machine = Self {
            device,
            ram: Ram::new(ram_len, model.c_bit),
            watch: Watch::default(),
            map,
            now: Duration::ZERO,
            mode: Mode::Interrupt,
            kill_at: None,
            unbound: false,
            asking: false,
            waits: 0,
            done: false,
            writebacks,
            log: Vec::new(),
            ring_count: 0,
            rings: BTreeMap::new(),
            records: Vec::new(),
            round: Accesses::default(),
        };
        machine.enable_interrupts();
        machine
    }

    /// What a driver does when it binds the device.
    pub fn enable_interrupts(&mut self) {
        self.write(self.map.inten, u32::MAX);
    }

    fn read(&mut self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.device.bar2_read(offset as u64, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write(&mut self, offset: usize, value: u32) {
        let bytes = value.to_le_bytes();
        let outcome = self
            .device
            .bar2_write(offset as u64, &bytes, &mut self.ram, self.now);
        self.note(outcome);
    }

    fn note(&mut self, outcome: Outcome) {
        for record in outcome.records {
            if self.asking {
                continue;
            }
            self.round = record.accesses;
            self.watch.taken(record.id, record.status);
            self.records.push(record);
        }
        if outcome.interrupt {
            self.handle_interrupt();
        }
    }

    /// What the driver's interrupt handler does.
    fn handle_interrupt(&mut self) {
        let status = self.read(self.map.intsts);
        self.write(self.map.intsts, status);
        self.done |= status & INT_CMD_COMPLETE != 0;
    }

    /// CMDRESP as nobody sees it.
    pub fn peek_cmdresp(&mut self) -> CmdResp {
        CmdResp::from_raw(self.read(self.map.cmdresp))
    }

    /// Whether nobody answers at the registers' addresses.
    pub fn is_gone(&mut self) -> bool {
        // No bits but one are ever set in this one.
        self.unbound || self.read(self.map.intsts) == u32::MAX
    }

    /// Whether the firmware would answer a command now.
    fn is_idle(&mut self) -> bool {
        let cmdresp = self.peek_cmdresp();
        cmdresp.status().is_some() && !cmdresp.is_all_ones() && self.device.next_event().is_none()
    }

    /// State and guests as the firmware itself has them, if it can be asked without the driver's notice.
    pub fn truth(&mut self) -> Option<(u8, u32)> {
        if self.watch.unanswered().is_some() || !self.is_idle() {
            return None;
        }
        let faults = std::mem::take(&mut self.device.faults);
        let latency = std::mem::take(&mut self.device.latency);
        let round = self.round;
        self.asking = true;
        // CAST: below 4 GiB.
        self.write(self.map.cmdbuf_lo, ram::ORACLE as u32);
        self.write(self.map.cmdbuf_hi, 0);
        let word = CmdResp::command(CmdId::PlatformStatus, false);
        self.write(self.map.cmdresp, word.raw());
        (self.asking, self.round) = (false, round);
        (self.device.faults, self.device.latency) = (faults, latency);
        let status: [u8; 12] = self.ram.peek(ram::ORACLE);
        let guests = [status[8], status[9], status[10], status[11]];
        Some((status[2], u32::from_le_bytes(guests)))
    }

    /// Switches the machine off and on. There must be no driver.
    pub fn power_cycle(&mut self) {
        self.device.reset();
        self.watch.forget();
        self.ram.forget();
        self.unbound = false;
    }

    /// Lets time pass; the driver is not waiting.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step_to(until) {}
    }

    /// Goes to the next event of the device before `until`; `false` if there is none, and it is `until`.
    fn step_to(&mut self, until: Duration) -> bool {
        match self.device.next_event().filter(|&next| next <= until) {
            Some(next) => {
                self.now = self.now.max(next);
                let outcome = self.device.tick(self.now, &mut self.ram);
                self.note(outcome);
                true
            }
            None => {
                self.now = self.now.max(until);
                false
            }
        }
    }

    /// Waits as `wait_for_completion_killable_timeout()` does.
    fn wait(&mut self, time: Duration, patience: Patience, interrupts: bool) -> Wake {
        self.waits += 1;
        assert!(self.waits < ENDLESS, "a wait that does not end");
        let until = self.now + time;
        let kill_at = self.kill_at.filter(|_| patience == Patience::Killable);
        loop {
            if interrupts && std::mem::take(&mut self.done) {
                return Wake::Interrupt;
            }
            if kill_at.is_some_and(|kill_at| kill_at <= self.now) {
                self.watch.leave();
                return Wake::Killed;
            }
            let next = kill_at.map_or(until, |kill_at| until.min(kill_at));
            if !self.step_to(next) && self.now >= until {
                // What came in the last moment counts, as in the kernel.
                return match interrupts && std::mem::take(&mut self.done) {
                    true => Wake::Interrupt,
                    false => Wake::TimeOver,
                };
            }
        }
    }

    /// How often caches were written back.
    pub fn writebacks(&self) -> u64 {
        self.writebacks.load(Ordering::Relaxed)
    }

    /// Whether the log has this line.
    pub fn logged(&self, level: Level, line: &str) -> bool {
        let mut lines = self.log.iter();
        lines.any(|(of, text)| *of == level && text == line)
    }
}

impl World {
    /// A machine with these faults.
    ///
    /// # Panics
    ///
    /// When one is none.
    pub fn new(model: &'static Model, faults: &[&str]) -> Rc<Self> {
        let faults: Vec<_> = faults.iter().map(|text| text.parse().unwrap()).collect();
        Self::with_ram(model, Faults::from(faults), 8 << 20)
    }

    /// The same with other faults, and with so many bytes of RAM.
    pub fn with_ram(model: &'static Model, faults: Faults, ram_len: usize) -> Rc<Self> {
        Rc::new(Self {
            machine: RefCell::new(Machine::new(model, faults, ram_len)),
            ledger: RefCell::new(Ledger::new()),
        })
    }

    /// The machine; not while a driver runs.
    pub fn machine(&self) -> RefMut<'_, Machine> {
        self.machine.borrow_mut()
    }

    /// What the driver has written down.
    pub fn ledger(&self) -> RefMut<'_, Ledger> {
        self.ledger.borrow_mut()
    }

    /// Memory for the firmware, if there is enough.
    pub fn alloc(self: &Rc<Self>, len: usize) -> Option<Buf> {
        Buf::new(self, len)
    }

    /// A driver, with a TMR and with persistent data in its memory if wanted.
    ///
    /// # Panics
    ///
    /// When there is no memory for the command buffer or the persistent data.
    pub fn driver(self: &Rc<Self>, tmr: bool, nv: bool) -> Core {
        *self.ledger.borrow_mut() = Ledger::new();
        // CAST: a megabyte, and 32 KiB.
        let tmr = tmr.then(|| self.alloc(TMR_LEN as usize)).flatten();
        let nv = nv.then(|| self.alloc(NV_LEN as usize).expect("memory"));
        let cmd_buf = self.alloc(CMD_BUF_LEN).expect("memory");
        Driver::new(VirtualHost(self.clone()), cmd_buf, tmr, nv)
    }

    /// The platform's state as the firmware has it.
    ///
    /// # Panics
    ///
    /// When the firmware is busy.
    pub fn state(&self) -> u8 {
        self.machine().truth().expect("an idle firmware").0
    }

    /// Ids of the commands that the device has taken since the last time.
    pub fn commands(&self) -> Vec<u16> {
        let records = std::mem::take(&mut self.machine().records);
        records.iter().map(|record| record.id).collect()
    }

    /// Errors in the log since the last time.
    pub fn errors(&self) -> Vec<String> {
        let log = std::mem::take(&mut self.machine().log);
        let errors = log.into_iter().filter(|(level, _)| *level == Level::Error);
        errors.map(|(_, line)| line).collect()
    }

    /// Pages that the driver has, and pages that it has given up.
    pub fn pages(&self) -> (usize, usize) {
        let ram = &self.machine().ram;
        (ram.count(Owner::Driver), ram.count(Owner::Leaked))
    }

    /// Adds a fault, written as on the command line.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn fault(&self, fault: &str) {
        self.machine().device.faults.add(fault.parse().unwrap());
    }
}

impl Host for VirtualHost {
    type Memory = Buf;

    fn cmdresp(&mut self) -> Result<CmdResp, Gone> {
        let machine = &mut *self.0.machine();
        if machine.unbound {
            return Err(Gone);
        }
        let cmdresp = machine.peek_cmdresp();
        machine.watch.saw(cmdresp, &machine.ram);
        Ok(cmdresp)
    }

    fn is_there(&mut self) -> bool {
        !self.0.machine().is_gone()
    }

    fn enable_interrupts(&mut self) {
        let machine = &mut *self.0.machine();
        if !machine.unbound {
            machine.enable_interrupts();
        }
    }

    fn ring(&mut self, lo: u32, hi: u32, cmdresp: CmdResp) -> Result<(), Gone> {
        let machine = &mut *self.0.machine();
        if machine.unbound {
            return Err(Gone);
        }
        let addr = (u64::from(hi) << 32) | u64::from(lo);
        machine.watch.rings(cmdresp.id(), addr, &machine.ram);
        machine.ring_count += 1;
        *machine.rings.entry(cmdresp.id()).or_default() += 1;
        (machine.done, machine.waits) = (false, 0);
        machine.write(machine.map.cmdbuf_lo, lo);
        machine.write(machine.map.cmdbuf_hi, hi);
        machine.write(machine.map.cmdresp, cmdresp.raw());
        Ok(())
    }

    fn wait(&mut self, ms: u32, patience: Patience) -> Wake {
        let time = Duration::from_millis(ms.into());
        self.0.machine().wait(time, patience, true)
    }

    fn delay(&mut self, us: u32, patience: Patience) -> Wake {
        let time = Duration::from_micros(us.into());
        self.0.machine().wait(time, patience, false)
    }

    fn mode(&self) -> Mode {
        self.0.machine().mode
    }

    fn timeout_ms(&self, answered: bool) -> u32 {
        TIMEOUTS_MS[usize::from(answered)]
    }

    fn now_us(&self) -> u64 {
        // CAST: centuries.
        self.0.machine().now.as_micros() as u64
    }

    fn flush_caches(&mut self) {
        self.0.machine().writebacks.fetch_add(1, Ordering::Relaxed);
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.0.machine().log.push((level, line.to_string()));
    }

    fn trace(&self, _id: CmdId, _outcome: Result<FwStatus, CmdError>, _us: u64) {}

    fn ledger<R>(&self, change: impl FnOnce(&mut Ledger) -> R) -> R {
        change(&mut self.0.ledger())
    }
}
