// SPDX-License-Identifier: GPL-2.0
//! Guest requests: what an SNP guest asks of the firmware, by way of its hypervisor.
//!
//! On hardware the guest leaves through its GHCB and KVM hands the message to the PSP. Here a PCI function
//! of the lab's is all of that at once, so that a guest which is no SNP guest can have reports and keys. The
//! messages, the firmware's answers and the certificates are the real thing, but for whose keys they are.
//!
//! - [`generation`]: what differs between the processors that have SNP.
//! - [`guest`]: what the firmware knows of the guest, and the secrets page in which the guest finds its keys.
//! - [`firmware`]: takes a message and answers it; [`message`] has the format.
//! - [`certificates`]: the chain that vouches for the key reports are signed with.
//! - [`host`]: the hypervisor in the middle, which can be told to misbehave ([`fault`]).
//! - [`device`]: the registers that the guest reaches it by.
//!
//! Specification: AMD publication 56860, "SEV Secure Nested Paging Firmware ABI", revision 1.57 (`SNP-ABI`), and
//! 56421, "SEV-ES Guest-Hypervisor Communication Block Standardization", revision 2.04 (`GHCB`).

pub mod certificates;
pub mod device;
pub mod fault;
pub mod firmware;
pub mod generation;
pub mod guest;
pub mod host;
pub mod message;

mod derived_key;
mod report;
