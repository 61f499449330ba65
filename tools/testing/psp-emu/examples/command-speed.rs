// SPDX-License-Identifier: GPL-2.0
//! How long commands take inside the emulator, without QEMU: medians of several runs.
//!
//! ```text
//! cargo run --release -p psp-emu --example command-speed
//! ```

use psp_emu::{
    device::{fault::Faults, Device},
    firmware::{Chip, Encryption, Firmware, Status, VecFlash},
    memory::{GuestMemory, VecMemory},
    model::MILAN,
};
use std::time::{Duration, Instant};

const GIB: u32 = 1 << 30;
const COMMAND: u64 = 0x1000;
const GUEST: u64 = 0x10_0000;

/// A device with RAM for a guest of 1 GiB.
struct Machine {
    device: Device,
    ram: VecMemory,
}

impl Machine {
    fn new(encryption: Encryption) -> Self {
        let chip = Chip::from_secret([1; Chip::SECRET_LEN]);
        let firmware = Firmware::new(&MILAN, chip, Box::new(VecFlash::default()));
        Self {
            device: Device::new(
                &MILAN,
                firmware.with_encryption(encryption),
                Faults::default(),
            ),
            ram: VecMemory::new(0, GUEST as usize + GIB as usize),
        }
    }

    /// Runs a command through the registers, as a driver does; how long it took.
    fn run(&mut self, id: u32, buffer: &[u8]) -> Duration {
        self.ram.write(COMMAND, buffer).expect("RAM");
        let start = Instant::now();
        let registers = MILAN.registers;
        for (offset, value) in [
            (registers.addr_lo, COMMAND as u32),
            (registers.addr_hi, 0),
            (registers.cmdresp, (id << 16) | 1),
        ] {
            let value = value.to_le_bytes();
            self.device
                .bar2_write(offset, &value, &mut self.ram, Duration::ZERO);
        }
        let mut answer = [0; 4];
        self.device.bar2_read(registers.cmdresp, &mut answer);
        let took = start.elapsed();
        // CAST: the low half of the register.
        let status = Status(u32::from_le_bytes(answer) as u16);
        assert_eq!(status, Status::SUCCESS, "command {id:#x}");
        took
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// LAUNCH_UPDATE_DATA of 1 GiB.
fn update(encryption: Encryption) -> Duration {
    let mut machine = Machine::new(encryption);
    machine.run(0x001, &[0; 20]);
    machine.run(0x00a, &[]);
    machine.run(0x030, &[0; 36]);
    machine.run(0x021, &[1, 0, 0, 0, 100, 0, 0, 0]);
    let mut buffer = [0; 20];
    buffer[0] = 1;
    buffer[8..16].copy_from_slice(&GUEST.to_le_bytes());
    buffer[16..].copy_from_slice(&GIB.to_le_bytes());
    median((0..5).map(|_| machine.run(0x031, &buffer)).collect())
}

fn main() {
    let mut machine = Machine::new(Encryption::Aes);
    let status = median((0..100_000).map(|_| machine.run(0x004, &[0; 12])).collect());
    println!("PLATFORM_STATUS                 {status:?}");
    for (name, encryption) in [("aes", Encryption::Aes), ("plain", Encryption::Plain)] {
        let took = update(encryption);
        println!("LAUNCH_UPDATE_DATA 1 GiB, {name:<5} {took:.2?}");
    }
}
