// SPDX-License-Identifier: GPL-2.0
//! What KVM does with the driver.

use super::Core;
use psp::{cmd::CmdId, status::FwStatus};

/// What KVM sends for a guest without an owner; returns its handle.
///
/// # Panics
///
/// When the platform does not take it.
pub fn launch(core: &mut Core) -> u32 {
    let mut start = [0; 36];
    assert_eq!(
        core.send_raw(CmdId::LaunchStart, &mut start, &mut []),
        Ok(FwStatus::SUCCESS)
    );
    u32::from_le_bytes([start[0], start[1], start[2], start[3]])
}

/// # Panics
///
/// When the guest is none.
pub fn decommission(core: &mut Core, guest: u32) {
    let status = core.send_raw(CmdId::Decommission, &mut guest.to_le_bytes(), &mut []);
    assert_eq!(status, Ok(FwStatus::SUCCESS));
}
