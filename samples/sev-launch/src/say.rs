// SPDX-License-Identifier: GPL-2.0
//! What the program prints: who does what, and what comes of it.

use openssl::sha::sha256;

pub(crate) fn owner(what: &str, result: &str) {
    line("owner", what, result);
}

pub(crate) fn host(what: &str, result: &str) {
    line("host", what, result);
}

fn line(who: &str, what: &str, result: &str) {
    println!("   {who:<6} {what:<28} {result}");
}

/// A key without telling it.
pub(crate) fn key(key: &[u8]) -> String {
    format!("its SHA-256 is {}", bytes(&sha256(key)))
}

/// The first bytes in hexadecimal.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    const SHOWN: usize = 16;
    let mut text = hex::encode(&bytes[..bytes.len().min(SHOWN)]);
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
    text
}
