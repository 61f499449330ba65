// SPDX-License-Identifier: GPL-2.0
//! Any commands, one after another, on a platform that has guests in any states.
//!
//! Wrong is: a panic; a status without a name; a refused command that writes to RAM or changes a state; a
//! command that writes to the TMR; a number of guests that is not that of the handles in use.

use super::{
    fields::{self, COMMANDS},
    machine::{World, A, B, CERT_LEN, COMMAND, GUEST, SESSION_LEN, TMR, TMR_LEN},
    ram::Ram,
};
use arbitrary::{Result, Unstructured};
use psp_emu::{
    crypto::{session::TransportKeys, transport::Context},
    firmware::{Encryption, Firmware, Override, Status},
    model::{Model, GENOA, MILAN, NAPLES, ROME},
};

const PLATFORM_STATUS: u16 = 0x004;
const GUEST_STATUS: u16 = 0x023;
/// Inputs make no more guests than this, and no more commands.
const HANDLES: u32 = 12;
const MAX_STEPS: usize = 64;

/// A chip in a machine.
struct Psp {
    firmware: Firmware,
    ram: Ram,
    /// What the firmware ignores in addresses.
    c_bit: u64,
    /// INIT was with SEV-ES and with this TMR.
    tmr: Option<u64>,
}

/// State of the platform and of each handle, as the firmware tells them.
#[derive(PartialEq, Eq, Debug)]
struct States {
    platform: Vec<u8>,
    guests: Vec<Vec<u8>>,
}

impl Psp {
    /// Runs a command and checks what is always true.
    fn run(&mut self, id: u16, addr: u64, buffer: &[u8]) -> Status {
        let before = self.states();
        self.ram.poke(addr, buffer);
        self.ram.written.clear();
        let status = self
            .firmware
            .execute(id, addr, &mut self.ram, Override::default());
        assert!(status.name().is_some(), "{id:#x}: {status}");
        for range in &self.ram.written {
            let in_tmr = |tmr: u64| range.start < tmr + TMR_LEN && tmr < range.end;
            assert!(
                !self.tmr.is_some_and(in_tmr),
                "{id:#x}: {range:x?} in the TMR"
            );
        }
        match (id, status) {
            (0x001 | 0x00d, Status::SUCCESS) if !self.ram.restless => self.note_tmr(id, buffer),
            (0x002, Status::SUCCESS) => self.tmr = None,
            _ => {}
        }
        let place = addr & !self.c_bit;
        // Documented to write the needed length, and to erase the persistent data.
        let own = match status {
            Status::SUCCESS | Status::SECURE_DATA_INVALID => 0..u64::MAX,
            // CAST: less than 100 bytes.
            Status::INVALID_LEN => place..place.saturating_add(buffer.len() as u64),
            _ => 0..0,
        };
        for range in &self.ram.written {
            let inside = own.start <= range.start && range.end <= own.end;
            assert!(inside, "{id:#x}: {status}, {range:x?}");
        }
        if status != Status::SUCCESS {
            assert_eq!(self.states(), before, "{id:#x}: {status}");
        }
        status
    }

    fn note_tmr(&mut self, id: u16, buffer: &[u8]) {
        let (flags, tmr) = match id {
            0x001 => (0, 8),
            _ => (4, 8),
        };
        let addr = buffer
            .get(tmr..tmr + 8)
            .and_then(|addr| addr.try_into().ok());
        self.tmr = addr
            .map(|addr| u64::from_le_bytes(addr) & !self.c_bit)
            .filter(|_| buffer[flags] & 1 != 0);
    }

    /// A command about states, which does not count.
    fn ask(&mut self, id: u16, buffer: &[u8]) -> Vec<u8> {
        let restless = std::mem::take(&mut self.ram.restless);
        self.ram.poke(COMMAND, buffer);
        self.firmware
            .execute(id, COMMAND, &mut self.ram, Override::default());
        self.ram.restless = restless;
        self.ram.peek::<16>(COMMAND)[..buffer.len()].to_vec()
    }

    fn states(&mut self) -> States {
        let platform = self.ask(PLATFORM_STATUS, &[0; 12]);
        let status = |handle: u32| {
            let mut buffer = handle.to_le_bytes().to_vec();
            buffer.resize(13, 0);
            self.ask(GUEST_STATUS, &buffer)
        };
        let guests = (1..=HANDLES).map(status).collect();
        States { platform, guests }
    }

    /// Brings a new guest into a state, as far as the platform allows.
    fn make_guest(&mut self, world: &World, state: u8, policy: u32, active: bool) {
        let with_session = state == 5;
        let (id, addrs, policy) = match with_session {
            true => (0x050, [A, B], 0),
            false => (0x030, [0; 2], policy),
        };
        if with_session {
            self.ram.poke(A, &world.owner);
            self.ram.poke(B, &world.session);
        }
        let mut buffer = words(&[0, policy]);
        buffer.extend(addrs[0].to_le_bytes());
        buffer.extend(words(&[CERT_LEN as u32, 0]));
        buffer.extend(addrs[1].to_le_bytes());
        buffer.extend(words(&[SESSION_LEN as u32]));
        if self.run(id, COMMAND, &buffer) != Status::SUCCESS {
            return;
        }
        let handle = u32::from_le_bytes(self.ram.peek(COMMAND));
        if active {
            let first = if policy & 4 == 0 { 100 } else { 1 };
            self.run(0x021, COMMAND, &words(&[handle, first + handle]));
        }
        let at = |addr: u64, len: u32| {
            let mut buffer = words(&[handle, 0]);
            buffer.extend(addr.to_le_bytes());
            buffer.extend(words(&[len]));
            buffer
        };
        if with_session {
            return;
        }
        self.run(0x031, COMMAND, &at(GUEST, 0x1000));
        self.run(0x032, COMMAND, &at(GUEST + 0x1000, 0x1000));
        if state >= 2 {
            self.run(0x033, COMMAND, &at(A, 48));
        }
        if state >= 3 {
            self.run(0x035, COMMAND, &words(&[handle]));
        }
        if state >= 4 {
            self.ram.poke(A, &world.pdh);
            let mut buffer = at(A, CERT_LEN as u32);
            buffer.resize(0x38, 0);
            buffer.extend(B.to_le_bytes());
            buffer.extend(words(&[SESSION_LEN as u32]));
            self.run(0x040, COMMAND, &buffer);
        }
        if state >= 6 {
            self.run(0x043, COMMAND, &words(&[handle]));
        }
    }

    /// What drivers and owners put into memory.
    fn fill(&mut self, world: &World, u: &mut Unstructured<'_>) -> Result<()> {
        let (context, keys) = match u.int_in_range(0..=5u8)? {
            0 => {
                let addr = fields::address(u)?;
                let len = u.int_in_range(0..=64)?;
                self.ram.poke(addr, u.bytes(len.min(u.len()))?);
                return Ok(());
            }
            1 => {
                self.ram.poke(A, &world.owner);
                self.ram.poke(B, &world.session);
                return Ok(());
            }
            2 => {
                self.ram.poke(A, &world.pdh);
                self.ram.poke(B, &world.chain);
                self.ram.poke(B + 0x8000, &world.amd);
                return Ok(());
            }
            // LAUNCH_MEASURE may have left it there.
            3 => {
                let measurement = self.ram.peek(A);
                let context = Context::Secret {
                    measurement: &measurement,
                };
                self.packet(context, &TransportKeys::default(), u)?;
                return Ok(());
            }
            4 => (Context::Data, &world.keys),
            _ => (Context::Vmsa, &world.keys),
        };
        self.packet(context, keys, u)
    }

    /// A good packet: the header at A, the data at B.
    fn packet(
        &mut self,
        context: Context<'_>,
        keys: &TransportKeys,
        u: &mut Unstructured<'_>,
    ) -> Result<()> {
        let mut data = vec![u.arbitrary()?; *u.choose(&[16, 0x1000, 0x4000])?];
        let header = keys.seal(context, &mut data, &mut *super::machine::random());
        self.ram.poke(A, &header.to_bytes());
        self.ram.poke(B, &data);
        Ok(())
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

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
    let world = World::get();
    let model: &'static Model = match u.int_in_range(0..=15u8)? {
        0 => &NAPLES,
        1 => &ROME,
        2..=5 => &GENOA,
        _ => &MILAN,
    };
    let encryption = match u.ratio(1, 4)? {
        true => Encryption::Plain,
        false => Encryption::Aes,
    };
    let mut psp = Psp {
        firmware: world.firmware(model, encryption),
        ram: Ram::new(),
        c_bit: 1 << model.c_bit,
        tmr: None,
    };
    if u.ratio(15, 16)? {
        let es = u.arbitrary::<bool>()?;
        let mut init = words(&[es.into(), 0]);
        init.extend(TMR.to_le_bytes());
        // CAST: 1 MiB.
        init.extend(words(&[TMR_LEN as u32]));
        psp.run(0x001, COMMAND, &init);
        psp.run(0x00a, COMMAND, &[]);
        for _ in 0..u.int_in_range(0..=5u8)? {
            let policy = if es && u.arbitrary()? { 4 } else { 0 };
            psp.make_guest(world, u.int_in_range(1..=6)?, policy, u.ratio(7, 8)?);
        }
    }
    psp.ram.restless = u.ratio(1, 8)?;
    for _ in 0..MAX_STEPS {
        if u.is_empty() {
            break;
        }
        if u.ratio(1, 4)? {
            psp.fill(world, u)?;
            continue;
        }
        let (id, fields) = match u.ratio(1, 64)? {
            true => (u.arbitrary()?, "@@@@@@@@"),
            false => *u.choose(COMMANDS)?,
        };
        let buffer = fields::buffer(u, fields)?;
        let addr = match u.ratio(1, 16)? {
            true => fields::address(u)?,
            false => COMMAND,
        };
        psp.run(id, addr, &buffer);
    }
    psp.ram.restless = false;
    let states = psp.states();
    let listed = states.guests.iter().filter(|guest| guest[12] != 0).count();
    let count = u32::from_le_bytes([8, 9, 10, 11].map(|at| states.platform[at]));
    assert!(count > HANDLES || listed == count as usize, "{states:?}");
    assert_eq!(states.platform[2] == 2, count > 0, "{states:?}");
    Ok(())
}
