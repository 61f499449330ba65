// SPDX-License-Identifier: GPL-2.0
//! The processor's caches, as far as the firmware knows them: which core has written them back.
//!
//! After INIT, and after a guest that may have run is deactivated, every core must execute WBINVD before
//! DF_FLUSH: otherwise a later guest with the same ASID could meet what an earlier one left in a cache.
//! On hardware the cores tell the firmware; here whoever runs them does, through [`Cores`].

use std::{fs::File, os::unix::fs::FileExt};

/// Who runs the processor's cores.
pub trait Cores: Send {
    /// How many WBINVD each core has executed so far. `None` when that is not known: no driver is then
    /// blamed for having forgotten one.
    fn writebacks(&self) -> Option<Vec<u64>>;
}

/// Cores nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Cores for Unwatched {
    fn writebacks(&self) -> Option<Vec<u64>> {
        None
    }
}

/// Counters in a file that somebody else writes: a little-endian 64-bit number for each core.
#[derive(Debug)]
pub struct CounterFile(pub File);

/// More cores than any machine has: a longer file is something else.
const MAX_CORES: usize = 4096;
const COUNTER_LEN: usize = 8;

impl Cores for CounterFile {
    /// `None` as long as the file is empty, and when it cannot be read.
    fn writebacks(&self) -> Option<Vec<u64>> {
        let len = usize::try_from(self.0.metadata().ok()?.len()).ok()?;
        if !(COUNTER_LEN..=MAX_CORES * COUNTER_LEN).contains(&len) {
            return None;
        }
        let mut bytes = vec![0; len - len % COUNTER_LEN];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let counters = bytes.chunks_exact(COUNTER_LEN);
        Some(
            counters
                .filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes))
                .collect(),
        )
    }
}

/// Which cores still have to execute WBINVD.
pub(super) struct Caches {
    cores: Box<dyn Cores>,
    /// The counters at the time since when a WBINVD counts.
    since: Option<Vec<u64>>,
}

impl Caches {
    pub(super) fn new(cores: Box<dyn Cores>) -> Self {
        Self { cores, since: None }
    }

    /// From now on every core holds data that must be written back.
    pub(super) fn filled(&mut self) {
        self.since = self.cores.writebacks();
    }

    /// A power cycle: caches are empty.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }

    /// Whether every core has executed WBINVD since [`Caches::filled`].
    pub(super) fn written_back(&self) -> bool {
        let (Some(since), Some(now)) = (&self.since, self.cores.writebacks()) else {
            return true;
        };
        now.len() == since.len() && since.iter().zip(&now).all(|(since, now)| now > since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn every_core_must_write_back() {
        let file = tempfile::tempfile().unwrap();
        let set = |core: u64, count: u64| {
            file.write_all_at(&count.to_le_bytes(), core * 8).unwrap();
        };
        let mut caches = Caches::new(Box::new(CounterFile(file.try_clone().unwrap())));
        caches.filled();
        assert!(caches.written_back(), "nothing is known");
        set(0, 5);
        set(1, 7);
        assert!(caches.written_back(), "nothing was known");
        caches.filled();
        assert!(!caches.written_back());
        set(0, 9);
        assert!(!caches.written_back(), "one core is missing");
        set(1, 8);
        assert!(caches.written_back());
        caches.filled();
        assert!(!caches.written_back());
        caches.reset();
        assert!(caches.written_back());
    }

    #[test]
    fn what_is_no_counter_file_is_unknown() {
        let mut file = tempfile::tempfile().unwrap();
        let counters = CounterFile(file.try_clone().unwrap());
        assert_eq!(counters.writebacks(), None);
        file.write_all(&[1; 7]).unwrap();
        assert_eq!(counters.writebacks(), None);
        file.write_all(&[0; 12]).unwrap();
        assert_eq!(counters.writebacks(), Some(vec![0x0001_0101_0101_0101, 0]));
        file.set_len(1 << 20).unwrap();
        assert_eq!(counters.writebacks(), None);
    }
}
