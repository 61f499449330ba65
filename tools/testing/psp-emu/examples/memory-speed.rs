// SPDX-License-Identifier: GPL-2.0
//! How fast guest memory is encrypted, decrypted and hashed, in GB/s on one core. LAUNCH_UPDATE_DATA hashes
//! and encrypts. Run it with `--release`.

use psp_emu::crypto::{memory_key::MemoryKey, Hash};
use rand_core::OsRng;
use std::{hint::black_box, time::Instant};

/// More than a core's own caches hold, as guest memory is.
const LEN: usize = 64 << 20;
const RUNS: usize = 9;

fn main() {
    let key = MemoryKey::generate(&mut OsRng);
    let mut memory = vec![0x5a; LEN];
    measure("encrypt", || key.encrypt(0x1000, black_box(&mut memory)));
    measure("decrypt", || key.decrypt(0x1000, black_box(&mut memory)));
    measure("SHA-256", || {
        black_box(Hash::Sha256.digest(black_box(&memory)));
    });
}

/// Prints the median of several runs of `work` over the whole memory.
fn measure(name: &str, mut work: impl FnMut()) {
    let mut speeds = [(); RUNS].map(|()| {
        let start = Instant::now();
        work();
        LEN as f64 / start.elapsed().as_secs_f64() / 1e9
    });
    speeds.sort_by(f64::total_cmp);
    println!("{name}: {:.2} GB/s", speeds[RUNS / 2]);
}
