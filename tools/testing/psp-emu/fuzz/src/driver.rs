// SPDX-License-Identifier: GPL-2.0
//! What can happen to the driver core, one thing after another; the emulator's `tests/driver_model.rs` does the
//! same with random numbers.
//!
//! Wrong is whatever the model says.

use super::model::{coverage::Coverage, step::Step, Session};

/// Runs an input: eight bytes choose the machine, eight each step.
///
/// # Panics
///
/// When something is wrong.
pub fn run(input: &[u8]) {
    let words = input
        .chunks_exact(8)
        .filter_map(|word| word.try_into().ok());
    let mut numbers = words.map(u64::from_le_bytes);
    let Some(kind) = numbers.next() else {
        return;
    };
    let mut coverage = Coverage::default();
    let mut session = Session::new(kind, &mut coverage);
    for number in numbers {
        let (step, kill) = Step::of(number);
        session.step(step, kill);
    }
    session.finish(false);
}
