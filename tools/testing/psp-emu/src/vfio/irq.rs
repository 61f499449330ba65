// SPDX-License-Identifier: GPL-2.0
//! The interrupt vectors a VM has connected, as eventfds.

use crate::device::VECTORS;
use std::{
    fs::File,
    io::{self, ErrorKind, Write},
};
use tracing::warn;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_TYPE_MASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
};

/// Vectors of one interrupt type.
type Set = [Option<File>; VECTORS as usize];

/// The connected vectors. The PSP uses vector 0 of whichever type is enabled.
#[derive(Default)]
pub(super) struct Vectors {
    msi: Set,
    msix: Set,
}

impl Vectors {
    /// VFIO_DEVICE_SET_IRQS: connects eventfds to vectors, or disconnects them.
    pub(super) fn set(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        let set = match index {
            VFIO_PCI_MSI_IRQ_INDEX => &mut self.msi,
            VFIO_PCI_MSIX_IRQ_INDEX => &mut self.msix,
            // QEMU disables INTx, error and request interrupts without asking whether they exist.
            _ => return Ok(()),
        };
        if flags & VFIO_IRQ_SET_ACTION_TYPE_MASK != VFIO_IRQ_SET_ACTION_TRIGGER {
            // Masking is QEMU's part: it emulates the tables.
            return Ok(());
        }
        if flags & VFIO_IRQ_SET_DATA_EVENTFD == 0 {
            if count == 0 {
                *set = Set::default();
            }
            return Ok(());
        }
        let range = start.checked_add(count).filter(|&end| end <= VECTORS);
        let range = range.ok_or(ErrorKind::InvalidInput)?;
        // CAST: at most VECTORS.
        let vectors = &mut set[start as usize..range as usize];
        let mut fds = fds.into_iter();
        // Fewer descriptors than vectors: the rest is disconnected.
        vectors.iter_mut().for_each(|vector| *vector = fds.next());
        Ok(())
    }

    /// Raises the PSP's interrupt. Without a connected vector it is lost, as on hardware.
    pub(super) fn raise(&mut self) {
        let vector = self.msix[0].as_mut().or(self.msi[0].as_mut());
        if let Some(Err(error)) = vector.map(|fd| fd.write_all(&1u64.to_ne_bytes())) {
            warn!("cannot raise the interrupt: {error}");
        }
    }
}
