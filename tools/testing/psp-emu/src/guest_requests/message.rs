// SPDX-License-Identifier: GPL-2.0
//! The format of guest messages (SNP-ABI, "SNP_GUEST_REQUEST").
//!
//! ```text
//! 0x00  32  AUTHTAG, of which 16 are used
//! 0x20   8  MSG_SEQNO
//! 0x30   1  ALGO, 1: AES-256-GCM             from here on the tag authenticates the header
//! 0x31   1  HDR_VERSION, 1
//! 0x32   2  HDR_SIZE, 0x60
//! 0x34   1  MSG_TYPE
//! 0x35   1  MSG_VERSION
//! 0x36   2  MSG_SIZE
//! 0x3c   1  MSG_VMPCK
//! 0x60      payload, encrypted
//! ```

use super::guest::{PAGE_LEN, VMPCK_LEN};
use crate::firmware::Status;
use aes_gcm::{
    aead::{AeadInPlace, KeyInit},
    Aes256Gcm,
};

/// Length in bytes of the header.
pub const HEADER_LEN: usize = 0x60;

const SEQNO: usize = 0x20;
const AUTHENTICATED: usize = 0x30;
const TAG_LEN: usize = 16;
const ALGO_AES_256_GCM: u8 = 1;
const HEADER_VERSION: u8 = 1;

/// A page with a message in it.
pub type Page = [u8; PAGE_LEN];

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub seqno: u64,
    pub msg_type: u8,
    pub version: u8,
    /// Length in bytes of the payload.
    pub len: usize,
    pub vmpck: u8,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    ///
    /// `INVALID_PARAM` when the firmware cannot take such a message.
    pub fn parse(page: &Page) -> Result<Self, Status> {
        let word = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
        let mut seqno = [0; 8];
        seqno.copy_from_slice(&page[SEQNO..][..8]);
        let len = usize::from(word(0x36));
        let known = page[0x30] == ALGO_AES_256_GCM
            && page[0x31] == HEADER_VERSION
            && usize::from(word(0x32)) == HEADER_LEN;
        if !known || len == 0 || len % 16 != 0 || len > PAGE_LEN - HEADER_LEN {
            return Err(Status::INVALID_PARAM);
        }
        Ok(Self {
            seqno: u64::from_le_bytes(seqno),
            msg_type: page[0x34],
            version: page[0x35],
            len,
            vmpck: page[0x3c],
        })
    }

    fn iv(&self) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[..8].copy_from_slice(&self.seqno.to_le_bytes());
        iv
    }
}

/// Decrypts the payload of a message.
///
/// # Errors
///
/// `BAD_MEASUREMENT` when the key does not authenticate it.
pub fn open(key: &[u8; VMPCK_LEN], header: &Header, page: &Page) -> Result<Vec<u8>, Status> {
    let (front, payload) = page.split_at(HEADER_LEN);
    let mut text = payload[..header.len].to_vec();
    Aes256Gcm::new(key.into())
        .decrypt_in_place_detached(
            &header.iv().into(),
            &front[AUTHENTICATED..],
            &mut text,
            front[..TAG_LEN].into(),
        )
        .map_err(|_| Status::BAD_MEASUREMENT)?;
    Ok(text)
}

/// Makes a message. `header.len` is not looked at.
///
/// # Panics
///
/// When the payload is longer than a page allows.
#[must_use]
pub fn seal(key: &[u8; VMPCK_LEN], header: &Header, payload: &[u8]) -> Box<Page> {
    let mut page = Box::new([0; PAGE_LEN]);
    let (front, rest) = page.split_at_mut(HEADER_LEN);
    // PANIC: what is answered fits into a page.
    let len = u16::try_from(payload.len()).expect("a page at most");
    front[SEQNO..][..8].copy_from_slice(&header.seqno.to_le_bytes());
    front[0x30..0x32].copy_from_slice(&[ALGO_AES_256_GCM, HEADER_VERSION]);
    // CAST: 96.
    front[0x32..0x34].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
    front[0x34..0x36].copy_from_slice(&[header.msg_type, header.version]);
    front[0x36..0x38].copy_from_slice(&len.to_le_bytes());
    front[0x3c] = header.vmpck;
    let text = &mut rest[..payload.len()];
    text.copy_from_slice(payload);
    // PANIC: fails for texts of gigabytes only.
    let tag = Aes256Gcm::new(key.into())
        .encrypt_in_place_detached(&header.iv().into(), &front[AUTHENTICATED..], text)
        .expect("short enough");
    front[..TAG_LEN].copy_from_slice(&tag);
    page
}
