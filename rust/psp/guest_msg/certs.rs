// SPDX-License-Identifier: GPL-2.0

//! The certificates that come with an extended report (`GHCB` 4.1.8.1): a table of GUIDs, each with the
//! place of a certificate, and the certificates. All of it is the host's and proves nothing by itself.

use core::mem::offset_of;

use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an entry of the table.
pub const ENTRY_LEN: usize = 24;

/// What a certificate is: sixteen bytes, in the order in which a GUID is printed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Guid(pub [u8; 16]);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    guid: Guid,
    offset: U32,
    len: U32,
}

const _: () = {
    assert!(size_of::<RawEntry>() == ENTRY_LEN);
    assert!(offset_of!(RawEntry, offset) == 16);
    assert!(offset_of!(RawEntry, len) == 20);
};

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What the certificate is.
    pub guid: Guid,
    /// Its bytes, or `None` if the entry points outside.
    pub bytes: Option<&'a [u8]>,
}

/// What is odd about a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It has entries, but all of them are empty.
    NoSize,
    /// An entry points outside.
    Truncated,
}

/// How much of the bytes the table speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the front of the table to the end of the last certificate, as far as they are there.
    pub len: usize,
    /// What is odd, if anything is.
    pub oddity: Option<Oddity>,
}

/// A table and its certificates, in private memory.
#[derive(Clone, Copy)]
pub struct CertTable<'a>(&'a [u8]);

impl<'a> CertTable<'a> {
    /// Over whatever the host has left.
    pub fn new(bytes: &'a [u8]) -> Self {
        CertTable(bytes)
    }

    /// The entries, up to one that is all zeros or the end of the bytes.
    pub fn entries(self) -> impl Iterator<Item = Entry<'a>> {
        self.raw_entries().map(move |raw| Entry {
            guid: raw.guid,
            bytes: end(&raw).and_then(|end| {
                // CAST: usize has at least 32 bits on every platform with SEV.
                let start = raw.offset.get() as usize;
                self.0.get(start..usize::try_from(end).ok()?)
            }),
        })
    }

    /// How much of it goes to user space.
    pub fn extent(self) -> Extent {
        let mut any = false;
        let mut last = 0;
        for raw in self.raw_entries() {
            any = true;
            last = last.max(u64::from(raw.offset.get()) + u64::from(raw.len.get()));
        }
        match usize::try_from(last) {
            Ok(0) => Extent {
                len: 0,
                oddity: any.then_some(Oddity::NoSize),
            },
            Ok(len) if len <= self.0.len() => Extent { len, oddity: None },
            _ => Extent {
                len: self.0.len(),
                oddity: Some(Oddity::Truncated),
            },
        }
    }

    fn raw_entries(self) -> impl Iterator<Item = RawEntry> + 'a {
        self.0
            .chunks_exact(ENTRY_LEN)
            .take_while(|bytes| bytes.iter().any(|&byte| byte != 0))
            .filter_map(|bytes| RawEntry::read_from_bytes(bytes).ok())
    }
}

/// First byte behind a certificate; the sum does not fit into 32 bits.
fn end(raw: &RawEntry) -> Option<u64> {
    u64::from(raw.offset.get()).checked_add(raw.len.get().into())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::vec::Vec;

    fn table(entries: &[(u8, u32, u32)], len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &(guid, offset, entry_len) in entries {
            bytes.extend([guid; 16]);
            bytes.extend(offset.to_le_bytes());
            bytes.extend(entry_len.to_le_bytes());
        }
        bytes.resize(len, 0);
        bytes
    }

    fn extent(entries: &[(u8, u32, u32)]) -> (usize, Option<Oddity>) {
        let extent = CertTable::new(&table(entries, 4096)).extent();
        (extent.len, extent.oddity)
    }

    #[test]
    fn the_extent_ends_with_the_last_certificate() {
        assert_eq!(extent(&[]), (0, None));
        assert_eq!(extent(&[(1, 96, 100), (2, 48, 10)]), (196, None));
        assert_eq!(extent(&[(1, 96, 4000)]), (4096, None));
        assert_eq!(extent(&[(1, 0, 0)]), (0, Some(Oddity::NoSize)));
    }

    #[test]
    fn an_end_that_wraps_is_outside() {
        for (offset, len) in [
            (97, 4000),
            (u32::MAX, 1),
            (u32::MAX, u32::MAX),
            (0x8000_0000, 0x8000_0010),
        ] {
            let bytes = table(&[(1, offset, len)], 4096);
            let table = CertTable::new(&bytes);
            let want = Extent {
                len: 4096,
                oddity: Some(Oddity::Truncated),
            };
            assert_eq!(table.extent(), want, "{offset:#x} {len:#x}");
            assert_eq!(table.entries().next().unwrap().bytes, None);
        }
    }

    #[test]
    fn entries_are_what_the_table_points_to() {
        let mut bytes = table(&[(1, 72, 3), (2, 75, 0)], 80);
        bytes[72..75].copy_from_slice(b"abc");
        let entries: Vec<_> = CertTable::new(&bytes).entries().collect();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].guid, Guid([1; 16]));
        assert_eq!(entries[0].bytes, Some(b"abc".as_slice()));
        assert_eq!(entries[1].bytes, Some(b"".as_slice()));
    }

    #[test]
    fn a_table_without_an_end_ends_with_the_bytes() {
        let bytes = std::vec![0xff; 100];
        assert_eq!(CertTable::new(&bytes).entries().count(), 4);
    }

    /// What the table says, read byte by byte.
    fn by_hand(bytes: &[u8]) -> Vec<([u8; 16], u64, u64)> {
        let mut entries = Vec::new();
        for entry in bytes.chunks(ENTRY_LEN) {
            if entry.len() < ENTRY_LEN || entry.iter().all(|&byte| byte == 0) {
                break;
            }
            let word =
                |at: usize| u64::from(u32::from_le_bytes(entry[at..at + 4].try_into().unwrap()));
            entries.push((entry[..16].try_into().unwrap(), word(16), word(20)));
        }
        entries
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Entries about as long as the bytes, around their end, and around the end of 32 bits.
        #[test]
        fn any_table_is_read_as_it_is_and_never_beyond_its_end(
            wild in vec((0u8..3, edge(), edge()), 0..4),
            ended in any::<bool>(),
            noise in vec(any::<u8>(), 0..300),
            len in prop_oneof![(0usize..400).prop_map(Some), Just(None)],
        ) {
            let mut bytes = table(&wild, wild.len() * ENTRY_LEN);
            bytes.extend([0; ENTRY_LEN].iter().filter(|_| ended));
            bytes.extend(noise);
            // Where the last certificate ends, or anywhere.
            let end = by_hand(&bytes).iter().map(|(_, start, size)| start + size).max();
            bytes.resize(len.unwrap_or(end.unwrap_or(0).min(1000) as usize), 0);
            let (expected, len) = (by_hand(&bytes), bytes.len() as u64);
            let table = CertTable::new(&bytes);
            let entries: Vec<_> = table.entries().collect();
            prop_assert_eq!(entries.len(), expected.len());
            for (entry, &(guid, start, size)) in entries.iter().zip(&expected) {
                let inside = (start + size <= len).then(|| &bytes[start as usize..(start + size) as usize]);
                prop_assert_eq!((entry.guid.0, entry.bytes), (guid, inside));
            }
            let end = expected.iter().map(|(_, start, size)| start + size).max();
            let (extent, oddity) = match end {
                None => (0, None),
                Some(0) => (0, Some(Oddity::NoSize)),
                Some(end) if end > len => (len, Some(Oddity::Truncated)),
                Some(end) => (end, None),
            };
            prop_assert_eq!(table.extent(), Extent { len: extent as usize, oddity });
        }
    }

    fn edge() -> impl Strategy<Value = u32> {
        prop_oneof![
            4 => 0u32..400,
            1 => Just(0),
            1 => Just(u32::MAX),
            1 => (u32::MAX - 400)..u32::MAX,
            1 => any::<u32>()
        ]
    }
}
