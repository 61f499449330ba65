// SPDX-License-Identifier: GPL-2.0

//! How many random cases there are.

use proptest::prelude::*;

/// What fails is shown, not kept in a file. Miri is slow.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { cases },
        failure_persistence: None,
        ..Default::default()
    }
}
