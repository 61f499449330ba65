// SPDX-License-Identifier: GPL-2.0
//! Makes a firmware image that DOWNLOAD_FIRMWARE of an emulated PSP accepts: named
//! `amd/amd_sev_fam19h_model0xh.sbin` in a guest's /lib/firmware, Linux downloads it to a Milan.

#![forbid(unsafe_code)]

use psp_emu::{
    firmware::image,
    model::{ModelRef, Version},
};
use rand_core::OsRng;
use std::{env, error::Error, fs};

const USAGE: &str = "usage: make-firmware MODEL MAJOR.MINOR.BUILD FILE";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, version, file] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let ModelRef(model) = model.parse()?;
    let numbers: Vec<u8> = version
        .split('.')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [major, minor, build] = numbers[..] else {
        return Err(USAGE.into());
    };
    fs::write(
        file,
        image::build(
            model,
            Version {
                major,
                minor,
                build,
            },
            &mut OsRng,
        )?,
    )?;
    Ok(())
}
