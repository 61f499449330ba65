// SPDX-License-Identifier: GPL-2.0

//! One key, and the messages under it.
//!
//! [`Channel`] is idle; [`Channel::begin`] makes an [`Exchange`], which is the promise that this message
//! is the only one with its number. An exchange ends in exactly one way: answered, or with the key
//! destroyed, also when it is merely dropped.

use super::wire::iv;
use super::{
    Aead, ExitInfo2, Failure, Forged, GivenUp, Header, Message, MsgType, NotAnAnswer, VmpckId, Why,
    TAG_LEN,
};
use core::hint::black_box;
use zerocopy::IntoBytes;

/// What a channel keeps in the secrets page, where it outlives the driver and the kernel.
///
/// This is private memory of the guest.
pub trait Slot {
    /// The counter: the number of the last message under this key.
    fn counter(&self) -> u32;

    /// Sets the counter.
    fn set_counter(&mut self, counter: u32);

    /// Makes the key zero, for good.
    fn destroy_key(&mut self);
}

/// How the host is called (`GHCB` 4.1.7 and 4.1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A guest request.
    Request,
    /// An extended guest request: the host adds certificates.
    Extended,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u64 {
        match self {
            Exit::Request => 0x8000_0011,
            Exit::Extended => 0x8000_0012,
        }
    }
}

/// What the host left when it came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exited {
    /// SW_EXITINFO2.
    pub exitinfo2: ExitInfo2,
    /// Pages that it wants for certificates; counts only if those offered do not suffice.
    pub pages: u32,
}

/// What is asked of the firmware.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the message is.
    pub msg_type: MsgType,
    /// Version of the payload's layout.
    pub msg_version: u8,
    /// The payload.
    pub payload: &'a [u8],
    /// How the host is called first.
    pub exit: Exit,
}

/// One key and its counter.
pub struct Channel<A: Aead, S: Slot> {
    vmpck: VmpckId,
    key: Option<A>,
    slot: S,
    /// Highest number used: the last answer's. Nobody may set the counter back behind it.
    last: u64,
}

impl<A: Aead, S: Slot> Channel<A, S> {
    /// For the key `vmpck`, which `key` encrypts with, and its place in the secrets page.
    pub fn new(vmpck: VmpckId, key: A, slot: S) -> Self {
        Channel {
            vmpck,
            key: Some(key),
            slot,
            last: 0,
        }
    }

    /// Which key.
    pub fn vmpck(&self) -> VmpckId {
        self.vmpck
    }

    /// Whether there still is a key.
    pub fn is_usable(&self) -> bool {
        self.key.is_some()
    }

    /// Encrypts a request into `page`, which is private memory: the bytes are not encrypted from the
    /// start. The caller copies it to where the host reads it, and calls the host as
    /// [`Exchange::exit`] says.
    ///
    /// # Errors
    ///
    /// [`Why::NoKey`], [`Why::Exhausted`] or [`Why::NotARequest`]. Nothing was used up then, and `page`
    /// is as it was.
    pub fn begin(
        &mut self,
        request: &Request<'_>,
        page: &mut Message,
    ) -> Result<Exchange<'_, A, S>, Failure> {
        let Some(key) = self.key.as_mut() else {
            return Err(Failure::unsent(Why::NoKey));
        };
        let not_a_request = Failure::unsent(Why::NotARequest);
        let answer = request.msg_type.answer().ok_or(not_a_request)?;
        let len = request.payload.len();
        // As the kernel: room for a tag behind the payload, although it is in the header.
        if len > page.payload.len() - TAG_LEN {
            return Err(not_a_request);
        }
        let msg_len = u16::try_from(len).map_err(|_| not_a_request)?;

        let seqno = u64::from(self.slot.counter()) + 1;
        // The firmware counts in 64 bits, the secrets page in 32.
        if seqno >= u64::from(u32::MAX) || seqno <= self.last {
            return Err(Failure::unsent(Why::Exhausted));
        }
        self.last = seqno + 1;
        // Before the message exists: whatever becomes of this kernel, the next does not use the number
        // again. The answer has the one after it.
        // CAST: at most u32::MAX, as the number before it is less.
        self.slot.set_counter((seqno + 1) as u32);

        let header = Header::request(
            seqno,
            request.msg_type,
            request.msg_version,
            msg_len,
            self.vmpck.index(),
        );
        page.header = header;
        page.payload.fill(0);
        let text = &mut page.payload[..len];
        text.copy_from_slice(request.payload);
        page.header.tag = key.seal(&iv(seqno), &header.aad(), text);

        Ok(Exchange {
            channel: self,
            expected: Expected {
                seqno: seqno + 1,
                msg_type: answer,
                msg_version: request.msg_version,
            },
            exit: request.exit,
            pages: None,
            exitinfo2: ExitInfo2::NOT_CALLED,
            settled: false,
        })
    }

    fn destroy_key(&mut self) {
        self.key = None;
        self.slot.destroy_key();
    }
}

/// What the header of the answer has to say.
#[derive(Clone, Copy)]
struct Expected {
    seqno: u64,
    msg_type: MsgType,
    msg_version: u8,
}

impl Expected {
    /// Bytes of the payload, if the header is that of the answer and `room` suffices.
    fn check(&self, header: &Header, room: usize) -> Result<usize, NotAnAnswer> {
        if header.seqno.get() != self.seqno {
            return Err(NotAnAnswer::Seqno(header.seqno.get()));
        }
        if header.msg_type != self.msg_type.0 {
            return Err(NotAnAnswer::Type(header.msg_type));
        }
        if header.msg_version != self.msg_version {
            return Err(NotAnAnswer::Version(header.msg_version));
        }
        let len = header.msg_len.get();
        if usize::from(len) > room {
            return Err(NotAnAnswer::Len(len));
        }
        Ok(len.into())
    }
}

/// A request that has left the guest, or will at any moment.
///
/// Dropping it destroys the key: the message may be with the host, and its number may not be used again.
#[must_use = "dropping it destroys the key"]
pub struct Exchange<'c, A: Aead, S: Slot> {
    channel: &'c mut Channel<A, S>,
    expected: Expected,
    exit: Exit,
    /// Pages that the host wanted for certificates, if those offered did not suffice.
    pages: Option<u32>,
    /// What the host said last.
    exitinfo2: ExitInfo2,
    /// Whether the channel is fit for another request, or the key destroyed already.
    settled: bool,
}

/// What comes next.
#[must_use = "an exchange that is dropped destroys the key"]
pub enum Step<'c, A: Aead, S: Slot> {
    /// The answer is in the caller's buffer, so many bytes, and zeros behind it.
    Done(usize),
    /// The host is busy: after a while, call it again with the identical message, or give up.
    Busy(Exchange<'c, A, S>),
    /// The certificates do not fit: call the host again with the identical message, now without asking
    /// for certificates, so that the firmware takes its number.
    Plain(Exchange<'c, A, S>),
    /// There is no answer; the caller's buffer is all zeros.
    Failed(Failure),
}

impl<'c, A: Aead, S: Slot> Exchange<'c, A, S> {
    /// How the host is to be called with the message.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Takes what the host left. `response` is a copy in private memory, and is zeros afterwards;
    /// `out` gets the decrypted payload, and nothing that is not the firmware's answer to this request.
    pub fn answered(
        mut self,
        exited: Exited,
        response: &mut Message,
        out: &mut [u8],
    ) -> Step<'c, A, S> {
        out.fill(0);
        self.exitinfo2 = exited.exitinfo2;
        match (exited.exitinfo2, self.exit) {
            (ExitInfo2::ANSWERED, _) => {
                let step = self.decode(response, out);
                wipe(response);
                step
            }
            (ExitInfo2::BUSY, _) => Step::Busy(self),
            (ExitInfo2::INVALID_LEN, Exit::Extended) => {
                self.exit = Exit::Request;
                self.pages = Some(exited.pages);
                Step::Plain(self)
            }
            _ => Step::Failed(self.fail(Why::Refused)),
        }
    }

    /// Nobody waits for the answer any longer. The message counts as sent, so the key is destroyed.
    pub fn give_up(self, why: GivenUp) -> Failure {
        self.fail(Why::GivenUp(why))
    }

    fn decode(mut self, response: &mut Message, out: &mut [u8]) -> Step<'c, A, S> {
        let len = match self.open(response, out.len()) {
            Ok(len) => len,
            Err(what) => return Step::Failed(self.fail(Why::NotAnAnswer(what))),
        };
        self.settled = true;
        if let Some(pages) = self.pages {
            // The number is used up, and that was all: the caller asked for report and certificates.
            return Step::Failed(Failure {
                why: Why::CertificatesTooSmall { pages },
                exitinfo2: ExitInfo2::INVALID_LEN,
                key_destroyed: false,
            });
        }
        out[..len].copy_from_slice(&response.payload[..len]);
        Step::Done(len)
    }

    /// Checks and decrypts the answer in its place.
    fn open(&mut self, response: &mut Message, room: usize) -> Result<usize, NotAnAnswer> {
        let header = response.header;
        let len = self
            .expected
            .check(&header, room.min(response.payload.len()))?;
        // An exchange exists only while there is a key.
        let key = self.channel.key.as_mut().ok_or(NotAnAnswer::Forged)?;
        key.open(
            &iv(self.expected.seqno),
            &header.aad(),
            &mut response.payload[..len],
            &header.tag,
        )
        .map_err(|Forged| NotAnAnswer::Forged)?;
        Ok(len)
    }

    fn fail(mut self, why: Why) -> Failure {
        self.settle_without_key();
        Failure {
            why,
            exitinfo2: self.exitinfo2,
            key_destroyed: true,
        }
    }

    fn settle_without_key(&mut self) {
        self.channel.destroy_key();
        self.settled = true;
    }
}

impl<A: Aead, S: Slot> Drop for Exchange<'_, A, S> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle_without_key();
        }
    }
}

/// Makes all bytes zero. They may hold a derived key.
fn wipe(message: &mut Message) {
    message.as_mut_bytes().fill(0);
    // Or the compiler might see that nobody reads them again.
    black_box(message);
}
