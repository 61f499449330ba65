// SPDX-License-Identifier: GPL-2.0
//! The ring buffer mode: parameters, queues, interrupts, ways out.

mod common;

use common::{
    address_and_length, id,
    machine::{Machine, COMPLETE, IOC, NOW, READY},
    ring::*,
    COMMAND, RAM_LEN, TMR,
};
use psp_emu::{
    device::{Outcome, Queue, Record},
    firmware::Status,
    memory::GuestMemory,
    model::{GENOA, MILAN, NAPLES, ROME, TURIN},
    trace::Trace,
};

#[test]
fn models_before_genoa_do_not_offer_it() {
    for (model, expected) in [
        (&NAPLES, READY | 0x15),
        (&ROME, READY | 0x15),
        (&MILAN, READY | 0x15),
        (&GENOA, READY),
        (&TURIN, READY),
    ] {
        let mut host = Host::without_mode(model);
        assert_eq!(host.enter(PARAMETERS), expected, "{}", model.name);
    }
}

#[test]
fn it_needs_init() {
    let mut machine = Machine::new(&GENOA, &[]);
    machine.ram.write(COMMAND, &PARAMETERS.bytes()).unwrap();
    machine.command(id::RING_BUFFER, 0);
    assert_eq!(machine.response(), READY | 0x01);
    machine.command(id::NOP, 0);
    assert_eq!(machine.response(), READY);
}

#[test]
fn bad_parameters_are_refused() {
    let end = RAM_LEN as u64;
    let mut host = Host::without_mode(&GENOA);
    let sizes = |sizes| Parameters {
        sizes,
        ..PARAMETERS
    };
    let low = |commands, statuses| Parameters {
        low: [commands, statuses],
        ..PARAMETERS
    };
    let high = |commands, statuses| Parameters {
        high: [commands, statuses],
        ..PARAMETERS
    };
    for (what, parameters, status) in [
        ("no low queue", sizes([0, 1]), 0x16),
        ("no queue at all", sizes([0, 0]), 0x16),
        ("two low pages", sizes([2, 1]), 0x16),
        ("two high pages", sizes([1, 2]), 0x16),
        ("misaligned", low(LOW_COMMANDS + 16, LOW_STATUSES), 0x09),
        ("misaligned", low(LOW_COMMANDS, LOW_STATUSES + 0x800), 0x09),
        ("misaligned", high(HIGH_COMMANDS + 1, HIGH_STATUSES), 0x09),
        ("misaligned", high(HIGH_COMMANDS, HIGH_STATUSES + 16), 0x09),
        ("no RAM", low(end, LOW_STATUSES), 0x09),
        ("no RAM", low(LOW_COMMANDS, end), 0x09),
        ("no RAM", high(!0xfff, HIGH_STATUSES), 0x09),
        ("no RAM", high(HIGH_COMMANDS, !0xfff), 0x09),
    ] {
        assert_eq!(host.enter(parameters), READY | status, "{what}");
        host.mailbox_works();
    }
    // Without a high priority queue nobody looks at where it would be.
    let low_only = Parameters {
        sizes: [1, 0],
        high: [1, 1],
        ..PARAMETERS
    };
    assert_eq!(host.enter(low_only), READY);
}

#[test]
fn queues_do_not_lie_in_the_tmr() {
    let mut machine = Machine::new(&GENOA, &[]);
    let init = buffer![1_u32, 0_u32, TMR, 0x10_0000_u32];
    machine.ram.write(COMMAND, &init).unwrap();
    machine.command(id::INIT, 0);
    assert_eq!(machine.response(), READY);
    for (at, status) in [
        (TMR, 0x09),
        (TMR + 0xf_f000, 0x09),
        (TMR - 0x1000, 0),
        (TMR + 0x10_0000, 0),
    ] {
        for low in [[at, LOW_STATUSES], [LOW_COMMANDS, at]] {
            let parameters = Parameters { low, ..PARAMETERS };
            machine.ram.write(COMMAND, &parameters.bytes()).unwrap();
            machine.command(id::RING_BUFFER, 0);
            assert_eq!(machine.response(), READY | status, "{at:#x}");
            // Leaves the mode, if that was it.
            machine.command(id::NOP, 0);
        }
    }
}

#[test]
fn the_c_bit_is_ignored() {
    let c_bit = 1 << GENOA.c_bit;
    let mut host = Host::new(Parameters {
        low: [LOW_COMMANDS | c_bit, LOW_STATUSES | c_bit],
        ..PARAMETERS
    });
    host.low(id::NOP, 0);
    host.go(0);
    assert_eq!(host.low_status(0), 0);
}

#[test]
fn registers_show_which_queues_run() {
    for (sizes, heads) in [([1, 1], BOTH), ([1, 0], LOW_ONLY)] {
        let mut host = Host::new(Parameters {
            sizes,
            ..PARAMETERS
        });
        assert_eq!(host.heads(), heads);
        assert_eq!(host.machine.read(GENOA.registers.addr_hi), 0);
        host.go(0);
        assert_eq!(host.heads(), heads, "nothing to do");
    }
}

#[test]
fn commands_run_with_their_buffers() {
    let mut host = Host::new(PARAMETERS);
    host.low(id::PLATFORM_STATUS, 0);
    host.low(id::GET_ID, CONTINUE);
    host.machine.ram.write(COMMAND, &[0xff; 12]).unwrap();
    let mut outcome = host.go(0);
    let mut version = [0; 2];
    host.machine.ram.read(COMMAND, &mut version).unwrap();
    assert_eq!(version, [GENOA.version.major, GENOA.version.minor]);
    // Status, then bytes that stay as they are, then no error stack.
    let mut entry = [0; 16];
    host.machine.ram.read(LOW_STATUSES, &mut entry).unwrap();
    let expected = common::hex("0000 eeee eeeeeeee 0000000000000000");
    assert_eq!(entry, *expected);
    assert_eq!(host.heads(), BOTH | 2);
    let record = outcome.records.remove(0);
    assert_eq!(
        (record.id, record.addr, record.time, record.queue),
        (id::PLATFORM_STATUS, COMMAND, NOW, Some(Queue::Low))
    );
    assert_eq!(record.status, Some(Status::SUCCESS));
    assert_eq!(outcome.records.len(), 1);
    assert_eq!(host.machine.response(), GO, "the control register stays");
}

#[test]
fn the_trace_names_the_queue() {
    let mut host = Host::new(PARAMETERS);
    host.low(id::NOP, 0);
    host.high(id::NOP, 0);
    let mut records = host.go(0).records;
    records.extend(host.machine.command(id::NOP, 0).records);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut trace = Trace::create(file.path(), &GENOA, GENOA.version).unwrap();
    for record in &records {
        trace.command(record).unwrap();
    }
    let text = std::fs::read_to_string(file.path()).unwrap();
    let lines = text.lines().skip(1);
    let queues: Vec<_> = lines
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["queue"].clone())
        .collect();
    assert_eq!(
        queues,
        ["high".into(), "low".into(), serde_json::Value::Null]
    );
}

#[test]
fn high_priority_comes_first() {
    let mut host = Host::new(PARAMETERS);
    host.low(id::DF_FLUSH, 0);
    host.low(id::NOP, 0);
    host.high(id::PDH_GEN, 0);
    host.high(id::PLATFORM_STATUS, 0);
    let outcome = host.go(0);
    let order = [id::PDH_GEN, id::PLATFORM_STATUS, id::DF_FLUSH, id::NOP];
    assert_eq!(ids(&outcome), order);
    let queues: Vec<_> = outcome.records.iter().map(|record| record.queue).collect();
    let (high, low) = (Some(Queue::High), Some(Queue::Low));
    assert_eq!(queues, [high, high, low, low]);
    assert_eq!(host.heads(), BOTH | (2 << 16) | 2);
    assert!(!outcome.interrupt, "nobody asked for one");
}

#[test]
fn queues_wrap_around_at_the_end_of_the_page() {
    let mut host = Host::new(PARAMETERS);
    let mut ran = 0;
    for (count, low_head) in [(255, 255), (1, 0), (200, 200), (100, 44)] {
        for _ in 0..count {
            host.low(id::NOP, 0);
        }
        ran += host.go(0).records.len();
        assert_eq!(host.heads(), BOTH | low_head);
    }
    assert_eq!(ran, 556);
    assert_eq!((host.low_status(255), host.low_status(0)), (0, 0));
    assert_eq!(host.high_status(0), UNTOLD);
}

#[test]
fn an_error_pauses_its_queue_until_the_handshake() {
    let mut host = Host::new(PARAMETERS);
    host.high(id::NOP, 0);
    host.high(0x7ff, 0);
    host.high(id::PDH_GEN, 0);
    host.low(id::NOP, 0);
    let outcome = host.go(0);
    assert_eq!(
        ids(&outcome),
        [id::NOP, 0x7ff, id::NOP],
        "the low queue goes on"
    );
    assert!(outcome.interrupt);
    assert_eq!(interrupts(&outcome), [false, true, false]);
    assert_eq!(host.heads(), LOW_ONLY | PAUSED | (2 << 16) | 1);
    assert_eq!((host.high_status(1), host.high_status(2)), (0x11, UNTOLD));

    assert_eq!(host.go(0), Outcome::default(), "still paused");
    assert_eq!(host.go(RESUME_LOW), Outcome::default(), "the other queue");
    assert_eq!(host.heads(), LOW_ONLY | PAUSED | (2 << 16) | 1);
    assert_eq!(
        host.go(RESUME_HIGH),
        Outcome::default(),
        "half the handshake"
    );
    assert_eq!(host.heads(), BOTH | PAUSED | (2 << 16) | 1);
    assert_eq!(ids(&host.go(0)), [id::PDH_GEN]);
    assert_eq!(host.heads(), BOTH | PAUSED | (3 << 16) | 1);

    host.low(0x7ff, 0);
    host.go(0);
    assert_eq!(host.heads(), HIGH_ONLY | PAUSED | (3 << 16) | 2);
    host.go(RESUME_LOW);
    assert_eq!(host.heads(), BOTH | PAUSED | (3 << 16) | 2);
}

#[test]
fn a_queue_asked_to_resume_waits_for_the_bit_to_clear() {
    let mut host = Host::new(PARAMETERS);
    host.low(id::NOP, 0);
    assert_eq!(host.go(RESUME_LOW), Outcome::default());
    assert_eq!(ids(&host.go(RESUME_HIGH)), [id::NOP]);
}

#[test]
fn a_queue_that_is_not_there_cannot_be_resumed() {
    let mut host = Host::new(Parameters {
        sizes: [1, 0],
        ..PARAMETERS
    });
    host.high(id::NOP, 0);
    for control in [0, RESUME_HIGH, 0] {
        assert_eq!(host.go(control), Outcome::default());
        assert_eq!(host.heads(), LOW_ONLY);
    }
}

#[test]
fn errors_do_not_pause_when_told_to_continue() {
    let mut host = Host::new(PARAMETERS);
    host.low(0x7ff, CONTINUE);
    host.low(id::NOP, 0);
    let outcome = host.go(0);
    assert_eq!(
        (ids(&outcome), outcome.interrupt),
        (vec![0x7ff, id::NOP], false)
    );
    assert_eq!(host.heads(), BOTH | 2);
    assert_eq!((host.low_status(0), host.low_status(1)), (0x11, 0));
}

#[test]
fn commands_interrupt_when_asked_and_enabled() {
    for enabled in [true, false] {
        let mut host = Host::new(PARAMETERS);
        if !enabled {
            host.machine.write(GENOA.registers.inten, 0);
        }
        host.low(id::NOP, 0);
        assert!(!host.go(0).interrupt);
        assert_eq!(host.machine.read(GENOA.registers.intsts), 0);
        host.low(id::NOP, INTERRUPT);
        let outcome = host.go(0);
        assert_eq!(outcome.interrupt, enabled);
        assert!(outcome.records[0].interrupt);
        assert_eq!(host.machine.read(GENOA.registers.intsts), COMPLETE);
        assert_eq!(host.heads(), BOTH | DONE | 2);
    }
}

#[test]
fn interrupt_bits_stay_until_cleared() {
    let mut host = Host::new(PARAMETERS);
    host.low(id::NOP, INTERRUPT);
    host.go(0);
    host.go(0);
    assert_eq!(host.heads(), BOTH | DONE | 1);
    assert!(!host.go(CLEAR).interrupt);
    assert_eq!(host.heads(), BOTH | 1);
    // The bit acts before each command, so it hides what earlier ones of the same run had to say.
    host.low(id::NOP, INTERRUPT);
    host.low(id::NOP, 0);
    assert!(host.go(CLEAR).interrupt);
    assert_eq!(host.heads(), BOTH | 3);
}

#[test]
fn a_near_empty_queue_interrupts_when_enabled() {
    let parameters = Parameters {
        low_threshold: 2,
        high_threshold: 1,
        ..PARAMETERS
    };
    // Three commands: the depth is 3, 2, 1 when each is taken, and 0 in the end.
    let mut host = Host::new(parameters);
    (0..3).for_each(|_| host.low(id::NOP, 0));
    let outcome = host.go(LOW_NEAR_EMPTY);
    assert_eq!(interrupts(&outcome), [false, false, true]);
    assert!(outcome.interrupt);
    assert_eq!(host.heads(), BOTH | NEAR_EMPTY | 3);
    assert!(host.go(LOW_NEAR_EMPTY).interrupt, "with no command, too");

    // Not enabled; or enabled for the other queue, which is below its threshold, too.
    for (control, interrupt) in [(0, false), (HIGH_NEAR_EMPTY, true)] {
        let mut host = Host::new(parameters);
        host.low(id::NOP, 0);
        assert_eq!(host.go(control).interrupt, interrupt);
        let bit = if interrupt { NEAR_EMPTY } else { 0 };
        assert_eq!(host.heads(), BOTH | bit | 1);
    }

    // With the high queue at its threshold and the low one not looked at, there is none.
    let mut host = Host::new(Parameters {
        low_threshold: 0,
        ..parameters
    });
    host.fault("no-response:NOP");
    host.high(id::NOP, 0);
    assert!(!host.go(HIGH_NEAR_EMPTY | LOW_NEAR_EMPTY).interrupt);
    assert_eq!(host.heads(), BOTH);
}

#[test]
fn depth_is_counted_across_the_end_of_the_page() {
    let mut host = Host::new(Parameters {
        low_threshold: 10,
        ..PARAMETERS
    });
    (0..250).for_each(|_| host.low(id::NOP, 0));
    host.go(0);
    (0..10).for_each(|_| host.low(id::NOP, 0));
    let outcome = host.go(LOW_NEAR_EMPTY);
    assert_eq!(interrupts(&outcome)[..2], [false, true]);
    assert_eq!(host.heads(), BOTH | NEAR_EMPTY | 4);
}

#[test]
fn empty_queues_interrupt_when_wanted() {
    let mut host = Host::new(Parameters {
        int_on_empty: 0xffff,
        ..PARAMETERS
    });
    host.low(id::NOP, 0);
    let outcome = host.go(0);
    assert!(outcome.interrupt);
    assert!(!outcome.records[0].interrupt, "not the command's");
    assert_eq!(host.heads(), BOTH | ALL_EMPTY | 1);
    assert!(host.go(0).interrupt, "each time there is nothing to do");
    let map = GENOA.registers;
    host.machine.write(map.intsts, COMPLETE);
    host.machine.write(map.inten, 0);
    assert!(!host.go(0).interrupt, "not enabled");
    assert_eq!(host.machine.read(map.intsts), COMPLETE);
    let mut host = Host::new(Parameters {
        int_on_empty: 0xfffe,
        ..PARAMETERS
    });
    assert!(!host.go(0).interrupt);
    assert_eq!(host.heads(), BOTH);
}

#[test]
fn a_second_ring_buffer_is_refused() {
    let mut host = Host::new(PARAMETERS);
    host.machine
        .ram
        .write(COMMAND, &PARAMETERS.bytes())
        .unwrap();
    host.low(id::RING_BUFFER, 0);
    host.go(0);
    assert_eq!(host.low_status(0), 0x16);
    assert_eq!(host.heads(), HIGH_ONLY | PAUSED | 1);
}

#[test]
fn a_mailbox_command_ends_the_mode_and_is_not_run() {
    let mut host = Host::new(PARAMETERS);
    host.low(id::NOP, 0);
    host.write_tails();
    let outcome = host.machine.command(id::SHUTDOWN, IOC);
    assert!(outcome.interrupt);
    assert_eq!(host.machine.response(), READY | 0x1f);
    let [Record {
        id: id::SHUTDOWN,
        status,
        interrupt: true,
        queue: None,
        ..
    }] = outcome.records[..]
    else {
        panic!("{:?}", outcome.records)
    };
    assert_eq!(status, Some(Status::RB_MODE_EXITED));
    assert_eq!(host.low_status(0), UNTOLD);
    host.mailbox_works();
    // Still initialised, so the mode can be had again, with everything as at first.
    assert_eq!(host.enter(PARAMETERS), READY);
    assert_eq!(host.heads(), BOTH);
}

#[test]
fn control_without_its_two_bits_ends_the_mode() {
    for control in [0x8000_0000, 0x4000_0000] {
        let mut host = Host::new(PARAMETERS);
        host.low(id::NOP, 0);
        host.write_tails();
        let outcome = host.control(control);
        assert!(!outcome.interrupt);
        // With bit 31 it cannot be a command.
        assert_eq!(outcome.records.is_empty(), control == 0x8000_0000);
        assert_eq!(host.machine.response(), READY | 0x1f);
        assert_eq!(host.low_status(0), UNTOLD);
        host.mailbox_works();
    }
}

#[test]
fn shutdown_from_a_queue_ends_the_mode() {
    let mut host = Host::new(PARAMETERS);
    host.high(id::SHUTDOWN, INTERRUPT);
    host.high(id::NOP, 0);
    host.low(id::NOP, 0);
    let outcome = host.go(0);
    assert_eq!(
        (ids(&outcome), outcome.interrupt),
        (vec![id::SHUTDOWN], true)
    );
    assert_eq!((host.high_status(0), host.high_status(1)), (0, UNTOLD));
    assert_eq!(host.heads(), BOTH | DONE | (1 << 16));
    assert_eq!(
        host.go(0),
        Outcome::default(),
        "a response, in mailbox mode"
    );
    host.mailbox_works();
}

#[test]
fn commands_do_not_reach_the_queues() {
    let mut host = Host::new(PARAMETERS);
    for page in [LOW_COMMANDS, LOW_STATUSES, HIGH_COMMANDS, HIGH_STATUSES] {
        for (at, status) in [(page - 63, 0x09), (page + 0xfff, 0x09)] {
            let buffer = address_and_length(at, 64);
            host.machine.ram.write(COMMAND, &buffer).unwrap();
            host.low(id::GET_ID, CONTINUE);
            let outcome = host.go(0);
            assert_eq!(outcome.records[0].status, Some(Status(status)), "{at:#x}");
        }
    }
    let buffer = address_and_length(LOW_COMMANDS - 64, 64);
    host.machine.ram.write(COMMAND, &buffer).unwrap();
    host.low(id::GET_ID, 0);
    assert_eq!(host.go(0).records[0].status, Some(Status::SUCCESS));
    // Their pages are free again afterwards.
    let buffer = address_and_length(LOW_COMMANDS, 64);
    host.control(0x8000_0000);
    host.machine.ram.write(COMMAND, &buffer).unwrap();
    host.machine.command(id::GET_ID, 0);
    assert_eq!(host.machine.response(), READY);
}
