// SPDX-License-Identifier: GPL-2.0
//! The interrupt vectors a VM has connected, as eventfds.

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
type Set = Vec<Option<File>>;

/// The connected vectors of a device that uses MSI or MSI-X, whichever is enabled.
pub struct Vectors {
    msi: Set,
    msix: Set,
}

fn none(count: u32) -> Set {
    (0..count).map(|_| None).collect()
}

impl Vectors {
    /// So many vectors of each type, none of them connected.
    #[must_use]
    pub fn new(count: u32) -> Self {
        Self {
            msi: none(count),
            msix: none(count),
        }
    }

    /// Disconnects all vectors.
    pub fn clear(&mut self) {
        self.msi.iter_mut().for_each(|vector| *vector = None);
        self.msix.iter_mut().for_each(|vector| *vector = None);
    }

    /// VFIO_DEVICE_SET_IRQS: connects eventfds to vectors, or disconnects them.
    ///
    /// # Errors
    ///
    /// When there are not so many vectors.
    pub fn set(
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
                set.iter_mut().for_each(|vector| *vector = None);
            }
            return Ok(());
        }
        let end = start.checked_add(count).ok_or(ErrorKind::InvalidInput)?;
        let range = usize::try_from(start).and_then(|start| Ok(start..usize::try_from(end)?));
        let range = range.map_err(|_| ErrorKind::InvalidInput)?;
        let vectors = set.get_mut(range).ok_or(ErrorKind::InvalidInput)?;
        let mut fds = fds.into_iter();
        // Fewer descriptors than vectors: the rest is disconnected.
        vectors.iter_mut().for_each(|vector| *vector = fds.next());
        Ok(())
    }

    /// Raises an interrupt. Without a connected vector it is lost, as on hardware.
    pub fn raise(&mut self, vector: usize) {
        let sets = [&mut self.msix, &mut self.msi];
        let connected = sets
            .into_iter()
            .find_map(|set| set.get_mut(vector)?.as_mut());
        if let Some(Err(error)) = connected.map(|fd| fd.write_all(&1u64.to_ne_bytes())) {
            warn!("cannot raise the interrupt: {error}");
        }
    }
}
