// SPDX-License-Identifier: GPL-2.0

//! What can go wrong with a command, and what the caller is told.

use core::fmt;

use crate::cmd::{Malformed, ReplyError};
use crate::mailbox::Fault;
use crate::status::FwStatus;

/// A positive errno, as Linux on x86 counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Interrupted by a signal that kills.
    pub const EINTR: Errno = Errno(4);
    /// The firmware refused.
    pub const EIO: Errno = Errno(5);
    /// The firmware has no answer to this.
    pub const ENXIO: Errno = Errno(6);
    /// Something has to be done first, then it can be tried again.
    pub const EAGAIN: Errno = Errno(11);
    /// No memory.
    pub const ENOMEM: Errno = Errno(12);
    /// In use, or not available now.
    pub const EBUSY: Errno = Errno(16);
    /// No PSP, or none any more.
    pub const ENODEV: Errno = Errno(19);
    /// An argument makes no sense.
    pub const EINVAL: Errno = Errno(22);
    /// No such ioctl, or the key that it needs is gone.
    pub const ENOTTY: Errno = Errno(25);
    /// A message is not what it has to be.
    pub const EBADMSG: Errno = Errno(74);
    /// This firmware cannot do it.
    pub const EOPNOTSUPP: Errno = Errno(95);
    /// No answer.
    pub const ETIMEDOUT: Errno = Errno(110);
}

/// Why a command has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmdError {
    /// The firmware was called and did not answer, or could not be called.
    Mailbox(Fault),
    /// The firmware refused.
    Firmware(FwStatus),
    /// The firmware agreed, but its answer makes no sense.
    Malformed(Malformed),
    /// The call could not be prepared.
    Prepare(Errno),
}

impl CmdError {
    /// The one map to errno; user space knows these numbers from Linux' C driver.
    pub const fn errno(self) -> Errno {
        match self {
            CmdError::Mailbox(Fault::Timeout) => Errno::ETIMEDOUT,
            CmdError::Mailbox(Fault::GivenUp) => Errno::EINTR,
            CmdError::Mailbox(Fault::Dead) => Errno::EBUSY,
            CmdError::Mailbox(Fault::Gone) => Errno::ENODEV,
            CmdError::Firmware(_) | CmdError::Malformed(_) => Errno::EIO,
            CmdError::Prepare(errno) => errno,
        }
    }

    /// What goes into the `error` field of the caller; `None` leaves it as it was, because the
    /// firmware was not called.
    pub const fn fw_error(self) -> Option<u32> {
        match self {
            // As the C driver: KVM tells "the host is in trouble" by an error without a status.
            CmdError::Mailbox(Fault::Timeout) => Some(0),
            CmdError::Mailbox(Fault::GivenUp | Fault::Dead | Fault::Gone) => None,
            // CAST: widening u16 to u32 in a const context.
            CmdError::Firmware(status) => Some(status.code() as u32),
            CmdError::Malformed(_) => Some(0),
            CmdError::Prepare(_) => None,
        }
    }

    /// What an operator can do about it, if anything is known.
    pub const fn hint(self) -> Option<&'static str> {
        match self {
            CmdError::Firmware(status) => status.hint(),
            CmdError::Mailbox(Fault::Timeout | Fault::Dead) => Some(
                "it is used again as soon as it answers; else write 1 to sev_reset of its device, or power-cycle",
            ),
            CmdError::Malformed(_) => Some("the firmware is broken or hostile: update it"),
            CmdError::Mailbox(Fault::Gone | Fault::GivenUp) | CmdError::Prepare(_) => None,
        }
    }
}

/// For the log: `0x0003 (INVALID_CONFIG), rc -5`. What never was a firmware status is never printed
/// as one.
impl fmt::Display for CmdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CmdError::Firmware(status) => write!(f, "{status}")?,
            CmdError::Mailbox(Fault::Timeout) => f.write_str("(no answer)")?,
            CmdError::Mailbox(Fault::GivenUp) => f.write_str("(caller killed)")?,
            CmdError::Mailbox(Fault::Dead) => f.write_str("(not called: PSP disabled)")?,
            CmdError::Mailbox(Fault::Gone) => f.write_str("(device gone)")?,
            CmdError::Malformed(what) => write!(f, "(malformed answer: {what:?})")?,
            CmdError::Prepare(_) => f.write_str("(not called)")?,
        }
        write!(f, ", rc {}", -self.errno().0)
    }
}

/// For the log: an error, and what can be done about it.
#[derive(Clone, Copy, Debug)]
pub struct WithHint(pub CmdError);

impl fmt::Display for WithHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)?;
        match self.0.hint() {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl From<Fault> for CmdError {
    fn from(fault: Fault) -> Self {
        CmdError::Mailbox(fault)
    }
}

impl From<ReplyError> for CmdError {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Firmware(status) => CmdError::Firmware(status),
            ReplyError::Malformed(malformed) => CmdError::Malformed(malformed),
        }
    }
}

impl From<Errno> for CmdError {
    fn from(errno: Errno) -> Self {
        CmdError::Prepare(errno)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;

    #[test]
    fn errno_and_fw_error_are_those_of_the_c_driver() {
        for (error, errno, fw_error) in [
            (CmdError::Firmware(FwStatus::INVALID_LEN), 5, Some(4)),
            (CmdError::Mailbox(Fault::Timeout), 110, Some(0)),
            (CmdError::Mailbox(Fault::Dead), 16, None),
            (CmdError::Mailbox(Fault::Gone), 19, None),
            (CmdError::from(Errno::ENOMEM), 12, None),
        ] {
            assert_eq!(
                (error.errno().0, error.fw_error()),
                (errno, fw_error),
                "{error}"
            );
        }
    }

    #[test]
    fn what_never_was_a_status_is_not_printed_as_one() {
        let refused = CmdError::Firmware(FwStatus::new(0x8004));
        assert_eq!(format!("{refused}"), "0x8004, rc -5");
        let dead = CmdError::Mailbox(Fault::Dead);
        assert_eq!(format!("{dead}"), "(not called: PSP disabled), rc -16");
    }
}
