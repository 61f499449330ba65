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
//! - [`transcripts`]: the directory that tells what guests were launched from.
//! - [`vfio`]: serves the device to QEMU over a vfio-user socket.
//!
//! Everything here is written from the specification and shares no definition with the driver's crate
//! `psp`: command layouts, status codes and certificate formats are stated twice and compared by tests,
//! so that a mistake on either side shows.
//!
//! A driver's test, without QEMU:
//!
//! ```
//! use psp_emu::{
//!     device::{fault::Faults, Device},
//!     firmware::{Chip, Firmware, VecFlash},
//!     memory::{GuestMemory, VecMemory},
//!     model::MILAN,
//! };
//! use std::time::Duration;
//!
//! let firmware = Firmware::new(&MILAN, Chip::from_secret([1; 32]), Box::new(VecFlash::default()));
//! let mut device = Device::new(&MILAN, firmware, Faults::default());
//! let mut ram = VecMemory::new(0, 0x10000);
//! let mut write = |offset, value: u32| {
//!     device.bar2_write(offset, &value.to_le_bytes(), &mut ram, Duration::ZERO)
//! };
//!
//! // PLATFORM_STATUS with its buffer at 0x1000; no interrupt.
//! write(MILAN.registers.addr_lo, 0x1000);
//! write(MILAN.registers.addr_hi, 0);
//! let outcome = write(MILAN.registers.cmdresp, 0x004 << 16);
//!
//! assert!(!outcome.interrupt);
//! let mut cmdresp = [0; 4];
//! device.bar2_read(MILAN.registers.cmdresp, &mut cmdresp);
//! assert_eq!(u32::from_le_bytes(cmdresp), 0x8000_0000);
//! let mut api = [0; 2];
//! ram.read(0x1000, &mut api).unwrap();
//! assert_eq!(api, [1, 55]);
//! ```
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
pub mod transcripts;
pub mod vendor;
pub mod vfio;
