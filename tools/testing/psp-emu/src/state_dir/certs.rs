// SPDX-License-Identifier: GPL-2.0
//! The certificates AMD's key server hands out on hardware, as files in its formats:
//!
//! - `ark.cert`, `ask.cert`: root and signing key;
//! - `ask_ark.cert`: both, signing key first, as `sevctl verify --ca` takes them;
//! - `cek.cert`: the chip's endorsement key, signed by the signing key.

use super::{
    file::{self, FileError},
    io_error, StateError,
};
use crate::{
    cert::sev::{SevCert, LEN as CERT_LEN},
    crypto::ecc::EcPoint,
    firmware::Chip,
    model::Model,
    vendor::Vendor,
};
use rand_core::OsRng;
use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

/// Writes those of the files that are missing or not what they should be.
pub(super) fn ensure(dir: &Path, model: &Model, chip: &Chip) -> Result<(), StateError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io_error(dir)(error)),
        _ => file::remove_unfinished(dir)?,
    }
    let vendor = Vendor::of(model);
    let (ark, ask) = (vendor.ark.as_bytes(), vendor.ask.as_bytes());
    keep(&dir.join("ark.cert"), ark)?;
    keep(&dir.join("ask.cert"), ask)?;
    keep(&dir.join("ask_ark.cert"), &[ask, ark].concat())?;
    let path = dir.join("cek.cert");
    let cek = chip.cek().public();
    if !is_certified(&path, &vendor, &cek) {
        let cert = vendor.certify(model, &cek, &mut OsRng);
        let cert = cert.map_err(|error| io_error(&path)(io::Error::other(error)))?;
        file::replace_raw(&path, cert.as_bytes())?;
    }
    Ok(())
}

/// Makes a file have these contents.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    match fs::read(path) {
        Ok(found) if found == bytes => Ok(()),
        _ => file::replace_raw(path, bytes),
    }
}

/// Whether the file is a certificate of this CEK by this vendor. It cannot be compared: each signature
/// differs.
fn is_certified(path: &Path, vendor: &Vendor, cek: &EcPoint) -> bool {
    let found = fs::read(path)
        .ok()
        .and_then(|bytes| <[u8; CERT_LEN]>::try_from(bytes).ok());
    found.is_some_and(|bytes| vendor.has_certified(&SevCert::from(bytes), cek))
}
