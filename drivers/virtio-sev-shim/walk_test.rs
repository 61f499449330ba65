// SPDX-License-Identifier: GPL-2.0

//! KUnit: the library's walker in the kernel's real page tables, against the kernel's own
//! `lookup_address()`.

use kernel::{
    ffi::c_void,
    page::PAGE_SIZE,
    prelude::*, //
};
use memenc::{
    cbit::Encoding,
    entry::{
        Levels,
        Paging, //
    },
    status::Protection,
    walk::{
        Found,
        PhysMem, //
    },
};

use crate::{
    flip_rig, protection,
    shared::{
        SharedPages,
        UNIT_PAGES, //
    },
};

extern "C" {
    fn sev_shim_cr3() -> u64;
    fn sev_shim_has_5_levels() -> bool;
    fn sev_shim_read_table(pa: u64, entry: *mut u64) -> bool;
}

/// Bits that the processor sets by itself: accessed and dirty.
const BY_ITSELF: u64 = 1 << 5 | 1 << 6;

/// The kernel's own tables, which are private and read as such.
struct Tables;

impl PhysMem for Tables {
    fn read(&self, gpa: u64, _private: bool) -> Option<u64> {
        let mut entry = 0;
        // SAFETY: It reads memory of the kernel, or says that there is none.
        unsafe { sev_shim_read_table(gpa, &mut entry) }.then_some(entry)
    }
}

fn paging() -> Result<Paging> {
    let encoding = protection::facts()
        .and_then(|facts| facts.protection.ok())
        .and_then(Protection::encoding);
    // Without a C-bit any will do that no entry has.
    let encoding = encoding.or(Encoding::c_bit(51)).ok_or(EINVAL)?;
    // SAFETY: Reads what does not change after boot.
    let levels = match unsafe { sev_shim_has_5_levels() } {
        true => Levels::Five,
        false => Levels::Four,
    };
    Ok(Paging::new(encoding, levels))
}

/// What walker and kernel say of an address; `None` where nothing is mapped.
type Said = Option<(u64, u32)>;

fn both(mem: *const u8) -> Result<(Said, Said)> {
    let (entry, level) = flip_rig::entry(mem);
    let kernels = (entry & 1 != 0).then_some((entry & !BY_ITSELF, level));
    // SAFETY: Reads a register.
    let cr3 = unsafe { sev_shim_cr3() };
    let found = paging()?.lookup(&Tables, cr3, mem as u64);
    let walkers = found
        .and_then(Found::leaf)
        .map(|leaf| (leaf.entry & !BY_ITSELF, leaf.size.level()));
    Ok((walkers, kernels))
}

fn is_private(mem: *const u8) -> Option<bool> {
    // SAFETY: Reads a register.
    let cr3 = unsafe { sev_shim_cr3() };
    let found = paging().ok()?.lookup(&Tables, cr3, mem as u64)?;
    found.leaf().map(|leaf| leaf.private)
}

#[kunit_tests(sev_shim_walker)]
mod tests {
    use super::*;

    fn agree(mem: *const u8, mapped: bool) -> bool {
        both(mem).is_ok_and(|(walkers, kernels)| walkers == kernels && walkers.is_some() == mapped)
    }

    #[test]
    fn it_finds_code_and_data_as_the_kernel_does() {
        let boxed = KBox::new(7u64, GFP_KERNEL).unwrap();
        let code = is_private as fn(*const u8) -> Option<bool>;
        assert!(agree(code as *const c_void as *const u8, true));
        assert!(agree(core::ptr::from_ref(&BY_ITSELF).cast(), true));
        assert!(agree(core::ptr::from_ref(&*boxed).cast(), true));
        let local = 0u8;
        assert!(agree(&local, true));
    }

    #[test]
    fn it_finds_nothing_where_nothing_is() {
        let nothing = core::ptr::without_provenance(usize::MAX - PAGE_SIZE + 1);
        assert!(agree(nothing, false));
        // The hole below the direct map.
        assert!(agree(
            core::ptr::without_provenance(0xffff_8000_0000_0000),
            false
        ));
    }

    #[test]
    fn it_sees_what_is_shared() {
        let encrypts = protection::facts()
            .and_then(|facts| facts.protection.ok())
            .and_then(Protection::encoding)
            .is_some();
        for count in [1, 3, UNIT_PAGES] {
            let pages = SharedPages::new(count).unwrap();
            let first = pages.as_ptr().as_ptr().cast_const();
            for page in [0, count / 2, count - 1] {
                let page = first.wrapping_add(page * PAGE_SIZE);
                assert!(agree(page, true));
                assert_eq!(is_private(page), Some(false));
            }
            drop(pages);
            assert!(agree(first, true));
            assert_eq!(is_private(first), Some(encrypts));
        }
    }
}
