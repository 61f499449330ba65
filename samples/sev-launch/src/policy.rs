// SPDX-License-Identifier: GPL-2.0
//! The policy of a guest (SEV-API, table "Guest Policy"): the owner chooses it, the firmware enforces it.

/// No debugging: DBG_DECRYPT and DBG_ENCRYPT are refused.
pub(crate) const NODBG: u32 = 1 << 0;
/// No other guest may have the same memory key.
const NOKS: u32 = 1 << 1;
/// The processor's registers are encrypted, too (SEV-ES).
pub(crate) const ES: u32 = 1 << 2;
/// The guest may not be sent to another platform.
const NOSEND: u32 = 1 << 3;
/// It may be sent to platforms of the same owner (OCA) only.
const DOMAIN: u32 = 1 << 4;
/// It may be sent to platforms that AMD vouches for only.
const SEV: u32 = 1 << 5;

const NAMES: [(u32, &str); 6] = [
    (NODBG, "NODBG"),
    (NOKS, "NOKS"),
    (ES, "ES"),
    (NOSEND, "NOSEND"),
    (DOMAIN, "DOMAIN"),
    (SEV, "SEV"),
];

/// The policy as a number and by its flags' names.
pub(crate) fn describe(policy: u32) -> String {
    let names: Vec<&str> = NAMES
        .iter()
        .filter(|(flag, _)| policy & flag != 0)
        .map(|&(_, name)| name)
        .collect();
    let names = if names.is_empty() {
        "everything is allowed".to_owned()
    } else {
        names.join(" ")
    };
    format!("{policy:#x} ({names})")
}
