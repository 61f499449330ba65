// SPDX-License-Identifier: GPL-2.0

//! The contents of `/sys/kernel/sev_guest`; called by `sysfs.c`.
//!
//! The files are an ABI: `Documentation/ABI/testing/sysfs-kernel-sev_guest`.

use core::{
    fmt::Write,
    ops::Range, //
};

use kernel::{
    ffi::{
        c_char,
        c_uint, //
    },
    fmt,
    prelude::*,
    str::{
        CString,
        Formatter, //
    },
};
use memenc::status::{
    Protection,
    SevStatus, //
};

use crate::{
    ffi,
    guest,
    ledger::LEDGER,
    protection::{
        self,
        Facts, //
    },
    shared::Counters, //
};

/// What a file tells.
type Tell = fn(&Facts, &Counters, &mut Formatter<'_>) -> fmt::Result;

/// The files beside the features.
const FILES: [(&CStr, Tell); 14] = [
    (c"protection", |facts, _, out| match &facts.protection {
        Ok(protection) => out.write_str(protection.level().name()),
        Err(_) => out.write_str("contradiction"),
    }),
    (c"sev", |facts, _, out| tell_bit(facts, SevStatus::SEV, out)),
    (c"sev_es", |facts, _, out| {
        tell_bit(facts, SevStatus::SEV_ES, out)
    }),
    (c"sev_snp", |facts, _, out| {
        tell_bit(facts, SevStatus::SEV_SNP, out)
    }),
    (c"sev_status", |facts, _, out| {
        write!(out, "{:#018x}", facts.status.raw())
    }),
    (c"unknown_status_bits", |facts, _, out| {
        write!(out, "{:#018x}", facts.status.unknown())
    }),
    (c"c_bit", |facts, _, out| {
        match facts.protection.ok().and_then(Protection::encoding) {
            Some(encoding) => write!(out, "{}", encoding.position()),
            None => out.write_str("none"),
        }
    }),
    (c"guest_requests", |_, _, out| {
        out.write_str(guest::active().map_or("none", |guest| guest.name()))
    }),
    (c"shared_pages", |_, counters, out| {
        write!(out, "{}", counters.shared)
    }),
    (c"shared_pages_max", |_, counters, out| {
        write!(out, "{}", counters.shared_max)
    }),
    (c"flips", |_, counters, out| {
        write!(out, "{}", counters.flips)
    }),
    (c"failed_flips", |_, counters, out| {
        write!(out, "{}", counters.failed_flips)
    }),
    (c"leaked_pages", |_, counters, out| {
        write!(out, "{}", counters.leaked)
    }),
    // The last one: it is there in SEV-SNP guests only.
    (c"vmpl", |facts, _, out| {
        write!(out, "{}", facts.vmpl.unwrap_or(0))
    }),
];

/// Those that change; who polls them is woken.
const COUNTERS: Range<usize> = 8..13;

/// The files beside the features that there are here.
fn files(facts: Option<&Facts>) -> &'static [(&'static CStr, Tell)] {
    let files: &'static [_] = &FILES;
    let has_vmpl = facts.is_some_and(|facts| facts.vmpl.is_some());
    &files[..files.len() - usize::from(!has_vmpl)]
}

fn tell_bit(facts: &Facts, bit: SevStatus, out: &mut Formatter<'_>) -> fmt::Result {
    out.write_str(if facts.status.contains(bit) { "1" } else { "0" })
}

/// The file with this index: first the features, then those of the tables.
fn tell(index: usize, facts: &Facts, out: &mut Formatter<'_>) -> fmt::Result {
    if let Some(bit) = SevStatus::BITS.get(index) {
        let bit = SevStatus::from_raw(1 << (bit.index & 63));
        return tell_bit(facts, bit, out);
    }
    let index = index - SevStatus::BITS.len();
    let counters = match COUNTERS.contains(&index) {
        true => LEDGER.lock().counters(),
        false => Counters::default(),
    };
    let (_, tell) = FILES.get(index).ok_or(fmt::Error)?;
    tell(facts, &counters, out)
}

/// Writes what the file with this index has to say; returns its length.
///
/// # Safety
///
/// `buf` is valid for writing `len` bytes.
#[no_mangle]
unsafe extern "C" fn sev_shim_show(index: c_uint, buf: *mut c_char, len: usize) -> isize {
    let Some(facts) = protection::facts() else {
        return ENODEV.to_errno() as isize;
    };
    // SAFETY: By this function's own requirements.
    let buf = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
    let mut out = Formatter::new(buf);
    // CAST: an index into arrays.
    let told = tell(index as usize, facts, &mut out).and_then(|()| out.write_char('\n'));
    match told {
        // CAST: less than a page.
        Ok(()) => out.bytes_written() as isize,
        Err(_) => EOVERFLOW.to_errno() as isize,
    }
}

/// While this exists there is a directory in sysfs.
pub(crate) struct Directory {
    /// What the files are called; sysfs keeps pointers.
    _names: KVec<CString>,
}

impl Directory {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EEXIST` and others of sysfs.
    pub(crate) fn new() -> Result<Self> {
        let mut names = KVec::new();
        for bit in SevStatus::BITS {
            names.push(CString::try_from_fmt(fmt!("{}", bit.sysfs))?, GFP_KERNEL)?;
        }
        for (name, _) in files(protection::facts()) {
            names.push(CString::try_from(*name)?, GFP_KERNEL)?;
        }
        let mut pointers = KVec::with_capacity(names.len(), GFP_KERNEL)?;
        for name in &names {
            pointers.push(name.as_char_ptr(), GFP_KERNEL)?;
        }
        ffi::add_attributes(&pointers, SevStatus::BITS.len())?;
        Ok(Directory { _names: names })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        ffi::remove_attributes();
    }
}

/// Wakes who waits for changes.
pub(crate) fn counters_changed() {
    for (name, _) in &FILES[COUNTERS] {
        ffi::notify(name);
    }
}

#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
#[kunit_tests(sev_shim_status)]
mod tests {
    use super::*;
    use memenc::status::EncryptionLeaf;

    /// Of a VM whose SEV_STATUS says so, on a processor that offers all of it.
    fn facts(status: u64) -> Facts {
        let status = SevStatus::from_raw(status);
        let leaf = EncryptionLeaf {
            eax: 0x1f,
            ebx: 51,
            ecx: 0,
            edx: 0,
        };
        let vmpl = status.contains(SevStatus::SEV_SNP).then_some(2);
        Facts {
            status,
            protection: Protection::new(Some(leaf), status),
            vmpl,
        }
    }

    /// Which of these files does not say that.
    fn wrong(facts: &Facts, expected: &[(&'static CStr, &'static str)]) -> Option<&'static CStr> {
        let good = |(name, text): &&(&CStr, &str)| {
            let mut buf = [0; 64];
            let mut out = Formatter::new(&mut buf);
            let index = FILES.iter().position(|(file, _)| file == name);
            let told = index.map(|index| tell(SevStatus::BITS.len() + index, facts, &mut out));
            let len = out.bytes_written();
            told == Some(Ok(())) && &buf[..len] == text.as_bytes()
        };
        let mut wrong = expected.iter().filter(|file| !good(file));
        wrong.next().map(|(name, _)| *name)
    }

    fn has_vmpl(facts: &Facts) -> bool {
        files(Some(facts)).iter().any(|(name, _)| *name == c"vmpl")
    }

    #[test]
    fn a_sev_es_guest_is_told_so() {
        let facts = facts(0x3);
        let expected = [
            (c"protection", "SEV-ES"),
            (c"sev", "1"),
            (c"sev_es", "1"),
            (c"sev_snp", "0"),
            (c"sev_status", "0x0000000000000003"),
            (c"unknown_status_bits", "0x0000000000000000"),
            (c"c_bit", "51"),
        ];
        assert_eq!(wrong(&facts, &expected), None);
        assert!(!has_vmpl(&facts));
    }

    #[test]
    fn a_sev_snp_guest_is_told_so_and_its_level() {
        let facts = facts(0x8000_0000_0000_0807);
        let expected = [
            (c"protection", "SEV-SNP"),
            (c"sev_es", "1"),
            (c"sev_snp", "1"),
            (c"sev_status", "0x8000000000000807"),
            (c"unknown_status_bits", "0x8000000000000000"),
            (c"c_bit", "51"),
            (c"vmpl", "2"),
        ];
        assert_eq!(wrong(&facts, &expected), None);
        assert!(has_vmpl(&facts));
    }

    #[test]
    fn under_vtom_there_is_no_c_bit() {
        let expected = [(c"protection", "SEV-SNP"), (c"c_bit", "none")];
        assert_eq!(wrong(&facts(0xf), &expected), None);
    }

    #[test]
    fn what_cannot_be_is_called_a_contradiction() {
        for status in [0x2, 0x5, 0x9, 0x21] {
            let expected = [(c"protection", "contradiction"), (c"c_bit", "none")];
            assert_eq!(wrong(&facts(status), &expected), None);
        }
    }
}
