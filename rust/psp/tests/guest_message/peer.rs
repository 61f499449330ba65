// SPDX-License-Identifier: GPL-2.0

//! What a channel talks to in the tests: a cipher that writes down how it is used, a place in a secrets
//! page, and the firmware at the other end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use psp::guest_msg::{Aead, Channel, Forged, Header, Message, MsgType, Request, Slot, VmpckId};

pub(crate) const KEY: [u8; 32] = *b"a key of no more than one guest.";

/// AES-256-GCM, as the emulator does it.
pub(crate) struct Gcm(Aes256Gcm);

impl Gcm {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Gcm(Aes256Gcm::new(key.into()))
    }
}

impl Aead for Gcm {
    fn seal(&mut self, iv: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        let nonce = Nonce::from_slice(iv);
        let tag = self.0.encrypt_in_place_detached(nonce, aad, text);
        tag.expect("a text of a page at most").into()
    }

    fn open(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), Forged> {
        self.0
            .decrypt_in_place_detached(Nonce::from_slice(iv), aad, text, tag.into())
            .map_err(|_| Forged)
    }
}

/// What became of a key.
#[derive(Default)]
pub(crate) struct Log {
    /// Every IV that a text was encrypted with, and what that was.
    pub(crate) sealed: RefCell<HashMap<[u8; 12], Vec<u8>>>,
    /// Whether the guest's key was dropped.
    pub(crate) dropped: Cell<bool>,
}

/// A cipher that panics when an IV is used twice.
pub(crate) struct Watched {
    gcm: Gcm,
    log: Rc<Log>,
    is_guest: bool,
}

impl Aead for Watched {
    fn seal(&mut self, iv: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        let old = self.log.sealed.borrow_mut().insert(*iv, text.to_vec());
        assert_eq!(old, None, "IV {iv:x?} is used twice");
        self.gcm.seal(iv, aad, text)
    }

    fn open(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), Forged> {
        self.gcm.open(iv, aad, text, tag)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.is_guest {
            self.log.dropped.set(true);
        }
    }
}

/// A place in a secrets page, which the test sees too.
#[derive(Clone, Default)]
pub(crate) struct SharedSlot {
    pub(crate) counter: Rc<Cell<u32>>,
    pub(crate) destroyed: Rc<Cell<bool>>,
}

impl Slot for SharedSlot {
    fn counter(&self) -> u32 {
        self.counter.get()
    }

    fn set_counter(&mut self, counter: u32) {
        self.counter.set(counter);
    }

    fn destroy_key(&mut self) {
        self.destroyed.set(true);
    }
}

/// The firmware: takes each number once and in order.
pub(crate) struct Peer {
    gcm: Watched,
    counter: u64,
}

impl Peer {
    /// Its answer to a message, or `None` if it takes it for none.
    pub(crate) fn answer(&mut self, request: &Message) -> Option<Message> {
        let header = request.header;
        if header.seqno.get() != self.counter + 1 {
            return None;
        }
        let len = usize::from(header.msg_len.get());
        let mut text = request.payload.get(..len)?.to_vec();
        let iv = iv(header.seqno.get());
        self.gcm
            .open(&iv, &header.aad(), &mut text, &header.tag)
            .ok()?;
        self.counter += 2;
        // What was asked, complemented, and a little more.
        let mut payload: Vec<u8> = text.iter().map(|byte| !byte).collect();
        payload.extend([0x5a; 32]);
        let answer = Header::request(
            self.counter,
            MsgType(header.msg_type + 1),
            header.msg_version,
            u16::try_from(payload.len()).unwrap(),
            header.vmpck,
        );
        Some(self.seal(answer, &payload))
    }

    /// A message that the firmware has made; also one that it never would.
    pub(crate) fn seal(&mut self, mut header: Header, payload: &[u8]) -> Message {
        let mut message = Message::zeroed();
        let text = &mut message.payload[..payload.len()];
        text.copy_from_slice(payload);
        let iv = iv(header.seqno.get());
        header.tag = self.gcm.seal(&iv, &header.aad(), text);
        message.header = header;
        message
    }
}

pub(crate) fn iv(seqno: u64) -> [u8; 12] {
    let mut iv = [0; 12];
    iv[..8].copy_from_slice(&seqno.to_le_bytes());
    iv
}

/// What the test sees of a guest's end while an exchange goes on.
#[derive(Clone)]
pub(crate) struct Witness {
    pub(crate) slot: SharedSlot,
    log: Rc<Log>,
}

impl Witness {
    /// Whether the key is gone everywhere; panics if it is gone here and there only.
    pub(crate) fn key_is_gone(&self) -> bool {
        let gone = self.slot.destroyed.get();
        assert_eq!(self.log.dropped.get(), gone, "the expanded key");
        gone
    }
}

/// A guest's end, the firmware's end, and what the test may look at.
pub(crate) struct Pair {
    pub(crate) channel: Channel<Watched, SharedSlot>,
    pub(crate) peer: Peer,
    pub(crate) witness: Witness,
}

impl Pair {
    /// Both ends of a key under which messages up to `counter` were exchanged.
    pub(crate) fn at(counter: u32) -> Self {
        let log = Rc::<Log>::default();
        let watched = |is_guest| Watched {
            gcm: Gcm::new(&KEY),
            log: log.clone(),
            is_guest,
        };
        let slot = SharedSlot::default();
        slot.counter.set(counter);
        Pair {
            channel: Channel::new(VmpckId::ALL[0], watched(true), slot.clone()),
            peer: Peer {
                gcm: watched(false),
                counter: counter.into(),
            },
            witness: Witness {
                slot,
                log: log.clone(),
            },
        }
    }

    /// As [`Witness::key_is_gone`], and the channel says the same.
    pub(crate) fn key_is_gone(&self) -> bool {
        let gone = self.witness.key_is_gone();
        assert_eq!(self.channel.is_usable(), !gone);
        gone
    }
}

/// A request for a report, say, with this payload.
pub(crate) fn request(payload: &[u8], exit: psp::guest_msg::Exit) -> Request<'_> {
    Request {
        msg_type: MsgType::REPORT_REQ,
        msg_version: 1,
        payload,
        exit,
    }
}
