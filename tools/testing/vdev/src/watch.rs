// SPDX-License-Identifier: GPL-2.0
//! Keeps account of all memory that a device was given or has touched, in pages of 4 KiB.
//!
//! A page is in the log before anything that was read from it is acted upon, and before what was written is announced:
//! whoever sees a request done finds all its pages there.

use serde::Serialize;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write},
    path::Path,
};
use tracing::error;
use vfio_device::memory::{DmaError, GuestMemory};

/// Size of a page in bytes.
pub const PAGE: u64 = 4096;

/// Longest run of pages that is taken down: a descriptor has at most 4 GiB, no VM of the lab as much.
const MOST_PAGES: u64 = 1 << 20;

/// What memory was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// The queue's own areas.
    Ring,
    /// A table of indirect descriptors.
    Table,
    /// To be read.
    ReadBuffer,
    /// To be written.
    WriteBuffer,
}

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The first line: the format's version, what the device is, and the seed of its lies.
    Start {
        format: u32,
        spec: &'a str,
        seed: u64,
    },
    /// The VM has handed over memory; `taken` is false where it is private.
    Map {
        #[serde(serialize_with = "hex")]
        address: u64,
        size: u64,
        taken: bool,
    },
    /// Pages that have not been seen since the device was reset.
    Pages {
        #[serde(serialize_with = "hex")]
        first: u64,
        pages: u64,
        usage: Use,
    },
    /// An access to what is no memory, or no memory for the device.
    Refused {
        #[serde(serialize_with = "hex")]
        address: u64,
        len: u64,
        usage: Use,
    },
    /// The driver has set the device's status.
    Status { value: u8 },
    /// The device has lied with this answer of a queue.
    Lie {
        answer: u64,
        queue: u16,
        name: &'a str,
    },
}

fn hex<S: serde::Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#x}"))
}

/// The account.
#[derive(Default)]
pub struct Watch {
    pages: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    log: Option<File>,
}

impl Watch {
    /// An account that is also written to a file, a line of JSON for each event.
    ///
    /// # Errors
    ///
    /// When the file cannot be made or written.
    pub fn create(path: &Path, spec: &str, seed: u64) -> io::Result<Self> {
        let mut watch = Self {
            log: Some(File::create(path)?),
            ..Self::default()
        };
        watch.write(&Event::Start {
            format: 1,
            spec,
            seed,
        })?;
        Ok(watch)
    }

    /// Whether a page has been seen, by an address in it.
    #[must_use]
    pub fn has_seen(&self, address: u64) -> bool {
        self.pages.contains(&(address / PAGE))
    }

    /// How many accesses outside of memory there were, by page.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// Begins anew: another driver may be given the same pages.
    pub fn restart(&mut self) {
        self.pages.clear();
        self.refused.clear();
    }

    /// Writes a line. A log that cannot be written is given up with a message: a driver under test must not see a full
    /// disk of ours.
    pub fn event(&mut self, event: &Event<'_>) {
        if let Err(cause) = self.write(event) {
            error!("log: {cause}; no more lines follow");
            self.log = None;
        }
    }

    fn write(&mut self, event: &Event<'_>) -> io::Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        log.write_all(&line)
    }

    fn note(&mut self, address: u64, len: u64, usage: Use) {
        let Some(last) = len.checked_sub(1).map(|len| address.saturating_add(len)) else {
            return;
        };
        let (mut page, last) = (address / PAGE, last / PAGE);
        if last - page >= MOST_PAGES {
            self.refuse(address, len, usage);
            return;
        }
        while page <= last {
            let first = page;
            while page <= last && self.pages.insert(page) {
                page += 1;
            }
            if page > first {
                self.event(&Event::Pages {
                    first: first * PAGE,
                    pages: page - first,
                    usage,
                });
            }
            page += 1;
        }
    }

    fn refuse(&mut self, address: u64, len: u64, usage: Use) {
        if self.refused.insert(address / PAGE) {
            self.event(&Event::Refused {
                address,
                len,
                usage,
            });
        }
    }
}

/// Guest memory whose every use is taken down.
pub struct Watched<'a> {
    memory: &'a mut dyn GuestMemory,
    watch: &'a mut Watch,
}

impl<'a> Watched<'a> {
    /// Watches over `memory`.
    pub fn new(memory: &'a mut dyn GuestMemory, watch: &'a mut Watch) -> Self {
        Self { memory, watch }
    }

    /// Takes down that the device was given this.
    pub fn note(&mut self, address: u64, len: u64, usage: Use) {
        self.watch.note(address, len, usage);
        // What is given must be memory, even if nothing is ever read there.
        if len > 0 && !self.memory.is_writable(address, len) {
            self.watch.refuse(address, len, usage);
        }
    }

    /// Reads what the device was given.
    ///
    /// # Errors
    ///
    /// When it is no memory.
    pub fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        self.watch.note(address, buf.len() as u64, Use::ReadBuffer);
        let result = self.memory.read(address, buf);
        if result.is_err() {
            self.watch
                .refuse(address, buf.len() as u64, Use::ReadBuffer);
        }
        result
    }

    /// Writes what the device was given.
    ///
    /// # Errors
    ///
    /// When it is no memory.
    pub fn write(&mut self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let len = data.len() as u64;
        self.watch.note(address, len, Use::WriteBuffer);
        let result = self.memory.write(address, data);
        if result.is_err() {
            self.watch.refuse(address, len, Use::WriteBuffer);
        }
        result
    }

    /// Writes where the device has no business. Nothing is taken down: it was not given this.
    pub fn trespass(&mut self, address: u64, data: &[u8]) {
        // Where nothing is, nothing can be spoilt.
        let _ = self.memory.write(address, data);
    }

    /// Reads a little-endian number.
    ///
    /// # Errors
    ///
    /// When it is not in memory.
    pub fn read_u16(&mut self, address: u64) -> Result<u16, DmaError> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Writes a line to the log.
    pub fn event(&mut self, event: &Event<'_>) {
        self.watch.event(event);
    }
}
