// SPDX-License-Identifier: GPL-2.0

//! What can go wrong with a command, and what the caller is told.

use kernel::{
    fmt,
    prelude::*, //
};
use psp::{
    cmd::{
        Malformed,
        ReplyError, //
    },
    mailbox::Fault,
    status::FwStatus, //
};

/// Why a command has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CmdError {
    /// The firmware was called and did not answer, or could not be called.
    Mailbox(Fault),
    /// The firmware refused.
    Firmware(FwStatus),
    /// The firmware agreed, but its answer makes no sense.
    Malformed(Malformed),
    /// The driver could not prepare the call.
    Prepare(Error),
}

impl CmdError {
    /// The one map to errno; user space knows these numbers from the C driver.
    pub(crate) fn to_errno(self) -> Error {
        match self {
            CmdError::Mailbox(Fault::Timeout) => ETIMEDOUT,
            CmdError::Mailbox(Fault::Dead) => EBUSY,
            CmdError::Mailbox(Fault::Gone) => ENODEV,
            CmdError::Firmware(_) | CmdError::Malformed(_) => EIO,
            CmdError::Prepare(error) => error,
        }
    }

    /// What goes into the `error` field of the caller; `None` leaves it as it was, because the
    /// firmware was not called.
    pub(crate) fn fw_error(self) -> Option<u32> {
        match self {
            // As the C driver: KVM tells "the host is in trouble" by an error without a status.
            CmdError::Mailbox(Fault::Timeout) => Some(0),
            CmdError::Mailbox(Fault::Dead | Fault::Gone) => None,
            CmdError::Firmware(status) => Some(status.code().into()),
            CmdError::Malformed(_) => Some(FwStatus::SUCCESS.code().into()),
            CmdError::Prepare(_) => None,
        }
    }
}

/// For the log: `0x0003 (INVALID_CONFIG), rc -5`. What never was a firmware status is never printed
/// as one.
impl fmt::Display for CmdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rc = self.to_errno().to_errno();
        match self {
            CmdError::Firmware(status) => write!(f, "{status}, rc {rc}"),
            CmdError::Mailbox(Fault::Timeout) => write!(f, "(no answer), rc {rc}"),
            CmdError::Mailbox(Fault::Dead) => write!(f, "(not called: PSP disabled), rc {rc}"),
            CmdError::Mailbox(Fault::Gone) => write!(f, "(device gone), rc {rc}"),
            CmdError::Malformed(what) => write!(f, "(malformed answer: {what:?}), rc {rc}"),
            CmdError::Prepare(_) => write!(f, "(not called), rc {rc}"),
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

impl From<Error> for CmdError {
    fn from(error: Error) -> Self {
        CmdError::Prepare(error)
    }
}

#[cfg(CONFIG_CCP_SEV_RUST_KUNIT_TEST)]
#[kunit_tests(ccp_sev_error)]
mod tests {
    use super::*;

    #[test]
    fn errno_and_fw_error_are_those_of_the_c_driver() {
        let refused = CmdError::Firmware(FwStatus::INVALID_LEN);
        assert!(refused.to_errno() == EIO && refused.fw_error() == Some(4));
        let timeout = CmdError::Mailbox(Fault::Timeout);
        assert!(timeout.to_errno() == ETIMEDOUT && timeout.fw_error() == Some(0));
        let dead = CmdError::Mailbox(Fault::Dead);
        assert!(dead.to_errno() == EBUSY && dead.fw_error().is_none());
        let early = CmdError::from(ENOMEM);
        assert!(early.to_errno() == ENOMEM && early.fw_error().is_none());
    }
}
