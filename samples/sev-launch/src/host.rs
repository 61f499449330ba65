// SPDX-License-Identifier: GPL-2.0
//! The cloud host: it has the machine, KVM and `/dev/sev`, and none of the owner's keys.

pub(crate) mod command;
pub(crate) mod guest;
pub(crate) mod memory;
pub(crate) mod migration;
pub(crate) mod platform;
pub(crate) mod stream;
