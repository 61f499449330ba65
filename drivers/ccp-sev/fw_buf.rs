// SPDX-License-Identifier: GPL-2.0

//! Memory that is lent to the firmware.

use core::ptr::NonNull;

use kernel::prelude::*;
use psp::host::{
    Memory,
    OutOfBounds, //
};

use crate::ffi;

/// Zeroed, physically contiguous memory in pages of its own, which the firmware may read and write.
///
/// It shares its pages with nothing else, so whatever a firmware does within them harms nobody.
/// The CPU reads it with volatile accesses only, a copy at a time: the firmware may write at any
/// moment, and what was checked must be what is used.
///
/// # Invariants
///
/// `mem` comes from `ffi::alloc_exact(len)` and is owned by this object alone.
pub(crate) struct FwBuf {
    mem: NonNull<u8>,
    len: usize,
    leaked: bool,
}

// SAFETY: The memory has no thread affinity and one owner.
unsafe impl Send for FwBuf {}
// SAFETY: `&FwBuf` only gives addresses and volatile reads.
unsafe impl Sync for FwBuf {}

impl FwBuf {
    /// Allocates `len` bytes; aligned to the page, and to their size if that is a power of two.
    ///
    /// # Errors
    ///
    /// `ENOMEM` for no bytes, too many bytes, or no memory.
    pub(crate) fn new(len: usize) -> Result<Self> {
        if len == 0 {
            return Err(ENOMEM);
        }
        // INVARIANT: Just allocated.
        Ok(FwBuf {
            mem: ffi::alloc_exact(len).ok_or(ENOMEM)?,
            len,
            leaked: false,
        })
    }

    /// Allocates a copy of `bytes`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self> {
        let mut buf = Self::new(bytes.len())?;
        buf.write(bytes).map_err(|OutOfBounds| EINVAL)?;
        Ok(buf)
    }

    /// Copies its first `len` bytes into a vector.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it has fewer, `ENOMEM` without memory.
    pub(crate) fn to_vec(&self, len: usize) -> Result<KVec<u8>> {
        if len > self.len {
            return Err(EINVAL);
        }
        let mut out = KVec::from_elem(0, len, GFP_KERNEL)?;
        self.read(&mut out).map_err(|OutOfBounds| EINVAL)?;
        Ok(out)
    }

    /// Copies its first `len` bytes to memory that need not be initialised.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if it has fewer; nothing is copied then.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing `len` bytes.
    pub(crate) unsafe fn read_to(&self, to: *mut u8, len: usize) -> Result<(), OutOfBounds> {
        if len > self.len {
            return Err(OutOfBounds);
        }
        let rest_at = len / 8 * 8;
        for i in 0..len / 8 {
            // SAFETY: All of the word is below `len`. By the type invariant that much is ours, and pages are
            // aligned for words; by this function's own requirements that much may be written.
            unsafe {
                let word = self.mem.cast::<u64>().add(i).read_volatile();
                to.cast::<u64>().add(i).write_unaligned(word);
            }
        }
        for i in rest_at..len {
            // SAFETY: As above, for a byte.
            unsafe { to.add(i).write(self.mem.add(i).read_volatile()) };
        }
        Ok(())
    }
}

impl Memory for FwBuf {
    fn len(&self) -> usize {
        self.len
    }

    fn pa(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { ffi::pa(self.mem) }
    }

    fn psp_addr(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { ffi::psp_pa(self.mem) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OutOfBounds> {
        if bytes.len() > self.len {
            return Err(OutOfBounds);
        }
        let words = bytes.chunks_exact(8);
        let (rest, rest_at) = (words.remainder(), bytes.len() / 8 * 8);
        for (i, word) in words.enumerate() {
            let word = u64::from_ne_bytes(word.try_into().map_err(|_| OutOfBounds)?);
            // SAFETY: All of the word is below `len`, and by the type invariant that much is ours; pages are
            // aligned for words.
            unsafe { self.mem.cast::<u64>().add(i).write_volatile(word) };
        }
        for (i, byte) in rest.iter().enumerate() {
            // SAFETY: `rest_at + i` is below `len`, and by the type invariant that much is ours.
            unsafe { self.mem.add(rest_at + i).write_volatile(*byte) };
        }
        Ok(())
    }

    fn read(&self, out: &mut [u8]) -> Result<(), OutOfBounds> {
        // SAFETY: The slice is valid for writing its length.
        unsafe { self.read_to(out.as_mut_ptr(), out.len()) }
    }

    fn fill(&mut self, byte: u8) {
        for i in 0..self.len {
            // SAFETY: `i` is below `len`, and by the type invariant that much is ours.
            unsafe { self.mem.add(i).write_volatile(byte) };
        }
    }

    fn flush(&self) {
        // SAFETY: By the type invariant.
        unsafe { ffi::clflush(self.mem, self.len) }
    }

    fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for FwBuf {
    fn drop(&mut self) {
        if self.leaked {
            // LEAK: the firmware may still write to it.
            return;
        }
        // SAFETY: By the type invariant; this is the last use.
        unsafe { ffi::free_exact(self.mem, self.len) };
    }
}

#[cfg(CONFIG_CCP_SEV_RUST_KUNIT_TEST)]
#[kunit_tests(ccp_sev_fw_buf)]
mod tests {
    use super::*;

    #[test]
    fn a_new_buffer_is_zero_and_as_aligned_as_it_is_long() -> Result {
        for len in [1, 4096, 16384, 1 << 20] {
            let buf = FwBuf::new(len)?;
            assert!(buf.to_vec(len)?.iter().all(|&b| b == 0));
            assert!(buf.pa() % len.max(4096) as u64 == 0);
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result {
        let mut buf = FwBuf::new(16)?;
        assert!(buf.write(&[1; 17]).is_err());
        assert!(buf.read(&mut [0; 17]).is_err());
        assert!(buf.to_vec(17).is_err());
        assert!(FwBuf::new(0).is_err());
        assert!(FwBuf::new(usize::MAX / 2).is_err());
        Ok(())
    }

    #[test]
    fn bytes_survive_the_round_trip() -> Result {
        // With and without whole words.
        for text in [
            &b"pek"[..],
            b"sixteen bytes ..",
            b"PEK_CERT_IMPORT, with a rest",
        ] {
            let buf = FwBuf::from_slice(text)?;
            assert!(&buf.to_vec(text.len())?[..] == text);
        }
        Ok(())
    }
}
