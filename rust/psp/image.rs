// SPDX-License-Identifier: GPL-2.0

//! Firmware images in the file system: which file is for which processor, and when to download it.

use core::{
    ffi::CStr,
    fmt::{self, Write},
};

use crate::cmd::platform::FwVersion;

/// API version (major, minor) from which on firmware knows DOWNLOAD_FIRMWARE.
const DOWNLOAD_SINCE: (u8, u8) = (0, 15);
/// API version (major, minor) from which on one download is enough.
const COMMITS_SINCE: (u8, u8) = (1, 50);

/// How often an image has to be downloaded for firmware of this version to run and keep it.
///
/// Firmware before 1.50 takes up the committed version of what it is replaced by only the second time
/// (`drivers/crypto/ccp/sev-dev.c`). Zero: it does not know DOWNLOAD_FIRMWARE.
pub const fn downloads(running: FwVersion) -> usize {
    if !running.api_at_least(DOWNLOAD_SINCE.0, DOWNLOAD_SINCE.1) {
        0
    } else if running.api_at_least(COMMITS_SINCE.0, COMMITS_SINCE.1) {
        1
    } else {
        2
    }
}

/// Name of an image below the firmware directory.
#[derive(Clone, Copy)]
pub struct FileName {
    bytes: [u8; FileName::SIZE],
    len: usize,
}

impl FileName {
    /// Longest name, with room for processors that do not exist yet, and the final zero.
    const SIZE: usize = 48;

    fn new(text: fmt::Arguments<'_>) -> Self {
        let mut name = FileName {
            bytes: [0; FileName::SIZE],
            len: 0,
        };
        // Names are shorter than SIZE, whatever the numbers: a test has the longest.
        let _ = name.write_fmt(text);
        name
    }

    /// As the firmware loader wants it.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_c_str().to_str().unwrap_or_default())
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Write for FileName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        // The last byte stays zero.
        if end >= FileName::SIZE {
            return Err(fmt::Error);
        }
        let free = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Files that may hold an image for a processor, the most specific first: for its very model, for the
/// sixteen models around it, for any.
pub fn file_names(family: u8, model: u8) -> [FileName; 3] {
    [
        FileName::new(format_args!(
            "amd/amd_sev_fam{family:02x}h_model{model:02x}h.sbin"
        )),
        FileName::new(format_args!(
            "amd/amd_sev_fam{family:02x}h_model{:x}xh.sbin",
            model >> 4
        )),
        FileName::new(format_args!("amd/sev.fw")),
    ]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{borrow::ToOwned, string::String};

    use super::*;

    fn names(family: u8, model: u8) -> [String; 3] {
        file_names(family, model).map(|name| name.as_c_str().to_str().unwrap().to_owned())
    }

    #[test]
    fn names_are_those_of_linux_firmware() {
        let expected = [
            "amd/amd_sev_fam17h_model31h.sbin",
            "amd/amd_sev_fam17h_model3xh.sbin",
            "amd/sev.fw",
        ];
        assert_eq!(names(0x17, 0x31), expected);
        assert_eq!(names(0x19, 0x01)[1], "amd/amd_sev_fam19h_model0xh.sbin");
        assert_eq!(names(0xff, 0xff)[0], "amd/amd_sev_famffh_modelffh.sbin");
    }

    #[test]
    fn old_firmware_downloads_twice_or_not_at_all() {
        let version = |major, minor| FwVersion {
            major,
            minor,
            build: 255,
        };
        for (running, expected) in [
            (version(0, 14), 0),
            (version(0, 15), 2),
            (version(1, 49), 2),
            (version(1, 50), 1),
            (version(2, 0), 1),
        ] {
            assert_eq!(downloads(running), expected, "{running:?}");
        }
    }
}
