// SPDX-License-Identifier: GPL-2.0
//! Guest RAM as QEMU hands it over: pieces of files, mapped where the guest sees them.

use crate::memory::{split, DmaError, GuestMemory, Piece};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind},
};
use tracing::warn;
use vfio_user::{DmaMapFlags, DmaUnmapFlags};
use vm_memory::{
    mmap::{MmapRegion, MmapRegionBuilder},
    Bytes, FileOffset, VolatileMemory,
};

/// One mapped piece.
struct Region {
    mapping: MmapRegion,
    writable: bool,
}

/// All RAM of the VM that came with a file descriptor. What came without (device memory, mostly) is no
/// RAM to the device.
#[derive(Default)]
pub struct GuestRam {
    regions: BTreeMap<u64, (u64, Region)>,
}

impl GuestRam {
    /// Maps `size` bytes of `fd` from `offset` at guest physical `address`.
    ///
    /// # Errors
    ///
    /// When the range wraps around, overlaps what is mapped, or is not in the file.
    pub fn map(
        &mut self,
        fd: Option<File>,
        offset: u64,
        address: u64,
        size: u64,
        writable: bool,
    ) -> io::Result<()> {
        let Some(fd) = fd else { return Ok(()) };
        let end = address.checked_add(size).filter(|&end| end > address);
        let end = end.ok_or(ErrorKind::InvalidInput)?;
        let below = self.regions.range(..end).next_back();
        if below.is_some_and(|(start, (size, _))| start + size > address) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        // A page past the end of the file would kill us when touched.
        if offset
            .checked_add(size)
            .is_none_or(|end| fd.metadata().map_or(true, |meta| end > meta.len()))
        {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        let len = usize::try_from(size).map_err(|_| ErrorKind::InvalidInput)?;
        let mapping = MmapRegionBuilder::new(len)
            .with_file_offset(FileOffset::new(fd, offset))
            .with_mmap_prot(protection)
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
            .build()
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        self.regions
            .insert(address, (size, Region { mapping, writable }));
        Ok(())
    }

    /// Serves the protocol's request to map; what cannot be mapped is told in the log, too.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map).
    pub fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        let writable = flags.contains(DmaMapFlags::WRITE);
        self.map(fd, offset, address, size, writable)
            .inspect_err(|error| warn!("cannot map {size:#x} bytes at {address:#x}: {error}"))
    }

    /// Serves the protocol's request to unmap.
    pub fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) {
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            *self = Self::default();
        } else {
            self.unmap(address, size);
        }
    }

    /// Forgets every piece that lies wholly in the range.
    pub fn unmap(&mut self, address: u64, size: u64) {
        let end = address.saturating_add(size);
        self.regions
            .retain(|&start, (size, _)| start < address || start + *size > end);
    }

    fn pieces(&self, addr: u64, len: usize) -> Result<Vec<Piece<'_, Region>>, DmaError> {
        split(&self.regions, addr, len).ok_or(DmaError { addr, len })
    }
}

impl GuestMemory for GuestRam {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        let error = DmaError {
            addr,
            len: buf.len(),
        };
        for piece in self.pieces(addr, buf.len())? {
            let part = &mut buf[piece.at..piece.at + piece.len];
            let slice = piece.region.mapping.as_volatile_slice();
            slice
                .read_slice(part, piece.offset as usize)
                .map_err(|_| error)?;
        }
        Ok(())
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        let error = DmaError {
            addr,
            len: data.len(),
        };
        let pieces = self.pieces(addr, data.len())?;
        if pieces.iter().any(|piece| !piece.region.writable) {
            return Err(error);
        }
        for piece in pieces {
            let part = &data[piece.at..piece.at + piece.len];
            let slice = piece.region.mapping.as_volatile_slice();
            slice
                .write_slice(part, piece.offset as usize)
                .map_err(|_| error)?;
        }
        Ok(())
    }

    fn is_writable(&self, addr: u64, len: u64) -> bool {
        let pieces = usize::try_from(len)
            .ok()
            .and_then(|len| split(&self.regions, addr, len));
        pieces.is_some_and(|pieces| pieces.iter().all(|piece| piece.region.writable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file(len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn read_only_memory_is_read_only() {
        let mut ram = GuestRam::default();
        let rom = file(0x1000);
        rom.write_all_at(&[7; 16], 0).unwrap();
        ram.map(Some(file(0x1000)), 0, 0x1000, 0x1000, true)
            .unwrap();
        ram.map(Some(rom.try_clone().unwrap()), 0, 0x2000, 0x1000, false)
            .unwrap();
        let mut bytes = [0; 2];
        ram.read(0x2000, &mut bytes).unwrap();
        assert_eq!(bytes, [7, 7]);
        assert!(ram.write(0x2000, &[1]).is_err());
        assert!(!ram.is_writable(0x2000, 1));
        // A range that is partly read-only is not written at all.
        assert!(ram.write(0x1ffe, &[1; 4]).is_err());
        assert!(!ram.is_writable(0x1ffe, 4));
        ram.read(0x1ffe, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0]);
        assert!(ram.is_writable(0x1000, 0x1000));
    }

    #[test]
    fn mappings_must_not_overlap_or_wrap() {
        let mut ram = GuestRam::default();
        let mut map = |address, size| ram.map(Some(file(0x4000)), 0, address, size, true).is_ok();
        assert!(map(0x4000, 0x2000));
        assert!(!map(0x4000, 0x2000));
        assert!(!map(0x5000, 0x1000));
        assert!(!map(0x3000, 0x4000));
        assert!(!map(0x3000, 0x1001));
        assert!(map(0x3000, 0x1000));
        assert!(map(0x6000, 0x1000));
        assert!(!map(u64::MAX - 0xfff, 0x2000));
        assert!(!map(0x8000, 0));
    }

    #[test]
    fn unmapping_takes_what_lies_in_the_range() {
        let mut ram = GuestRam::default();
        for address in [0x1000, 0x2000, 0x3000] {
            ram.map(Some(file(0x1000)), 0, address, 0x1000, true)
                .unwrap();
        }
        ram.unmap(0x1800, 0x1800);
        assert!(
            ram.is_writable(0x1000, 0x1000),
            "only half of it in the range"
        );
        assert!(!ram.is_writable(0x2000, 1));
        assert!(ram.is_writable(0x3000, 0x1000));
        ram.unmap(0, u64::MAX);
        assert!(!ram.is_writable(0x1000, 1));
    }

    #[test]
    fn what_comes_without_file_is_no_ram() {
        let mut ram = GuestRam::default();
        ram.map(None, 0, 0x1000, 0x1000, true).unwrap();
        assert!(!ram.is_writable(0x1000, 1));
    }
}
