// SPDX-License-Identifier: GPL-2.0
//! Serves a [`Device`] over vfio-user. A second thread does what the device does without being asked to.

use crate::{
    device::{Device, Interrupts},
    function::{BAR0_LEN, BAR1_LEN},
    watch::Event,
};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR1_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
};
use vfio_device::{
    config::CONFIG_LEN,
    ram::GuestRam,
    server::{irqs, regions, serve_for_ever},
    vectors::Vectors,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, Server, ServerBackend};

/// TIMEOUT: shorter than a guest's way from an interrupt to the look at what it is for, long enough to leave that guest
/// a processor.
const TICK: Duration = Duration::from_micros(100);

/// A device in a VM.
struct Machine {
    device: Device,
    ram: GuestRam,
    vectors: Vectors,
}

impl Machine {
    fn raise(&mut self, interrupts: Interrupts) {
        for vector in interrupts {
            self.vectors.raise(vector.into());
        }
    }
}

struct Shared {
    machine: Mutex<Machine>,
    /// Signalled when the device has something to do.
    busy: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        // A panic elsewhere left the machine between two accesses at worst.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the device does without being asked to, for ever.
    fn run_ticks(&self) {
        let mut machine = self.lock();
        loop {
            while machine.device.is_busy() {
                let Machine { device, ram, .. } = &mut *machine;
                device.tick(ram);
                drop(machine);
                thread::sleep(TICK);
                machine = self.lock();
            }
            machine = self
                .busy
                .wait(machine)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The server's handle on the machine while a VM is connected.
struct Backend {
    shared: Arc<Shared>,
    /// From this address on memory is private.
    private: Option<u64>,
}

impl Backend {
    /// Forgets the VM.
    fn disconnect(&mut self) {
        let mut machine = self.shared.lock();
        machine.ram = GuestRam::default();
        machine.vectors.clear();
        machine.device.power_cycle();
    }
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let machine = self.shared.lock();
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => machine.device.config_read(offset, data),
            VFIO_PCI_BAR0_REGION_INDEX => machine.device.bar0_read(offset, data),
            // BAR 1 holds the interrupt tables, which QEMU emulates.
            _ => data.fill(0),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut guard = self.shared.lock();
        let machine = &mut *guard;
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => machine.device.config_write(offset, data),
            VFIO_PCI_BAR0_REGION_INDEX => {
                let interrupts = machine.device.bar0_write(offset, data, &mut machine.ram);
                machine.raise(interrupts);
                if machine.device.is_busy() {
                    self.shared.busy.notify_one();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        let mut machine = self.shared.lock();
        let end = address.saturating_add(size);
        let taken = fd.is_some() && self.private.is_none_or(|private| end <= private);
        machine.device.watch.event(&Event::Map {
            address,
            size,
            taken,
        });
        // QEMU gives up on a device that refuses memory. What is not taken is not there for this one.
        if !taken {
            return Ok(());
        }
        machine.ram.dma_map(flags, offset, address, size, fd)
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        self.shared.lock().ram.dma_unmap(flags, address, size);
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.shared.lock().device.power_cycle();
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        let mut machine = self.shared.lock();
        machine.vectors.set(index, flags, start, count, fds)
    }
}

fn region_len(index: u32) -> u64 {
    match index {
        VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_LEN as u64,
        VFIO_PCI_BAR0_REGION_INDEX => BAR0_LEN,
        VFIO_PCI_BAR1_REGION_INDEX => BAR1_LEN,
        _ => 0,
    }
}

/// Serves VMs one after another on a listening socket, for ever. The device takes no memory from the address `private` on.
///
/// # Errors
///
/// When the second thread cannot be started.
pub fn serve(listener: OwnedFd, device: Device, private: Option<u64>) -> io::Result<()> {
    let vectors = device.vectors();
    let shared = Arc::new(Shared {
        machine: Mutex::new(Machine {
            device,
            ram: GuestRam::default(),
            vectors: Vectors::new(vectors),
        }),
        busy: Condvar::new(),
    });
    let ticks = Arc::clone(&shared);
    thread::Builder::new()
        .name("ticks".to_owned())
        .spawn(move || ticks.run_ticks())?;
    let server = Server::from_owned_fd(listener, true, irqs(vectors), regions(region_len));
    let mut backend = Backend { shared, private };
    serve_for_ever(&server, &mut backend, Backend::disconnect)
}
