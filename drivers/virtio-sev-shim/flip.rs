// SPDX-License-Identifier: GPL-2.0

//! How a block of pages becomes shared, and private again: in which order, and what happens when a
//! step fails. A page of unknown state is never given back.
//!
//! All of this may sleep: TLBs of all processors are flushed, which waits for them.

use core::ptr::NonNull;

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    ffi,
    ledger::{
        Ledger,
        Range,
        State, //
    },
};

/// Where pages come from and what changes them; the kernel, or a test in its place.
///
/// # Safety
///
/// What `alloc` returns are that many pages, which nobody else uses until `free`.
pub(crate) unsafe trait Memory {
    /// Allocates contiguous pages.
    fn alloc(&self, pages: usize) -> Option<NonNull<u8>>;
    /// Frees them.
    ///
    /// # Safety
    ///
    /// They come from `alloc`, are private, and are not used afterwards.
    unsafe fn free(&self, mem: NonNull<u8>, pages: usize);
    /// Shares them with the host.
    ///
    /// # Safety
    ///
    /// They come from `alloc`.
    unsafe fn make_shared(&self, mem: NonNull<u8>, pages: usize) -> Result;
    /// Makes them private.
    ///
    /// # Safety
    ///
    /// Each of them comes from `alloc`, by one call or several.
    unsafe fn make_private(&self, mem: NonNull<u8>, pages: usize) -> Result;
}

/// The kernel's memory.
pub(crate) struct Kernel;

// SAFETY: The page allocator's promise.
unsafe impl Memory for Kernel {
    fn alloc(&self, pages: usize) -> Option<NonNull<u8>> {
        ffi::alloc_pages(pages)
    }

    unsafe fn free(&self, mem: NonNull<u8>, pages: usize) {
        // SAFETY: By this function's own requirements.
        unsafe { ffi::free_pages(mem, pages) }
    }

    unsafe fn make_shared(&self, mem: NonNull<u8>, pages: usize) -> Result {
        // SAFETY: By this function's own requirements.
        unsafe { ffi::make_shared(mem, pages) }
    }

    unsafe fn make_private(&self, mem: NonNull<u8>, pages: usize) -> Result {
        // SAFETY: By this function's own requirements.
        unsafe { ffi::make_private(mem, pages) }
    }
}

/// Pages from [`Memory`] that were shared by [`share`], until [`unshare`] has them.
#[must_use = "without unshare() it stays shared for ever"]
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) mem: NonNull<u8>,
    pub(crate) pages: usize,
}

impl Block {
    pub(crate) fn range(&self) -> Range {
        Range {
            pa: ffi::pa(self.mem),
            pages: self.pages,
        }
    }
}

/// What became of a block whose owner needs it no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is private, and free.
    Freed,
    /// Nobody knows what it is; it will not be used again.
    Leaked,
}

/// Allocates a block of pages, shares it, and fills it with zeros.
///
/// # Errors
///
/// `ENOMEM`: nothing was allocated, less may work. When the flip failed the block is leaked, and the next one
/// would be, too: `EIO` where the kernel says `ENOMEM` then, otherwise the kernel's. `EBUSY` after
/// [`unshare_all`].
pub(crate) fn share(memory: &impl Memory, ledger: &mut Ledger, pages: usize) -> Result<Block> {
    if ledger.stopped {
        return Err(EBUSY);
    }
    ledger.reserve()?;
    let mem = memory.alloc(pages).ok_or(ENOMEM)?;
    let block = Block { mem, pages };
    // SAFETY: The block comes from `alloc` and nobody knows of it yet.
    if let Err(error) = unsafe { memory.make_shared(mem, pages) } {
        ledger.flipped_to_shared(block.range(), State::Leaked);
        pr_err!(
            "{} pages at {:#x} could not be shared ({:?}): leaked, their state is not known\n",
            pages,
            block.range().pa,
            error
        );
        return Err(if error == ENOMEM { EIO } else { error });
    }
    // What encryption and decryption with the wrong key, or no key, left in them is nobody's business.
    //
    // SAFETY: The block has that many pages, and is ours.
    unsafe { ffi::zero(mem.as_ptr(), pages * PAGE_SIZE) };
    ledger.flipped_to_shared(block.range(), State::Shared);
    Ok(block)
}

/// Makes a block private and frees it, or leaks it.
pub(crate) fn unshare(memory: &impl Memory, ledger: &mut Ledger, block: Block) -> Fate {
    // SAFETY: The block comes from `alloc` by way of `share`.
    let fate = unsafe { make_private(memory, ledger, block.mem, block.pages) };
    if fate == Fate::Freed {
        // SAFETY: The block comes from `alloc` by way of `share`, is private, and ends here.
        unsafe { memory.free(block.mem, block.pages) };
    }
    fate
}

/// Makes pages private, if they are not; `Freed` says that they may be freed.
///
/// # Safety
///
/// Each of them comes from `alloc` of this memory.
unsafe fn make_private(
    memory: &impl Memory,
    ledger: &mut Ledger,
    mem: NonNull<u8>,
    pages: usize,
) -> Fate {
    let range = Block { mem, pages }.range();
    if !ledger.is_shared(range) {
        return match ledger.is_leaked(range) {
            true => Fate::Leaked,
            false => Fate::Freed,
        };
    }
    // SAFETY: By this function's own requirements.
    let outcome = unsafe { memory.make_private(mem, pages) };
    ledger.unshared(range, outcome.is_ok());
    match outcome {
        Ok(()) => Fate::Freed,
        Err(error) => {
            pr_err!(
                "{} pages at {:#x} could not be made private ({:?}): leaked, their state is not known\n",
                range.pages,
                range.pa,
                error
            );
            Fate::Leaked
        }
    }
}

/// Makes all shared blocks private; they stay with their owners. From then on nothing is shared any more: `ledger` is
/// that of `memory`'s blocks.
pub(crate) fn unshare_all(memory: &impl Memory, ledger: &mut Ledger) {
    ledger.stopped = true;
    // Each turn a piece is not shared any more, whatever happened.
    loop {
        let piece = ledger.ranges().find(|(_, state)| *state == State::Shared);
        let Some((range, _)) = piece else {
            return;
        };
        let Some(mem) = ffi::va(range.pa) else {
            return;
        };
        // SAFETY: What a ledger lists as shared are the pages of blocks that `share` has from `alloc` and that
        // `unshare` has not freed: it takes them off the list before. Neighbours are one range here, and several
        // blocks.
        unsafe { make_private(memory, ledger, mem, range.pages) };
    }
}
