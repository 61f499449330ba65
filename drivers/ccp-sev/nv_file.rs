// SPDX-License-Identifier: GPL-2.0

//! The file named by the module parameter `init_ex_path`.

use kernel::{
    device::Device,
    prelude::*,
    str::CStr,
    sync::aref::ARef, //
};
use psp::{
    cmd::platform::NV_LEN,
    nv::Found, //
};

use crate::ffi;

/// The file, and what is in it.
pub(crate) struct NvFile {
    path: &'static CStr,
    dev: ARef<Device>,
    contents: KVec<u8>,
    /// Room for what comes next.
    next: KVec<u8>,
    /// The file is not what the firmware left in it: keep it when it is replaced.
    odd: bool,
}

impl NvFile {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(path: &'static CStr, dev: ARef<Device>) -> Result<Self> {
        // CAST: 32 KiB.
        let room = || KVec::from_elem(psp::nv::ERASED, NV_LEN as usize, GFP_KERNEL);
        Ok(NvFile {
            path,
            dev,
            contents: room()?,
            next: room()?,
            odd: false,
        })
    }

    /// What was read or written last; erased if nothing was.
    pub(crate) fn contents(&self) -> &[u8] {
        &self.contents
    }

    /// Where to put what [`write`](Self::write) is to write.
    pub(crate) fn next_contents(&mut self) -> &mut [u8] {
        &mut self.next
    }

    /// Reads the file. Whether the firmware likes what is in it, only the firmware knows; so this only
    /// fails if it cannot be read.
    ///
    /// # Errors
    ///
    /// That of the file system; a missing file is none.
    pub(crate) fn read(&mut self) -> Result {
        let found = match ffi::read_file(self.path, &mut self.contents) {
            Ok(len) => Found::judge(&mut self.contents, len),
            Err(error) if error == ENOENT => Found::judge(&mut self.contents, 0),
            Err(error) => {
                dev_err!(
                    &*self.dev,
                    "SEV: could not open {} for read, error {}\n",
                    self.path,
                    error.to_errno()
                );
                // Nobody knows what is in it.
                self.odd = true;
                return Err(error);
            }
        };
        self.odd = matches!(found, Found::Short(_) | Found::Long(_));
        let (dev, path) = (&*self.dev, self.path);
        match found {
            Found::Whole => {}
            Found::Nothing => {
                dev_info!(dev, "SEV: {} {}\n", path, core::format_args!("{found}"));
            }
            Found::Short(_) | Found::Long(_) => {
                dev_warn!(dev, "SEV: {} {}\n", path, core::format_args!("{found}"));
            }
        }
        Ok(())
    }

    /// Makes [`next_contents`](Self::next_contents) the file's contents, all of them or none: they go to
    /// another file that then takes the name. An old file that the firmware could not use is kept as
    /// `<name>.bad`.
    ///
    /// # Errors
    ///
    /// That of the file system, which is also logged.
    pub(crate) fn write(&mut self, rejected: bool) -> Result {
        self.odd |= rejected;
        if self.next[..] == self.contents[..] && !self.odd {
            return Ok(());
        }
        if let Err(error) = ffi::replace_file(self.path, &self.next, self.odd) {
            dev_err!(
                &*self.dev,
                "SEV: the command is done, but {} could not be written, error {}: \
                 what the firmware keeps there lives in memory until it can be\n",
                self.path,
                error.to_errno()
            );
            return Err(error);
        }
        if self.odd {
            dev_warn!(
                &*self.dev,
                "SEV: {0} is written anew; what was in it is kept as {0}.bad\n",
                self.path
            );
        }
        self.odd = false;
        core::mem::swap(&mut self.contents, &mut self.next);
        Ok(())
    }
}
