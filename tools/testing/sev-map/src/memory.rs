// SPDX-License-Identifier: GPL-2.0
//! A guest's memory in two files: as the host sees it, and as the guest's processors do.

use anyhow::{ensure, Context, Result};
use memenc::walk::PhysMem;
use std::{cell::RefCell, fs::File, os::unix::fs::FileExt, path::Path};

/// The size of a page in bytes.
pub(crate) const PAGE: u64 = 4096;

/// Where memory goes on that has no room below the hole for devices.
const HIGH: u64 = 4 << 30;

type Page = [u8; PAGE as usize];

/// Two images of the same length.
pub(crate) struct Memory {
    shared: File,
    private: File,
    /// Bytes, and how many of them begin at address 0; the others begin at [`HIGH`].
    len: u64,
    low: u64,
    /// The page read last, of which image: tables are read word by word.
    last: RefCell<(Option<(u64, bool)>, Page)>,
}

impl Memory {
    /// Opens both. `low` is how many bytes begin at address 0, `None` for all.
    pub(crate) fn open(shared: &Path, private: &Path, low: Option<u64>) -> Result<Self> {
        let open = |path: &Path| -> Result<(File, u64)> {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (shared, len) = open(shared).with_context(|| format!("{}", shared.display()))?;
        let (private, other) = open(private).with_context(|| format!("{}", private.display()))?;
        ensure!(
            len == other,
            "the images differ in length: {len} and {other} bytes"
        );
        ensure!(
            len > 0 && len % PAGE == 0,
            "{len} bytes are not whole pages"
        );
        let low = low.unwrap_or(len).min(len);
        ensure!(
            low <= HIGH || low == len,
            "memory below 4 GiB cannot be {low} bytes"
        );
        Ok(Memory {
            shared,
            private,
            len,
            low,
            last: RefCell::new((None, [0; PAGE as usize])),
        })
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> Result<usize> {
        Ok(usize::try_from(self.len / PAGE)?)
    }

    /// The address of a page, counted as the images have them.
    pub(crate) fn gpa(&self, page: usize) -> u64 {
        // CAST: a number of pages that are in a file.
        let offset = page as u64 * PAGE;
        if offset < self.low {
            offset
        } else {
            HIGH + (offset - self.low)
        }
    }

    /// Where the images have what is at an address, if there is memory.
    pub(crate) fn offset(&self, gpa: u64) -> Option<u64> {
        let offset = if gpa < self.low {
            gpa
        } else {
            // Also when there is no high memory: then nothing is left.
            gpa.checked_sub(HIGH)?.checked_add(self.low)?
        };
        (offset < self.len).then_some(offset)
    }

    /// What the host sees of a page, counted as the images have them.
    pub(crate) fn shared_page(&self, page: usize) -> Result<Page> {
        let mut bytes = [0; PAGE as usize];
        // CAST: a number of pages that are in a file.
        let start = page as u64 * PAGE;
        self.shared
            .read_exact_at(&mut bytes, start)
            .with_context(|| format!("the shared image at {start:#x}"))?;
        Ok(bytes)
    }
}

impl PhysMem for Memory {
    fn read(&self, gpa: u64, private: bool) -> Option<u64> {
        let offset = self.offset(gpa)?;
        let start = offset - offset % PAGE;
        let (held, page) = &mut *self.last.borrow_mut();
        if *held != Some((start, private)) {
            *held = None;
            let image = if private { &self.private } else { &self.shared };
            image.read_exact_at(page, start).ok()?;
            *held = Some((start, private));
        }
        // CAST: below the size of a page.
        let word = page.get((offset - start) as usize..)?.first_chunk()?;
        Some(u64::from_le_bytes(*word))
    }
}
