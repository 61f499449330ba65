// SPDX-License-Identifier: GPL-2.0
//! The device over a real socket, with the client of the vfio-user crate in QEMU's place.

mod common;

use common::{address_and_length, id};
use psp_emu::{
    device::{fault::Fault, Device},
    firmware::{Chip, Firmware, VecFlash},
    model::{Model, MILAN, NAPLES},
    socket, vfio,
};
use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};
use std::{
    fs::File,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::PathBuf,
    thread,
};
use tempfile::TempDir;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_BAR2_REGION_INDEX, VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
};
use vfio_user::Client;

const BAR2: u32 = VFIO_PCI_BAR2_REGION_INDEX;
const READY: u32 = 1 << 31;

/// An emulator serving in a thread that outlives the test.
struct Emulator {
    path: PathBuf,
    _dir: TempDir,
}

impl Emulator {
    fn new(model: &'static Model, faults: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("psp.sock");
        let flash = Box::new(VecFlash::default());
        let firmware = Firmware::new(model, Chip::from_secret([7; 32]), flash);
        let faults: Vec<Fault> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let device = Device::new(model, firmware, faults.into());
        let (listener, file) = socket::bind(&path).unwrap();
        thread::spawn(move || {
            let _file = file;
            vfio::serve(listener, device, None)
        });
        Self { path, _dir: dir }
    }

    /// Starts a VM with 64 KiB of RAM at 0, in two pieces that the file holds the other way round.
    fn vm(&self) -> Vm {
        let mut client = Client::new(&self.path).unwrap();
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(0x1_0000).unwrap();
        client.dma_map(0x8000, 0, 0x8000, ram.as_raw_fd()).unwrap();
        client.dma_map(0, 0x8000, 0x8000, ram.as_raw_fd()).unwrap();
        Vm { client, ram }
    }
}

struct Vm {
    client: Client,
    ram: File,
}

impl Vm {
    fn read(&mut self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.client.region_read(BAR2, offset, &mut word).unwrap();
        u32::from_le_bytes(word)
    }

    fn write(&mut self, offset: u64, value: u32) {
        self.client
            .region_write(BAR2, offset, &value.to_le_bytes())
            .unwrap();
    }

    /// Writes a command with its buffer at `addr`; returns the response register.
    fn command(&mut self, model: &Model, id: u16, addr: u32) -> u32 {
        self.write(model.registers.addr_lo, addr);
        self.write(model.registers.addr_hi, 0);
        self.write(model.registers.cmdresp, (u32::from(id) << 16) | 1);
        self.read(model.registers.cmdresp)
    }

    /// Where a guest physical address lies in the file.
    fn ram(&self, addr: u64, len: usize) -> Vec<u8> {
        let byte = |addr: u64| {
            let mut byte = [0];
            self.ram.read_exact_at(&mut byte, addr ^ 0x8000).unwrap();
            byte[0]
        };
        (addr..).take(len).map(byte).collect()
    }

    fn set_ram(&self, addr: u64, bytes: &[u8]) {
        for (at, byte) in (addr..).zip(bytes) {
            self.ram.write_all_at(&[*byte], at ^ 0x8000).unwrap();
        }
    }

    /// Connects vector 0 and enables the device's interrupts.
    fn interrupt(&mut self, model: &Model, index: u32) -> File {
        let fd = File::from(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
        self.client
            .set_irqs(index, flags, 0, 1, &[fd.as_raw_fd()])
            .unwrap();
        self.write(model.registers.inten, u32::MAX);
        fd
    }
}

/// Whether the eventfd becomes readable within so many milliseconds.
fn raised(fd: &File, ms: i64) -> bool {
    let timeout = Timespec {
        tv_sec: ms / 1000,
        tv_nsec: ms % 1000 * 1_000_000,
    };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[test]
fn regions_are_those_of_the_function() {
    let emulator = Emulator::new(&MILAN, &[]);
    let mut vm = emulator.vm();
    assert_eq!(vm.client.region(BAR2).unwrap().size, 0x10_0000);
    assert_eq!(
        vm.client.region(VFIO_PCI_BAR5_REGION_INDEX).unwrap().size,
        0x2000
    );
    let mut identity = [0; 4];
    vm.client
        .region_read(VFIO_PCI_CONFIG_REGION_INDEX, 0, &mut identity)
        .unwrap();
    assert_eq!(identity, [0x22, 0x10, 0x86, 0x14]);
}

#[test]
fn dma_crosses_from_one_mapping_into_the_next() {
    let emulator = Emulator::new(&MILAN, &[]);
    let mut vm = emulator.vm();
    vm.set_ram(0x100, &address_and_length(0x7fe0, 64));
    assert_eq!(vm.command(&MILAN, id::GET_ID, 0x100), READY);
    assert_eq!(vm.ram(0x7fe0, 64), Chip::from_secret([7; 32]).id());
    assert_eq!(vm.command(&MILAN, id::PLATFORM_STATUS, 0x7ffa), READY);
    assert_eq!(vm.ram(0x7ffa, 12)[..3], [1, 55, 0]);
}

#[test]
fn what_is_not_mapped_is_not_reached() {
    let emulator = Emulator::new(&MILAN, &[]);
    let mut vm = emulator.vm();
    assert_eq!(
        vm.command(&MILAN, id::PLATFORM_STATUS, 0xfff8),
        READY | 0x09
    );
    vm.client.dma_unmap(0x8000, 0x8000).unwrap();
    assert_eq!(
        vm.command(&MILAN, id::PLATFORM_STATUS, 0x8000),
        READY | 0x09
    );
    assert_eq!(
        vm.command(&MILAN, id::PLATFORM_STATUS, 0x7ffc),
        READY | 0x09
    );
    assert_eq!(vm.command(&MILAN, id::PLATFORM_STATUS, 0x7ff4), READY);
}

#[test]
fn mappings_past_the_end_of_a_file_are_refused() {
    let emulator = Emulator::new(&MILAN, &[]);
    let mut vm = emulator.vm();
    let short = tempfile::tempfile().unwrap();
    short.set_len(0x1000).unwrap();
    // The client does not look at the answer; what counts is that nothing is there.
    vm.client
        .dma_map(0, 0x2_0000, 0x2000, short.as_raw_fd())
        .unwrap();
    vm.client
        .dma_map(u64::MAX - 0xfff, 0x3_0000, 0x1000, short.as_raw_fd())
        .unwrap();
    for addr in [0x2_0000, 0x2_1000, 0x3_0000] {
        assert_eq!(
            vm.command(&MILAN, id::PLATFORM_STATUS, addr),
            READY | 0x09,
            "{addr:#x}"
        );
    }
}

#[test]
fn interrupts_arrive_by_msi_and_msix() {
    for (model, index) in [
        (&MILAN, VFIO_PCI_MSIX_IRQ_INDEX),
        (&NAPLES, VFIO_PCI_MSI_IRQ_INDEX),
    ] {
        let emulator = Emulator::new(model, &[]);
        let mut vm = emulator.vm();
        let fd = vm.interrupt(model, index);
        vm.command(model, id::DF_FLUSH, 0);
        assert!(raised(&fd, 2000), "{}", model.name);
        assert_eq!(vm.read(model.registers.intsts), 2);
        // Disconnected, it is lost.
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
        let fd = vm.interrupt(model, index);
        vm.client.set_irqs(index, flags, 0, 0, &[]).unwrap();
        vm.command(model, id::DF_FLUSH, 0);
        assert!(!raised(&fd, 50), "{}", model.name);
    }
}

#[test]
fn late_commands_complete_by_themselves() {
    let emulator = Emulator::new(&MILAN, &["late:100:DF_FLUSH"]);
    let mut vm = emulator.vm();
    let fd = vm.interrupt(&MILAN, VFIO_PCI_MSIX_IRQ_INDEX);
    assert_eq!(vm.command(&MILAN, id::DF_FLUSH, 0) & READY, 0);
    assert!(!raised(&fd, 10));
    assert!(raised(&fd, 2000));
    assert_eq!(vm.read(MILAN.registers.cmdresp), READY);
}

#[test]
fn the_next_vm_finds_a_reset_device_and_the_same_keys() {
    let emulator = Emulator::new(&MILAN, &[]);
    let export = |vm: &mut Vm| {
        vm.set_ram(0x100, &[0; 20]);
        assert_eq!(vm.command(&MILAN, id::INIT, 0x100), READY);
        vm.set_ram(0x100, &common::export_buffer(0x1000, 2084, 0x4000, 6252));
        assert_eq!(vm.command(&MILAN, id::PDH_CERT_EXPORT, 0x100), READY);
        vm.ram(0x1000, 2084)
    };
    let mut vm = emulator.vm();
    let pdh = export(&mut vm);
    // Gone in the middle of things.
    drop(vm);
    let mut vm = emulator.vm();
    assert_eq!(vm.command(&MILAN, id::PLATFORM_STATUS, 0x100), READY);
    assert_eq!(vm.ram(0x102, 1), [0], "UNINIT");
    assert_eq!(export(&mut vm), pdh);
}

#[test]
fn a_client_that_breaks_the_protocol_ends_only_itself() {
    use std::{io::Write, os::unix::net::UnixStream};
    let emulator = Emulator::new(&MILAN, &[]);
    for junk in [&[0u8; 16][..], &[0xff; 64], &[9, 0, 9, 0, 32, 0, 0, 0]] {
        let mut stream = UnixStream::connect(&emulator.path).unwrap();
        stream.write_all(junk).unwrap();
    }
    let mut vm = emulator.vm();
    assert_eq!(vm.command(&MILAN, id::DF_FLUSH, 0), READY);
}

#[test]
fn reset_is_offered_to_the_vm() {
    let emulator = Emulator::new(&MILAN, &[]);
    let mut vm = emulator.vm();
    vm.set_ram(0x100, &[0; 20]);
    assert_eq!(vm.command(&MILAN, id::INIT, 0x100), READY);
    vm.client.reset().unwrap();
    assert_eq!(
        vm.command(&MILAN, id::PLATFORM_STATUS, 0x100),
        READY,
        "RAM is still there"
    );
    assert_eq!(vm.ram(0x102, 1), [0], "UNINIT");
}
