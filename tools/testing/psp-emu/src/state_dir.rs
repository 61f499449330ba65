// SPDX-License-Identifier: GPL-2.0
//! The state directory: what a real chip keeps in fuses and flash.
//!
//! ```text
//! lock    held while an emulator uses the directory
//! chip    the model and the chip's secret; written once
//! flash   the platform's persistent data; absent while erased
//! certs/  what AMD's key server would hand out for the chip; made anew when missing
//! ```
//!
//! Files are replaced as a whole: written under another name, synced, renamed. A kill at any point
//! leaves the old file or the new one. `chip` is written last when a directory is made, and a
//! directory without it that holds anything else is not ours.

mod certs;
mod file;

use crate::{
    firmware::{Chip, Flash},
    model::{Model, ModelRef},
};
use file::{FileError, Kind};
use rand_core::OsRng;
use rustix::{
    fs::{flock, FlockOperation},
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

const LOCK: &str = "lock";
const CHIP: &str = "chip";
const FLASH: &str = "flash";
const CERTS: &str = "certs";

/// Why a state directory cannot be used. Nothing in it has been changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{}: in use by another emulator", .0.display())]
    InUse(PathBuf),
    #[error("{}: not empty and no state directory of psp-emu; not touching it", .0.display())]
    Foreign(PathBuf),
    #[error("{}: holds a {found} chip, not the {wanted} asked for", .dir.display())]
    WrongModel {
        dir: PathBuf,
        found: &'static str,
        wanted: &'static str,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StateError + '_ {
    |source| StateError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A state directory, locked for this process.
pub struct StateDir {
    dir: PathBuf,
    model: &'static Model,
    chip: Chip,
    /// Held for its lock.
    _lock: File,
}

impl StateDir {
    /// Opens the directory, or makes a new chip when it does not exist or is empty.
    ///
    /// Without a `model` the existing chip's is taken, and `default` for a new one.
    ///
    /// # Errors
    ///
    /// When another process uses the directory, when it is not ours, damaged, or of another model, and
    /// when it cannot be read or written.
    pub fn open(
        dir: &Path,
        model: Option<&'static Model>,
        default: &'static Model,
    ) -> Result<Self, StateError> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => refuse_foreign(dir)?,
            other => other.map_err(io_error(dir))?,
        }
        let lock = lock(dir)?;
        // Again: what was empty may be another emulator's new directory by now.
        refuse_foreign(dir)?;
        file::remove_unfinished(dir)?;
        let (found, chip) = match file::read(&dir.join(CHIP), Kind::Chip)? {
            Some(payload) => decode_chip(&dir.join(CHIP), &payload)?,
            None => new_chip(dir, model.unwrap_or(default))?,
        };
        if let Some(wanted) = model.filter(|&wanted| wanted != found) {
            let (found, wanted) = (found.name, wanted.name);
            return Err(StateError::WrongModel {
                dir: dir.to_owned(),
                found,
                wanted,
            });
        }
        let state = Self {
            dir: dir.to_owned(),
            model: found,
            chip,
            _lock: lock,
        };
        // A damaged flash file is found now, not at the first INIT.
        file::read(&state.dir.join(FLASH), Kind::Flash)?;
        certs::ensure(&state.dir.join(CERTS), state.model, &state.chip)?;
        Ok(state)
    }

    /// The model of the chip.
    #[must_use]
    pub fn model(&self) -> &'static Model {
        self.model
    }

    /// The chip.
    #[must_use]
    pub fn chip(&self) -> Chip {
        self.chip.clone()
    }

    /// The flash, which keeps the directory locked.
    #[must_use]
    pub fn into_flash(self) -> Box<dyn Flash> {
        Box::new(FileFlash {
            path: self.dir.join(FLASH),
            _state: self,
        })
    }
}

/// # Errors
///
/// [`StateError::Foreign`] when the directory has contents but no chip.
fn refuse_foreign(dir: &Path) -> Result<(), StateError> {
    if dir.join(CHIP).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let name = entry.map_err(io_error(dir))?.file_name();
        // What a killed emulator leaves before the chip file is in place.
        if name != LOCK && !file::is_unfinished(&name) {
            return Err(StateError::Foreign(dir.to_owned()));
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join(LOCK);
    let options = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let lock = options.map_err(io_error(&path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(StateError::InUse(dir.to_owned())),
        Err(error) => Err(io_error(&path)(error.into())),
    }
}

/// Payload of the chip file: the secret, then the model's name.
fn decode_chip(path: &Path, payload: &[u8]) -> Result<(&'static Model, Chip), StateError> {
    let damaged = || FileError::Damaged(path.to_owned());
    let (secret, name) = payload.split_first_chunk().ok_or_else(damaged)?;
    let name = std::str::from_utf8(name).map_err(|_| damaged())?;
    let ModelRef(model) = name.parse().map_err(|_| damaged())?;
    Ok((model, Chip::from_secret(*secret)))
}

fn new_chip(dir: &Path, model: &'static Model) -> Result<(&'static Model, Chip), StateError> {
    let chip = Chip::generate(&mut OsRng);
    let payload = [chip.secret(), model.name.as_bytes()].concat();
    file::replace(&dir.join(CHIP), Kind::Chip, &payload)?;
    Ok((model, chip))
}

/// The flash file of a state directory.
struct FileFlash {
    path: PathBuf,
    /// Keeps the directory locked.
    _state: StateDir,
}

impl Flash for FileFlash {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        file::read(&self.path, Kind::Flash).map_err(io::Error::other)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        file::replace(&self.path, Kind::Flash, data).map_err(io::Error::other)
    }

    fn erase(&mut self) -> io::Result<()> {
        file::remove(&self.path).map_err(io::Error::other)
    }
}
