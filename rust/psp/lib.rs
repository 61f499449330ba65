// SPDX-License-Identifier: GPL-2.0

//! The SEV firmware interface of the AMD Secure Processor.
//!
//! Everything about talking to the firmware that needs no hardware: which commands exist and how
//! their buffers look, what a status code means, how the mailbox exchange proceeds, which platform
//! state allows what, how certificates are laid out, how an SNP guest talks to the firmware, and what
//! `/dev/sev` and `/dev/sev-guest` promise to user space.
//! Nothing in here allocates, sleeps, locks, logs or reads a clock; the outside world comes in as
//! arguments. The same source is compiled by Kbuild into `ccp.ko` and by cargo for tests and
//! user-space programs.
//!
//! # Specifications
//!
//! - `SEV-API`: AMD 55766, Secure Encrypted Virtualization API, revision 3.24.
//! - `SNP-ABI`: AMD 56860, SEV Secure Nested Paging Firmware ABI, revision 1.57.
//! - `UAPI`: `include/uapi/linux/psp-sev.h`, Linux 7.3.
//!
//! # Glossary
//!
//! | Word | Meaning |
//! |---|---|
//! | PSP | AMD Secure Processor: an Arm core in the SoC that owns the memory encryption keys (ASP in newer manuals) |
//! | mailbox | the registers through which the host gives the PSP a command: CMDRESP and an address pair |
//! | TMR | trusted memory region: host memory the PSP takes for SEV-ES state |
//! | ASID | address space id of a guest, the number of its key slot |
//! | ARK, ASK | AMD's root key and the SEV signing key below it, the same for all chips of a family |
//! | CEK | chip endorsement key: unique to a chip, signed by the ASK |
//! | OCA | owner certificate authority: whoever owns the platform; self-made until taken over |
//! | PEK | platform endorsement key: signed by the OCA and the CEK |
//! | PDH | platform Diffie-Hellman key: signed by the PEK, used to agree on session keys with a guest owner |
//! | VMPCK | VM platform communication key: one of four that an SNP guest and the firmware share |
//! | VMPL | VM privilege level: 0 to 3, of which 0 may do most |
//! | C-bit | the physical address bit that says "encrypted" |

// Kbuild hands the attribute in on the command line.
#![cfg_attr(not(CONFIG_RUST), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod cert;
pub mod cmd;
pub mod cmdresp;
pub mod driver;
pub mod error;
pub mod exchange;
pub mod guest_msg;
pub mod host;
pub mod image;
pub mod ledger;
pub mod mailbox;
pub mod nv;
pub mod platform;
pub mod regs;
pub mod status;
pub mod uapi;
pub mod vectors;
