// SPDX-License-Identifier: GPL-2.0
//! The driver core's guest messages, and a host that does what the input says.
//!
//! Wrong is what `rust/psp/tests/guest_message/hostile.rs` takes for wrong.

#[path = "../../../../../rust/psp/tests/guest_message/hostile.rs"]
mod hostile;
#[path = "../../../../../rust/psp/tests/guest_message/peer.rs"]
mod peer;

/// Runs an input.
///
/// # Panics
///
/// When something is wrong.
pub fn run(input: &[u8]) {
    hostile::run(input);
}
