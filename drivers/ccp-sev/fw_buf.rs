// SPDX-License-Identifier: GPL-2.0

//! Memory that is lent to the firmware.

use core::ptr::NonNull;

use kernel::prelude::*;

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
        })
    }

    /// Allocates a copy of `bytes`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self> {
        let mut buf = Self::new(bytes.len())?;
        buf.write(bytes)?;
        Ok(buf)
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// System physical address, without the C-bit.
    pub(crate) fn pa(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { ffi::pa(self.mem) }
    }

    /// Address as the firmware wants it, with the C-bit if the host's memory is encrypted.
    pub(crate) fn psp_addr(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { ffi::psp_pa(self.mem) }
    }

    /// Copies `bytes` to its front.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they do not fit.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result {
        if bytes.len() > self.len {
            return Err(EINVAL);
        }
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: `i` is below `len`, and by the type invariant that much is ours.
            unsafe { self.mem.add(i).write_volatile(*byte) };
        }
        Ok(())
    }

    /// Copies its first `out.len()` bytes out.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it has fewer.
    pub(crate) fn read(&self, out: &mut [u8]) -> Result {
        if out.len() > self.len {
            return Err(EINVAL);
        }
        for (i, byte) in out.iter_mut().enumerate() {
            // SAFETY: `i` is below `len`, and by the type invariant that much is ours.
            *byte = unsafe { self.mem.add(i).read_volatile() };
        }
        Ok(())
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
        self.read(&mut out)?;
        Ok(out)
    }

    /// Flushes the caches over it, as the firmware demands of memory it is going to keep.
    pub(crate) fn clflush(&self) {
        // SAFETY: By the type invariant.
        unsafe { ffi::clflush(self.mem, self.len) }
    }

    /// Gives it up without freeing it, for memory that the firmware may still write to.
    pub(crate) fn leak(self) {
        core::mem::forget(self);
    }
}

impl Drop for FwBuf {
    fn drop(&mut self) {
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
        let buf = FwBuf::from_slice(b"pek")?;
        assert!(&buf.to_vec(3)?[..] == b"pek");
        Ok(())
    }
}
