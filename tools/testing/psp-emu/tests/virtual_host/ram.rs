// SPDX-License-Identifier: GPL-2.0
//! RAM of which every page has an owner, and the memory in it that the driver lends to the firmware.

use super::World;
use psp::host::{Memory, OutOfBounds};
use psp_emu::memory::{DmaError, GuestMemory, VecMemory};
use std::{ops::Range, rc::Rc};

pub const PAGE: usize = 4096;
/// A page that is the test's, not the driver's.
pub const ORACLE: u64 = 0x1000;
/// Pages that are KVM's and its guests': what it makes of them is none of the driver's business.
pub const KVM: Range<u64> = 0x1_0000..0x4_0000;

/// Who has a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody; the kernel may give it to whom it likes.
    Free,
    /// The driver, which may have lent it to the firmware.
    Driver,
    /// The firmware, for good: the driver has given it up.
    Leaked,
    /// Somebody else who lets the firmware use it.
    Other,
}

/// The RAM, from address zero on.
pub struct Ram {
    bytes: VecMemory,
    owners: Vec<Owner>,
    /// Pages that are not zero any more.
    dirty: Vec<bool>,
    c_bit: u64,
}

fn pages(range: &Range<u64>) -> Range<usize> {
    // CAST: addresses in RAM.
    range.start as usize / PAGE..(range.end as usize).div_ceil(PAGE)
}

impl Ram {
    pub(super) fn new(len: usize, c_bit: u32) -> Self {
        let mut ram = Self {
            bytes: VecMemory::new(0, len),
            owners: vec![Owner::Free; len / PAGE],
            dirty: vec![false; len / PAGE],
            c_bit: 1 << c_bit,
        };
        for other in [ORACLE..ORACLE + 1, KVM] {
            ram.give(&other, Owner::Other);
        }
        // Address zero is what no buffer has.
        ram.give(&(0..1), Owner::Other);
        ram
    }

    /// What the firmware makes of an address.
    pub fn plain(&self, addr: u64) -> u64 {
        addr & !self.c_bit
    }

    fn give(&mut self, range: &Range<u64>, owner: Owner) {
        self.owners[pages(range)].fill(owner);
    }

    /// How many pages this owner has.
    pub fn count(&self, owner: Owner) -> usize {
        self.owners.iter().filter(|&&of| of == owner).count()
    }

    /// Whether all of the range is that owner's. No if it is not all RAM.
    pub fn all(&self, range: &Range<u64>, owner: Owner) -> bool {
        let owners = self.owners.get(pages(range));
        owners.is_some_and(|owners| owners.iter().all(|&of| of == owner))
    }

    /// As a CPU reads.
    pub fn peek<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.bytes.read(addr, &mut bytes).expect("RAM");
        bytes
    }

    /// As a CPU writes.
    pub fn poke(&mut self, addr: u64, bytes: &[u8]) {
        self.soil(addr, bytes.len());
        self.bytes.write(addr, bytes).expect("RAM");
    }

    fn soil(&mut self, addr: u64, len: usize) {
        let range = addr..addr.saturating_add(len as u64);
        if let Some(pages) = self.dirty.get_mut(pages(&range)) {
            pages.fill(true);
        }
    }

    /// After a power cycle nobody knows what the firmware had.
    pub(super) fn forget(&mut self) {
        for owner in &mut self.owners {
            if *owner == Owner::Leaked {
                *owner = Owner::Free;
            }
        }
    }

    fn allocate(&mut self, len: usize) -> Option<u64> {
        let count = len.div_ceil(PAGE);
        // As the kernel's: aligned to its size.
        let align = count.next_power_of_two();
        let mut starts = (0..self.owners.len().saturating_sub(count - 1)).step_by(align);
        let free = |start: &usize| {
            let owners = &self.owners[*start..*start + count];
            owners.iter().all(|&owner| owner == Owner::Free)
        };
        let addr = (starts.find(free)? * PAGE) as u64;
        let range = addr..addr + len as u64;
        self.give(&range, Owner::Driver);
        for page in pages(&range) {
            if std::mem::take(&mut self.dirty[page]) {
                let start = (page * PAGE) as u64;
                self.bytes.write(start, &[0; PAGE]).expect("RAM");
            }
        }
        Some(addr)
    }

    fn fill(&mut self, range: &Range<u64>, byte: u8) {
        // CAST: it lies in RAM.
        let bytes = vec![byte; (range.end - range.start) as usize];
        self.poke(range.start, &bytes);
    }

    /// # Panics
    ///
    /// When the firmware uses what the driver has freed: it belongs to somebody else by now.
    fn check_dma(&self, what: &str, addr: u64, len: usize) {
        if addr.saturating_add(len as u64) <= (self.owners.len() * PAGE) as u64 {
            let owners = &self.owners[pages(&(addr..addr + len as u64))];
            let freed = owners.contains(&Owner::Free);
            assert!(
                !freed,
                "the firmware {what} {len} bytes of freed memory at {addr:#x}"
            );
        }
    }
}

impl GuestMemory for Ram {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        self.check_dma("reads", addr, buf.len());
        self.bytes.read(addr, buf)
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        self.check_dma("writes", addr, data.len());
        self.soil(addr, data.len());
        self.bytes.write(addr, data)
    }

    fn is_writable(&self, addr: u64, len: u64) -> bool {
        self.bytes.is_writable(addr, len)
    }
}

/// Memory of the driver's. Its rules: nothing that the firmware may still write is read, written or freed.
pub struct Buf {
    world: Rc<World>,
    range: Range<u64>,
    leaked: bool,
}

impl Buf {
    pub(super) fn new(world: &Rc<World>, len: usize) -> Option<Self> {
        let addr = world.machine().ram.allocate(len)?;
        Some(Self {
            world: world.clone(),
            range: addr..addr + len as u64,
            leaked: false,
        })
    }

    fn check_access(&self, what: &str) {
        let machine = self.world.machine();
        assert!(
            machine.ram.all(&self.range, Owner::Driver),
            "{what}: not the driver's"
        );
        machine.watch.check_access(what, &self.range);
    }

    fn part(&self, len: usize) -> Result<Range<u64>, OutOfBounds> {
        match len <= self.len() {
            true => Ok(self.range.start..self.range.start + len as u64),
            false => Err(OutOfBounds),
        }
    }

    /// All of its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read(&mut bytes).expect("as many as there are");
        bytes
    }
}

impl Memory for Buf {
    fn len(&self) -> usize {
        // CAST: it lies in RAM.
        (self.range.end - self.range.start) as usize
    }

    fn pa(&self) -> u64 {
        self.range.start
    }

    fn psp_addr(&self) -> u64 {
        self.range.start | self.world.machine().ram.c_bit
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let part = self.part(bytes.len())?;
        self.check_access("written");
        self.world.machine().watch.check_write(&self.range);
        self.world.machine().ram.poke(part.start, bytes);
        Ok(())
    }

    fn read(&self, out: &mut [u8]) -> Result<(), OutOfBounds> {
        let part = self.part(out.len())?;
        self.check_access("read");
        let read = self.world.machine().ram.bytes.read(part.start, out);
        read.map_err(|_| OutOfBounds)
    }

    fn flush(&self) {
        self.check_access("flushed");
    }

    fn fill(&mut self, byte: u8) {
        self.check_access("filled");
        self.world.machine().watch.check_write(&self.range);
        self.world.machine().ram.fill(&self.range, byte);
    }

    fn leak(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut machine = self.world.machine();
        machine.watch.check_leak(&self.range);
        machine.ram.give(&self.range, Owner::Leaked);
        self.leaked = true;
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        // A test that has failed already.
        if self.leaked || std::thread::panicking() {
            return;
        }
        let mut machine = self.world.machine();
        assert!(machine.ram.all(&self.range, Owner::Driver), "freed twice");
        machine.watch.check_free(&self.range);
        machine.ram.give(&self.range, Owner::Free);
    }
}
