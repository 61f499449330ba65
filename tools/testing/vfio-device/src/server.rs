// SPDX-License-Identifier: GPL-2.0
//! A device as vfio describes it, and the loop that serves one VM after another.

use tracing::{info, warn};
use vfio_bindings::bindings::vfio::{
    vfio_region_info, VFIO_IRQ_INFO_EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
};
use vfio_user::{IrqInfo, Server, ServerBackend, ServerRegion};

/// The regions of a device as vfio describes them, from the length in bytes of each.
#[must_use]
pub fn regions(len: impl Fn(u32) -> u64) -> Vec<ServerRegion> {
    let region = |index| {
        let size = len(index);
        let flags = match size {
            0 => 0,
            _ => VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
        };
        // CAST: 32 bytes.
        let argsz = size_of::<vfio_region_info>() as u32;
        let region_info = vfio_region_info {
            argsz,
            flags,
            index,
            size,
            ..Default::default()
        };
        ServerRegion {
            region_info,
            sparse_areas: Vec::new(),
            mmap_fd: None,
        }
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

/// The interrupts of a device with so many vectors as vfio describes them.
#[must_use]
pub fn irqs(vectors: u32) -> Vec<IrqInfo> {
    let irq = |index| match index {
        VFIO_PCI_MSI_IRQ_INDEX | VFIO_PCI_MSIX_IRQ_INDEX if vectors > 0 => IrqInfo {
            index,
            flags: VFIO_IRQ_INFO_EVENTFD,
            count: vectors,
        },
        _ => IrqInfo {
            index,
            flags: 0,
            count: 0,
        },
    };
    (0..VFIO_PCI_NUM_IRQS).map(irq).collect()
}

/// Serves VMs one after another, for ever; `disconnect` forgets each.
///
/// A VM that vanishes or sends what the protocol does not know ends its own connection only.
pub fn serve_for_ever<B: ServerBackend>(
    server: &Server,
    backend: &mut B,
    disconnect: fn(&mut B),
) -> ! {
    loop {
        let ended = server.run(backend);
        disconnect(backend);
        match ended {
            Ok(()) => info!("VM disconnected"),
            Err(error) => warn!("connection lost: {error}"),
        }
    }
}
