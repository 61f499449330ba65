// SPDX-License-Identifier: GPL-2.0
//! KVM_MEMORY_ENCRYPT_OP: one command to the firmware by way of KVM, and what went wrong with it.

use kvm_bindings::{self as kvm, kvm_sev_cmd};
use kvm_ioctls::VmFd;
use sev::error::{FirmwareError, UserApiError};
use std::{fmt, fs::File, io, os::fd::AsRawFd};

/// A command's number in the kernel's interface, and its name in the documentation.
pub(crate) struct Command {
    id: u32,
    name: &'static str,
}

macro_rules! commands {
    ($($name:ident = $id:ident;)*) => {
        $(pub(super) const $name: Command = Command {
            id: kvm::$id,
            name: concat!("KVM_SEV_", stringify!($name)),
        };)*
    };
}

commands! {
    INIT2 = sev_cmd_id_KVM_SEV_INIT2;
    LAUNCH_START = sev_cmd_id_KVM_SEV_LAUNCH_START;
    LAUNCH_UPDATE_DATA = sev_cmd_id_KVM_SEV_LAUNCH_UPDATE_DATA;
    LAUNCH_UPDATE_VMSA = sev_cmd_id_KVM_SEV_LAUNCH_UPDATE_VMSA;
    LAUNCH_MEASURE = sev_cmd_id_KVM_SEV_LAUNCH_MEASURE;
    LAUNCH_SECRET = sev_cmd_id_KVM_SEV_LAUNCH_SECRET;
    LAUNCH_FINISH = sev_cmd_id_KVM_SEV_LAUNCH_FINISH;
    GUEST_STATUS = sev_cmd_id_KVM_SEV_GUEST_STATUS;
    GET_ATTESTATION_REPORT = sev_cmd_id_KVM_SEV_GET_ATTESTATION_REPORT;
    DBG_DECRYPT = sev_cmd_id_KVM_SEV_DBG_DECRYPT;
    SEND_START = sev_cmd_id_KVM_SEV_SEND_START;
    SEND_UPDATE_DATA = sev_cmd_id_KVM_SEV_SEND_UPDATE_DATA;
    SEND_FINISH = sev_cmd_id_KVM_SEV_SEND_FINISH;
    RECEIVE_START = sev_cmd_id_KVM_SEV_RECEIVE_START;
    RECEIVE_UPDATE_DATA = sev_cmd_id_KVM_SEV_RECEIVE_UPDATE_DATA;
    RECEIVE_FINISH = sev_cmd_id_KVM_SEV_RECEIVE_FINISH;
}

/// A command that failed.
#[derive(Debug, thiserror::Error)]
#[error("{command}: {errno}{status}")]
pub(crate) struct CommandError {
    command: &'static str,
    errno: io::Error,
    pub(crate) status: FirmwareStatus,
}

impl CommandError {
    /// From the crate `sev`, right after the call: it keeps the status and drops errno.
    pub(super) fn of(command: &'static str) -> impl FnOnce(UserApiError) -> Self {
        move |error| Self {
            command,
            errno: io::Error::last_os_error(),
            status: FirmwareStatus(match error {
                UserApiError::FirmwareError(FirmwareError::KnownSevError(status)) => {
                    i32::from(status).unsigned_abs()
                }
                UserApiError::FirmwareError(FirmwareError::UnknownSevError(status)) => status,
                _ => 0,
            }),
        }
    }
}

/// The firmware's answer; 0 when it was not asked (SEV-API, "Status Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirmwareStatus(u32);

impl FirmwareStatus {
    pub(crate) const POLICY_FAILURE: Self = Self(7);
    pub(crate) const INVALID_COMMAND: Self = Self(0x11);
}

const STATUS_NAMES: [&str; 25] = [
    "SUCCESS",
    "INVALID_PLATFORM_STATE",
    "INVALID_GUEST_STATE",
    "INVALID_CONFIG",
    "INVALID_LEN",
    "ALREADY_OWNED",
    "INVALID_CERTIFICATE",
    "POLICY_FAILURE",
    "INACTIVE",
    "INVALID_ADDRESS",
    "BAD_SIGNATURE",
    "BAD_MEASUREMENT",
    "ASID_OWNED",
    "INVALID_ASID",
    "WBINVD_REQUIRED",
    "DFFLUSH_REQUIRED",
    "INVALID_GUEST",
    "INVALID_COMMAND",
    "ACTIVE",
    "HWERROR_PLATFORM",
    "HWERROR_UNSAFE",
    "UNSUPPORTED",
    "INVALID_PARAM",
    "RESOURCE_LIMIT",
    "SECURE_DATA_INVALID",
];

impl fmt::Display for FirmwareStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return Ok(());
        }
        let name = usize::try_from(self.0)
            .ok()
            .and_then(|index| STATUS_NAMES.get(index))
            .unwrap_or(&"unknown");
        write!(formatter, ", firmware status {:#x} {name}", self.0)
    }
}

/// Runs a command with its argument, which the kernel reads and for some commands writes.
///
/// Addresses in the argument are of this process and must stay valid until the return.
///
/// # Errors
///
/// `EIO` with a status when the firmware refused; another errno when the kernel did.
pub(super) fn issue<T>(
    vm: &VmFd,
    sev: &File,
    command: &Command,
    argument: &mut T,
) -> Result<(), CommandError> {
    let mut request = kvm_sev_cmd {
        id: command.id,
        data: address_of(argument),
        // CAST: an open file's descriptor is not negative.
        sev_fd: sev.as_raw_fd() as u32,
        ..Default::default()
    };
    vm.encrypt_op_sev(&mut request)
        .map_err(|errno| CommandError {
            command: command.name,
            errno: errno.into(),
            status: FirmwareStatus(request.error),
        })
}

/// The address of something the kernel may write to.
pub(super) fn address_of<T: ?Sized>(place: &mut T) -> u64 {
    std::ptr::from_mut(place).cast::<u8>().expose_provenance() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_command_errno_and_status() {
        let error = |status| {
            CommandError {
                command: LAUNCH_START.name,
                errno: io::Error::from_raw_os_error(5),
                status: FirmwareStatus(status),
            }
            .to_string()
        };
        let start = "KVM_SEV_LAUNCH_START: Input/output error (os error 5)";
        assert_eq!(error(0), start);
        assert_eq!(
            error(0xb),
            format!("{start}, firmware status 0xb BAD_MEASUREMENT")
        );
        assert_eq!(
            error(0x18),
            format!("{start}, firmware status 0x18 SECURE_DATA_INVALID")
        );
        assert_eq!(
            error(0x19),
            format!("{start}, firmware status 0x19 unknown")
        );
    }
}
