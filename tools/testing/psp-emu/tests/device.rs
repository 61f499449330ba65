// SPDX-License-Identifier: GPL-2.0
//! The mailbox, interrupts and faults, with time made up.

mod common;

use common::{
    guests::guest_id::{ACTIVATE, DEACTIVATE, LAUNCH_START, LAUNCH_UPDATE_DATA},
    id,
    machine::{Machine, COMPLETE, IOC, NOW, READY},
    A, COMMAND,
};
use psp_emu::{
    device::{latency::Latency, Accesses, Outcome},
    firmware::Status,
    memory::GuestMemory,
    model::{MILAN, MODELS, NAPLES, TURIN},
};
use std::time::Duration;

#[test]
fn commands_run_on_every_models_registers() {
    // Offsets by hand from PPR tables: CMDRESP, address low, INTEN, INTSTS, capability, boot loader.
    for (model, [cmdresp, lo, inten, intsts, cap, bl]) in MODELS.into_iter().zip([
        [0x10580, 0x105e0, 0x10610, 0x10614, 0x105fc, 0x105ec],
        [0x10980, 0x109e0, 0x10690, 0x10694, 0x109fc, 0x109ec],
        [0x10980, 0x109e0, 0x10690, 0x10694, 0x109fc, 0x109ec],
        [0x10980, 0x109e0, 0x10690, 0x10694, 0x109fc, 0x109ec],
        [0x10980, 0x109e0, 0x10510, 0x10514, 0x109fc, 0x109ec],
    ]) {
        let mut machine = Machine::new(model, &[]);
        assert_eq!(machine.read(cap) & 1, 1, "SEV");
        assert_eq!(machine.read(bl), model.bootloader);
        assert_eq!(machine.read(cmdresp), READY);
        machine.write(inten, u32::MAX);
        machine.write(lo, 0x1000);
        machine.write(lo + 4, 0);
        let outcome = machine.write(cmdresp, 0x0004_0001);
        assert!(outcome.interrupt, "{}", model.name);
        assert_eq!(machine.read(cmdresp), READY);
        assert_eq!(machine.read(intsts), COMPLETE);
        machine.write(intsts, COMPLETE);
        assert_eq!(machine.read(intsts), 0);
        let mut version = [0; 2];
        machine.ram.read(0x1000, &mut version).unwrap();
        assert_eq!(version, [model.version.major, model.version.minor]);
    }
}

#[test]
fn status_comes_back_in_the_low_half() {
    let mut machine = Machine::new(&MILAN, &[]);
    machine.command(id::PEK_GEN, 0);
    assert_eq!(machine.response(), READY | 0x01);
    machine.command(0x7ff, 0);
    assert_eq!(machine.response(), READY | 0x11);
}

#[test]
fn the_high_half_of_the_address_counts() {
    let mut machine = Machine::new(&MILAN, &[]);
    machine.write(MILAN.registers.addr_lo, 0x1000);
    machine.write(MILAN.registers.addr_hi, 1);
    machine.write(MILAN.registers.cmdresp, 0x0004_0000);
    assert_eq!(machine.response(), READY | 0x09);
}

#[test]
fn interrupts_need_ioc_and_enable() {
    for (flags, enabled, interrupt, pending) in [
        (IOC, true, true, COMPLETE),
        (IOC, false, false, COMPLETE),
        (0, true, false, 0),
        (0, false, false, 0),
    ] {
        let mut machine = Machine::new(&TURIN, &[]);
        if enabled {
            machine.enable_interrupts();
        }
        assert_eq!(machine.command(id::NOP, flags).interrupt, interrupt);
        assert_eq!(machine.read(TURIN.registers.intsts), pending);
    }
}

#[test]
fn enabling_delivers_what_is_pending() {
    let mut machine = Machine::new(&MILAN, &[]);
    machine.command(id::NOP, IOC);
    assert!(
        !machine.write(MILAN.registers.inten, 1).interrupt,
        "another bit"
    );
    assert!(machine.write(MILAN.registers.inten, COMPLETE).interrupt);
    assert!(
        !machine.write(MILAN.registers.inten, COMPLETE).interrupt,
        "not twice"
    );
}

#[test]
fn writes_with_the_response_bit_are_no_commands() {
    let mut machine = Machine::new(&MILAN, &[]);
    let outcome = machine.write(MILAN.registers.cmdresp, READY | (4 << 16) | IOC);
    assert_eq!(outcome, Outcome::default());
}

#[test]
fn records_count_accesses_between_commands() {
    let mut machine = Machine::new(&MILAN, &[]);
    machine.read(0);
    machine.read(MILAN.registers.capability);
    let record = machine.command(id::NOP, IOC).records.remove(0);
    assert_eq!(
        (record.id, record.addr, record.time),
        (id::NOP, COMMAND, NOW)
    );
    assert_eq!(
        (record.status, record.interrupt),
        (Some(Status::SUCCESS), true)
    );
    assert_eq!(
        record.accesses,
        Accesses {
            reads: 2,
            writes: 3
        }
    );
    machine.response();
    let record = machine.command(id::NOP, 0).records.remove(0);
    assert_eq!(
        record.accesses,
        Accesses {
            reads: 1,
            writes: 3
        }
    );
    assert_eq!(machine.device.accesses(), Accesses::default());
}

#[test]
fn odd_accesses_read_bytes_and_write_nothing() {
    let mut machine = Machine::new(&MILAN, &[]);
    machine.write(MILAN.registers.addr_lo, 0x4433_2211);
    machine.write(MILAN.registers.addr_hi, 0x8877_6655);
    let mut bytes = [0; 8];
    machine
        .device
        .bar2_read(MILAN.registers.addr_lo, &mut bytes);
    assert_eq!(bytes, [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    let mut bytes = [0; 3];
    machine
        .device
        .bar2_read(MILAN.registers.addr_lo + 3, &mut bytes);
    assert_eq!(bytes, [0x44, 0x55, 0x66]);
    for (offset, len) in [(0, 1), (0, 2), (1, 4), (2, 4), (0, 3), (0, 16)] {
        let data = vec![0xff; len];
        machine.device.bar2_write(
            MILAN.registers.addr_lo + offset,
            &data,
            &mut machine.ram,
            NOW,
        );
    }
    assert_eq!(machine.read(MILAN.registers.addr_lo), 0x4433_2211);
    // A 64-bit write is two registers.
    machine
        .device
        .bar2_write(MILAN.registers.addr_lo, &[9; 8], &mut machine.ram, NOW);
    assert_eq!(machine.read(MILAN.registers.addr_hi), 0x0909_0909);
}

#[test]
fn reset_is_a_power_cycle() {
    let mut machine = Machine::new(&MILAN, &[]);
    machine.enable_interrupts();
    machine.command(id::INIT, IOC);
    machine.device.config_write(4, &[6, 0]);
    machine.device.reset();
    let map = MILAN.registers;
    for (offset, expected) in [
        (map.cmdresp, READY),
        (map.addr_lo, 0),
        (map.inten, 0),
        (map.intsts, 0),
    ] {
        assert_eq!(machine.read(offset), expected, "{offset:#x}");
    }
    let mut command = [0xff; 2];
    machine.device.config_read(4, &mut command);
    assert_eq!(command, [0, 0]);
    machine.command(id::PLATFORM_STATUS, 0);
    let mut state = [0xff];
    machine.ram.read(COMMAND + 2, &mut state).unwrap();
    assert_eq!(state, [0], "UNINIT");
}

#[test]
fn fault_all_ones_hides_the_registers() {
    let mut machine = Machine::new(&NAPLES, &["all-ones"]);
    assert_eq!(machine.read(NAPLES.registers.capability), u32::MAX);
    let outcome = machine.command(id::NOP, IOC);
    assert_eq!(outcome, Outcome::default());
    assert_eq!(machine.response(), u32::MAX);
}

#[test]
fn fault_stuck_busy_takes_no_command() {
    let mut machine = Machine::new(&MILAN, &["stuck-busy"]);
    assert_eq!(machine.response() & READY, 0);
    assert_eq!(machine.command(id::NOP, IOC), Outcome::default());
    assert_eq!(machine.response() & READY, 0);
    machine.device.faults.clear();
    assert_eq!(machine.response(), READY);
}

#[test]
fn fault_no_response_leaves_the_mailbox_busy_until_reset() {
    let mut machine = Machine::new(&MILAN, &["no-response:NOP:1"]);
    machine.enable_interrupts();
    let mut outcome = machine.command(id::NOP, IOC);
    assert!(!outcome.interrupt);
    let record = outcome.records.remove(0);
    assert_eq!((record.status, record.interrupt), (None, false));
    assert_eq!(machine.response(), 0x000e_0001);
    assert_eq!(machine.device.next_event(), None);
    assert_eq!(machine.tick(Duration::MAX), Outcome::default());
    assert_eq!(
        machine.command(id::NOP, IOC),
        Outcome::default(),
        "still busy"
    );
    machine.device.reset();
    machine.command(id::NOP, 0);
    assert_eq!(machine.response(), READY);
}

#[test]
fn fault_lost_irq_completes_silently() {
    let mut machine = Machine::new(&MILAN, &["lost-irq:any:1"]);
    machine.enable_interrupts();
    assert!(!machine.command(id::NOP, IOC).interrupt);
    assert_eq!(machine.response(), READY);
    assert_eq!(machine.read(MILAN.registers.intsts), 0);
    assert!(machine.command(id::NOP, IOC).interrupt, "once only");
}

#[test]
fn fault_late_completes_when_its_time_has_come() {
    let mut machine = Machine::new(&MILAN, &["late:50:NOP"]);
    machine.enable_interrupts();
    assert!(!machine.command(id::NOP, IOC).interrupt);
    assert_eq!(machine.response() & READY, 0);
    let due = NOW + Duration::from_millis(50);
    assert_eq!(machine.device.next_event(), Some(due));
    assert!(!machine.tick(due - Duration::from_nanos(1)).interrupt);
    assert_eq!(machine.response() & READY, 0);
    assert!(machine.tick(due).interrupt);
    assert_eq!(machine.response(), READY);
    assert_eq!(machine.device.next_event(), None);
    assert!(!machine.tick(due).interrupt, "not twice");
}

#[test]
fn commands_take_as_long_as_the_profile_says() {
    let mut machine = Machine::new(&MILAN, &["late:7:DEACTIVATE"]);
    machine.device.latency = Latency::HARDWARE;
    let mut run = |id, buffer: &[u8]| {
        machine.ram.write(COMMAND, buffer).unwrap();
        machine.command(id, 0);
        let due = machine.device.next_event().expect("not at once");
        machine.tick(due);
        (machine.response(), due - machine.now)
    };
    let us = Duration::from_micros;
    assert_eq!(run(id::INIT, &[0; 20]), (READY, us(200_000)));
    assert_eq!(run(id::DF_FLUSH, &[]), (READY, us(1_000)));
    assert_eq!(run(LAUNCH_START, &[0; 36]), (READY, us(4_000)));
    assert_eq!(run(ACTIVATE, &buffer![1u32, 100u32]), (READY, us(500)));
    let update = buffer![1u64, A, 0x5000u32];
    assert_eq!(run(LAUNCH_UPDATE_DATA, &update), (READY, us(100 + 5 * 480)));
    assert_eq!(run(DEACTIVATE, &[1, 0, 0, 0]), (READY, us(100 + 7_000)));
}

#[test]
fn fault_status_answers_without_running() {
    let mut machine = Machine::new(&MILAN, &["status:0x14:INIT:1"]);
    machine.command(id::INIT, 0);
    assert_eq!(machine.response(), READY | 0x14);
    machine.command(id::PEK_GEN, 0);
    assert_eq!(machine.response(), READY | 0x01, "not initialised");
    machine.command(id::INIT, 0);
    assert_eq!(machine.response(), READY);
}

#[test]
fn fault_length_lies_in_the_command_buffer() {
    let mut machine = Machine::new(&MILAN, &["length:0xffffffff:GET_ID"]);
    machine
        .ram
        .write(COMMAND, &common::address_and_length(A, 0))
        .unwrap();
    machine.command(id::GET_ID, 0);
    assert_eq!(machine.response(), READY | 0x04);
    let mut len = [0; 4];
    machine.ram.read(COMMAND + 8, &mut len).unwrap();
    assert_eq!(len, [0xff; 4]);
}

#[test]
fn fault_early_irq_interrupts_before_the_answer() {
    let mut machine = Machine::new(&MILAN, &["early-irq:NOP:1", "late:5:NOP"]);
    machine.enable_interrupts();
    assert!(machine.command(id::NOP, IOC).interrupt);
    assert_eq!(machine.response() & READY, 0, "no answer yet");
    assert!(machine.tick(NOW + Duration::from_millis(5)).interrupt);
    assert_eq!(machine.response(), READY);
    assert!(!machine.command(id::NOP, IOC).interrupt, "once only");
}

#[test]
fn fault_double_irq_interrupts_for_nothing() {
    let mut machine = Machine::new(&MILAN, &["double-irq"]);
    machine.enable_interrupts();
    assert!(machine.command(id::NOP, IOC).interrupt);
    machine.write(MILAN.registers.intsts, COMPLETE);
    let again = NOW + Duration::from_millis(1);
    assert_eq!(machine.device.next_event(), Some(again));
    assert!(machine.tick(again).interrupt);
    assert_eq!(machine.read(MILAN.registers.intsts), COMPLETE);
    assert_eq!(machine.device.next_event(), None);
    assert!(!machine.command(id::NOP, 0).interrupt);
    assert_eq!(
        machine.device.next_event(),
        None,
        "without the first no second"
    );
}

#[test]
fn fault_late_irq_delays_the_interrupt_alone() {
    let mut machine = Machine::new(&MILAN, &["late-irq:50:NOP"]);
    machine.enable_interrupts();
    let late = Duration::from_millis(50);
    assert!(!machine.command(id::NOP, IOC).interrupt);
    assert_eq!(machine.response(), READY, "answered");
    assert_eq!(machine.read(MILAN.registers.intsts), 0, "not pending");
    assert_eq!(machine.device.next_event(), Some(NOW + late));
    // Meanwhile there are others, each with an interrupt of its own.
    machine.now += late / 2;
    assert!(machine.command(id::DF_FLUSH, IOC).interrupt);
    machine.write(MILAN.registers.intsts, COMPLETE);
    assert!(!machine.command(id::NOP, IOC).interrupt);
    for (after, due) in [(late, true), (late, false), (late * 3 / 2, true)] {
        assert_eq!(machine.tick(NOW + after).interrupt, due, "{after:?}");
    }
    assert_eq!(machine.device.next_event(), None);
}

#[test]
fn fault_garbage_is_what_the_response_register_holds() {
    let mut machine = Machine::new(&MILAN, &["garbage:0xdeadbeef:NOP:1"]);
    machine.command(id::NOP, 0);
    assert_eq!(machine.response(), 0xdead_beef);
    machine.command(id::NOP, 0);
    assert_eq!(machine.response(), READY);
}

#[test]
fn fault_state_loss_leaves_what_is_in_flash() {
    let mut machine = Machine::new(&MILAN, &["state-loss:PDH_GEN:1"]);
    machine.ram.write(COMMAND, &[0; 20]).unwrap();
    for (command, expected) in [
        (id::INIT, 0),
        (id::PDH_GEN, 1),
        (id::INIT, 0),
        (id::PDH_GEN, 0),
    ] {
        machine.command(command, 0);
        assert_eq!(machine.response(), READY | expected, "{command:#x}");
    }
}
