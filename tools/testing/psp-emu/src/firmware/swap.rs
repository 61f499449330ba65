// SPDX-License-Identifier: GPL-2.0
//! SWAP_OUT and SWAP_IN: pages of a guest that the host stores away, under the guest's offline encryption key
//! (OEK).
//!
//! What the host needs to bring a page back is in a metadata entry of 64 bytes, which is authenticated with
//! the page:
//!
//! ```text
//! 0x00   8  data of the host's own
//! 0x08   8  number of the page, never used twice
//! 0x10  16  tag
//! 0x20  28  reserved
//! 0x3c   4  bit 0: size of the page, bits 1 and 2: its type
//! ```

use super::{command::CommandBuffer, vmsa, Done, Firmware, Status};
use crate::memory::GuestMemory;
use std::ops::Range;

/// Offsets in both command buffers.
mod at {
    pub(super) const HANDLE: usize = 0x0;
    pub(super) const FLAGS: usize = 0x4;
    pub(super) const SRC_PADDR: usize = 0x8;
    pub(super) const DST_PADDR: usize = 0x10;
    pub(super) const MDATA_PADDR: usize = 0x18;
    /// Of SWAP_OUT only.
    pub(super) const SOFTWARE_DATA: usize = 0x20;
}

/// FLAGS: a page of 2 MiB.
const PAGE_SIZE: u32 = 1 << 0;
/// FLAGS: type of the page.
const PAGE_TYPE: u32 = 3 << 1;
const TYPE_DATA: u32 = 0;
const TYPE_VMSA: u32 = 2 << 1;
/// FLAGS of SWAP_IN: source and destination are the same page.
const IN_PLACE: u32 = 1 << 3;

const MDATA_LEN: usize = 0x40;
const MDATA_SOFTWARE_DATA: Range<usize> = 0x00..0x08;
const MDATA_NUMBER: Range<usize> = 0x08..0x10;
const MDATA_TAG: Range<usize> = 0x10..0x20;
const MDATA_FLAGS: Range<usize> = 0x3c..0x40;

/// The last page number: the next would be used twice.
const LAST_NUMBER: u64 = u64::MAX - 1;

/// What both command buffers say.
struct Request {
    flags: u32,
    len: u64,
    src: u64,
    dst: u64,
    mdata: u64,
}

impl Request {
    /// # Errors
    ///
    /// INVALID_ADDRESS when an address is misaligned or not RAM; INVALID_PARAM when the metadata entry lies in
    /// a page, or a VMSA is not a small page, or a flag is unknown.
    fn parse(
        buffer: &CommandBuffer,
        memory: &dyn GuestMemory,
        known_flags: u32,
    ) -> Result<Self, Status> {
        let flags = buffer.u32(at::FLAGS);
        let request = Self {
            flags,
            len: if flags & PAGE_SIZE == 0 {
                4 << 10
            } else {
                2 << 20
            },
            src: buffer.address(at::SRC_PADDR),
            dst: buffer.address(at::DST_PADDR),
            mdata: buffer.address(at::MDATA_PADDR),
        };
        let ranges = [
            (request.src, request.len, request.len),
            (request.dst, request.len, request.len),
            (request.mdata, MDATA_LEN as u64, MDATA_LEN as u64),
        ];
        let usable = |&(addr, len, alignment): &(u64, u64, u64)| {
            addr % alignment == 0 && memory.is_writable(addr, len)
        };
        if !ranges.iter().all(usable) {
            return Err(Status::INVALID_ADDRESS);
        }
        let page_type = flags & PAGE_TYPE;
        let known_type = matches!(page_type, TYPE_DATA | TYPE_VMSA);
        if request.covers_mdata(request.src)
            || request.covers_mdata(request.dst)
            || flags & !known_flags != 0
            || !known_type
            || (request.is_vmsa() && flags & PAGE_SIZE != 0)
        {
            return Err(Status::INVALID_PARAM);
        }
        Ok(request)
    }

    /// Both are aligned to their lengths, so one holds the other or they are apart.
    fn covers_mdata(&self, page: u64) -> bool {
        (page..page + self.len).contains(&self.mdata)
    }

    fn is_vmsa(&self) -> bool {
        self.flags & PAGE_TYPE == TYPE_VMSA
    }

    /// Memory is read into a buffer of this length.
    fn buffer(&self) -> Vec<u8> {
        // CAST: at most 2 MiB.
        vec![0; self.len as usize]
    }
}

/// SWAP_OUT (0x070): encrypts a page for storage.
pub(super) fn swap_out(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let session = fw.session_mut()?;
    session.guest(buffer.u32(at::HANDLE))?;
    let request = Request::parse(buffer, memory, PAGE_SIZE | PAGE_TYPE)?;
    let guest = session.guest_mut(buffer.u32(at::HANDLE))?;
    guest.active()?;
    if guest.swapped >= LAST_NUMBER {
        return Err(Status::AEAD_OFLOW);
    }
    let mut page = request.buffer();
    guest.vek.read(memory, request.src, &mut page)?;
    let checked = guest.vek.encrypts();
    if guest.vmsas.check(&page[..vmsa::LEN], checked).is_ok() != request.is_vmsa() {
        return Err(Status::INVALID_PARAM);
    }
    let number = guest.swapped;
    guest.swapped += 1;
    let mut mdata = [0; MDATA_LEN];
    mdata[MDATA_SOFTWARE_DATA].copy_from_slice(&buffer.array::<8>(at::SOFTWARE_DATA));
    mdata[MDATA_NUMBER].copy_from_slice(&number.to_le_bytes());
    mdata[MDATA_FLAGS].copy_from_slice(&request.flags.to_le_bytes());
    let tag = guest.oek.seal(number, &mdata, &mut page);
    mdata[MDATA_TAG].copy_from_slice(&tag);
    memory.write(request.dst, &page)?;
    Ok(memory.write(request.mdata, &mdata)?)
}

/// SWAP_IN (0x071): brings a page back that SWAP_OUT has encrypted, at any address.
///
/// Nothing keeps the host from bringing an old version back: SEV has no protection against that.
pub(super) fn swap_in(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let session = fw.session()?;
    session.guest(buffer.u32(at::HANDLE))?;
    let request = Request::parse(buffer, memory, PAGE_SIZE | PAGE_TYPE | IN_PLACE)?;
    let mut mdata = [0; MDATA_LEN];
    memory.read(request.mdata, &mut mdata)?;
    let in_place = request.flags & IN_PLACE != 0;
    if mdata[MDATA_FLAGS] != (request.flags & !IN_PLACE).to_le_bytes()
        || (in_place && (request.is_vmsa() || request.src != request.dst))
    {
        return Err(Status::INVALID_PARAM);
    }
    let guest = session.guest(buffer.u32(at::HANDLE))?;
    guest.active()?;
    let (mut number, mut tag) = ([0; 8], [0; 16]);
    number.copy_from_slice(&mdata[MDATA_NUMBER]);
    tag.copy_from_slice(&mdata[MDATA_TAG]);
    mdata[MDATA_TAG].fill(0);
    let mut page = request.buffer();
    memory.read(request.src, &mut page)?;
    guest
        .oek
        .open(u64::from_le_bytes(number), &mdata, &mut page, &tag)?;
    guest.vek.write(memory, request.dst, &mut page)
}
