// SPDX-License-Identifier: GPL-2.0
//! Makes the emulated AMD's keys: for each model a root key (ARK), a signing key (ASK) and their
//! certificates. The files in `keys/` were made with it; see `keys/README.rst`.

use psp_emu::{
    cert::{amd::AmdCert, Usage},
    crypto::rsa::RsaKey,
    model::{MODELS, NAPLES},
};
use rand_core::OsRng;
use std::{error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let dir: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: make-vendor-keys DIRECTORY")?
        .into();
    for model in MODELS {
        // As AMD's own: 2048 bits on the first generation, 4096 since.
        let bits = if *model == NAPLES { 2048 } else { 4096 };
        let (ark, ask) = (
            RsaKey::generate(&mut OsRng, bits)?,
            RsaKey::generate(&mut OsRng, bits)?,
        );
        let ark_cert = AmdCert::new(Usage::Ark, &ark.public(), &ark, &mut OsRng)?;
        let ask_cert = AmdCert::new(Usage::Ask, &ask.public(), &ark, &mut OsRng)?;
        for (key, cert, name) in [(ark, ark_cert, "ark"), (ask, ask_cert, "ask")] {
            let file = |extension| dir.join(format!("{}-{name}.{extension}", model.name));
            fs::write(file("pem"), key.to_pem()?)?;
            fs::write(file("cert"), cert.as_bytes())?;
        }
        println!("{}: {bits} bits", model.name);
    }
    Ok(())
}
