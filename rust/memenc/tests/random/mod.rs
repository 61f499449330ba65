// SPDX-License-Identifier: GPL-2.0

//! How many random cases there are, and of which machines.

use proptest::prelude::*;

use super::tables::Machine;

/// What fails is shown, not kept in a file. Miri is slow.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { cases },
        failure_persistence: None,
        ..Default::default()
    }
}

/// Four or five levels, C-bit or vTOM.
pub(crate) fn machines() -> impl Strategy<Value = Machine> {
    (any::<bool>(), any::<bool>()).prop_map(|(five, vtom)| Machine { five, vtom })
}
