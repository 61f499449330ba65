// SPDX-License-Identifier: GPL-2.0
//! What an emulated PCI device needs to be served to QEMU (`vfio-user-pci`) over a socket.
//!
//! - [`memory`][]: guest RAM as a device sees it, as a trait.
//! - [`ram`][]: that RAM as QEMU hands it over, by file descriptor.
//! - [`config`][]: configuration space.
//! - [`vectors`][]: interrupts, as eventfds.
//! - [`server`][]: regions, interrupts and the loop that serves one VM after another.
//! - [`socket`][]: the listening socket, and what removes it at a signal.
#![forbid(unsafe_code)]

pub mod config;
pub mod memory;
pub mod ram;
pub mod server;
pub mod socket;
pub mod vectors;
