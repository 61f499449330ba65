// SPDX-License-Identifier: GPL-2.0
//! The fuzz targets on random inputs: a few, so that they keep working (Documentation/psp-emu.rst, "Fuzzing").

#[allow(dead_code, unreachable_pub, reason = "a crate of its own")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..Default::default() })]

    #[test]
    fn commands_find_nothing(input in vec(any::<u8>(), 0..600)) {
        fuzz::commands::run(&input);
    }

    #[test]
    fn device_finds_nothing(input in vec(any::<u8>(), 0..600)) {
        fuzz::device::run(&input);
    }

    #[test]
    fn driver_finds_nothing(input in vec(any::<u8>(), 0..600)) {
        fuzz::driver::run(&input);
    }

    #[test]
    fn certificates_find_nothing(input in vec(any::<u8>(), 0..24)) {
        fuzz::certificates::run(&input);
    }

    #[test]
    fn guest_message_finds_nothing(input in vec(any::<u8>(), 0..200)) {
        fuzz::guest_message::run(&input);
    }

    #[test]
    fn page_tables_find_nothing(input in vec(any::<u8>(), 0..400)) {
        fuzz::page_tables::run(&input);
    }

    #[test]
    fn pool_finds_nothing(input in vec(any::<u8>(), 0..1000)) {
        fuzz::pool::run(&input);
    }
}
