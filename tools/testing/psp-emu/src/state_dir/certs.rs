// SPDX-License-Identifier: GPL-2.0
//! The certificates AMD's key server hands out on hardware, as files in its formats:
//!
//! - `ark.cert`, `ask.cert`: root and signing key;
//! - `ask_ark.cert`: both, signing key first, as `sevctl verify --ca` takes them;
//! - `cek.cert`: the chip's endorsement key, signed by the signing key;
//! - `cek/id/ID`: the same under the path `sevctl export` asks the key server for, ID being the chip's
//!   id in hexadecimal. A web server on the directory is a key server for this chip.

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
use std::{fs, io, path::Path};

/// Writes those of the files that are missing or not what they should be.
pub(super) fn ensure(dir: &Path, model: &Model, chip: &Chip) -> Result<(), StateError> {
    let id: String = chip
        .id()
        .iter()
        .fold(String::new(), |id, byte| id + &format!("{byte:02X}"));
    let by_id = dir.join("cek").join("id");
    fs::create_dir_all(&by_id).map_err(io_error(&by_id))?;
    file::remove_unfinished(dir)?;
    file::remove_unfinished(&by_id)?;
    let vendor = Vendor::of(model);
    let (ark, ask) = (vendor.ark.as_bytes(), vendor.ask.as_bytes());
    keep(&dir.join("ark.cert"), ark)?;
    keep(&dir.join("ask.cert"), ask)?;
    keep(&dir.join("ask_ark.cert"), &[ask, ark].concat())?;
    let path = dir.join("cek.cert");
    let cek = chip.cek().public();
    let cert = match certified(&path, &vendor, &cek) {
        Some(cert) => cert,
        None => {
            let made = vendor.certify(model, &cek, &mut OsRng);
            let cert = made.map_err(|error| io_error(&path)(io::Error::other(error)))?;
            file::replace_raw(&path, cert.as_bytes())?;
            cert
        }
    };
    keep(&by_id.join(id), cert.as_bytes())?;
    Ok(())
}

/// Makes a file have these contents.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    match fs::read(path) {
        Ok(found) if found == bytes => Ok(()),
        _ => file::replace_raw(path, bytes),
    }
}

/// The file's certificate if it is one of this CEK by this vendor. It cannot be compared: each
/// signature differs.
fn certified(path: &Path, vendor: &Vendor, cek: &EcPoint) -> Option<SevCert> {
    let bytes = <[u8; CERT_LEN]>::try_from(fs::read(path).ok()?).ok()?;
    Some(SevCert::from(bytes)).filter(|cert| vendor.has_certified(cert, cek))
}
