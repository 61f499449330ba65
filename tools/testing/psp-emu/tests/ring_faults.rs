// SPDX-License-Identifier: GPL-2.0
//! The ring buffer mode when something goes wrong or takes its time, and with any bytes in queues and registers.

mod common;

use common::{
    id,
    machine::{IOC, NOW, READY},
    ring::*,
    A, COMMAND,
};
use proptest::{collection::vec, prelude::*};
use psp_emu::{
    device::{latency::Latency, Outcome, Queue},
    firmware::Status,
    memory::{GuestMemory, VecMemory},
    model::GENOA,
};
use std::time::Duration;

#[test]
fn reset_ends_the_mode() {
    let mut host = Host::new(PARAMETERS);
    host.fault("late:5");
    host.low(id::NOP, 0);
    host.go(0);
    host.machine.device.faults.clear();
    host.machine.device.reset();
    assert_eq!((host.machine.response(), host.heads()), (READY, 0));
    assert_eq!(host.machine.device.next_event(), None);
    host.mailbox_works();
}

#[test]
fn queues_that_are_no_longer_ram_stand_still() {
    for end in [LOW_COMMANDS, LOW_STATUSES] {
        let mut host = Host::new(PARAMETERS);
        host.low(id::PDH_GEN, INTERRUPT);
        let ram = host.machine.ram.clone();
        host.machine.ram = VecMemory::new(0, end as usize);
        // With one of the ends its commands can be read, but not answered.
        assert_eq!(host.go(0), Outcome::default());
        assert_eq!(host.heads(), BOTH);
        host.machine.ram = ram;
        assert_eq!(ids(&host.go(0)), [id::PDH_GEN]);
    }
}

#[test]
fn late_commands_hold_up_those_behind_them() {
    let mut host = Host::new(PARAMETERS);
    host.fault("late:50:NOP");
    host.low(id::NOP, INTERRUPT);
    host.low(id::DF_FLUSH, 0);
    host.low(id::NOP, INTERRUPT);
    let outcome = host.go(0);
    assert_eq!((ids(&outcome), outcome.interrupt), (vec![id::NOP], false));
    assert_eq!((host.heads(), host.low_status(0)), (BOTH, UNTOLD));
    let first = NOW + Duration::from_millis(50);
    let second = first + Duration::from_millis(50);
    assert_eq!(host.machine.device.next_event(), Some(first));
    let before = first - Duration::from_nanos(1);
    assert_eq!(host.machine.tick(before), Outcome::default());
    // Woken up late, which must not make the next one later.
    let outcome = host.machine.tick(first + Duration::from_millis(7));
    assert_eq!(
        (ids(&outcome), outcome.interrupt),
        (vec![id::DF_FLUSH, id::NOP], true)
    );
    assert_eq!((host.heads(), host.low_status(1)), (BOTH | DONE | 2, 0));
    assert_eq!(host.machine.device.next_event(), Some(second));
    assert!(host.machine.tick(second).interrupt);
    assert_eq!(host.heads(), BOTH | DONE | 3);
    assert_eq!(host.machine.device.next_event(), None);
}

#[test]
fn what_is_written_meanwhile_counts_once_the_command_has_completed() {
    let mut host = Host::new(PARAMETERS);
    host.fault("late:50:PDH_GEN");
    host.low(id::PDH_GEN, 0);
    host.low(id::NOP, 0);
    host.go(0);
    host.high(id::DF_FLUSH, 0);
    assert_eq!(host.go(0), Outcome::default());
    let due = host.machine.device.next_event().unwrap();
    assert_eq!(ids(&host.machine.tick(due)), [id::DF_FLUSH, id::NOP]);

    // Leaving.
    host.low(id::PDH_GEN, 0);
    host.low(id::NOP, 0);
    host.go(0);
    assert_eq!(host.machine.command(id::NOP, IOC), Outcome::default());
    let due = host.machine.device.next_event().unwrap();
    let outcome = host.machine.tick(due);
    assert_eq!(outcome.records[0].status, Some(Status::RB_MODE_EXITED));
    assert!(outcome.interrupt);
    assert_eq!((host.low_status(2), host.low_status(3)), (0, UNTOLD));
    assert_eq!(host.machine.response(), READY | 0x1f);
}

#[test]
fn a_mailbox_command_after_shutdown_from_a_queue_is_run() {
    let mut host = Host::new(PARAMETERS);
    host.fault("late:50:SHUTDOWN");
    host.low(id::SHUTDOWN, 0);
    host.go(0);
    host.machine.command(id::PEK_GEN, IOC);
    let due = host.machine.device.next_event().unwrap();
    let outcome = host.machine.tick(due);
    assert_eq!(
        (ids(&outcome), outcome.interrupt),
        (vec![id::PEK_GEN], true)
    );
    assert_eq!(host.machine.response(), READY | 0x01, "UNINIT");
    assert_eq!(host.low_status(0), 0);
}

#[test]
fn faults_strike_commands_in_queues() {
    let mut host = Host::new(PARAMETERS);
    host.fault("status:0x14:NOP:1");
    host.fault("lost-irq:DF_FLUSH");
    host.low(id::NOP, CONTINUE);
    host.low(id::DF_FLUSH, INTERRUPT);
    assert!(!host.go(0).interrupt);
    assert_eq!(host.low_status(0), 0x14);
    assert_eq!(host.heads(), BOTH | DONE | 2);
    assert_eq!(host.machine.read(GENOA.registers.intsts), 0);

    host.fault("no-response:PDH_GEN");
    host.low(id::PDH_GEN, INTERRUPT);
    host.low(id::NOP, INTERRUPT);
    let outcome = host.go(0);
    let record = &outcome.records[0];
    assert_eq!(
        (record.id, record.status, record.interrupt),
        (id::PDH_GEN, None, false)
    );
    assert_eq!(host.machine.device.next_event(), None);
    assert_eq!(host.go(0), Outcome::default(), "stuck");
    assert_eq!(host.heads(), BOTH | DONE | 2);

    let mut host = Host::new(PARAMETERS);
    host.fault("stuck-busy");
    host.low(id::NOP, INTERRUPT);
    assert_eq!(host.go(0), Outcome::default());
}

#[test]
fn commands_in_queues_take_as_long_as_the_profile_says() {
    let mut host = Host::new(PARAMETERS);
    host.machine.device.latency = Latency::HARDWARE;
    host.low(id::PDH_GEN, 0);
    host.low(id::DF_FLUSH, 0);
    host.go(0);
    let first = NOW + Duration::from_millis(20);
    assert_eq!(host.machine.device.next_event(), Some(first));
    host.machine.tick(first);
    let second = first + Duration::from_millis(1);
    assert_eq!(host.machine.device.next_event(), Some(second));
}

/// A page of entries that may make sense.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    // Commands that make keys take long and tell nothing more.
    let quick = vec![
        id::NOP,
        id::DF_FLUSH,
        id::PLATFORM_STATUS,
        id::GET_ID,
        id::INIT,
        id::RING_BUFFER,
    ];
    let id = prop_oneof![
        90 => prop::sample::select(quick),
        9 => 0x20_u16..,
        1 => Just(id::SHUTDOWN),
    ];
    let addr = prop_oneof![
        4 => Just(COMMAND), 1 => Just(LOW_COMMANDS), 1 => Just(A), 1 => any::<u64>(),
    ];
    let entry = (id, 0_u16..4, addr);
    vec(entry, 256).prop_map(|entries| {
        let entry = |(id, flags, addr): (u16, u16, u64)| buffer![id, flags, 0_u32, addr];
        entries.into_iter().flat_map(entry).collect()
    })
}

/// Mostly control words of the mode.
fn control() -> impl Strategy<Value = u32> {
    let bits = prop_oneof![3 => Just(0), 2 => any::<u32>()];
    prop_oneof![6 => bits.prop_map(|bits| GO | bits & 0x2000_0303), 1 => any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_queues_and_registers_are_harmless(
        low in entries(),
        high in entries(),
        sizes in prop::sample::select(vec![[1, 0], [1, 1]]),
        thresholds in any::<[u16; 3]>(),
        writes in vec((control(), any::<[u8; 4]>(), any::<u32>()), 1..12),
    ) {
        let [low_threshold, high_threshold, int_on_empty] = thresholds;
        let parameters =
            Parameters { sizes, low_threshold, high_threshold, int_on_empty, ..PARAMETERS };
        let mut host = Host::new(parameters);
        host.machine.ram.write(LOW_COMMANDS, &low).unwrap();
        host.machine.ram.write(HIGH_COMMANDS, &high).unwrap();
        let map = GENOA.registers;
        let mut heads = host.heads();
        for (control, tails, noise) in writes {
            host.machine.write(map.addr_hi, u32::from_le_bytes(tails));
            host.machine.write(map.addr_lo, noise);
            let outcome = host.control(control);
            if control & GO != GO {
                prop_assert_eq!(host.machine.response(), READY | 0x1f);
                prop_assert!(outcome.records.len() <= 1);
                break;
            }
            // Heads move by what was taken, and no further than the tails.
            let now = host.heads();
            for (shift, queue, tail) in [(0, Queue::Low, tails[0]), (16, Queue::High, tails[2])] {
                let [from, to] = [heads, now].map(|heads| (heads >> shift) as u8);
                let taken = outcome.records.iter().filter(|record| record.queue == Some(queue));
                prop_assert_eq!(taken.count(), usize::from(to.wrapping_sub(from)));
                prop_assert!(to.wrapping_sub(from) <= tail.wrapping_sub(from));
            }
            heads = now;
            if ids(&outcome).last() == Some(&id::SHUTDOWN) {
                break;
            }
        }
        host.machine.device.reset();
        host.mailbox_works();
    }

    #[test]
    fn late_queues_come_to_an_end(
        low in entries(),
        ms in 0_u32..5,
        steps in vec((control(), any::<u32>(), 0_u64..20), 1..20),
    ) {
        let mut host = Host::new(PARAMETERS);
        host.machine.ram.write(LOW_COMMANDS, &low).unwrap();
        host.fault(&format!("late:{ms}"));
        for (control, tails, pause) in steps {
            host.machine.write(GENOA.registers.addr_hi, tails);
            host.control(control);
            host.machine.now += Duration::from_millis(pause);
            let now = host.machine.now;
            host.machine.tick(now);
            prop_assert!(host.machine.device.next_event().is_none_or(|due| due > now));
        }
        let forever = Duration::from_secs(3600);
        host.machine.tick(forever);
        prop_assert_eq!(host.machine.device.next_event(), None);
    }
}
