// SPDX-License-Identifier: GPL-2.0
//! The driver core against the emulated device, in one process and without a clock.

mod virtual_host;

use psp::{
    cert::{SevCert, Usage},
    cmd::{
        platform::{GetId, PdhCertExport, PdhGen, PekCsr, PlatformReset, PlatformStatus, TMR_LEN},
        Malformed,
    },
    error::CmdError,
    host::Memory,
    mailbox::{Fault, Mode},
    platform::PlatformState,
    status::FwStatus,
};
use psp_emu::{
    device::Accesses,
    model::{MILAN, MODELS},
};
use std::{rc::Rc, time::Duration};
use virtual_host::{Core, World, TIMEOUTS_MS};
use zerocopy::FromBytes;

/// A driver on a Milan.
fn milan(faults: &[&str]) -> (Rc<World>, Core) {
    let world = World::new(&MILAN, faults);
    let core = world.driver(true, false);
    (world, core)
}

fn state(core: &mut Core) -> PlatformState {
    core.status().unwrap().state
}

fn mailbox(fault: Fault) -> CmdError {
    CmdError::Mailbox(fault)
}

/// Asks for the id of the chip.
fn get_id(world: &Rc<World>, core: &mut Core) -> Result<FwStatus, CmdError> {
    let mut bufs = [world.alloc(128)];
    let cmd = GetId::new(bufs[0].as_ref().unwrap().psp_addr(), 128);
    Ok(core.send(cmd, &mut bufs)?.status)
}

#[test]
fn every_model_is_found_by_its_id_and_goes_through_its_life() {
    for model in MODELS {
        let world = World::new(model, &[]);
        // SEV-ES came with the second generation.
        let mut core = world.driver(false, false);
        assert_eq!(state(&mut core), PlatformState::Uninit);
        core.init().unwrap();
        assert_eq!(state(&mut core), PlatformState::Init);
        core.call(PdhGen).unwrap();
        core.shutdown().unwrap();
        assert_eq!(state(&mut core), PlatformState::Uninit);
        core.call(PlatformReset).unwrap();
    }
}

#[test]
fn the_tmr_makes_the_platform_report_sev_es() {
    let (world, mut core) = milan(&[]);
    assert_eq!(world.ledger().tmr_len, Some(TMR_LEN as usize));
    core.init().unwrap();
    let status = core.status().unwrap();
    assert!(status.es && !status.owned);
    core.shutdown().unwrap();
}

#[test]
fn a_length_query_and_the_call_after_it_give_a_chain_of_certificates() {
    let (world, mut core) = milan(&[]);
    core.init().unwrap();
    let query = core
        .send(PdhCertExport::new((0, 0), (0, 0)), &mut [])
        .unwrap();
    assert_eq!(query.status, FwStatus::INVALID_LEN);
    let (pdh_len, chain_len) = (query.received.pdh_len.get(), query.received.chain_len.get());

    let mut bufs = [pdh_len, chain_len].map(|len| world.alloc(len as usize));
    let [pdh, chain] = bufs.each_ref().map(|buf| buf.as_ref().unwrap().psp_addr());
    let cmd = PdhCertExport::new((pdh, pdh_len), (chain, chain_len));
    let lens = core.send(cmd, &mut bufs).unwrap().reply().unwrap();
    assert_eq!((lens.pdh, lens.chain), (pdh_len, chain_len));
    let [pdh, chain] = bufs.map(|buf| buf.unwrap().bytes());
    SevCert::read_from_bytes(&pdh)
        .unwrap()
        .check(Usage::PDH)
        .unwrap();
    for (cert, usage) in chain
        .chunks(pdh.len())
        .zip([Usage::PEK, Usage::OCA, Usage::CEK])
    {
        SevCert::read_from_bytes(cert)
            .unwrap()
            .check(usage)
            .unwrap();
    }
    core.shutdown().unwrap();
}

#[test]
fn the_plan_for_a_state_is_one_the_firmware_agrees_with() {
    for start in [PlatformState::Uninit, PlatformState::Init] {
        let (world, mut core) = milan(&[]);
        if start == PlatformState::Init {
            core.init().unwrap();
        }
        core.prepared::<PlatformReset, _>(false, |core| core.call(PlatformReset))
            .unwrap()
            .unwrap();
        assert_eq!(state(&mut core), PlatformState::Uninit);

        let mut bufs = [world.alloc(2084)];
        let cmd = PekCsr::new(bufs[0].as_ref().unwrap().psp_addr(), 2084);
        let done = core.prepared::<PekCsr, _>(true, |core| core.send(cmd, &mut bufs));
        assert_eq!(done.unwrap().unwrap().reply(), Ok(2084));
        assert_eq!(state(&mut core), PlatformState::Uninit, "as it was found");
    }
}

#[test]
fn a_command_costs_six_accesses() {
    let (world, mut core) = milan(&[]);
    state(&mut core);
    state(&mut core);
    assert_eq!(
        world.machine().round,
        Accesses {
            reads: 2,
            writes: 4
        }
    );
}

#[test]
fn a_lost_interrupt_is_made_up_for() {
    let (world, mut core) = milan(&["late:5:any", "lost-irq"]);
    assert_eq!(state(&mut core), PlatformState::Uninit);
    assert_eq!(world.ledger().lost_interrupts, 1);
    assert_eq!(world.machine().now, Duration::from_millis(30));
}

#[test]
fn polling_needs_no_interrupt() {
    let (world, mut core) = milan(&["late:20:any"]);
    world.machine().mode = Mode::Poll;
    assert_eq!(state(&mut core), PlatformState::Uninit);
    assert_eq!(world.ledger().lost_interrupts, 0);
    let now = world.machine().now;
    assert!(now >= Duration::from_millis(20) && now < Duration::from_millis(25));
}

#[test]
fn a_late_answer_brings_the_psp_back() {
    let (world, mut core) = milan(&["late:7000:GET_ID:1"]);
    assert_eq!(get_id(&world, &mut core), Err(mailbox(Fault::Timeout)));
    assert!(core.is_dead());
    assert_eq!(core.status(), Err(mailbox(Fault::Dead)));

    world.machine().pass(Duration::from_secs(3));
    assert_eq!(state(&mut core), PlatformState::Uninit);
    assert!(!core.is_dead());
}

#[test]
fn silence_ends_after_the_timeout_and_nothing_more_is_sent() {
    let (world, mut core) = milan(&["no-response:GET_ID:1"]);
    assert_eq!(get_id(&world, &mut core), Err(mailbox(Fault::Timeout)));
    let first = Duration::from_millis(TIMEOUTS_MS[0].into());
    assert_eq!(world.machine().now, first);
    let writes = world.machine().device.accesses().writes;
    assert_eq!(core.status(), Err(mailbox(Fault::Dead)));
    assert_eq!(world.machine().device.accesses().writes, writes);
}

#[test]
fn all_ones_is_a_device_that_is_gone() {
    let (_world, mut core) = milan(&["all-ones"]);
    assert_eq!(core.status(), Err(mailbox(Fault::Gone)));
}

#[test]
fn an_absurd_length_is_malformed_not_believed() {
    let (world, mut core) = milan(&["length:0xfffffff0:PEK_CSR"]);
    core.init().unwrap();
    let offered = 2084;
    let mut bufs = [world.alloc(2084)];
    let cmd = PekCsr::new(bufs[0].as_ref().unwrap().psp_addr(), offered);
    let malformed = Malformed::Length {
        offered,
        claimed: 0xffff_fff0,
    };
    let reply = core.send(cmd, &mut bufs).unwrap().reply();
    assert_eq!(
        reply.map_err(CmdError::from),
        Err(CmdError::Malformed(malformed))
    );
    core.shutdown().unwrap();
}

#[test]
fn an_unknown_status_keeps_its_number() {
    let (_world, mut core) = milan(&["status:0x8004:PDH_GEN"]);
    core.init().unwrap();
    let refused = CmdError::Firmware(FwStatus::new(0x8004));
    assert_eq!(core.call(PdhGen), Err(refused));
    core.shutdown().unwrap();
}

#[test]
fn interrupts_for_nothing_cost_nothing() {
    for fault in ["early-irq", "spurious-irq", "double-irq", "late-irq:1"] {
        let (world, mut core) = milan(&[fault, "late:3:any"]);
        for _ in 0..5 {
            assert_eq!(state(&mut core), PlatformState::Uninit, "{fault}");
            // The second interrupt may come between two commands, or during the next.
            world.machine().pass(Duration::from_micros(500));
        }
        assert_eq!(world.ledger().lost_interrupts, 0, "{fault}");
        let now = world.machine().now;
        assert!(now < Duration::from_millis(100), "{fault}: {now:?}");
    }
}

#[test]
fn an_interrupt_that_comes_after_the_next_command_is_no_answer_to_it() {
    let (world, mut core) = milan(&["late-irq:40:PLATFORM_STATUS:1", "late:20:any"]);
    for _ in 0..5 {
        let before = world.machine().now;
        assert_eq!(state(&mut core), PlatformState::Uninit);
        let took = world.machine().now - before;
        assert!(took <= Duration::from_millis(31), "{took:?}");
    }
    assert_eq!(world.ledger().lost_interrupts, 1, "the late one");
}

#[test]
fn a_garbage_answer_is_a_status_or_none() {
    // With the response bit it is some firmware's unknown status, without it is no answer.
    for (fault, expected) in [
        (
            "garbage:0xdeadbeef:PLATFORM_STATUS",
            CmdError::Firmware(FwStatus::new(0xbeef)),
        ),
        ("garbage:0x1234:PLATFORM_STATUS", mailbox(Fault::Timeout)),
        ("garbage:0xffffffff:PLATFORM_STATUS", mailbox(Fault::Gone)),
    ] {
        let (_world, mut core) = milan(&[fault]);
        assert_eq!(core.call(PlatformStatus::default()), Err(expected));
    }
}
