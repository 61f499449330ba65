// SPDX-License-Identifier: GPL-2.0
//! Makes the certificates of the emulated AMD's authorities for SNP, and the keys that are missing: the ASVKs. The
//! files in `keys/` were made with it; see `keys/README.rst`.

use psp_emu::{
    crypto::rsa::RsaKey,
    guest_requests::{
        certificates::{certify_authority, Authority},
        generation::Generation,
    },
    model::MODELS,
};
use rand_core::OsRng;
use std::{error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let dir: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: make-snp-certificates DIRECTORY")?
        .into();
    for model in MODELS {
        let Some(generation) = Generation::of(model) else {
            continue;
        };
        let path = |name, extension| dir.join(format!("{}-{name}.{extension}", model.name));
        let ark = RsaKey::from_pem(&fs::read_to_string(path("ark", "pem"))?)?;
        for (authority, name) in [
            (Authority::Ark, "ark"),
            (Authority::Ask, "ask"),
            (Authority::Asvk, "asvk"),
        ] {
            let pem = path(name, "pem");
            if !pem.exists() {
                fs::write(&pem, RsaKey::generate(&mut OsRng, 4096)?.to_pem()?)?;
            }
            let key = RsaKey::from_pem(&fs::read_to_string(pem)?)?.public();
            let der = certify_authority(authority, generation.name, &key, &ark, &mut OsRng)?;
            fs::write(path(name, "der"), der)?;
        }
        println!("{}", model.name);
    }
    Ok(())
}
