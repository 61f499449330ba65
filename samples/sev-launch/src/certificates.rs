// SPDX-License-Identifier: GPL-2.0
//! What AMD's key server hands out, from a directory: for an emulated chip, `certs` in its state directory.

use crate::owner::chain::Roots;
use anyhow::{Context, Result};
use std::{fs, path::Path};

/// The two files of the directory that matter here.
pub(crate) struct Certificates {
    /// `cek.cert`: this chip's CEK, signed by AMD.
    pub(crate) cek: Vec<u8>,
    /// `ask_ark.cert`: AMD's signing and root key.
    pub(crate) roots: Roots,
}

impl Certificates {
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let read = |name| {
            let path = directory.join(name);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        Ok(Self {
            cek: read("cek.cert")?,
            roots: Roots(read("ask_ark.cert")?),
        })
    }
}
