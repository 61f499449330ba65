// SPDX-License-Identifier: GPL-2.0

//! Why a request has no answer, and what the caller is told.

use core::fmt;

use crate::error::Errno;
use crate::status::FwStatus;

/// What the host says of a request: the firmware's status below, its own error above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitInfo2(pub u64);

impl ExitInfo2 {
    /// The firmware has answered.
    pub const ANSWERED: ExitInfo2 = ExitInfo2(0);
    /// The host's error 1: the certificates do not fit into the pages offered.
    pub const INVALID_LEN: ExitInfo2 = ExitInfo2(1 << 32);
    /// The host's error 2: not now.
    pub const BUSY: ExitInfo2 = ExitInfo2(2 << 32);
    /// The host could not be called at all.
    pub const NOT_CALLED: ExitInfo2 = ExitInfo2(u64::MAX);

    /// The firmware's status.
    pub const fn fw(self) -> u32 {
        // CAST: the low half.
        self.0 as u32
    }

    /// The host's error.
    pub const fn vmm(self) -> u32 {
        // CAST: the high half.
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for ExitInfo2 {
    /// `firmware status 0x001d (AEAD_OFLOW)`, `host error 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.vmm()) {
            (ExitInfo2::NOT_CALLED, _) => f.write_str("host not called"),
            (_, 0) => match u16::try_from(self.fw()) {
                Ok(code) => write!(f, "firmware status {}", FwStatus::new(code)),
                Err(_) => write!(f, "firmware status {:#x}", self.fw()),
            },
            (_, vmm) if self.fw() == 0 => write!(f, "host error {vmm}"),
            (_, vmm) => write!(f, "host error {vmm}, firmware status {:#x}", self.fw()),
        }
    }
}

/// Why nobody waits for the answer any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The host was busy for too long.
    TimeOver,
    /// The caller is to be killed.
    Killed,
}

/// What is wrong with what should have been the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnAnswer {
    /// Not the number after the request's: another message's answer, or none at all.
    Seqno(u64),
    /// Not the type after the request's.
    Type(u8),
    /// Not the request's version.
    Version(u8),
    /// So many bytes, more than the caller has room for.
    Len(u16),
    /// Its tag does not authenticate it.
    Forged,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The key was destroyed before.
    NoKey,
    /// All sequence numbers are used up.
    Exhausted,
    /// The request is longer than a message can be, or of a type that has no answer.
    NotARequest,
    /// The certificates need so many pages, of 4 KiB. The report was not handed out.
    CertificatesTooSmall {
        /// Pages that the host wants to be offered.
        pages: u32,
    },
    /// Host or firmware refused.
    Refused,
    /// The caller gave up.
    GivenUp(GivenUp),
    /// What the host delivered is no answer to this request.
    NotAnAnswer(NotAnAnswer),
}

/// A request that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub why: Why,
    /// What the host said last; zero if it said nothing.
    pub exitinfo2: ExitInfo2,
    /// Whether the key was destroyed because of it, in the secrets page too.
    pub key_destroyed: bool,
}

impl Failure {
    /// The one map to errno; user space knows these numbers from Linux' C driver.
    pub const fn errno(&self) -> Errno {
        match self.why {
            Why::NoKey => Errno::ENOTTY,
            Why::Exhausted | Why::CertificatesTooSmall { .. } | Why::Refused => Errno::EIO,
            Why::GivenUp(GivenUp::TimeOver) => Errno::ETIMEDOUT,
            Why::GivenUp(GivenUp::Killed) => Errno::EINTR,
            Why::NotARequest | Why::NotAnAnswer(_) => Errno::EBADMSG,
        }
    }

    /// Of a request that never left the guest.
    pub(super) const fn unsent(why: Why) -> Self {
        Failure {
            why,
            exitinfo2: ExitInfo2(0),
            key_destroyed: false,
        }
    }
}

/// For the log: `no answer from the firmware: host error 2, rc -110`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::NoKey => f.write_str("the key was destroyed before")?,
            Why::Exhausted => f.write_str("all sequence numbers are used up")?,
            Why::NotARequest => f.write_str("no request that can be sent")?,
            Why::CertificatesTooSmall { pages } => {
                write!(f, "the certificates need {pages} pages")?;
            }
            Why::Refused => write!(f, "refused: {}", self.exitinfo2)?,
            Why::GivenUp(GivenUp::TimeOver) => write!(f, "no answer in time: {}", self.exitinfo2)?,
            Why::GivenUp(GivenUp::Killed) => f.write_str("caller killed before the answer")?,
            Why::NotAnAnswer(what) => write!(f, "no answer to this request: {what:?}")?,
        }
        write!(f, ", rc {}", -self.errno().0)?;
        if self.key_destroyed {
            f.write_str("; key destroyed")?;
        }
        Ok(())
    }
}
