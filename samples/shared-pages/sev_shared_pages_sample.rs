// SPDX-License-Identifier: GPL-2.0

//! Sample: a driver that shares memory with the host.
//!
//! It leaves a note in shared memory, where the host reads it at the address that the log names: in the
//! lab, `echo device-read ADDRESS 47 >&9` (Documentation/lab.rst). The page is private again when the module is
//! unloaded.

use kernel::prelude::*;
use virtio_sev_shim::shared::SharedPages;

/// What the host may see.
const NOTE: &[u8] = b"sev_shared_pages_sample: the host can read this";

struct Sample {
    note: SharedPages,
}

impl kernel::Module for Sample {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mut note = SharedPages::new(1)?;
        note.write(0, NOTE)?;
        pr_info!("a note for the host is at {:#x}\n", note.address());
        Ok(Sample { note })
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // What the host left there is copied before it is looked at: the host cannot change the copy.
        let mut now = [0; NOTE.len()];
        if self.note.read(0, &mut now).is_ok() && now != NOTE {
            pr_info!("the host has changed the note\n");
        }
    }
}

module! {
    type: Sample,
    name: "sev_shared_pages_sample",
    authors: ["The Linux SEV in Rust developers"],
    description: "Sample: memory shared with the host of a SEV guest",
    license: "GPL",
}
