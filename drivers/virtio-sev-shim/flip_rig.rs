// SPDX-License-Identifier: GPL-2.0

//! KUnit: memory that is watched, and what the kernel's page tables say of it.
//!
//! Where nothing is encrypted flips change nothing, and all that is not about the C-bit is tested.

use core::{
    cell::{
        Cell,
        RefCell, //
    },
    ptr::NonNull,
};

use kernel::{
    ffi::{
        c_uint,
        c_void, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};
use memenc::status::Protection;

use crate::{
    flip::{
        Kernel,
        Memory, //
    },
    protection::{
        self,
        Facts, //
    },
};

extern "C" {
    fn sev_shim_page_entry(mem: *const c_void, level: *mut c_uint) -> u64;
}

/// What fails.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Nothing,
    Alloc,
    MakeShared,
    /// After half of the pages.
    MakeSharedHalf,
    MakePrivate,
    /// After half of the pages.
    MakePrivateHalf,
}

/// What the page tables say of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum View {
    Private,
    Shared,
    /// Its pages differ.
    Mixed,
}

/// A step, and what the page tables said after it; before it for `Freed`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    Allocated(View),
    MadeShared(View),
    MadePrivate(View),
    Freed(View),
}

/// The kernel's memory, watched.
pub(crate) struct Watched {
    fails: Step,
    pub(crate) seen: RefCell<KVec<Seen>>,
    /// What was allocated and not freed.
    pub(crate) held: Cell<Option<(NonNull<u8>, usize)>>,
}

impl Watched {
    pub(crate) fn new(fails: Step) -> Self {
        Watched {
            fails,
            seen: RefCell::new(KVec::new()),
            held: Cell::new(None),
        }
    }

    fn see(&self, seen: Seen) {
        // Without memory the comparison at the end fails, as it should.
        let _ = self.seen.borrow_mut().push(seen, GFP_KERNEL);
    }
}

// SAFETY: It is the kernel's.
unsafe impl Memory for Watched {
    fn alloc(&self, pages: usize) -> Option<NonNull<u8>> {
        if self.fails == Step::Alloc {
            return None;
        }
        let mem = Kernel.alloc(pages)?;
        // SAFETY: The block has that many bytes.
        unsafe { mem.as_ptr().write_bytes(0xa5, pages * PAGE_SIZE) };
        self.held.set(Some((mem, pages)));
        self.see(Seen::Allocated(view(mem, pages)));
        Some(mem)
    }

    unsafe fn free(&self, mem: NonNull<u8>, pages: usize) {
        self.see(Seen::Freed(view(mem, pages)));
        self.held.set(None);
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.free(mem, pages) }
    }

    unsafe fn make_shared(&self, mem: NonNull<u8>, pages: usize) -> Result {
        match self.fails {
            Step::MakeShared => return Err(ENOMEM),
            Step::MakeSharedHalf => {
                // SAFETY: By this function's own requirements.
                unsafe { Kernel.make_shared(mem, pages / 2) }?;
                return Err(ENOMEM);
            }
            _ => (),
        }
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_shared(mem, pages) }?;
        self.see(Seen::MadeShared(view(mem, pages)));
        Ok(())
    }

    unsafe fn make_private(&self, mem: NonNull<u8>, pages: usize) -> Result {
        match self.fails {
            Step::MakePrivate => return Err(EFAULT),
            Step::MakePrivateHalf => {
                // SAFETY: By this function's own requirements.
                unsafe { Kernel.make_private(mem, pages / 2) }?;
                return Err(EFAULT);
            }
            _ => (),
        }
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_private(mem, pages) }?;
        self.see(Seen::MadePrivate(view(mem, pages)));
        Ok(())
    }
}

/// What the tests made fail to be freed is freed here: it is not their kernel's last day.
impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((mem, pages)) = self.held.take() {
            // SAFETY: It comes from `Kernel.alloc`, and nobody uses it any more.
            unsafe {
                if Kernel.make_private(mem, pages).is_ok() {
                    Kernel.free(mem, pages);
                }
            }
        }
    }
}

/// Blocks side by side: parts of one allocation.
pub(crate) struct Neighbours {
    mem: NonNull<u8>,
    pages: usize,
    given: Cell<usize>,
}

impl Neighbours {
    pub(crate) fn new(pages: usize) -> Option<Self> {
        let given = Cell::new(0);
        Kernel
            .alloc(pages)
            .map(|mem| Neighbours { mem, pages, given })
    }
}

// SAFETY: It is the kernel's, whose pages need not be freed together.
unsafe impl Memory for Neighbours {
    fn alloc(&self, pages: usize) -> Option<NonNull<u8>> {
        let first = self.given.get();
        if first + pages > self.pages {
            return None;
        }
        self.given.set(first + pages);
        NonNull::new(self.mem.as_ptr().wrapping_add(first * PAGE_SIZE))
    }

    unsafe fn free(&self, mem: NonNull<u8>, pages: usize) {
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.free(mem, pages) }
    }

    unsafe fn make_shared(&self, mem: NonNull<u8>, pages: usize) -> Result {
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_shared(mem, pages) }
    }

    unsafe fn make_private(&self, mem: NonNull<u8>, pages: usize) -> Result {
        // SAFETY: By this function's own requirements.
        unsafe { Kernel.make_private(mem, pages) }
    }
}

/// The kernel's page-table entry for an address, and its level.
pub(crate) fn entry(mem: *const u8) -> (u64, u32) {
    let mut level = 0;
    // SAFETY: It reads page tables; whether anything is mapped there does not matter.
    let entry = unsafe { sev_shim_page_entry(mem.cast(), &mut level) };
    (entry, level)
}

/// What shared memory looks like here: on a machine without encryption as any other.
pub(crate) fn shared_view() -> View {
    let encrypts = |facts: &Facts| !matches!(facts.protection, Ok(Protection::None));
    match protection::facts().is_some_and(encrypts) {
        true => View::Shared,
        false => View::Private,
    }
}

/// What half-shared memory looks like here.
pub(crate) fn mixed_view() -> View {
    match shared_view() {
        View::Shared => View::Mixed,
        other => other,
    }
}

pub(crate) fn view(mem: NonNull<u8>, pages: usize) -> View {
    let encoding = protection::facts()
        .and_then(|facts| facts.protection.ok())
        .and_then(Protection::encoding);
    let Some(encoding) = encoding else {
        return View::Private;
    };
    let private = (0..pages).filter(|page| {
        let (entry, _) = entry(mem.as_ptr().wrapping_add(page * PAGE_SIZE));
        encoding.is_private(entry)
    });
    match private.count() {
        0 => View::Shared,
        count if count == pages => View::Private,
        _ => View::Mixed,
    }
}
