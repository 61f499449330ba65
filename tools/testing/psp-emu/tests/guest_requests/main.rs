// SPDX-License-Identifier: GPL-2.0
//! Guest requests, from a client that shares nothing with the emulator: its messages are OpenSSL's, and reports
//! and certificates are judged by OpenSSL and the library that snpguest is made of.

mod answers;
mod client;
mod core;
mod device;
mod faults;
mod messages;
