// SPDX-License-Identifier: GPL-2.0

//! Encrypted memory as an AMD SEV guest sees it.
//!
//! Everything about it that needs no hardware: what CPUID and SEV_STATUS say about the protection of
//! this VM ([`status`]), where the C-bit is in addresses and page-table entries ([`cbit`], [`entry`]),
//! which pages the tables map private and shared ([`walk`]), how that is changed ([`flip`]) and the host
//! told ([`page_state`]), which pages are shared in all ([`ranges`]) and in what pieces ([`pieces`]), which
//! virtio devices do their DMA through the pool ([`admission`]) and how that is divided ([`shares`]). Nothing in here allocates,
//! sleeps, locks, logs or reads a register; the outside world comes in as arguments and small traits.
//! The same source is compiled by Kbuild into `virtio_sev_shim.ko` and by cargo for tests and
//! user-space programs.
//!
//! What comes in may be wrong or hostile: CPUID is the host's word, and so is all of shared memory.
//! Each function gives an answer or an error for any input, and ends.
//!
//! # Specifications
//!
//! - `APM2`: AMD 24593, Architecture Programmer's Manual volume 2, revision 3.42.
//! - `APM3`: AMD 24594, the same, volume 3, revision 3.37.
//! - `GHCB`: AMD 56421, SEV-ES Guest-Hypervisor Communication Block Standardization, revision 2.03.
//!
//! # Glossary
//!
//! | Word | Meaning |
//! |---|---|
//! | private | encrypted with the VM's key: the host cannot read it, under SEV-SNP not change it either |
//! | shared | not encrypted: what the host and its devices read and write |
//! | C-bit | the physical address bit that says "private" |
//! | vTOM | virtual top of memory: what lies above is shared; so its bit, when set, says "shared" |
//! | flip | to make private memory shared, or the reverse |
//! | GPA | guest-physical address; here always without C-bit and vTOM bit |
//! | entry | of a page table: 64 bits, which map a page or point to the next table |
//! | leaf | an entry that maps a page: 4 KiB, 2 MiB or 1 GiB |

// Kbuild hands the attribute in on the command line.
#![cfg_attr(not(CONFIG_RUST), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admission;
pub mod bits;
pub mod cbit;
pub mod entry;
pub mod flip;
pub mod page_state;
pub mod pieces;
pub mod pool;
pub mod ranges;
pub mod shares;
pub mod status;
pub mod walk;

/// What fails in a test is shown, not kept in a file. Miri is slow.
#[cfg(test)]
fn cases() -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases: if cfg!(miri) { 3 } else { 1000 },
        failure_persistence: None,
        ..Default::default()
    }
}
