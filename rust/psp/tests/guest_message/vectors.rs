// SPDX-License-Identifier: GPL-2.0

//! The cipher against published vectors and a second implementation; messages against bytes that were
//! made by a program which shares nothing with this crate.

use openssl::symm::{decrypt_aead, encrypt_aead, Cipher};
use psp::guest_msg::{Aead, Channel, Exit, Exited, Message, MsgType, Request, Step, VmpckId};

use crate::peer::{Gcm, SharedSlot};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(byte).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// NIST SP 800-38D's test cases for AES-256 with IVs of 96 bits: key, IV, AAD, text, cipher text, tag.
const NIST: [[&str; 6]; 3] = [
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "00000000000000000000000000000000",
        "cea7403d4d606b6e074ec5d3baf39d18",
        "d0d1c8a799996bf0265b98b5d48ab919",
    ],
    [
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        "b094dac5d93471bdec1a502270e3cc6c",
    ],
    [
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ],
];

#[test]
fn the_cipher_is_aes_256_gcm() {
    for [key, iv, aad, text, sealed, tag] in NIST {
        let (key, iv, aad, text) = (hex(key), hex(iv), hex(aad), hex(text));
        let mut openssl_tag = [0; 16];
        let cipher = Cipher::aes_256_gcm();
        let by_openssl = encrypt_aead(cipher, &key, Some(&iv), &aad, &text, &mut openssl_tag);
        assert_eq!(by_openssl.unwrap(), hex(sealed));
        assert_eq!(openssl_tag.as_slice(), hex(tag));

        let mut gcm = Gcm::new(key.as_slice().try_into().unwrap());
        let iv: [u8; 12] = iv.try_into().unwrap();
        let mut bytes = text.clone();
        let mut made = gcm.seal(&iv, &aad, &mut bytes);
        assert_eq!(
            (bytes.as_slice(), made.as_slice()),
            (&*hex(sealed), &*hex(tag))
        );
        gcm.open(&iv, &aad, &mut bytes, &made).unwrap();
        assert_eq!(bytes, text);
        made[15] ^= 1;
        gcm.open(&iv, &aad, &mut bytes, &made).unwrap_err();
    }
}

/// Key 00 01 .. 1f, number 0x1020305, MSG_KEY_REQ, VMPCK1, payload 80 81 .. 9f; made with libcrypto
/// from a header put together by hand.
const REQUEST: [&str; 2] = [
    "5353b6a65658565878d7e7f37eb85b17",
    "b3164772808e7a24ec741b8708fa27858028c3012f0ea2a79c75911caa069812",
];

/// Its answer: 32 zeros, then c0 c1 .. df.
const ANSWER: [&str; 2] = [
    "a6d64a94cc4c335399eb4cf22eb5c4fa",
    "2b8d6c42139ceeab21197e9aa88b5c7c4a46340e8057a7b659ceb3950cbe822e
     8a96910d1ec4764841718418ee45581c6d117cc4b20af464dd09301724196c8f",
];

/// A page with a message for or from VMPCK1, put together by hand.
fn page(seqno: u8, msg_type: u8, [tag, sealed]: [&str; 2]) -> Vec<u8> {
    let sealed = hex(sealed);
    let mut bytes = vec![0; 4096];
    bytes[..16].copy_from_slice(&hex(tag));
    bytes[0x20..0x24].copy_from_slice(&[seqno, 0x03, 0x02, 0x01]);
    bytes[0x30..0x34].copy_from_slice(&[1, 1, 0x60, 0]);
    bytes[0x34..0x37].copy_from_slice(&[msg_type, 1, u8::try_from(sealed.len()).unwrap()]);
    bytes[0x3c] = 1;
    bytes[0x60..][..sealed.len()].copy_from_slice(&sealed);
    bytes
}

#[test]
fn messages_are_those_of_an_independent_program() {
    use zerocopy::{FromBytes, IntoBytes};

    let key: [u8; 32] = std::array::from_fn(|i| i as u8);
    let payload: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
    let slot = SharedSlot::default();
    slot.counter.set(0x0102_0304);
    let mut channel = Channel::new(VmpckId::ALL[1], Gcm::new(&key), slot.clone());
    let mut message = Message::zeroed();
    let request = Request {
        msg_type: MsgType::KEY_REQ,
        msg_version: 1,
        payload: &payload,
        exit: Exit::Request,
    };
    let exchange = channel.begin(&request, &mut message).unwrap();
    assert_eq!(message.as_bytes(), page(5, 3, REQUEST));

    let mut response = Message::read_from_bytes(&page(6, 4, ANSWER)).unwrap();
    let mut out = [0xee; 64];
    let step = exchange.answered(Exited::default(), &mut response, &mut out);
    assert!(matches!(step, Step::Done(64)));
    let want: [u8; 32] = std::array::from_fn(|i| 0xc0 + i as u8);
    assert_eq!(
        (&out[..32], &out[32..]),
        ([0; 32].as_slice(), want.as_slice())
    );
    assert_eq!(slot.counter.get(), 0x0102_0306);
}

/// What the firmware has made from a message of this crate, by OpenSSL.
#[test]
fn another_implementation_reads_our_messages() {
    let key = [9; 32];
    let payload = [0x42; 96];
    let mut channel = Channel::new(VmpckId::ALL[3], Gcm::new(&key), SharedSlot::default());
    let mut message = Message::zeroed();
    let request = crate::peer::request(&payload, Exit::Request);
    drop(channel.begin(&request, &mut message).unwrap());

    let bytes = zerocopy::IntoBytes::as_bytes(&message);
    let iv = [&bytes[0x20..0x28], &[0; 4]].concat();
    let (aad, sealed, tag) = (&bytes[0x30..0x60], &bytes[0x60..0xc0], &bytes[..16]);
    let text = decrypt_aead(Cipher::aes_256_gcm(), &key, Some(&iv), aad, sealed, tag);
    assert_eq!(text.unwrap(), payload);
    assert!(bytes[0xc0..].iter().all(|&byte| byte == 0));
}
