// SPDX-License-Identifier: GPL-2.0
//! A directory of launch transcripts: `launch-1.json` and `launch-1.txt` for the first, and so on.

use crate::firmware::transcript::Transcript;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Where transcripts are written.
#[derive(Debug)]
pub struct Transcripts {
    dir: PathBuf,
    number: u32,
}

impl Transcripts {
    /// Writes to `dir`, which is made if need be. Numbers go on where they ended there before.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut number = 0;
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| {
                let (digits, _) = name.strip_prefix("launch-")?.split_once('.')?;
                digits.parse().ok()
            });
            number = number.max(digits.unwrap_or(0));
        }
        Ok(Self {
            dir: dir.to_owned(),
            number,
        })
    }

    /// Writes one.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, or exists.
    pub fn add(&mut self, transcript: &Transcript) -> io::Result<()> {
        self.number = self.number.saturating_add(1);
        let file = |extension: &str| {
            File::create_new(self.dir.join(format!("launch-{}.{extension}", self.number)))
        };
        writeln!(file("json")?, "{}", transcript.to_json())?;
        write!(file("txt")?, "{transcript}")
    }
}
