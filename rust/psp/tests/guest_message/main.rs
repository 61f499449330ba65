// SPDX-License-Identifier: GPL-2.0

//! Guest messages with real cryptography, between a guest, a host that is the adversary, and a firmware.

mod hostile;
mod peer;
mod rules;
mod vectors;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn no_host_is_believed(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        hostile::run(&input);
    }
}
