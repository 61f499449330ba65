// SPDX-License-Identifier: GPL-2.0
//! Whatever a driver or a guest does: a status, never a panic, and no effect of what was refused.

mod common;

use common::{id, Platform, A, B, CERT_LEN, CHAIN_LEN, COMMAND, NV, RAM_LEN, TMR};
use proptest::{collection::vec, prelude::*};
use psp_emu::{
    cert::{amd::AmdCert, sev::SevCert, Usage},
    device::{fault::Fault, Device},
    firmware::{Chip, Firmware, Override, Status, VecFlash},
    memory::{DmaError, GuestMemory, VecMemory},
    model::{Model, MILAN, MODELS},
    vendor::Vendor,
};
use std::{cell::Cell, time::Duration};

/// Numbers that are likely to matter as an address or a length, and any others.
fn number() -> impl Strategy<Value = u64> {
    let lengths = prop::sample::select(vec![0, 1, 64, CERT_LEN as u64, CHAIN_LEN as u64, 0x24]);
    let addresses = prop::sample::select(vec![A, B, COMMAND, TMR, NV, RAM_LEN as u64, u64::MAX]);
    prop_oneof![
        4 => lengths,
        4 => addresses,
        1 => 0..RAM_LEN as u64,
        1 => Just(0x10_0000),
        1 => Just(0x8000),
        1 => any::<u64>(),
    ]
}

/// A command buffer: words that may make sense.
fn buffer() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        number().prop_map(|number| number.to_le_bytes().to_vec()),
        number().prop_map(|number| (number as u32).to_le_bytes().to_vec()),
    ];
    vec(word, 0..8).prop_map(|words| {
        let mut buffer = words.concat();
        buffer.resize(64, 0);
        buffer
    })
}

fn command() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 0u16..0x10, 1 => 0u16..0x100, 1 => any::<u16>()]
}

fn model() -> impl Strategy<Value = &'static Model> {
    prop::sample::select(MODELS.to_vec())
}

/// RAM another CPU keeps writing to: it reads differently each time.
struct RestlessMemory {
    reads: Cell<u8>,
    len: u64,
}

impl GuestMemory for RestlessMemory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        let len = buf.len();
        if !self.is_writable(addr, len as u64) {
            return Err(DmaError { addr, len });
        }
        for byte in buf {
            self.reads
                .set(self.reads.get().wrapping_mul(29).wrapping_add(31));
            *byte = self.reads.get();
        }
        Ok(())
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        let len = data.len();
        self.is_writable(addr, len as u64)
            .then_some(())
            .ok_or(DmaError { addr, len })
    }

    fn is_writable(&self, addr: u64, len: u64) -> bool {
        addr.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_commands_are_answered_and_refused_ones_change_nothing(
        model in model(),
        commands in vec((command(), buffer(), number()), 1..12),
    ) {
        let mut psp = Platform::new(model);
        for (id, buffer, addr) in commands {
            // Mostly where the buffer is.
            let addr = if addr % 4 == 0 { COMMAND } else { addr };
            psp.ram.write(COMMAND, &buffer).unwrap();
            let before = psp.read(0, RAM_LEN);
            let status = psp.firmware.execute(id, addr, &mut psp.ram, Override::default());
            let writes = [Status::SUCCESS, Status::INVALID_LEN, Status::SECURE_DATA_INVALID];
            if !writes.contains(&status) {
                prop_assert!(psp.read(0, RAM_LEN) == before, "{id:#x} {status}");
            }
            prop_assert!(status.name().is_some(), "{id:#x} {status}");
        }
        // It still works.
        psp.shutdown();
        prop_assert_eq!(psp.state().0, 0);
    }

    #[test]
    fn memory_that_changes_meanwhile_is_harmless(
        seed in any::<u8>(),
        len in 0u64..0x8_0000,
        commands in vec((command(), number()), 1..12),
    ) {
        let flash = Box::new(VecFlash::default());
        let mut firmware = Firmware::new(&MILAN, Chip::from_secret([7; 32]), flash);
        let mut memory = RestlessMemory { reads: Cell::new(seed), len };
        for (id, addr) in commands {
            let status = firmware.execute(id, addr, &mut memory, Override::default());
            prop_assert!(status.name().is_some());
        }
    }

    #[test]
    fn any_accesses_to_the_device_are_harmless(
        model in model(),
        faults in vec(prop::sample::select(vec![
            "all-ones", "stuck-busy", "no-response:any:1", "lost-irq", "late:5:any:3",
            "status:0xffff:INIT", "length:0xffffffff",
        ]), 0..3),
        accesses in vec((0u64..16, any::<u64>(), vec(any::<u8>(), 0..10), 0u64..20), 1..60),
    ) {
        let flash = Box::new(VecFlash::default());
        let firmware = Firmware::new(model, Chip::from_secret([7; 32]), flash);
        let faults: Vec<Fault> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let mut device = Device::new(model, firmware, faults.into());
        let mut ram = VecMemory::new(0, 0x1000);
        let map = model.registers;
        let registers = [map.cmdresp, map.addr_lo, map.addr_hi, map.inten, map.intsts];
        let mut now = Duration::ZERO;
        for (place, raw, data, ms) in accesses {
            let offset = registers.get(place as usize).copied().unwrap_or(raw);
            now += Duration::from_millis(ms);
            match place % 5 {
                0 | 1 => drop(device.bar2_write(offset, &raw.to_le_bytes()[..4], &mut ram, now)),
                2 => drop(device.bar2_write(offset, &data, &mut ram, now)),
                3 => device.bar2_read(offset, &mut vec![0; data.len()]),
                _ => {
                    device.config_write(raw, &data);
                    device.config_read(raw, &mut vec![0; data.len()]);
                }
            }
            let _ = device.tick(now, &mut ram);
            prop_assert!(device.next_event().is_none_or(|due| due > now));
        }
        let mut identity = [0; 2];
        device.config_read(0, &mut identity);
        prop_assert_eq!(identity, [0x22, 0x10]);
    }

    #[test]
    fn any_bytes_as_certificates_are_refused(noise in vec(any::<u8>(), CERT_LEN), words in vec(
        (prop::sample::select(vec![0x0, 0x8, 0xc, 0x10, 0x414, 0x418, 0x61c, 0x620]),
         prop::sample::select(vec![0u32, 1, 2, 3, 0x13, 0x101, 0x800, 0x1000, 0x1001, 0x1002, 4096])),
        0..8,
    )) {
        let mut bytes: [u8; CERT_LEN] = noise.try_into().unwrap();
        for (at, word) in words {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let cert = SevCert::from(bytes);
        prop_assert!(cert.verify(&cert).is_err());
        if let Ok(cert) = AmdCert::parse(&bytes) {
            let ark = Vendor::of(&MILAN).ark;
            prop_assert!(cert.verify(Usage::Ark, &cert).is_err());
            prop_assert!(cert.verify(Usage::Ask, &ark).is_err());
        }
    }
}

#[test]
fn every_command_id_is_answered_in_every_state() {
    let mut psp = Platform::new(&MILAN);
    for init in [false, true] {
        for id in 0..=u16::MAX {
            if init && psp.state().0 == 0 {
                psp.init();
            }
            if id != id::PEK_GEN {
                assert!(psp.status(id, &[0; 64]).name().is_some(), "{id:#x}");
            }
        }
    }
}
