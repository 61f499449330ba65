// SPDX-License-Identifier: GPL-2.0

//! Memory that is shared with the host: for other drivers, too.
//!
//! In a confidential VM every page is private until the guest says otherwise. What a device reads
//! or writes must be shared first, and a page that is given back while it is shared leaks whatever it
//! is used for next. The types here cannot be used that way: what they hand out is shared and zeroed, and
//! when they are dropped it is private again before anybody else gets it. If a change fails nobody
//! knows what the host sees; such pages are never used again ("leaked"), counted and logged.
//!
//! On a machine without memory encryption they are ordinary memory.
//!
//! ```
//! let mut mailbox = SharedPages::new(1)?;
//! mailbox.write(0, b"for the host's eyes")?;
//! device.tell(mailbox.address());
//! let mut answer = [0; 8];
//! mailbox.read(64, &mut answer)?; // checked from here on: the host can no longer change it
//! ```

use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};

use kernel::{
    ffi::{
        c_int,
        c_void, //
    },
    page::PAGE_SIZE,
    pr_warn_once,
    prelude::*, //
};
use memenc::pieces::Pieces;

use crate::{
    dma::direct,
    ffi,
    flip::{
        self,
        Block,
        Fate,
        Kernel, //
    },
    ledger::LEDGER,
    sysfs, //
};

pub use crate::ledger::{
    Counters,
    Range,
    State,
    UNIT_PAGES, //
};

/// Physically contiguous pages that the host can read and write.
///
/// The host may change them at any moment, so there are no references into them: [`SharedPages::read`]
/// copies out first, and what is checked is the copy.
///
/// Making one flips pages, which flushes the TLBs of all processors and may split a large page of the
/// kernel's own map: whoever needs many makes few large ones ([`SharedUnits`]) and keeps them.
///
/// # Invariants
///
/// `block` comes from [`flip::share`].
pub struct SharedPages {
    block: ManuallyDrop<Block>,
}

// SAFETY: It owns its pages, and has no ties to a thread.
unsafe impl Send for SharedPages {}
// SAFETY: `&SharedPages` only reads; that the host writes at the same time is always so.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Allocates `pages` pages of 4 KiB, shares them and fills them with zeros. They are aligned to the next
    /// power of two of their size.
    ///
    /// # Context
    ///
    /// May sleep, and asks so.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: no contiguous memory; fewer pages may work. `EAGAIN`: atomic context. After a flip that failed the
    /// pages are leaked: `EIO`, for example without memory for page tables, and `EBUSY` if the kernel is about to
    /// start another by kexec. `EBUSY` after [`unshare_all`], too, and then nothing was allocated.
    pub fn new(pages: usize) -> Result<Self> {
        Self::make(pages, direct::list)
    }

    /// As [`SharedPages::new`], for the pool, which knows its own.
    pub(crate) fn unlisted(pages: usize) -> Result<Self> {
        Self::make(pages, |_| ())
    }

    fn make(pages: usize, list: fn(Range)) -> Result<Self> {
        if !ffi::may_sleep() {
            pr_warn_once!("memory cannot be shared in atomic context\n");
            return Err(EAGAIN);
        }
        let block = {
            let mut ledger = LEDGER.lock();
            // It is listed while the ledger is locked: `unshare_all` finds what it makes private.
            flip::share(&Kernel, &mut ledger, pages).inspect(|block| list(block.range()))
        };
        sysfs::counters_changed();
        // INVARIANT: It comes from `share`.
        Ok(SharedPages {
            block: ManuallyDrop::new(block?),
        })
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.block.pages * PAGE_SIZE
    }

    /// Whether there are none, which is never so.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The address for a device or the host: guest-physical, without C-bit, or under vTOM with the bit that
    /// means "shared".
    pub fn address(&self) -> u64 {
        ffi::shared_address(self.range().pa)
    }

    /// The pages, as the host counts them.
    pub fn range(&self) -> Range {
        self.block.range()
    }

    /// Where they are, for what the kernel itself does with shared memory. What is there changes at the
    /// host's will.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.block.mem
    }

    /// Copies what the host left at `offset` to private memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is not within the pages; nothing was copied.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let from = self.at(offset, to.len())?;
        // SAFETY: `at` has found that many bytes from there, which are ours by the type invariant. `to` is a slice, so it
        // has that many, and it does not overlap them: there are no references into shared memory.
        unsafe { ffi::copy(to.as_mut_ptr(), from.as_ptr(), to.len()) };
        Ok(())
    }

    /// Copies `from` to `offset`, where the host sees it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is not within the pages; nothing was copied.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        let to = self.at(offset, from.len())?;
        // SAFETY: As in `read`, in the other direction; nobody else of this kernel writes there, because `self` is
        // borrowed mutably.
        unsafe { ffi::copy(to.as_ptr(), from.as_ptr(), from.len()) };
        Ok(())
    }

    /// Fills the pages with zeros.
    pub fn zero(&mut self) {
        // SAFETY: They are ours.
        unsafe { ffi::zero(self.block.mem.as_ptr(), self.len()) };
    }

    fn at(&self, offset: usize, len: usize) -> Result<NonNull<u8>> {
        match offset.checked_add(len) {
            // SAFETY: The sum is within the block.
            Some(end) if end <= self.len() => Ok(unsafe { self.block.mem.add(offset) }),
            _ => Err(EINVAL),
        }
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: It is taken once, here.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        direct::unlist(block.range());
        if ffi::may_sleep() {
            unshare(block);
        } else {
            // SAFETY: By the type invariant the block comes from `share`, and it ends here.
            unsafe { ffi::defer(block.mem, block.pages) };
        }
    }
}

fn unshare(block: Block) -> Fate {
    let fate = flip::unshare(&Kernel, &mut LEDGER.lock(), block);
    sysfs::counters_changed();
    fate
}

/// Makes private and frees what was dropped where that was not possible; called by `deferred.c`.
///
/// # Safety
///
/// This was given to `ffi::defer`.
#[no_mangle]
unsafe extern "C" fn sev_shim_unshare(mem: *mut c_void, pages: c_int) {
    if let (Some(mem), Ok(pages)) = (NonNull::new(mem.cast()), usize::try_from(pages)) {
        unshare(Block { mem, pages });
    }
}

/// As much shared memory as is wanted, in pieces that are as large as possible: units of 2 MiB, which leave
/// the kernel's page tables and the host's whole, or smaller ones where memory is in pieces.
pub struct SharedUnits {
    pieces: KVec<SharedPages>,
}

impl SharedUnits {
    /// Shares at least `len` bytes.
    ///
    /// # Context
    ///
    /// May sleep, and asks so.
    ///
    /// # Errors
    ///
    /// As [`SharedPages::new`]; nothing stays shared then but what is leaked.
    pub fn new(len: usize) -> Result<Self> {
        Self::of(len, &mut SharedPages::new)
    }

    /// As [`SharedUnits::new`], of pieces that `make` makes.
    pub(crate) fn of(
        len: usize,
        make: &mut dyn FnMut(usize) -> Result<SharedPages>,
    ) -> Result<Self> {
        let mut wanted = Pieces::new(len.div_ceil(PAGE_SIZE), UNIT_PAGES);
        let mut pieces = KVec::new();
        while let Some(pages) = wanted.next_pages() {
            pieces.reserve(1, GFP_KERNEL)?;
            match make(pages) {
                Ok(piece) => {
                    pieces.push_within_capacity(piece).map_err(|_| ENOMEM)?;
                    wanted.made(pages);
                }
                // Nothing was allocated; all other failures would be repeated, each with a block leaked.
                Err(error) if error == ENOMEM && wanted.halve() => (),
                Err(error) => return Err(error),
            }
        }
        Ok(SharedUnits { pieces })
    }

    /// The pieces.
    pub fn pieces(&self) -> &[SharedPages] {
        &self.pieces
    }

    /// The pieces, to be written to.
    pub fn pieces_mut(&mut self) -> &mut [SharedPages] {
        &mut self.pieces
    }
}

/// Numbers for monitoring, at this moment.
///
/// # Context
///
/// May sleep.
pub fn counters() -> Counters {
    LEDGER.lock().counters()
}

/// Calls `visit` with every range that is not private, neighbours in one piece: a kernel after this one
/// must know them all.
///
/// # Context
///
/// May sleep. `visit` must not share or unshare.
pub fn for_each_shared(visit: &mut dyn FnMut(Range, State)) {
    for (range, state) in LEDGER.lock().ranges() {
        visit(range, state);
    }
}

/// Makes everything private, as before a kexec; who owns it keeps it, and no host or device sees it
/// any more, nor does a device get a buffer in there without a copy. Nothing is shared afterwards: who tries
/// is told `EBUSY`. Returns how many pages could not be made private, which are leaked now.
///
/// # Context
///
/// May sleep. No device may use the memory any more.
pub fn unshare_all() -> u64 {
    let mut ledger = LEDGER.lock();
    let before = ledger.counters().leaked;
    direct::unlist_all();
    flip::unshare_all(&Kernel, &mut ledger);
    let leaked = ledger.counters().leaked - before;
    drop(ledger);
    sysfs::counters_changed();
    leaked
}
