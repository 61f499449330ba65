// SPDX-License-Identifier: GPL-2.0
//! Serves the device of guest requests: no interrupts, no time, so one thread is enough.

use crate::{
    guest_requests::device::{Device, BAR0_LEN},
    trace::Trace,
};
use std::{fs::File, io, os::fd::OwnedFd, time::Instant};
use tracing::error;
use vfio_bindings::bindings::vfio::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX};
use vfio_device::{
    config::CONFIG_LEN,
    ram::GuestRam,
    server::{irqs, regions, serve_for_ever},
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, Server, ServerBackend};

/// The device in a VM.
struct Backend {
    device: Device,
    ram: GuestRam,
    trace: Option<Trace>,
    start: Instant,
}

impl Backend {
    /// Forgets the VM.
    fn disconnect(&mut self) {
        self.ram = GuestRam::default();
        self.device.reset();
    }
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.device.config_read(offset, data),
            VFIO_PCI_BAR0_REGION_INDEX => self.device.bar0_read(offset, data),
            _ => data.fill(0),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.device.config_write(offset, data),
            VFIO_PCI_BAR0_REGION_INDEX => {
                let record = self.device.bar0_write(offset, data, &mut self.ram);
                let now = self.start.elapsed();
                if let (Some(record), Some(trace)) = (record, &mut self.trace) {
                    if let Err(error) = trace.guest_request(now, &record) {
                        error!("trace: {error}; no more lines follow");
                        self.trace = None;
                    }
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
        self.ram.dma_map(flags, offset, address, size, fd)
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        self.ram.dma_unmap(flags, address, size);
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.device.reset();
        Ok(())
    }

    fn set_irqs(
        &mut self,
        _index: u32,
        _flags: u32,
        _start: u32,
        _count: u32,
        _fds: Vec<File>,
    ) -> io::Result<()> {
        Ok(())
    }
}

/// Serves VMs one after another on a listening socket, for ever, as [`serve`](super::serve) does.
pub fn serve_guest_requests(listener: OwnedFd, device: Device, trace: Option<Trace>) -> ! {
    let len = |region| match region {
        VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_LEN as u64,
        VFIO_PCI_BAR0_REGION_INDEX => BAR0_LEN,
        _ => 0,
    };
    let server = Server::from_owned_fd(listener, true, irqs(0), regions(len));
    let mut backend = Backend {
        device,
        ram: GuestRam::default(),
        trace,
        start: Instant::now(),
    };
    serve_for_ever(&server, &mut backend, Backend::disconnect)
}
