// SPDX-License-Identifier: GPL-2.0
//! The file a guest travels in: a header, and for each page an encrypted packet. Who carries it can neither read it nor
//! change it unnoticed; what is checked here is only that it is one.

use crate::{
    cheat::flip,
    image::PAGE,
    messages::{CERTIFICATE_LEN, HEADER_LEN, SESSION_LEN},
};
use anyhow::{anyhow, ensure, Context, Result};
use std::{fs, path::Path};
use zerocopy::{
    little_endian::{U32, U64},
    FromBytes, IntoBytes,
};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: [u8; 8] = *b"SEVGUEST";

/// What RECEIVE_START needs.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    magic: [u8; 8],
    policy: U32,
    /// The sender's PDH.
    pub(super) pdh: [u8; CERTIFICATE_LEN],
    pub(super) session: [u8; SESSION_LEN],
}

/// A page: where it belongs, and its packet.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone)]
#[repr(C)]
pub(crate) struct Packet {
    pub(super) gpa: U64,
    pub(super) header: [u8; HEADER_LEN],
    pub(super) data: [u8; PAGE],
}

/// A whole guest.
pub(crate) struct Stream {
    pub(crate) header: Header,
    pub(crate) packets: Vec<Packet>,
}

impl Header {
    pub(super) fn new(policy: u32, pdh: [u8; CERTIFICATE_LEN], session: [u8; SESSION_LEN]) -> Self {
        Self {
            magic: MAGIC,
            policy: policy.into(),
            pdh,
            session,
        }
    }

    /// The guest's policy, as the sending host says. The firmware believes it only if the session vouches for it.
    pub(crate) fn policy(&self) -> u32 {
        self.policy.get()
    }
}

impl Stream {
    /// Changes one bit of a page.
    pub(crate) fn tamper(&mut self) {
        if let Some(packet) = self.packets.first_mut() {
            flip(&mut packet.data, 0);
        }
    }

    /// Writes the file; it appears complete or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let unfinished = path.with_extension("unfinished");
        let bytes = [self.header.as_bytes(), self.packets.as_bytes()].concat();
        fs::write(&unfinished, bytes)
            .and_then(|()| fs::rename(&unfinished, path))
            .with_context(|| path.display().to_string())
    }

    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        Self::parse(&bytes).with_context(|| format!("{} is not a guest", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let (header, rest) =
            Header::read_from_prefix(bytes).map_err(|_| anyhow!("its header is incomplete"))?;
        ensure!(header.magic == MAGIC, "it does not begin with SEVGUEST");
        let packets = <[Packet]>::ref_from_bytes(rest)
            .map_err(|_| anyhow!("its last packet is incomplete"))?
            .to_vec();
        Ok(Self { header, packets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let header = Header::new(1, [2; CERTIFICATE_LEN], [3; SESSION_LEN]);
        let packet = |gpa: u64| Packet {
            gpa: gpa.into(),
            header: [4; HEADER_LEN],
            data: [5; PAGE],
        };
        [
            header.as_bytes(),
            packet(0x1000).as_bytes(),
            packet(0x7000).as_bytes(),
        ]
        .concat()
    }

    #[test]
    fn a_guest_survives_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest");
        Stream::parse(&stream()).unwrap().write(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), stream());
        let read = Stream::read(&path).unwrap();
        assert_eq!(read.header.policy(), 1);
        assert_eq!(read.packets[1].gpa.get(), 0x7000);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn anything_else_is_refused() {
        let whole = stream();
        let head = size_of::<Header>();
        let packet = size_of::<Packet>();
        let refusal = |bytes: &[u8]| Stream::parse(bytes).err().map(|error| error.to_string());
        for len in 0..head {
            assert_eq!(
                refusal(&whole[..len]).as_deref(),
                Some("its header is incomplete")
            );
        }
        for len in head + 1..whole.len() {
            let incomplete = (len - head) % packet != 0;
            assert_eq!(refusal(&whole[..len]).is_some(), incomplete, "{len}");
        }
        let mut other = whole;
        other[0] ^= 1;
        assert_eq!(
            refusal(&other).as_deref(),
            Some("it does not begin with SEVGUEST")
        );
    }
}
