// SPDX-License-Identifier: GPL-2.0

//! Any machine. Apart from `tables`, which the fuzz targets have too: they know no proptest.

use proptest::prelude::*;

use super::tables::Machine;

/// Four or five levels, C-bit or vTOM.
pub(crate) fn machines() -> impl Strategy<Value = Machine> {
    (any::<bool>(), any::<bool>()).prop_map(|(five, vtom)| Machine { five, vtom })
}
