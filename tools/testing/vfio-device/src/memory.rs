// SPDX-License-Identifier: GPL-2.0
//! The RAM of the machine a device sits in, as the device sees it.

use std::collections::BTreeMap;

/// The range is not (wholly) RAM, or may not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {addr:#x} are not accessible RAM")]
pub struct DmaError {
    /// First byte of the range.
    pub addr: u64,
    /// Length in bytes.
    pub len: usize,
}

/// RAM reachable by DMA. The guest may change it at any time: read once, then parse.
pub trait GuestMemory {
    /// Copies `buf.len()` bytes from `addr`.
    ///
    /// # Errors
    ///
    /// When a byte of the range is not RAM; `buf` is then unspecified.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError>;

    /// Copies `data` to `addr`.
    ///
    /// # Errors
    ///
    /// When a byte of the range is not writable RAM; nothing is then written.
    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError>;

    /// Whether all of the range is writable RAM.
    fn is_writable(&self, addr: u64, len: u64) -> bool;
}

/// One piece of a range that may span several regions: where it lies in its region and in the buffer.
pub(crate) struct Piece<'a, R> {
    pub(crate) region: &'a R,
    pub(crate) offset: u64,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// Splits `len` bytes at `addr` over `regions` (start address to length and region).
///
/// Returns nothing when the range wraps around or touches an address in no region.
pub(crate) fn split<R>(
    regions: &BTreeMap<u64, (u64, R)>,
    addr: u64,
    len: usize,
) -> Option<Vec<Piece<'_, R>>> {
    let end = addr.checked_add(u64::try_from(len).ok()?)?;
    let mut pieces = Vec::new();
    let mut pos = addr;
    while pos < end {
        let (&start, (size, region)) = regions.range(..=pos).next_back()?;
        let offset = pos - start;
        let left = size.checked_sub(offset).filter(|&left| left > 0)?;
        let take = left.min(end - pos);
        pieces.push(Piece {
            region,
            offset,
            at: usize::try_from(pos - addr).ok()?,
            len: usize::try_from(take).ok()?,
        });
        pos += take;
    }
    Some(pieces)
}

/// RAM in a vector, for tests and for driving a device without QEMU.
#[derive(Clone, Debug)]
pub struct VecMemory {
    base: u64,
    bytes: Vec<u8>,
}

impl VecMemory {
    /// `len` zero bytes at physical address `base`.
    #[must_use]
    pub fn new(base: u64, len: usize) -> Self {
        Self {
            base,
            bytes: vec![0; len],
        }
    }

    fn range(&self, addr: u64, len: usize) -> Result<std::ops::Range<usize>, DmaError> {
        let error = DmaError { addr, len };
        let start = addr
            .checked_sub(self.base)
            .and_then(|start| usize::try_from(start).ok());
        let start = start.ok_or(error)?;
        let end = start
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len())
            .ok_or(error)?;
        Ok(start..end)
    }
}

impl GuestMemory for VecMemory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        buf.copy_from_slice(&self.bytes[self.range(addr, buf.len())?]);
        Ok(())
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        let range = self.range(addr, data.len())?;
        self.bytes[range].copy_from_slice(data);
        Ok(())
    }

    fn is_writable(&self, addr: u64, len: u64) -> bool {
        usize::try_from(len).is_ok_and(|len| self.range(addr, len).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> BTreeMap<u64, (u64, char)> {
        BTreeMap::from([
            (0x1000, (0x1000, 'a')),
            (0x2000, (0x800, 'b')),
            (0x4000, (0x1000, 'c')),
        ])
    }

    fn pieces(addr: u64, len: usize) -> Option<Vec<(char, u64, usize, usize)>> {
        let regions = regions();
        let pieces = split(&regions, addr, len)?;
        Some(
            pieces
                .iter()
                .map(|p| (*p.region, p.offset, p.at, p.len))
                .collect(),
        )
    }

    #[test]
    fn split_stays_in_one_region() {
        assert_eq!(pieces(0x1010, 0x20), Some(vec![('a', 0x10, 0, 0x20)]));
    }

    #[test]
    fn split_crosses_adjacent_regions() {
        let expected = vec![('a', 0xff0, 0, 0x10), ('b', 0, 0x10, 0x10)];
        assert_eq!(pieces(0x1ff0, 0x20), Some(expected));
    }

    #[test]
    fn split_refuses_holes_and_ends() {
        for (addr, len) in [
            (0xfff, 2),
            (0x27ff, 2),
            (0x2800, 1),
            (0x4fff, 2),
            (0x5000, 1),
            (0, 1),
        ] {
            assert_eq!(pieces(addr, len), None, "{addr:#x}+{len:#x}");
        }
    }

    #[test]
    fn split_refuses_wrap_around() {
        assert_eq!(pieces(u64::MAX, 2), None);
        assert_eq!(pieces(0x1000, usize::MAX), None);
    }

    #[test]
    fn vec_memory_refuses_what_is_outside() {
        let mut memory = VecMemory::new(0x1000, 0x100);
        assert_eq!(memory.write(0x10f0, &[7; 0x10]), Ok(()));
        let mut buf = [0; 2];
        assert_eq!(memory.read(0x10fe, &mut buf), Ok(()));
        assert_eq!(buf, [7, 7]);
        assert!(memory.read(0x10ff, &mut buf).is_err());
        assert!(memory.write(0xfff, &[1]).is_err());
        assert!(memory.write(u64::MAX, &[1, 1]).is_err());
        assert!(memory.is_writable(0x1000, 0x100));
        assert!(!memory.is_writable(0x1000, 0x101));
    }
}
