// SPDX-License-Identifier: GPL-2.0
//! Any accesses to the PCI function: configuration space, registers, resets, time, faults.
//!
//! Wrong is: a panic; an event that is due and not done; another PCI id; a mailbox that takes no command after
//! a reset.

use super::{
    fields::{self, COMMANDS},
    machine::{World, A, C, COMMAND},
    ram::Ram,
};
use arbitrary::{Result, Unstructured};
use psp_emu::{
    device::{
        fault::{self, Fault},
        Device,
    },
    firmware::Encryption,
    model::MODELS,
};
use std::time::Duration;

/// Besides the examples of all faults.
const FAULTS: [&str; 3] = ["no-response:any:1", "late:5:any:3", "forgotten:any:2"];
const MAX_STEPS: usize = 64;
const RESPONSE: u32 = 1 << 31;

/// Runs an input.
///
/// # Panics
///
/// When something is wrong.
pub fn run(input: &[u8]) {
    // An input that is too short ends early.
    let _ = steps(&mut Unstructured::new(input));
}

fn steps(u: &mut Unstructured<'_>) -> Result<()> {
    let model = *u.choose(&MODELS)?;
    let firmware = World::get().firmware(model, Encryption::Aes);
    let faults: Vec<_> = fault::FAULTS
        .iter()
        .map(|known| known.example)
        .chain(FAULTS)
        .collect();
    let faults: Vec<Fault> = (0..u.int_in_range(0..=2u8)?)
        .map(|_| Ok(u.choose(&faults)?.parse().expect("a fault")))
        .collect::<Result<_>>()?;
    let mut device = Device::new(model, firmware, faults.into());
    let mut ram = Ram::new();
    let mut now = Duration::ZERO;
    let map = model.registers;
    let registers = [map.cmdresp, map.addr_lo, map.addr_hi, map.inten, map.intsts];
    for _ in 0..MAX_STEPS {
        if u.is_empty() {
            break;
        }
        now += Duration::from_millis(u.int_in_range(0..=20)?);
        let offset = match u.ratio(7, 8)? {
            true => *u.choose(&registers)?,
            false => u.arbitrary()?,
        };
        match u.int_in_range(0..=9u8)? {
            0..=3 => {
                let (id, fields) = *u.choose(COMMANDS)?;
                ram.poke(COMMAND, &fields::buffer(u, fields)?);
                let mut write = |offset, value: u32| {
                    let _ = device.bar2_write(offset, &value.to_le_bytes(), &mut ram, now);
                };
                // CAST: below 4 GiB.
                write(map.addr_lo, COMMAND as u32);
                write(map.addr_hi, 0);
                write(
                    map.cmdresp,
                    (u32::from(id) << 16) | u32::from(u.arbitrary::<bool>()?),
                );
            }
            4 => {
                // A few commands in each queue, the tails behind them, and the control word of ring buffer mode.
                for queue in [A, C] {
                    for entry in 0..4 {
                        let (id, _) = *u.choose(COMMANDS)?;
                        let flags: u16 = u.int_in_range(0..=3)?;
                        ram.poke(
                            queue + entry * 16,
                            &[id.to_le_bytes(), flags.to_le_bytes()].concat(),
                        );
                        ram.poke(queue + entry * 16 + 8, &COMMAND.to_le_bytes());
                    }
                }
                let mut write = |offset, value: u32| {
                    let _ = device.bar2_write(offset, &value.to_le_bytes(), &mut ram, now);
                };
                write(map.addr_hi, u.arbitrary::<u32>()? & 0x00ff_00ff);
                write(map.cmdresp, u.arbitrary::<u32>()? | (3 << 30));
            }
            5 => {
                let len = u.int_in_range(0..=16usize)?;
                let data = u.bytes(len.min(u.len()))?;
                let _ = device.bar2_write(offset, data, &mut ram, now);
            }
            6 => device.bar2_read(offset, &mut vec![0; u.int_in_range(0..=16)?]),
            7 => {
                let at = u.int_in_range(0..=0x1010u64)?;
                let len = u.int_in_range(0..=16usize)?;
                device.config_write(at, u.bytes(len.min(u.len()))?);
                device.config_read(at, &mut vec![0; len]);
            }
            8 => device.config_read(u.arbitrary()?, &mut vec![0; u.int_in_range(0..=300)?]),
            _ if u.ratio(1, 8)? => device.reset(),
            _ => {}
        }
        let _ = device.tick(now, &mut ram);
        let next = device.next_event();
        assert!(next.is_none_or(|due| due > now), "{next:?} at {now:?}");
    }
    device.faults.clear();
    device.reset();
    let mut identity = [0; 4];
    device.config_read(0, &mut identity);
    let [low, high] = model.device_id.to_le_bytes();
    assert_eq!(identity, [0x22, 0x10, low, high]);
    let _ = device.bar2_write(map.cmdresp, &(0x002u32 << 16).to_le_bytes(), &mut ram, now);
    let mut answer = [0; 4];
    device.bar2_read(map.cmdresp, &mut answer);
    assert_eq!(
        u32::from_le_bytes(answer),
        RESPONSE,
        "SHUTDOWN after a reset"
    );
    Ok(())
}
