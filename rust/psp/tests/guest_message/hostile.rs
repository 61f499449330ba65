// SPDX-License-Identifier: GPL-2.0

//! A host that does whatever the bytes of an input say.
//!
//! Wrong is: a panic; an answer that the firmware has not made for this very request; a byte in the
//! caller's buffer that is not from such an answer; an IV used twice; a key that is destroyed without need, or
//! not destroyed in need.

use psp::guest_msg::{Exit, ExitInfo2, Exited, GivenUp, Message, Step, Why};
use zerocopy::IntoBytes;

use super::peer::{request, Pair, Peer};

/// Takes bytes off the front, zeros when there are none.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

/// What the host shows as the answer, and whether it is the firmware's to this request, unharmed.
struct Shown {
    message: Message,
    genuine: bool,
}

/// The host: it has seen every message so far.
#[derive(Default)]
struct Host {
    seen: Vec<Message>,
    /// The firmware's answer to the current request, once it was asked.
    answer: Option<Message>,
}

impl Host {
    /// Gives the request to the firmware, if it did not do that before.
    fn ask(&mut self, pair: &mut Peer, sent: &Message) {
        if self.answer.is_none() {
            self.answer = pair.answer(sent);
            self.seen.extend(self.answer.clone());
        }
    }

    fn show(&mut self, input: &mut Input<'_>, sent: &Message, peer: &mut Peer) -> Shown {
        let choice = input.byte();
        if choice % 8 < 6 {
            self.ask(peer, sent);
        }
        let genuine = self.answer.clone().unwrap_or_else(Message::zeroed);
        let mut message = match choice % 8 {
            0..=2 => genuine.clone(),
            // An old message, perhaps the request itself.
            3 | 6 => {
                let number = usize::from(input.byte()) % self.seen.len();
                self.seen[number].clone()
            }
            _ => {
                let mut changed = genuine.clone();
                for _ in 0..=input.byte() % 4 {
                    let at = input.word() as usize % 0x120;
                    changed.as_mut_bytes()[at] = input.byte();
                }
                changed
            }
        };
        if choice == 0xff {
            message.as_mut_bytes().fill(input.byte());
        }
        // Whatever is neither authenticated nor looked at may differ.
        let len = usize::from(genuine.header.msg_len.get());
        let matter = |message: &Message| {
            let bytes = message.as_bytes();
            [&bytes[..16], &bytes[0x20..0x28], &bytes[0x30..0x60 + len]].concat()
        };
        let genuine = self.answer.is_some() && matter(&message) == matter(&genuine);
        Shown { message, genuine }
    }
}

/// Runs an input.
///
/// # Panics
///
/// When something is wrong.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut pair = Pair::at(u32::from(input.byte()) * 2);
    let mut host = Host::default();
    while !input.0.is_empty() {
        exchange(&mut input, &mut pair, &mut host);
    }
}

fn exchange(input: &mut Input<'_>, pair: &mut Pair, host: &mut Host) {
    let mut payload = [0; 96];
    payload[0] = input.byte();
    let exit = match input.byte() % 2 {
        0 => Exit::Request,
        _ => Exit::Extended,
    };
    let mut out = [0xee; 4000];
    let mut page = Message::zeroed();
    let had_key = !pair.key_is_gone();
    let witness = pair.witness.clone();
    let begun = pair.channel.begin(&request(&payload, exit), &mut page);
    assert_eq!(begun.is_ok(), had_key);
    let Ok(mut exchange) = begun else { return };
    host.seen.push(page.clone());
    host.answer = None;
    let mut told_too_small = false;
    for _ in 0..6 {
        let exitinfo2 = ExitInfo2(match input.byte() % 8 {
            0..=3 => 0,
            4 => 2 << 32,
            5 => 1 << 32,
            6 => u64::from(input.byte()),
            _ => input.word(),
        });
        let pages = u32::from(input.byte());
        let mut shown = host.show(input, &page, &mut pair.peer);
        let exit_was = exchange.exit();
        let exited = Exited { exitinfo2, pages };
        let step = exchange.answered(exited, &mut shown.message, &mut out);
        exchange = match step {
            Step::Done(len) => {
                assert!(shown.genuine && exitinfo2 == ExitInfo2::ANSWERED && !told_too_small);
                assert_eq!(out[..96], payload.map(|byte| !byte));
                assert!(len == 128 && out[128..] == [0; 4000 - 128]);
                assert!(!witness.key_is_gone());
                return;
            }
            Step::Failed(failure) => {
                assert_eq!(out, [0; 4000]);
                let too_small = matches!(failure.why, Why::CertificatesTooSmall { .. });
                assert_eq!(
                    too_small,
                    told_too_small && shown.genuine && exitinfo2.0 == 0
                );
                assert_eq!(failure.key_destroyed, !too_small);
                assert_eq!(witness.key_is_gone(), !too_small);
                assert!(too_small || !shown.genuine || exitinfo2.0 != 0);
                return;
            }
            Step::Busy(same) => {
                assert_eq!(exitinfo2, ExitInfo2::BUSY);
                same
            }
            Step::Plain(same) => {
                assert_eq!(
                    (exitinfo2, exit_was),
                    (ExitInfo2::INVALID_LEN, Exit::Extended)
                );
                told_too_small = true;
                same
            }
        };
        assert_eq!(out, [0; 4000]);
        assert!(!witness.key_is_gone());
    }
    match input.byte() % 3 {
        0 => drop(exchange),
        1 => drop(exchange.give_up(GivenUp::TimeOver)),
        _ => drop(exchange.give_up(GivenUp::Killed)),
    }
    assert!(witness.key_is_gone());
}
