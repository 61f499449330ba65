// SPDX-License-Identifier: GPL-2.0
//! Firmware images for DOWNLOAD_FIRMWARE.
//!
//! The header is laid out as AMD's, with the fields below; there is no code in the body, since the
//! emulator cannot run it. What counts is the version, and that the emulated AMD has signed it.
//!
//! ```text
//! 0x10   4  "$PS1"
//! 0x14   4  length of what is signed: header and body
//! 0x60   4  version: build, minor, major, 0
//! 0x6c   4  length of the image: what is signed, and the signature
//! 0x100     body, then the signature (RSA-PSS by the model's ASK, little-endian)
//! ```

use super::Status;
use crate::{
    crypto::{Hash, Random},
    model::{Model, Version},
    vendor::Vendor,
};

const COOKIE: &[u8; 4] = b"$PS1";
const COOKIE_AT: usize = 0x10;
const SIGNED_LEN_AT: usize = 0x14;
const VERSION_AT: usize = 0x60;
const IMAGE_LEN_AT: usize = 0x6c;
const HEADER_LEN: usize = 0x100;

/// Images longer than this are refused unread.
pub(super) const MAX_LEN: u32 = 1 << 20;
/// Images must be aligned to this many bytes.
pub(super) const ALIGN: u64 = 32;

/// Makes an image of firmware `version` for a model.
///
/// # Errors
///
/// When the model's signing key cannot sign.
pub fn build(
    model: &Model,
    version: Version,
    random: &mut dyn Random,
) -> Result<Vec<u8>, rsa::Error> {
    let vendor = Vendor::of(model);
    let mut image = vec![0; HEADER_LEN];
    let signature_len = vendor.ask.key().modulus.len();
    // CAST: less than a kilobyte.
    let image_len = (image.len() + signature_len) as u32;
    random.fill_bytes(&mut image[..COOKIE_AT]);
    image[COOKIE_AT..][..4].copy_from_slice(COOKIE);
    image[SIGNED_LEN_AT..][..4].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
    let Version {
        major,
        minor,
        build,
    } = version;
    image[VERSION_AT..][..4].copy_from_slice(&[build, minor, major, 0]);
    image[IMAGE_LEN_AT..][..4].copy_from_slice(&image_len.to_le_bytes());
    let mut signature = vendor.sign(&image, random)?;
    signature.reverse();
    image.extend_from_slice(&signature);
    Ok(image)
}

/// Checks an image and returns the version of the firmware in it.
///
/// # Errors
///
/// INVALID_LEN when the image is not as long as it says, BAD_SIGNATURE when it is not signed for this
/// model: the signature vouches for the rest of the header.
pub(super) fn check(model: &Model, image: &[u8]) -> Result<Version, Status> {
    let word = |offset: usize| {
        let word = image.get(offset..).and_then(|rest| rest.first_chunk());
        word.copied().ok_or(Status::INVALID_LEN)
    };
    let [build, minor, major, _] = word(VERSION_AT)?;
    let image_len = u32::from_le_bytes(word(IMAGE_LEN_AT)?);
    if u32::try_from(image.len()) != Ok(image_len) {
        return Err(Status::INVALID_LEN);
    }
    let signed_len = u32::from_le_bytes(word(SIGNED_LEN_AT)?);
    let signed_len = usize::try_from(signed_len).map_err(|_| Status::INVALID_LEN)?;
    let (signed, signature) = image
        .split_at_checked(signed_len)
        .ok_or(Status::INVALID_LEN)?;
    if signed.len() < HEADER_LEN {
        return Err(Status::INVALID_LEN);
    }
    let mut signature = signature.to_vec();
    signature.reverse();
    let ask = Vendor::of(model).ask;
    let hash: Hash = ask.algo().hash;
    match ask.key().verify(hash, signed, &signature) {
        true => Ok(Version {
            major,
            minor,
            build,
        }),
        false => Err(Status::BAD_SIGNATURE),
    }
}
