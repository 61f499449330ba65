// SPDX-License-Identifier: GPL-2.0

//! Guest messages with real cryptography, between a guest, a host that is the adversary, and a firmware.

mod hostile;
mod peer;
mod rules;
mod vectors;
