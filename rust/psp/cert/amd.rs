// SPDX-License-Identifier: GPL-2.0

//! AMD's own certificate format, of the ARK and the ASK (`SEV-API` appendix B.1).
//!
//! | Offset | Bytes | Field |
//! |---|---|---|
//! | 0x00 | 4 | VERSION, 1 |
//! | 0x04 | 16 | KEY_ID |
//! | 0x14 | 16 | CERTIFYING_ID: KEY_ID of the key that signed it |
//! | 0x24 | 4 | KEY_USAGE |
//! | 0x28 | 16 | reserved |
//! | 0x38 | 4 | PUBEXP_SIZE in bits |
//! | 0x3c | 4 | MODULUS_SIZE in bits |
//! | 0x40 | PUBEXP_SIZE / 8 | PUBEXP |
//! | ... | MODULUS_SIZE / 8 | MODULUS |
//! | ... | MODULUS_SIZE / 8 | SIGNATURE, as long as the certifying key's modulus |
//!
//! A signature covers the bytes before it.

use core::mem::offset_of;

use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Usage;

/// The one version of the format.
pub const AMD_CERT_VERSION: u32 = 1;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    version: U32,
    key_id: [u8; 16],
    certifying_id: [u8; 16],
    usage: U32,
    reserved: [u8; 16],
    pubexp_bits: U32,
    modulus_bits: U32,
}

const _: () = {
    assert!(size_of::<Header>() == 0x40);
    assert!(offset_of!(Header, key_id) == 0x4);
    assert!(offset_of!(Header, certifying_id) == 0x14);
    assert!(offset_of!(Header, usage) == 0x24);
    assert!(offset_of!(Header, reserved) == 0x28);
    assert!(offset_of!(Header, pubexp_bits) == 0x38);
    assert!(offset_of!(Header, modulus_bits) == 0x3c);
};

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmdCertError {
    /// It ends before its last field does.
    Truncated,
    /// A version that is not [`AMD_CERT_VERSION`].
    Version(u32),
    /// It is neither an ARK nor an ASK.
    Usage(Usage),
    /// Key sizes other than 2048 or 4096 bits.
    KeySize {
        /// Bits of the public exponent.
        pubexp: u32,
        /// Bits of the modulus.
        modulus: u32,
    },
    /// A reserved byte is not zero.
    Reserved,
    /// The buffer to write to is too small.
    NoSpace,
}

/// An ARK or ASK certificate, a view of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmdCert<'a> {
    /// Id of the key.
    pub key_id: [u8; 16],
    /// Id of the key that signed it; its own for an ARK.
    pub certifying_id: [u8; 16],
    /// [`Usage::ARK`] or [`Usage::ASK`].
    pub usage: Usage,
    /// Public exponent, little-endian.
    pub pubexp: &'a [u8],
    /// Modulus, little-endian.
    pub modulus: &'a [u8],
    /// Signature, little-endian; empty if there is none yet.
    pub signature: &'a [u8],
}

impl<'a> AmdCert<'a> {
    /// Parses one certificate from the front of `bytes`; returns it, the bytes its signature covers
    /// and what follows it.
    ///
    /// # Errors
    ///
    /// [`AmdCertError`] for the first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8], &'a [u8]), AmdCertError> {
        let (header, rest) =
            Header::read_from_prefix(bytes).map_err(|_| AmdCertError::Truncated)?;
        if header.version.get() != AMD_CERT_VERSION {
            return Err(AmdCertError::Version(header.version.get()));
        }
        let usage = Usage(header.usage.get());
        if usage != Usage::ARK && usage != Usage::ASK {
            return Err(AmdCertError::Usage(usage));
        }
        if header.reserved != [0; 16] {
            return Err(AmdCertError::Reserved);
        }
        let (pubexp, modulus) = (header.pubexp_bits.get(), header.modulus_bits.get());
        if ![2048, 4096].contains(&modulus) || pubexp != modulus {
            return Err(AmdCertError::KeySize { pubexp, modulus });
        }
        // CAST: 256 or 512.
        let key_len = (modulus / 8) as usize;
        let (pubexp, rest) = take(rest, key_len)?;
        let (modulus, rest) = take(rest, key_len)?;
        let (signature, rest) = take(rest, key_len)?;
        let (signed, _) = take(bytes, size_of::<Header>() + 2 * key_len)?;
        let cert = AmdCert {
            key_id: header.key_id,
            certifying_id: header.certifying_id,
            usage,
            pubexp,
            modulus,
            signature,
        };
        Ok((cert, signed, rest))
    }

    /// Writes the certificate to `out`; returns its bytes and how many of them a signature covers.
    ///
    /// # Errors
    ///
    /// [`AmdCertError::NoSpace`] if `out` is too small, [`AmdCertError::KeySize`] if exponent and
    /// modulus are not of one of the two sizes.
    pub fn write(&self, out: &mut [u8]) -> Result<(usize, usize), AmdCertError> {
        // CAST: sizes other than 256 and 512 bytes are refused right below.
        let bits = |b: &[u8]| (b.len() as u32).wrapping_mul(8);
        let (pubexp, modulus) = (bits(self.pubexp), bits(self.modulus));
        if ![2048, 4096].contains(&modulus) || pubexp != modulus {
            return Err(AmdCertError::KeySize { pubexp, modulus });
        }
        let header = Header {
            version: AMD_CERT_VERSION.into(),
            key_id: self.key_id,
            certifying_id: self.certifying_id,
            usage: self.usage.0.into(),
            reserved: [0; 16],
            pubexp_bits: pubexp.into(),
            modulus_bits: modulus.into(),
        };
        let parts = [
            zerocopy::IntoBytes::as_bytes(&header),
            self.pubexp,
            self.modulus,
            self.signature,
        ];
        let mut at = 0;
        for part in parts {
            out.get_mut(at..at + part.len())
                .ok_or(AmdCertError::NoSpace)?
                .copy_from_slice(part);
            at += part.len();
        }
        Ok((at, at - self.signature.len()))
    }
}

fn take(bytes: &[u8], len: usize) -> Result<(&[u8], &[u8]), AmdCertError> {
    bytes.split_at_checked(len).ok_or(AmdCertError::Truncated)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn ask(len: usize, bytes: &[u8]) -> AmdCert<'_> {
        AmdCert {
            key_id: [1; 16],
            certifying_id: [2; 16],
            usage: Usage::ASK,
            pubexp: &bytes[..len],
            modulus: &bytes[len..2 * len],
            signature: &bytes[2 * len..3 * len],
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_the_signature_covers_the_rest() {
        let field: vec::Vec<u8> = (0..3 * 512).map(|i| (i / 7) as u8).collect();
        for len in [256, 512] {
            let cert = ask(len, &field);
            let mut out = vec![0xff; 0x40 + 3 * len + 5];
            assert_eq!(cert.write(&mut out), Ok((0x40 + 3 * len, 0x40 + 2 * len)));
            let (parsed, signed, rest) = AmdCert::parse(&out).unwrap();
            assert_eq!(parsed, cert);
            assert_eq!((signed.len(), rest), (0x40 + 2 * len, &[0xff; 5][..]));
        }
    }

    #[test]
    fn a_short_certificate_is_truncated_at_every_length() {
        let field = [3; 3 * 256];
        let mut out = [0; 0x40 + 3 * 256];
        ask(256, &field).write(&mut out).unwrap();
        for len in 0..out.len() {
            assert_eq!(AmdCert::parse(&out[..len]), Err(AmdCertError::Truncated));
            let got = ask(256, &field).write(&mut vec![0; len]);
            assert_eq!(got, Err(AmdCertError::NoSpace));
        }
    }

    #[test]
    fn odd_key_sizes_are_refused() {
        let mut out = [0; 0x40 + 3 * 256];
        ask(256, &[3; 3 * 256]).write(&mut out).unwrap();
        out[0x3c] = 8;
        let err = AmdCertError::KeySize {
            pubexp: 2048,
            modulus: 2056,
        };
        assert_eq!(AmdCert::parse(&out), Err(err));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = AmdCert::parse(&bytes);
        }
    }
}
