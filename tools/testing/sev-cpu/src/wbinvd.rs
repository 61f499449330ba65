// SPDX-License-Identifier: GPL-2.0
//! How often each CPU has executed WBINVD, in a file that the emulated PSP reads: real firmware knows
//! whether every core has written its caches back since a guest was deactivated (AMD 55766, DF_FLUSH).
//!
//! The file holds a little-endian `u64` per CPU.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

const COUNTER_LEN: usize = size_of::<u64>();

/// The counters and their file.
pub(crate) struct Counters {
    file: File,
    counts: Box<[AtomicU64]>,
}

impl Counters {
    /// Starts with all counters at 0, for `cpus` CPUs. A file that is there already stays the same file, so that who
    /// has it open sees the counters.
    pub(crate) fn create(path: &Path, cpus: usize) -> io::Result<Self> {
        let file = File::create(path)?;
        // CAST: a length in memory fits.
        file.set_len((cpus * COUNTER_LEN) as u64)?;
        let counts = (0..cpus).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { file, counts })
    }

    /// Counts one execution on `cpu`; it is in the file when this returns.
    pub(crate) fn increment(&self, cpu: usize) -> io::Result<()> {
        let count = self.counts.get(cpu).ok_or(io::ErrorKind::NotFound)?;
        // A CPU executes one instruction at a time, so nobody else writes its counter. That CPUs see each other's work
        // is the guest's business, which waits for its CPUs.
        let value = count.fetch_add(1, Ordering::Relaxed) + 1;
        // CAST: as above.
        self.file
            .write_all_at(&value.to_le_bytes(), (cpu * COUNTER_LEN) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn counters() -> (tempfile::NamedTempFile, Counters) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [0xff; 100]).unwrap();
        let counters = Counters::create(file.path(), 3).unwrap();
        (file, counters)
    }

    #[test]
    fn counters_begin_at_zero_whatever_was_there() {
        let (file, _) = counters();
        assert_eq!(fs::read(file.path()).unwrap(), [0; 24]);
    }

    #[test]
    fn an_execution_is_in_the_file_at_once_and_on_its_cpu_alone() {
        let (file, counters) = counters();
        for _ in 0..0x102 {
            counters.increment(1).unwrap();
        }
        counters.increment(2).unwrap();
        let mut expected = [0; 24];
        expected[8..10].copy_from_slice(&[2, 1]);
        expected[16] = 1;
        assert_eq!(fs::read(file.path()).unwrap(), expected);
    }

    #[test]
    fn a_cpu_that_was_not_announced_is_an_error() {
        let (file, counters) = counters();
        assert!(counters.increment(3).is_err());
        assert_eq!(fs::read(file.path()).unwrap(), [0; 24]);
    }

    #[test]
    fn who_has_the_file_open_sees_the_counters() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = file.reopen().unwrap();
        let counters = Counters::create(file.path(), 1).unwrap();
        counters.increment(0).unwrap();
        let mut bytes = [0; 8];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
