// SPDX-License-Identifier: GPL-2.0

//! Messages between an SNP guest and the firmware (`SNP-ABI` chapter 7 and 8.26).
//!
//! The two share keys, the VMPCKs; between them sits the hypervisor, which carries the messages and is
//! the adversary: it may answer anything, late, twice or never. A message is encrypted with AES-256-GCM,
//! and its sequence number is the IV, so no number may ever serve two messages. The firmware takes each
//! number once and in order. Hence the one rule of [`Channel`]: after a message has left the guest,
//! either its answer arrives and both counters advance, or the key is destroyed.
//!
//! # Use
//!
//! ```
//! # use psp::guest_msg::{Aead, Channel, Exit, Exited, Failure, GivenUp, Message, Request, Slot, Step};
//! # struct Host;
//! # impl Host {
//! #     fn share(&mut self, _message: &Message) {}
//! #     fn call(&mut self, _exit: Exit) -> Exited { unimplemented!() }
//! #     fn copy_response(&self, _to: &mut Message) {}
//! #     fn sleep(&mut self) -> Option<GivenUp> { None }
//! # }
//! fn ask<A: Aead, S: Slot>(
//!     channel: &mut Channel<A, S>,
//!     host: &mut Host,
//!     request: &Request<'_>,
//!     page: &mut Message, // private memory
//!     out: &mut [u8],
//! ) -> Result<usize, Failure> {
//!     let mut exchange = channel.begin(request, page)?;
//!     host.share(page);
//!     loop {
//!         let exited = host.call(exchange.exit());
//!         host.copy_response(page);
//!         exchange = match exchange.answered(exited, page, out) {
//!             Step::Done(len) => return Ok(len),
//!             Step::Failed(failure) => return Err(failure),
//!             Step::Plain(same) => same,
//!             Step::Busy(same) => match host.sleep() {
//!                 None => same,
//!                 Some(why) => return Err(same.give_up(why)),
//!             },
//!         };
//!     }
//! }
//! ```

mod aead;
mod certs;
mod channel;
mod failure;
mod payload;
mod report;
mod secrets;
pub mod uapi;
pub(crate) mod vectors;
mod wire;

pub use aead::{Aead, Forged, IV_LEN, TAG_LEN};
pub use certs::{CertTable, Entry, Extent, Guid, Oddity, ENTRY_LEN};
pub use channel::{Channel, Exchange, Exit, Exited, Request, Slot, Step};
pub use failure::{ExitInfo2, Failure, GivenUp, NotAnAnswer, Why};
pub use payload::{
    KeyRequest, KeyResponse, Refused, ReportRequest, ReportResponseHeader, TscInfoResponse,
    TSC_INFO_REQUEST_LEN,
};
pub use report::{AttestationReport, TcbParts, TcbVersion, REPORT_LEN, REPORT_SIGNED_LEN};
pub use secrets::{SecretsPage, Vmpck, VmpckId, VMPCK_LEN};
pub use wire::{
    Header, Message, MsgType, AAD_LEN, ALGO_AES_256_GCM, HEADER_LEN, HEADER_VERSION, PAYLOAD_LEN,
};
