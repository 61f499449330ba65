// SPDX-License-Identifier: GPL-2.0
//! Whatever a host does to guests in any state: a status, never a panic, and no effect of what was refused.

mod common;

use common::{
    guests::{Owner, ASID, ES_ASID, GUEST},
    id,
    states::{Made, GUEST_COMMANDS, LSECRET, LUPDATE, RUNNING, RUPDATE, SENT, SUPDATE, VMSA},
    Platform, A, B, CERT_LEN, COMMAND, RAM_LEN, TMR,
};
use proptest::{collection::vec, prelude::*};
use psp_emu::{
    firmware::{Override, Status},
    memory::{DmaError, GuestMemory, VecMemory},
    model::MILAN,
};
use std::cell::Cell;

const ES: u32 = 4;

/// RAM another CPU writes to all the time: seldom do two reads give the same.
struct RestlessMemory<'a> {
    memory: &'a mut VecMemory,
    reads: Cell<u8>,
}

impl GuestMemory for RestlessMemory<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        self.memory.read(addr, buf)?;
        let count = self.reads.get().wrapping_mul(29).wrapping_add(31);
        self.reads.set(count);
        let len = buf.len().max(1);
        if let Some(byte) = buf.get_mut(usize::from(count) % len) {
            *byte ^= count;
        }
        Ok(())
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        self.memory.write(addr, data)
    }

    fn is_writable(&self, addr: u64, len: u64) -> bool {
        self.memory.is_writable(addr, len)
    }
}

/// What a host tries.
#[derive(Clone, Debug)]
struct Step {
    command: u16,
    /// Which guest; beyond the last, one in whose state the command does.
    guest: usize,
    /// Changes of a command buffer that would do in the right state: number of the word, value, its length.
    changes: Vec<(usize, u64, usize)>,
    /// Changes of certificates, sessions, packets and metadata.
    pokes: Vec<(u64, u8)>,
    restless: Option<u8>,
}

/// Numbers that are likely to matter as an address, a length or flags, and any others.
fn number() -> impl Strategy<Value = u64> {
    let numbers = vec![
        0,
        1,
        3,
        4,
        8,
        15,
        16,
        52,
        128,
        CERT_LEN as u64,
        4096,
        0x4000,
        0x4010,
        A,
        B,
        GUEST,
        GUEST + 8,
        VMSA,
        TMR,
        TMR - 16,
        TMR + 0xf_f000,
        RAM_LEN as u64 - 16,
        RAM_LEN as u64,
        u64::MAX - 15,
        1 << 51,
        0xffff_fff0,
    ];
    prop_oneof![8 => prop::sample::select(numbers), 1 => any::<u64>()]
}

fn step() -> impl Strategy<Value = Step> {
    let mut commands = GUEST_COMMANDS.to_vec();
    commands.extend([id::DF_FLUSH, id::PDH_GEN, id::PEK_GEN]);
    let change = (0..17usize, number(), prop::sample::select(vec![4, 8]));
    let poke = (
        prop_oneof![A..A + 256, B..B + 256, A..A + 2084],
        any::<u8>(),
    );
    (
        prop::sample::select(commands),
        0..18usize,
        vec(
            change.prop_map(|(word, value, len)| (word * 4, value, len)),
            0..3,
        ),
        vec(poke, 0..2),
        prop::option::weighted(0.1, any::<u8>()),
    )
        .prop_map(|(command, guest, changes, pokes, restless)| Step {
            command,
            guest,
            changes,
            pokes,
            restless,
        })
}

/// State of the platform, and of all guests there can be.
fn states(psp: &mut Platform) -> Vec<(u32, u32, u8)> {
    let state = psp.state().0;
    let guests = (1..64).map(|handle| psp.guest(handle));
    guests.chain([(0, 0, state)]).collect()
}

/// The state in which a command does, if there is but one.
fn state_for(command: u16) -> u8 {
    match command {
        0x030..=0x033 => LUPDATE,
        0x034 | 0x035 => LSECRET,
        0x041..=0x044 => SUPDATE,
        0x050..=0x053 => RUPDATE,
        _ => RUNNING,
    }
}

impl Step {
    /// Puts everything into memory; the command buffer.
    fn prepare(&self, psp: &mut Platform, guests: &[Made<'_>]) -> Vec<u8> {
        let fits = || {
            guests
                .iter()
                .position(|guest| psp.guest(guest.handle).2 == state_for(self.command))
        };
        let number = (self.guest < guests.len())
            .then_some(self.guest)
            .or_else(fits);
        let guest = &guests[number.unwrap_or(0)];
        let mut buffer = match GUEST_COMMANDS.contains(&self.command) {
            true => psp.valid(self.command, guest),
            false => vec![],
        };
        for &(word, value, len) in &self.changes {
            let at = word * 4 % buffer.len().max(4);
            if let Some(field) = buffer.get_mut(at..at + len) {
                field.copy_from_slice(&value.to_le_bytes()[..len]);
            }
        }
        for &(addr, byte) in &self.pokes {
            psp.ram.write(addr, &[byte]).unwrap();
        }
        buffer
    }

    fn run(&self, psp: &mut Platform, buffer: &[u8]) -> Status {
        psp.ram.write(COMMAND, buffer).unwrap();
        let over = Override::default();
        match self.restless {
            None => psp
                .firmware
                .execute(self.command, COMMAND, &mut psp.ram, over),
            Some(seed) => {
                let reads = Cell::new(seed);
                let memory = &mut psp.ram;
                let mut memory = RestlessMemory { memory, reads };
                psp.firmware
                    .execute(self.command, COMMAND, &mut memory, over)
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, failure_persistence: None, ..Default::default() })]

    #[test]
    fn refused_commands_change_nothing(steps in vec(step(), 1..60)) {
        let mut psp = Platform::new(&MILAN);
        psp.init_for_guests();
        let owners = [0, ES].map(|policy| Owner::of(&mut psp, policy));
        let guests: Vec<Made<'_>> = (1..=SENT)
            .map(|state| match state % 2 {
                0 => psp.guest_in(state, &owners[0], (0, ASID + u32::from(state)), state != SENT),
                _ => psp.guest_in(state, &owners[1], (ES, ES_ASID + u32::from(state)), true),
            })
            .collect();
        let tmr = psp.read(TMR, 0x10_0000);
        for step in &steps {
            let buffer = step.prepare(&mut psp, &guests);
            let before = (states(&mut psp), psp.read(0x2000, RAM_LEN - 0x2000));
            let status = step.run(&mut psp, &buffer);
            prop_assert!(status.name().is_some(), "{step:?}: {status}");
            if status != Status::SUCCESS {
                let after = (states(&mut psp), psp.read(0x2000, RAM_LEN - 0x2000));
                prop_assert!(after == before, "{step:?}: {status}");
            }
        }
        prop_assert!(psp.read(TMR, 0x10_0000) == tmr);
        // It still works.
        psp.shutdown();
        psp.init_for_guests();
        psp.launch(0, ASID, &[1; 16]);
    }
}
