// SPDX-License-Identifier: GPL-2.0
//! Files of the state directory: a header that says what they are, a checksum, atomic replacement.
//!
//! ```text
//! 0x00  16  magic, by kind
//! 0x10   4  version of the format, little-endian
//! 0x14   4  length of the payload, little-endian
//! 0x18  32  SHA-256 of the payload
//! 0x38      payload
//! ```

use sha2::{Digest, Sha256};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

const VERSION: u32 = 1;
const HEADER_LEN: usize = 0x38;
/// Ends the name of a file that is being written.
const UNFINISHED: &str = ".unfinished";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chip,
    Flash,
}

impl Kind {
    fn magic(self) -> &'static [u8; 16] {
        match self {
            Self::Chip => b"psp-emu chip\0\0\0\0",
            Self::Flash => b"psp-emu flash\0\0\0",
        }
    }
}

/// Why a file of the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: not a file of psp-emu", .0.display())]
    Foreign(PathBuf),
    #[error("{}: format version {found}, this program knows {VERSION}", .path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("{}: damaged; remove the state directory to start with a new chip", .0.display())]
    Damaged(PathBuf),
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
    |source| FileError::Io {
        path: path.to_owned(),
        source,
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let (word, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

/// Reads a file's payload; `None` when there is no such file.
pub(super) fn read(path: &Path, kind: Kind) -> Result<Option<Vec<u8>>, FileError> {
    let mut bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error(path))?,
    };
    if !bytes.starts_with(kind.magic()) {
        return Err(FileError::Foreign(path.to_owned()));
    }
    let damaged = || FileError::Damaged(path.to_owned());
    let found = u32_at(&bytes, 0x10).ok_or_else(damaged)?;
    if found != VERSION {
        return Err(FileError::Version {
            path: path.to_owned(),
            found,
        });
    }
    let len = u32_at(&bytes, 0x14).ok_or_else(damaged)?;
    let sum = bytes.get(0x18..HEADER_LEN).ok_or_else(damaged)?.to_vec();
    let payload = bytes.split_off(HEADER_LEN);
    if u32::try_from(payload.len()) != Ok(len) || Sha256::digest(&payload)[..] != sum[..] {
        return Err(damaged());
    }
    Ok(Some(payload))
}

/// Writes a file so that it has either its old contents or the new ones, also after a power cut.
pub(super) fn replace(path: &Path, kind: Kind, payload: &[u8]) -> Result<(), FileError> {
    let too_long = |_| io_error(path)(ErrorKind::InvalidInput.into());
    let len = u32::try_from(payload.len()).map_err(too_long)?;
    let mut bytes = kind.magic().to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&Sha256::digest(payload));
    bytes.extend_from_slice(payload);
    replace_raw(path, &bytes)
}

/// As [`replace`], for a file without header.
pub(super) fn replace_raw(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let written = write().map_err(io_error(&unfinished));
    let renamed = written.and_then(|()| fs::rename(&unfinished, path).map_err(io_error(path)));
    if renamed.is_err() {
        // The error that is reported matters more than this one.
        let _ = fs::remove_file(&unfinished);
    }
    renamed?;
    sync_parent(path)
}

/// Removes a file; no error when there is none.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => {
            other.map_err(io_error(path))?;
            sync_parent(path)
        }
    }
}

/// Makes a rename or removal last.
fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error(parent))
}

/// Whether a name is that of a file that was being written.
pub(super) fn is_unfinished(name: &OsStr) -> bool {
    name.as_bytes().ends_with(UNFINISHED.as_bytes())
}

/// Removes what a killed emulator was writing.
pub(super) fn remove_unfinished(dir: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let entry = entry.map_err(io_error(dir))?;
        if is_unfinished(&entry.file_name()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
