// SPDX-License-Identifier: GPL-2.0
//! Serves a [`Device`] over vfio-user: one VM after another, each finding a freshly reset device.
//! [`serve_guest_requests`] does that for the other device.
//!
//! The server thread handles the VM's messages; a second thread publishes late commands. Both work on
//! one `Machine` under one lock, which is held for the length of a command.

mod guest_requests;

pub use guest_requests::serve_guest_requests;

use crate::{device, device::Device, device::Outcome, trace::Trace};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracing::error;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR2_REGION_INDEX, VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
};
use vfio_device::{
    config::CONFIG_LEN,
    ram::GuestRam,
    server::{irqs, regions, serve_for_ever},
    vectors::Vectors,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, Server, ServerBackend};

/// The vector the PSP uses of those there are.
const PSP_VECTOR: usize = 0;

/// A device in a VM: what the VM has given it, and who wants to know.
struct Machine {
    device: Device,
    ram: GuestRam,
    vectors: Vectors,
    trace: Option<Trace>,
    /// The current connection has been recorded in the trace.
    connected: bool,
}

impl Machine {
    fn settle(&mut self, outcome: Outcome) {
        if outcome.interrupt {
            self.vectors.raise(PSP_VECTOR);
        }
        for record in outcome.records {
            self.note(|trace| trace.command(&record));
        }
    }

    /// Writes to the trace. A trace that cannot be written is given up with a message: a driver
    /// under test must not see the emulator's full disk.
    fn note(&mut self, write: impl FnOnce(&mut Trace) -> io::Result<()>) {
        if let Some(Err(error)) = self.trace.as_mut().map(write) {
            error!("trace: {error}; no more lines follow");
            self.trace = None;
        }
    }
}

/// A [`Machine`] shared by the threads that work on it.
struct Shared {
    machine: Mutex<Machine>,
    /// Signalled when a command has become late.
    changed: Condvar,
    start: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        // A panic elsewhere left the machine between two accesses at worst.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Publishes late commands, for ever.
    fn run_clock(&self) {
        let mut machine = self.lock();
        loop {
            let now = self.now();
            let Machine { device, ram, .. } = &mut *machine;
            let outcome = device.tick(now, ram);
            machine.settle(outcome);
            machine = match machine.device.next_event() {
                None => self
                    .changed
                    .wait(machine)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let left = due.saturating_sub(self.now());
                    let waited = self.changed.wait_timeout(machine, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The server's handle on the machine while a VM is connected.
struct Backend(Arc<Shared>);

impl Backend {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        let mut machine = self.0.lock();
        if !machine.connected {
            machine.connected = true;
            let now = self.0.now();
            machine.note(|trace| trace.connect(now));
        }
        machine
    }

    /// Forgets the VM.
    fn disconnect(&mut self) {
        let mut machine = self.0.lock();
        if std::mem::take(&mut machine.connected) {
            let (now, rest) = (self.0.now(), machine.device.accesses());
            machine.note(|trace| trace.disconnect(now, rest));
        }
        machine.ram = GuestRam::default();
        machine.vectors.clear();
        machine.device.reset();
    }
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let mut machine = self.lock();
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => machine.device.config_read(offset, data),
            VFIO_PCI_BAR2_REGION_INDEX => machine.device.bar2_read(offset, data),
            // BAR 5 holds the interrupt tables, which QEMU emulates.
            _ => data.fill(0),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let now = self.0.now();
        let mut guard = self.lock();
        let machine = &mut *guard;
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => machine.device.config_write(offset, data),
            VFIO_PCI_BAR2_REGION_INDEX => {
                let outcome = machine
                    .device
                    .bar2_write(offset, data, &mut machine.ram, now);
                machine.settle(outcome);
                if machine.device.next_event().is_some() {
                    self.0.changed.notify_one();
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
        let mut machine = self.lock();
        machine.ram.dma_map(flags, offset, address, size, fd)
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        self.lock().ram.dma_unmap(flags, address, size);
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.lock().device.reset();
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
        self.lock().vectors.set(index, flags, start, count, fds)
    }
}

/// Length in bytes of a region of the PSP.
fn region_len(index: u32) -> u64 {
    match index {
        VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_LEN as u64,
        VFIO_PCI_BAR2_REGION_INDEX => device::BAR2_LEN,
        VFIO_PCI_BAR5_REGION_INDEX => device::BAR5_LEN,
        _ => 0,
    }
}

/// Serves VMs one after another on a listening socket, for ever.
///
/// A VM that vanishes or sends what the protocol does not know ends its own connection only.
///
/// # Errors
///
/// When the thread for late commands cannot be started.
pub fn serve(listener: OwnedFd, device: Device, trace: Option<Trace>) -> io::Result<()> {
    let machine = Machine {
        device,
        ram: GuestRam::default(),
        vectors: Vectors::new(device::VECTORS),
        trace,
        connected: false,
    };
    let shared = Arc::new(Shared {
        machine: Mutex::new(machine),
        changed: Condvar::new(),
        start: Instant::now(),
    });
    let clock = Arc::clone(&shared);
    thread::Builder::new()
        .name("clock".to_owned())
        .spawn(move || clock.run_clock())?;

    let server = Server::from_owned_fd(listener, true, irqs(device::VECTORS), regions(region_len));
    serve_for_ever(&server, &mut Backend(shared), Backend::disconnect)
}
