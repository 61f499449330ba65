// SPDX-License-Identifier: GPL-2.0

//! A message as it lies in its page (`SNP-ABI` 8.26, table "message header").

use core::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{IV_LEN, TAG_LEN};

/// Bytes of a header.
pub const HEADER_LEN: usize = 96;

/// Bytes of the header that the tag authenticates: from [`Header::algo`] on.
pub const AAD_LEN: usize = 48;

/// Most bytes of payload.
pub const PAYLOAD_LEN: usize = 4096 - HEADER_LEN;

/// [`Header::algo`]: AES-256-GCM.
pub const ALGO_AES_256_GCM: u8 = 1;

/// [`Header::header_version`].
pub const HEADER_VERSION: u8 = 1;

/// What a message is. The answer's type is the request's plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MsgType(pub u8);

impl MsgType {
    /// Asks for a key derived from one of the chip's or the guest's.
    pub const KEY_REQ: MsgType = MsgType(3);
    /// Its answer.
    pub const KEY_RSP: MsgType = MsgType(4);
    /// Asks for an attestation report.
    pub const REPORT_REQ: MsgType = MsgType(5);
    /// Its answer.
    pub const REPORT_RSP: MsgType = MsgType(6);
    /// Asks for the parameters of the secure TSC.
    pub const TSC_INFO_REQ: MsgType = MsgType(17);
    /// Its answer.
    pub const TSC_INFO_RSP: MsgType = MsgType(18);

    /// The type of the answer, or `None` for a type that can have none.
    pub const fn answer(self) -> Option<MsgType> {
        match self.0.checked_add(1) {
            Some(raw) => Some(MsgType(raw)),
            None => None,
        }
    }
}

/// What stands before the payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Authenticates the payload, and this header from [`algo`](Self::algo) on.
    pub tag: [u8; TAG_LEN],
    tag_rest: [u8; 16],
    /// Sequence number; the IV is made of it.
    pub seqno: U64,
    reserved: [u8; 8],
    /// The cipher: [`ALGO_AES_256_GCM`].
    pub algo: u8,
    /// [`HEADER_VERSION`].
    pub header_version: u8,
    /// Bytes of this header.
    pub header_len: U16,
    /// What the message is.
    pub msg_type: u8,
    /// Version of the payload's layout.
    pub msg_version: u8,
    /// Bytes of payload.
    pub msg_len: U16,
    reserved2: U32,
    /// Which key: 0 to 3.
    pub vmpck: u8,
    reserved3: [u8; 35],
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_LEN);
    assert!(offset_of!(Header, seqno) == 0x20);
    assert!(offset_of!(Header, algo) == 0x30);
    assert!(offset_of!(Header, header_version) == 0x31);
    assert!(offset_of!(Header, header_len) == 0x32);
    assert!(offset_of!(Header, msg_type) == 0x34);
    assert!(offset_of!(Header, msg_version) == 0x35);
    assert!(offset_of!(Header, msg_len) == 0x36);
    assert!(offset_of!(Header, vmpck) == 0x3c);
    assert!(HEADER_LEN - offset_of!(Header, algo) == AAD_LEN);
};

impl Header {
    /// Of a request, without its tag.
    pub fn request(
        seqno: u64,
        msg_type: MsgType,
        msg_version: u8,
        msg_len: u16,
        vmpck: u8,
    ) -> Self {
        let mut header = Header::new_zeroed();
        header.seqno = seqno.into();
        header.algo = ALGO_AES_256_GCM;
        header.header_version = HEADER_VERSION;
        // CAST: 96.
        header.header_len = (HEADER_LEN as u16).into();
        header.msg_type = msg_type.0;
        header.msg_version = msg_version;
        header.msg_len = msg_len.into();
        header.vmpck = vmpck;
        header
    }

    /// The bytes that the tag authenticates besides the payload.
    pub fn aad(&self) -> [u8; AAD_LEN] {
        let mut aad = [0; AAD_LEN];
        aad.copy_from_slice(&self.as_bytes()[offset_of!(Header, algo)..]);
        aad
    }
}

/// The IV of the message with this number: the number, little-endian, and four zero bytes.
pub(super) fn iv(seqno: u64) -> [u8; IV_LEN] {
    let mut iv = [0; IV_LEN];
    iv[..8].copy_from_slice(&seqno.to_le_bytes());
    iv
}

/// A whole message: one page.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Message {
    /// What stands before the payload.
    pub header: Header,
    /// The payload; encrypted, while others can see it.
    pub payload: [u8; PAYLOAD_LEN],
}

const _: () = assert!(size_of::<Message>() == 4096);

impl Message {
    /// Nothing but zeros.
    pub fn zeroed() -> Self {
        Message::new_zeroed()
    }
}
