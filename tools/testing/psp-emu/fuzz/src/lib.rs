// SPDX-License-Identifier: GPL-2.0
//! Fuzz targets: functions that take any bytes and panic when something is wrong.
//!
//! The programs in `fuzz_targets` feed them from libFuzzer, `tests/fuzz_targets.rs` of the emulator from
//! random bytes, so that they keep working. A run depends on its input alone.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod commands;
pub mod device;
pub mod driver;
pub mod fields;
pub mod guest_message;
pub mod machine;
#[path = "../../tests/model/mod.rs"]
pub mod model;
pub mod page_tables;
pub mod pool;
pub mod ram;
#[path = "../../tests/virtual_host/mod.rs"]
pub mod virtual_host;
