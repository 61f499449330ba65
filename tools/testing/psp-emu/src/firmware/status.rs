// SPDX-License-Identifier: GPL-2.0
//! Status codes a command answers with (SEV-API, "Status Codes").

use std::{fmt, str::FromStr};

/// Status of a finished command, the low half of the response register.
///
/// An open set: fault injection can answer with any code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

macro_rules! status_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($code);)+

            /// Every code with a name, in numerical order.
            pub const NAMED: &'static [(Self, &'static str)] = &[$((Self::$name, stringify!($name)),)+];
        }
    };
}

status_codes! {
    SUCCESS = 0x00,
    /// The platform is not in a state in which the command is allowed.
    INVALID_PLATFORM_STATE = 0x01,
    INVALID_GUEST_STATE = 0x02,
    /// A reserved bit of a configuration is set.
    INVALID_CONFIG = 0x03,
    /// A buffer is too short (the needed length is returned) or of the wrong length.
    INVALID_LEN = 0x04,
    ALREADY_OWNED = 0x05,
    /// A certificate is malformed, of the wrong kind, or not the one expected.
    INVALID_CERTIFICATE = 0x06,
    POLICY_FAILURE = 0x07,
    INACTIVE = 0x08,
    /// An address is misaligned or not RAM.
    INVALID_ADDRESS = 0x09,
    BAD_SIGNATURE = 0x0a,
    BAD_MEASUREMENT = 0x0b,
    ASID_OWNED = 0x0c,
    INVALID_ASID = 0x0d,
    WBINVD_REQUIRED = 0x0e,
    DFFLUSH_REQUIRED = 0x0f,
    INVALID_GUEST = 0x10,
    /// The firmware does not know the command.
    INVALID_COMMAND = 0x11,
    ACTIVE = 0x12,
    /// The hardware failed; here: the persistent storage cannot be written.
    HWERROR_PLATFORM = 0x13,
    HWERROR_UNSAFE = 0x14,
    /// The firmware knows the command and does not offer it.
    UNSUPPORTED = 0x15,
    INVALID_PARAM = 0x16,
    RESOURCE_LIMIT = 0x17,
    /// Persistent data failed authentication. It has been erased; the next INIT starts afresh.
    SECURE_DATA_INVALID = 0x18,
    /// A guest has swapped out so many pages that its key is used up; a guest's message does not have the number
    /// after the last one's.
    AEAD_OFLOW = 0x1d,
    /// The command has ended the ring buffer mode and was not run.
    RB_MODE_EXITED = 0x1f,
    BAD_SVN = 0x21,
    BAD_VERSION = 0x22,
    SHUTDOWN_REQUIRED = 0x23,
    UPDATE_FAILED = 0x24,
    /// There is no key of the kind that a guest asks for.
    INVALID_KEY = 0x27,
}

impl Status {
    /// The specification's name, if the code has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMED
            .iter()
            .find(|(code, _)| *code == self)
            .map(|(_, name)| *name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x} ({})", self.0, self.name().unwrap_or("unknown"))
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Neither a known name nor a 16-bit number.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no status code (a name such as INVALID_LEN, or a number up to 0xffff)")]
pub struct UnknownStatus(String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let named = Self::NAMED
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(text));
        let status = named
            .map(|(code, _)| *code)
            .or_else(|| super::parse_u16(text).map(Self));
        status.ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_one_name_and_ascend() {
        assert!(Status::NAMED
            .windows(2)
            .all(|pair| pair[0].0 .0 < pair[1].0 .0));
    }

    #[test]
    fn status_is_parsed_by_name_and_number() {
        assert_eq!("invalid_len".parse(), Ok(Status::INVALID_LEN));
        assert_eq!("0x18".parse(), Ok(Status::SECURE_DATA_INVALID));
        assert_eq!("24".parse(), Ok(Status::SECURE_DATA_INVALID));
        for bad in ["", "0x", "0x10000", "-1", "NO_SUCH"] {
            assert!(bad.parse::<Status>().is_err(), "{bad}");
        }
    }
}
