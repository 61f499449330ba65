// SPDX-License-Identifier: GPL-2.0
//! The driver's logic against the emulated device, in one process and without a clock: crate `psp`
//! decides, a virtual executor does what `drivers/ccp-sev/mailbox.rs` does in the kernel.

use std::time::Duration;

use psp::{
    cert::{SevCert, Usage},
    cmd::{
        platform::{
            DfFlush, GetId, Init, PdhCertExport, PdhGen, PekCsr, PlatformReset, PlatformStatus,
            Shutdown, TMR_LEN,
        },
        Command, Completed, Malformed, ReplyError,
    },
    mailbox::{Action, CmdResp, Event, Fault as MailboxFault, Health, Mailbox, Mode, Request},
    platform::{prepare, PlatformState, Prepare},
    regs::{RegisterMap, DEVICES, INT_CMD_COMPLETE},
    status::FwStatus,
};
use psp_emu::{
    device::{
        fault::{Fault, Faults},
        Accesses, Device,
    },
    firmware::{Chip, Firmware, VecFlash},
    memory::{GuestMemory, VecMemory},
    model::{Model, MILAN, MODELS},
};
use zerocopy::FromBytes;

const RAM_LEN: usize = 4 << 20;
const COMMAND: u64 = 0x1000;
const A: u64 = 0x1_0000;
const B: u64 = 0x2_0000;
const TMR: u64 = 0x10_0000;
const TIMEOUT_MS: u32 = 5000;

/// A host: the device, its RAM, the driver's mailbox and a clock that only waiting moves.
struct Host {
    device: Device,
    ram: VecMemory,
    map: RegisterMap,
    mailbox: Mailbox,
    now: Duration,
    interrupt: bool,
    mode: Mode,
    /// Accesses from one command word to the next: a whole round.
    round: Accesses,
}

impl Host {
    fn new(model: &'static Model, faults: &[&str]) -> Self {
        let faults: Vec<Fault> = faults.iter().map(|text| text.parse().unwrap()).collect();
        let firmware = Firmware::new(
            model,
            Chip::from_secret([7; 32]),
            Box::new(VecFlash::default()),
        );
        let device = Device::new(model, firmware, Faults::from(faults));
        // The driver finds the map by the PCI id, so the test does too.
        let mut id = [0; 2];
        device.config_read(2, &mut id);
        let id = u16::from_le_bytes(id);
        let (_, map) = DEVICES.into_iter().find(|(known, _)| *known == id).unwrap();
        let mut host = Host {
            device,
            ram: VecMemory::new(0, RAM_LEN),
            map,
            mailbox: Mailbox::new(),
            now: Duration::ZERO,
            interrupt: false,
            mode: Mode::Interrupt,
            round: Accesses::default(),
        };
        host.write(host.map.inten, u32::MAX);
        host
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
        self.interrupt |= outcome.interrupt;
        for record in outcome.records {
            self.round = record.accesses;
        }
    }

    /// What the interrupt handler does; whether a command completed.
    fn handle_interrupt(&mut self) -> bool {
        let status = self.read(self.map.intsts);
        self.write(self.map.intsts, status);
        status & INT_CMD_COMPLETE != 0
    }

    fn pass(&mut self, time: Duration) -> Event {
        let until = self.now + time;
        if let Some(next) = self.device.next_event().filter(|&next| next <= until) {
            self.now = self.now.max(next);
            self.interrupt |= self.device.tick(self.now, &mut self.ram).interrupt;
        }
        if self.mode == Mode::Interrupt && std::mem::take(&mut self.interrupt) {
            return if self.handle_interrupt() {
                Event::Interrupt
            } else {
                Event::WaitOver
            };
        }
        self.now = until;
        Event::WaitOver
    }

    fn exchange<C: Command>(&mut self, cmd: C) -> Result<Completed<C>, MailboxFault> {
        let request = Request {
            id: C::ID,
            addr: if size_of::<C>() == 0 { 0 } else { COMMAND },
            mode: self.mode,
            timeout_ms: TIMEOUT_MS,
        };
        let mut action = self.mailbox.start(request);
        let status = loop {
            let event = match action {
                Action::Done(outcome) => break outcome?,
                Action::Read => Event::Register(CmdResp::from_raw(self.read(self.map.cmdresp))),
                Action::Ring { lo, hi, cmdresp } => {
                    self.ram.write(COMMAND, cmd.as_bytes()).unwrap();
                    self.interrupt = false;
                    self.write(self.map.cmdbuf_lo, lo);
                    self.write(self.map.cmdbuf_hi, hi);
                    self.write(self.map.cmdresp, cmdresp.raw());
                    Event::Rung
                }
                Action::WaitInterrupt { ms } => self.pass(Duration::from_millis(ms.into())),
                Action::Delay { us } => self.pass(Duration::from_micros(us.into())),
            };
            action = self.mailbox.step(event);
        };
        let mut bytes = vec![0; size_of::<C>()];
        self.ram.read(COMMAND, &mut bytes).unwrap();
        Ok(Completed {
            status,
            sent: cmd,
            received: C::read_from_bytes(&bytes).unwrap(),
        })
    }

    fn call<C: Command>(&mut self, cmd: C) -> Result<C::Reply, ReplyError> {
        self.exchange(cmd).unwrap().reply()
    }

    fn state(&mut self) -> PlatformState {
        self.call(PlatformStatus::default()).unwrap().state
    }

    fn init(&mut self) {
        self.call(Init::new(Some(TMR))).unwrap();
        self.call(DfFlush).unwrap();
    }
}

#[test]
fn every_model_is_found_by_its_id_and_goes_through_its_life() {
    for model in MODELS {
        let mut host = Host::new(model, &[]);
        assert_eq!(host.state(), PlatformState::Uninit);
        // SEV-ES came with the second generation.
        host.call(Init::new(None)).unwrap();
        host.call(DfFlush).unwrap();
        assert_eq!(host.state(), PlatformState::Init);
        host.call(PdhGen).unwrap();
        host.call(Shutdown).unwrap();
        assert_eq!(host.state(), PlatformState::Uninit);
        host.call(PlatformReset).unwrap();
    }
}

#[test]
fn the_tmr_makes_the_platform_report_sev_es() {
    let mut host = Host::new(&MILAN, &[]);
    assert_eq!(TMR % u64::from(TMR_LEN), 0);
    host.init();
    let status = host.call(PlatformStatus::default()).unwrap();
    assert!(status.es && !status.owned);
}

#[test]
fn a_length_query_and_the_call_after_it_give_a_chain_of_certificates() {
    let mut host = Host::new(&MILAN, &[]);
    host.init();
    let query = host.exchange(PdhCertExport::new((0, 0), (0, 0))).unwrap();
    assert_eq!(query.status, FwStatus::INVALID_LEN);
    let (pdh_len, chain_len) = (query.received.pdh_len.get(), query.received.chain_len.get());

    let lens = host
        .call(PdhCertExport::new((A, pdh_len), (B, chain_len)))
        .unwrap();
    assert_eq!((lens.pdh, lens.chain), (pdh_len, chain_len));
    let mut pdh = vec![0; lens.pdh as usize];
    host.ram.read(A, &mut pdh).unwrap();
    SevCert::read_from_bytes(&pdh)
        .unwrap()
        .check(Usage::PDH)
        .unwrap();
    let mut chain = vec![0; lens.chain as usize];
    host.ram.read(B, &mut chain).unwrap();
    for (cert, usage) in chain
        .chunks(lens.pdh as usize)
        .zip([Usage::PEK, Usage::OCA, Usage::CEK])
    {
        SevCert::read_from_bytes(cert)
            .unwrap()
            .check(usage)
            .unwrap();
    }
}

#[test]
fn the_plan_for_a_state_is_one_the_firmware_agrees_with() {
    for start in [PlatformState::Uninit, PlatformState::Init] {
        let mut host = Host::new(&MILAN, &[]);
        if start == PlatformState::Init {
            host.init();
        }
        match prepare(PlatformReset::STATES, host.state()) {
            Prepare::Nothing => {}
            Prepare::Shutdown => host.call(Shutdown).unwrap(),
            other => panic!("{other:?}"),
        }
        host.call(PlatformReset).unwrap();

        match prepare(PekCsr::STATES, host.state()) {
            Prepare::InitThenShutdown => host.init(),
            other => panic!("{other:?}"),
        }
        assert_eq!(host.call(PekCsr::new(A, 2084)), Ok(2084));
    }
}

#[test]
fn a_command_costs_six_accesses() {
    let mut host = Host::new(&MILAN, &[]);
    host.state();
    host.state();
    assert_eq!(
        host.round,
        Accesses {
            reads: 2,
            writes: 4
        }
    );
}

#[test]
fn a_lost_interrupt_is_made_up_for() {
    let mut host = Host::new(&MILAN, &["lost-irq"]);
    assert_eq!(host.state(), PlatformState::Uninit);
    assert_eq!(host.mailbox.lost_interrupts(), 1);
    assert!(host.now < Duration::from_secs(1));
}

#[test]
fn polling_needs_no_interrupt() {
    let mut host = Host::new(&MILAN, &["late:20:any"]);
    host.mode = Mode::Poll;
    assert_eq!(host.state(), PlatformState::Uninit);
    assert_eq!(host.mailbox.lost_interrupts(), 0);
    assert!(host.now >= Duration::from_millis(20) && host.now < Duration::from_millis(25));
}

#[test]
fn a_late_answer_brings_the_psp_back() {
    let mut host = Host::new(&MILAN, &["late:7000:GET_ID:1"]);
    let late = host.exchange(GetId::new(A, 128));
    assert_eq!(late.unwrap_err(), MailboxFault::Timeout);
    assert_eq!(host.mailbox.health(), Health::Owed { left_us: 0 });
    let early = host.exchange(PlatformStatus::default());
    assert_eq!(early.unwrap_err(), MailboxFault::Dead);

    host.pass(Duration::from_secs(3));
    assert_eq!(host.state(), PlatformState::Uninit);
    assert_eq!(host.mailbox.health(), Health::Ready);
}

#[test]
fn silence_ends_after_the_timeout_and_nothing_more_is_sent() {
    let mut host = Host::new(&MILAN, &["no-response:GET_ID:1"]);
    let silent = host.exchange(GetId::new(A, 128));
    assert_eq!(silent.unwrap_err(), MailboxFault::Timeout);
    assert_eq!(host.now, Duration::from_millis(TIMEOUT_MS.into()));
    let writes = host.device.accesses().writes;
    let after = host.exchange(PlatformStatus::default());
    assert_eq!(after.unwrap_err(), MailboxFault::Dead);
    assert_eq!(host.device.accesses().writes, writes);
}

#[test]
fn all_ones_is_a_device_that_is_gone() {
    let mut host = Host::new(&MILAN, &["all-ones"]);
    let gone = host.exchange(PlatformStatus::default());
    assert_eq!(gone.unwrap_err(), MailboxFault::Gone);
}

#[test]
fn an_absurd_length_is_malformed_not_believed() {
    let mut host = Host::new(&MILAN, &["length:0xfffffff0:PEK_CSR"]);
    host.init();
    let offered = 2084;
    let malformed = Malformed::Length {
        offered,
        claimed: 0xffff_fff0,
    };
    assert_eq!(
        host.call(PekCsr::new(A, offered)),
        Err(ReplyError::Malformed(malformed))
    );
}

#[test]
fn an_unknown_status_keeps_its_number() {
    let mut host = Host::new(&MILAN, &["status:0x8004:PDH_GEN"]);
    host.init();
    let refused = ReplyError::Firmware(FwStatus::new(0x8004));
    assert_eq!(host.call(PdhGen), Err(refused));
}

#[test]
fn interrupts_for_nothing_cost_nothing() {
    for fault in ["early-irq", "double-irq"] {
        let mut host = Host::new(&MILAN, &[fault, "late:3:any"]);
        for _ in 0..5 {
            assert_eq!(host.state(), PlatformState::Uninit, "{fault}");
            // The second interrupt may come between two commands, or during the next.
            host.pass(Duration::from_micros(500));
        }
        assert_eq!(host.mailbox.lost_interrupts(), 0, "{fault}");
        assert!(
            host.now < Duration::from_millis(100),
            "{fault}: {:?}",
            host.now
        );
    }
}

#[test]
fn a_garbage_answer_is_a_status_or_none() {
    // With the response bit it is some firmware's unknown status, without it is no answer.
    let mut host = Host::new(&MILAN, &["garbage:0xdeadbeef:PLATFORM_STATUS"]);
    let done = host.exchange(PlatformStatus::default()).unwrap();
    assert_eq!(done.status, FwStatus::new(0xbeef));
    let mut host = Host::new(&MILAN, &["garbage:0x1234:PLATFORM_STATUS"]);
    let silent = host.exchange(PlatformStatus::default());
    assert_eq!(silent.unwrap_err(), MailboxFault::Timeout);
    let mut host = Host::new(&MILAN, &["garbage:0xffffffff:PLATFORM_STATUS"]);
    let gone = host.exchange(PlatformStatus::default());
    assert_eq!(gone.unwrap_err(), MailboxFault::Gone);
}
