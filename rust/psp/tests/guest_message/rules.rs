// SPDX-License-Identifier: GPL-2.0

//! Each rule of a channel by itself.

use psp::error::Errno;
use psp::guest_msg::{
    Exit, ExitInfo2, Exited, Failure, GivenUp, Header, Message, MsgType, NotAnAnswer, Request,
    Step, Why,
};
use zerocopy::IntoBytes;

use crate::peer::{request, Pair, SharedSlot, Watched};

const PAYLOAD: [u8; 96] = [0x17; 96];

/// Bytes of the answer, if that is what there is.
fn done(step: Step<'_, Watched, SharedSlot>) -> Option<usize> {
    match step {
        Step::Done(len) => Some(len),
        Step::Failed(_) | Step::Busy(_) | Step::Plain(_) => None,
    }
}

/// The host came back with this.
fn exited(exitinfo2: u64) -> Exited {
    Exited {
        exitinfo2: ExitInfo2(exitinfo2),
        pages: 0,
    }
}

/// Sends a request and gives the exchange this end.
fn failure(pair: &mut Pair, exit: Exit, answers: &mut [(u64, Message)], out: &mut [u8]) -> Failure {
    let mut page = Message::zeroed();
    let mut exchange = pair
        .channel
        .begin(&request(&PAYLOAD, exit), &mut page)
        .unwrap();
    for (exitinfo2, response) in answers {
        exchange = match exchange.answered(exited(*exitinfo2), response, out) {
            Step::Busy(same) | Step::Plain(same) => same,
            Step::Failed(failure) => return failure,
            Step::Done(_) => panic!("there is an answer"),
        };
    }
    panic!("the exchange goes on");
}

/// A request that the firmware answers, and the host delivers; bytes of the answer.
fn whole_exchange(pair: &mut Pair, page: &mut Message, out: &mut [u8]) -> Option<usize> {
    let exchange = pair
        .channel
        .begin(&request(&PAYLOAD, Exit::Request), page)
        .unwrap();
    let mut response = pair.peer.answer(page).unwrap();
    done(exchange.answered(exited(0), &mut response, out))
}

#[test]
fn an_answer_reaches_the_caller_and_nothing_else_does() {
    let mut pair = Pair::at(40);
    let (mut page, mut out) = (Message::zeroed(), [0xee; 200]);
    for counter in [42, 44] {
        page.as_mut_bytes().fill(0xee);
        let exchange = pair
            .channel
            .begin(&request(&PAYLOAD, Exit::Request), &mut page)
            .unwrap();
        assert!(!page.as_bytes().windows(8).any(|bytes| bytes == [0x17; 8]));
        assert_eq!(page.payload[96..], [0; 4000 - 96]);
        let mut response = pair.peer.answer(&page).unwrap();
        let done = done(exchange.answered(exited(0), &mut response, &mut out));
        assert_eq!(done, Some(128));
        assert_eq!(out[..96], PAYLOAD.map(|byte| !byte));
        assert_eq!(
            (&out[96..128], &out[128..]),
            (&[0x5a; 32][..], &[0; 72][..])
        );
        assert_eq!(response.as_bytes(), [0; 4096], "a key may be in it");
        assert_eq!(pair.witness.slot.counter.get(), counter);
    }
    assert!(!pair.key_is_gone());
}

#[test]
fn a_busy_host_gets_the_identical_message_until_the_caller_gives_up() {
    for (why, errno) in [
        (GivenUp::TimeOver, Errno::ETIMEDOUT),
        (GivenUp::Killed, Errno::EINTR),
    ] {
        let mut pair = Pair::at(0);
        let (mut page, mut out) = (Message::zeroed(), [0xee; 4000]);
        let mut exchange = pair
            .channel
            .begin(&request(&PAYLOAD, Exit::Extended), &mut page)
            .unwrap();
        for _ in 0..30 {
            let step = exchange.answered(exited(2 << 32), &mut Message::zeroed(), &mut out);
            let Step::Busy(same) = step else {
                panic!("busy is not the end")
            };
            assert_eq!(same.exit(), Exit::Extended);
            exchange = same;
        }
        let failure = exchange.give_up(why);
        assert_eq!(
            (failure.errno(), failure.exitinfo2),
            (errno, ExitInfo2::BUSY)
        );
        assert!(failure.key_destroyed && pair.key_is_gone());
        assert_eq!(out, [0; 4000]);
    }
}

#[test]
fn a_busy_host_may_answer_later() {
    let mut pair = Pair::at(0);
    let (mut page, mut out) = (Message::zeroed(), [0; 4000]);
    let exchange = pair
        .channel
        .begin(&request(&PAYLOAD, Exit::Request), &mut page)
        .unwrap();
    let Step::Busy(exchange) = exchange.answered(exited(2 << 32), &mut Message::zeroed(), &mut out)
    else {
        panic!("busy is not the end")
    };
    let mut response = pair.peer.answer(&page).unwrap();
    let done = done(exchange.answered(exited(0), &mut response, &mut out));
    assert_eq!(done, Some(128));
    assert!(!pair.key_is_gone());
}

#[test]
fn certificates_that_do_not_fit_cost_one_more_call_and_no_key() {
    let mut pair = Pair::at(6);
    let (mut page, mut out) = (Message::zeroed(), [0xee; 4000]);
    let exchange = pair
        .channel
        .begin(&request(&PAYLOAD, Exit::Extended), &mut page)
        .unwrap();
    let too_small = Exited {
        exitinfo2: ExitInfo2::INVALID_LEN,
        pages: 3,
    };
    let Step::Plain(exchange) = exchange.answered(too_small, &mut Message::zeroed(), &mut out)
    else {
        panic!("the number is not used up yet")
    };
    assert_eq!(exchange.exit(), Exit::Request);
    let mut response = pair.peer.answer(&page).unwrap();
    let Step::Failed(failure) = exchange.answered(exited(0), &mut response, &mut out) else {
        panic!("the caller has no certificates")
    };
    assert_eq!(failure.why, Why::CertificatesTooSmall { pages: 3 });
    assert_eq!(
        (failure.errno(), failure.exitinfo2),
        (Errno::EIO, ExitInfo2::INVALID_LEN)
    );
    assert!(!failure.key_destroyed && !pair.key_is_gone());
    assert_eq!((out, pair.witness.slot.counter.get()), ([0; 4000], 8));

    // The next one is in step with the firmware.
    assert_eq!(whole_exchange(&mut pair, &mut page, &mut out), Some(128));
}

#[test]
fn any_other_word_of_the_host_destroys_the_key() {
    for (exit, words) in [
        (Exit::Request, &[0x1d_u64][..]),
        (Exit::Request, &[3 << 32]),
        (Exit::Request, &[u64::MAX]),
        (Exit::Request, &[2 << 32 | 1]),
        (Exit::Request, &[2 << 32, 0x16]),
        // Nobody has offered pages.
        (Exit::Request, &[1 << 32]),
        (Exit::Extended, &[1 << 32 | 1]),
        (Exit::Extended, &[1 << 32, 1 << 32]),
        (Exit::Extended, &[1 << 32, 0x1d]),
    ] {
        let mut pair = Pair::at(0);
        let mut answers: Vec<_> = words
            .iter()
            .map(|&word| (word, Message::zeroed()))
            .collect();
        let mut out = [0xee; 64];
        let failure = failure(&mut pair, exit, &mut answers, &mut out);
        assert_eq!(
            (failure.why, failure.errno()),
            (Why::Refused, Errno::EIO),
            "{words:x?}"
        );
        assert_eq!(failure.exitinfo2.0, *words.last().unwrap());
        assert!(failure.key_destroyed && pair.key_is_gone());
        assert_eq!(out, [0; 64]);

        let mut page = Message::zeroed();
        let again = pair
            .channel
            .begin(&request(&PAYLOAD, exit), &mut page)
            .err()
            .unwrap();
        assert_eq!(
            (again.errno(), again.exitinfo2),
            (Errno::ENOTTY, ExitInfo2(0))
        );
        assert_eq!(page.as_bytes(), [0; 4096]);
    }
}

#[test]
fn only_the_answer_to_this_request_is_one() {
    // Messages that the key authenticates, so that it is up to the rule to refuse them.
    for (seqno, msg_type, version, len, want) in [
        (11, 6, 1, 64, NotAnAnswer::Seqno(11)),
        (13, 6, 1, 64, NotAnAnswer::Seqno(13)),
        (12 + (1 << 32), 6, 1, 64, NotAnAnswer::Seqno(12 + (1 << 32))),
        (12, 5, 1, 64, NotAnAnswer::Type(5)),
        (12, 4, 1, 64, NotAnAnswer::Type(4)),
        (12, 6, 2, 64, NotAnAnswer::Version(2)),
        (12, 6, 1, 65, NotAnAnswer::Len(65)),
    ] {
        let mut pair = Pair::at(10);
        let header = Header::request(seqno, MsgType(msg_type), version, len, 0);
        // Another firmware with the same key: this one's would not use a number twice.
        let message = Pair::at(10).peer.seal(header, &vec![1; len.into()]);
        let mut out = [0xee; 64];
        let failure = failure(&mut pair, Exit::Request, &mut [(0, message)], &mut out);
        assert_eq!(failure.why, Why::NotAnAnswer(want));
        assert_eq!(
            (failure.errno(), failure.exitinfo2),
            (Errno::EBADMSG, ExitInfo2(0))
        );
        assert!(failure.key_destroyed && pair.key_is_gone());
        assert_eq!(out, [0; 64]);
    }
}

#[test]
fn an_answer_may_be_as_long_as_the_buffer_and_the_page() {
    for (len, room) in [(0, 0), (64, 64), (4000, 4000), (4000, 5000)] {
        let mut pair = Pair::at(0);
        let header = Header::request(2, MsgType::REPORT_RSP, 1, len, 0);
        let mut message = pair.peer.seal(header, &vec![7; len.into()]);
        let (mut page, mut out) = (Message::zeroed(), vec![0xee; room]);
        let exchange = pair
            .channel
            .begin(&request(&PAYLOAD, Exit::Request), &mut page);
        let done = done(
            exchange
                .unwrap()
                .answered(exited(0), &mut message, &mut out),
        );
        assert_eq!(done, Some(len.into()));
        assert!(out[..len.into()].iter().all(|&byte| byte == 7));
    }
    // Longer than a page can be.
    let mut pair = Pair::at(0);
    let mut message = Message::zeroed();
    message.header = Header::request(2, MsgType::REPORT_RSP, 1, 4001, 0);
    let failure = failure(
        &mut pair,
        Exit::Request,
        &mut [(0, message)],
        &mut [0; 8192],
    );
    assert_eq!(failure.why, Why::NotAnAnswer(NotAnAnswer::Len(4001)));
}

#[test]
fn every_authenticated_byte_counts() {
    // Not the reserved ones before the algorithm, nor those behind the payload.
    let authentic = (0..16).chain(0x30..0x60 + 128);
    for at in authentic {
        let mut pair = Pair::at(0);
        let (mut page, mut out) = (Message::zeroed(), [0xee; 4000]);
        let exchange = pair
            .channel
            .begin(&request(&PAYLOAD, Exit::Request), &mut page);
        let mut response = pair.peer.answer(&page).unwrap();
        response.as_mut_bytes()[at] ^= 0x10;
        let done = done(
            exchange
                .unwrap()
                .answered(exited(0), &mut response, &mut out),
        );
        assert_eq!(done, None, "{at:#x}");
        assert!(pair.key_is_gone(), "{at:#x}");
        assert_eq!(out, [0; 4000], "{at:#x}");
    }
}

#[test]
fn an_exchange_that_is_forgotten_takes_the_key_along() {
    let mut pair = Pair::at(0);
    let mut page = Message::zeroed();
    let exchange = pair
        .channel
        .begin(&request(&PAYLOAD, Exit::Request), &mut page);
    assert!(!pair.witness.slot.destroyed.get());
    drop(exchange);
    assert!(pair.key_is_gone());
}

#[test]
fn the_number_is_taken_before_anyone_can_see_the_message() {
    let mut pair = Pair::at(100);
    let slot = pair.witness.slot.clone();
    let mut page = Message::zeroed();
    let exchange = pair
        .channel
        .begin(&request(&PAYLOAD, Exit::Request), &mut page);
    // What a kernel finds that is started by kexec now.
    assert_eq!(slot.counter.get(), 102);
    drop(exchange);
}

#[test]
fn numbers_end_before_they_repeat() {
    for (counter, usable) in [
        (u32::MAX - 3, true),
        (u32::MAX - 2, true),
        (u32::MAX - 1, false),
        (u32::MAX, false),
    ] {
        let mut pair = Pair::at(counter);
        let mut page = Message::zeroed();
        let begun = pair
            .channel
            .begin(&request(&PAYLOAD, Exit::Request), &mut page);
        match begun.err() {
            None => assert!(usable, "{counter:#x}"),
            Some(failure) => {
                assert!(!usable, "{counter:#x}");
                assert_eq!((failure.why, failure.errno()), (Why::Exhausted, Errno::EIO));
                assert_eq!(page.as_bytes(), [0; 4096]);
                assert!(!failure.key_destroyed && !pair.key_is_gone());
            }
        }
    }
}

#[test]
fn a_counter_that_was_set_back_is_no_way_to_an_old_number() {
    for back in 0..=10 {
        let mut pair = Pair::at(10);
        let (mut page, mut out) = (Message::zeroed(), [0; 4000]);
        assert_eq!(whole_exchange(&mut pair, &mut page, &mut out), Some(128));
        pair.witness.slot.counter.set(12 - back);
        // The log panics at an IV that was used.
        let begun = pair
            .channel
            .begin(&request(&PAYLOAD, Exit::Request), &mut page);
        assert_eq!(begun.is_ok(), back == 0, "{back}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is_used_up() {
    let long = [0; 3985];
    for (msg_type, payload) in [
        (MsgType::REPORT_REQ, &long[..]),
        (MsgType(0xff), &long[..4]),
    ] {
        let mut pair = Pair::at(0);
        let mut page = Message::zeroed();
        let request = Request {
            msg_type,
            msg_version: 1,
            payload,
            exit: Exit::Request,
        };
        let failure = pair.channel.begin(&request, &mut page).err().unwrap();
        assert_eq!(
            (failure.why, failure.errno()),
            (Why::NotARequest, Errno::EBADMSG)
        );
        assert!(!failure.key_destroyed && !pair.key_is_gone());
        assert_eq!(pair.witness.slot.counter.get(), 0);
    }
    let mut pair = Pair::at(0);
    let mut page = Message::zeroed();
    let begun = pair
        .channel
        .begin(&request(&long[..3984], Exit::Request), &mut page);
    assert!(begun.is_ok());
}

#[test]
fn failures_say_what_happened() {
    let mut pair = Pair::at(0);
    let failure = failure(
        &mut pair,
        Exit::Request,
        &mut [(0x1d, Message::zeroed())],
        &mut [0; 64],
    );
    assert_eq!(
        failure.to_string(),
        "refused: firmware status 0x001d (AEAD_OFLOW), rc -5; key destroyed"
    );
    for (word, text) in [
        (3 << 32, "host error 3"),
        (u64::MAX, "host not called"),
        (0x1_0000, "firmware status 0x10000"),
        (3 << 32 | 1, "host error 3, firmware status 0x1"),
    ] {
        assert_eq!(ExitInfo2(word).to_string(), text);
    }
}
