// SPDX-License-Identifier: GPL-2.0
//! An emulated AMD Secure Processor (PSP) running the SEV firmware.
//!
//! Layers, each knowing only the ones above it in this list:
//!
//! - [`model`]: what differs between processor generations.
//! - [`crypto`], [`cert`], [`vendor`]: keys, certificates, and the emulated AMD that certifies chips.
//! - [`memory`]: the guest RAM the firmware reads and writes, as a trait.
//! - [`firmware`]: the SEV firmware as a state machine. A command goes in, a status comes out.
//! - [`device`]: the PCI function around it: registers, mailbox, interrupts, faults. No clock and no I/O.
//! - [`state_dir`]: the directory that holds what a real chip keeps in fuses and flash.
//! - [`vfio`]: serves the device to QEMU over a vfio-user socket.
//!
//! Everything here is written from the specification and shares no definition with the driver's crate
//! `psp`: command layouts, status codes and certificate formats are stated twice and compared by tests,
//! so that a mistake on either side shows.
//!
//! Specification: AMD publication 55766, "Secure Encrypted Virtualization API", revision 3.24 (`SEV-API`).
//! Where it is silent, the behaviour is that of the firmware sources AMD published for Genoa.
#![forbid(unsafe_code)]

pub mod cert;
pub mod crypto;
pub mod device;
pub mod firmware;
pub mod memory;
pub mod model;
pub mod socket;
pub mod state_dir;
pub mod trace;
pub mod vendor;
pub mod vfio;
