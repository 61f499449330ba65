// SPDX-License-Identifier: GPL-2.0
//! Virtio devices (block and network) for QEMU's `vfio-user-pci`: well-behaved ones that keep account of all memory they
//! were given, and hostile ones that lie to their driver.
//!
//! Layers, each knowing only the ones above it in this list:
//!
//! - [`watch`]: guest memory with an account of its use.
//! - [`ring`], [`buffers`]: split virtqueues, from the device's side.
//! - [`function`], [`transport`]: the PCI function and the registers in it.
//! - [`spec`]: what a device is to be, as text.
//! - [`lie`]: what a hostile device does, and when.
//! - [`blk`], [`net`]: the two kinds of devices.
//! - [`acts`]: carries out the lies.
//! - [`device`]: all of that together. No clock and no I/O but the log.
//! - [`vfio`]: serves a device to QEMU over a socket.
//!
//! Specification: OASIS "Virtual I/O Device (VIRTIO)", version 1.3.
#![forbid(unsafe_code)]

pub mod acts;
pub mod blk;
pub mod buffers;
pub mod device;
pub mod function;
pub mod lie;
pub mod net;
pub mod ring;
pub mod spec;
pub mod transport;
pub mod vfio;
pub mod watch;
