// SPDX-License-Identifier: GPL-2.0
//! Faults that leave a firmware or a device other than it was, and where all of them are listed.

mod common;

use common::{
    guests::guest_id::LAUNCH_UPDATE_DATA,
    id,
    machine::{Machine, COMPLETE, IOC, NOW, READY},
    ring::*,
    COMMAND,
};
use psp_emu::{
    device::{fault::FAULTS, latency::Latency, Outcome},
    memory::GuestMemory,
    model::MILAN,
};
use std::{process::Command, time::Duration};

const DOCUMENTATION: &str = include_str!("../../../../Documentation/psp-emu.rst");

#[test]
fn fault_spurious_irq_interrupts_with_nothing_pending() {
    let mut machine = Machine::new(&MILAN, &["spurious-irq:NOP:1"]);
    machine.enable_interrupts();
    assert!(machine.command(id::NOP, IOC).interrupt);
    assert_eq!(machine.read(MILAN.registers.intsts), 0);
    assert_eq!(machine.response() & READY, 0, "still running");
    let due = NOW + Duration::from_millis(1);
    assert_eq!(machine.device.next_event(), Some(due));
    assert!(machine.tick(due).interrupt, "its own comes, too");
    assert_eq!(machine.read(MILAN.registers.intsts), COMPLETE);
    assert_eq!(machine.response(), READY);
    assert_eq!(machine.device.next_event(), None);
}

#[test]
fn an_interrupt_that_is_too_early_leaves_time_to_look() {
    let mut machine = Machine::new(&MILAN, &["early-irq"]);
    machine.enable_interrupts();
    assert!(machine.command(id::NOP, IOC).interrupt);
    assert_eq!(machine.read(MILAN.registers.intsts), COMPLETE);
    assert_eq!(machine.response() & READY, 0);
    assert!(machine.tick(NOW + Duration::from_millis(1)).interrupt);
}

#[test]
fn fault_spurious_irq_is_silent_while_interrupts_are_off() {
    let mut machine = Machine::new(&MILAN, &["spurious-irq"]);
    assert!(!machine.command(id::NOP, IOC).interrupt);
}

#[test]
fn fault_slow_multiplies_the_profiles_time() {
    for (profile, expected) in [
        (Latency::NONE, 3_000),
        (Latency::HARDWARE, 3_000),
        (Latency::SLOW, 30_000),
    ] {
        let mut machine = Machine::new(&MILAN, &["slow:3:DF_FLUSH", "late:7:PLATFORM_STATUS"]);
        machine.device.latency = profile;
        machine.command(id::DF_FLUSH, 0);
        let due = machine.device.next_event().unwrap();
        assert_eq!(due - NOW, Duration::from_micros(expected));
        machine.tick(due);
        machine.command(id::NOP, 0);
        let usual = NOW + profile.of(id::NOP, 0);
        assert_eq!(
            machine.device.next_event(),
            (profile != Latency::NONE).then_some(usual),
            "another command"
        );
    }
    // Whatever the numbers are.
    let mut machine = Machine::new(&MILAN, &["slow:0xffffffff", "late:0xffffffff"]);
    machine.device.latency = Latency::SLOW;
    machine.command(LAUNCH_UPDATE_DATA, 0);
    assert_eq!(machine.response() & READY, 0);
}

#[test]
fn fault_forgotten_never_completes_and_the_next_command_is_taken() {
    let mut machine = Machine::new(&MILAN, &["forgotten:PDH_GEN:1"]);
    machine.enable_interrupts();
    machine.ram.write(COMMAND, &[0; 20]).unwrap();
    machine.command(id::INIT, 0);
    let mut outcome = machine.command(id::PDH_GEN, IOC);
    let record = outcome.records.remove(0);
    assert_eq!((record.status, record.interrupt), (None, false));
    assert_eq!(machine.device.next_event(), None);
    assert_eq!(machine.tick(Duration::MAX), Outcome::default());
    assert_eq!(machine.response(), 0x0009_0001, "no response bit");
    for (command, expected) in [(id::PDH_GEN, 1), (id::INIT, 0), (id::PDH_GEN, 0)] {
        machine.command(command, 0);
        assert_eq!(machine.response(), READY | expected, "{command:#x}");
    }
}

#[test]
fn fault_forgotten_takes_the_queues_along() {
    let mut host = Host::new(PARAMETERS);
    host.fault("forgotten:NOP:1");
    host.low(id::NOP, INTERRUPT);
    host.low(id::DF_FLUSH, INTERRUPT);
    let outcome = host.go(0);
    assert_eq!((ids(&outcome), outcome.interrupt), (vec![id::NOP], false));
    assert_eq!((host.low_status(0), host.low_status(1)), (UNTOLD, UNTOLD));
    host.machine.command(id::PDH_GEN, 0);
    assert_eq!(host.machine.response(), READY | 0x01, "UNINIT");
}

#[test]
fn fault_vanish_leaves_nothing_to_talk_to_until_reset() {
    let mut machine = Machine::new(&MILAN, &["vanish:DF_FLUSH"]);
    machine.enable_interrupts();
    machine.command(id::NOP, IOC);
    assert_eq!(machine.response(), READY);
    let mut outcome = machine.command(id::DF_FLUSH, IOC);
    assert!(!outcome.interrupt);
    assert_eq!(outcome.records.remove(0).status, None);
    assert_eq!(machine.command(id::NOP, IOC), Outcome::default());
    let map = MILAN.registers;
    for register in [map.cmdresp, map.addr_lo, map.inten, map.intsts, 0] {
        assert_eq!(machine.read(register), u32::MAX, "{register:#x}");
    }
    let mut identity = [0; 4];
    machine.device.config_write(4, &[6, 0]);
    machine.device.config_read(0, &mut identity);
    assert_eq!(identity, [0xff; 4]);
    assert_eq!(machine.device.next_event(), None);
    machine.device.reset();
    machine.device.config_read(0, &mut identity);
    assert_eq!(identity[..2], [0x22, 0x10]);
    machine.command(id::NOP, 0);
    assert_eq!(machine.response(), READY);
}

/// The first column of the table of faults.
fn documented() -> Vec<&'static str> {
    let (_, section) = DOCUMENTATION.split_once("\nFaults\n======\n").unwrap();
    let table = section.split("\n\n").find(|part| part.starts_with("==="));
    let rows = table.unwrap().lines();
    let rows = rows.filter_map(|line| line.strip_prefix("``"));
    rows.map(|row| row.split_once("``").unwrap().0).collect()
}

#[test]
fn documentation_has_the_faults_that_there_are() {
    let known: Vec<String> = FAULTS.iter().map(|fault| fault.to_string()).collect();
    assert_eq!(documented(), known);
}

#[test]
fn help_lists_all_faults_and_needs_nothing_else() {
    for arguments in [&["--fault", "help"][..], &["--fault=help", "--frobnicate"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_psp-emu"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let printed = String::from_utf8(output.stdout).unwrap();
        for fault in &FAULTS {
            for part in [&fault.to_string(), fault.effect, fault.example] {
                assert!(printed.contains(part), "{part} in {printed}");
            }
        }
    }
}
