// SPDX-License-Identifier: GPL-2.0
//! Calls that send one command at most, and what their outcome may be.

use super::super::virtual_host::{ram::KVM, Core};
use super::Session;
use psp::{
    cmd::{
        platform::{GetId, PdhCertExport, PekCsr},
        CmdId, Command, Completed,
    },
    error::{CmdError, Errno},
    host::Memory,
    mailbox::Fault as Silence,
    platform::PlatformState,
    status::FwStatus,
};
use std::time::Duration;

impl Session<'_> {
    /// A call that sends one command at most; looks at what that says of the outcome.
    pub(super) fn single<T>(
        &mut self,
        call: impl FnOnce(&mut Core) -> Result<T, CmdError>,
    ) -> Result<T, CmdError> {
        let (before, result) = self.call(call);
        self.coverage.outcome(&result);
        let machine = self.world.machine();
        let rung = machine.ring_count - before.rings;
        let took = machine.now - before.now;
        let cmdresp = before.after;
        let seen = machine.watch.unanswered().is_none();
        let prepare = matches!(result, Err(CmdError::Prepare(_)));
        if before.gone && !prepare {
            let gone = Err(CmdError::Mailbox(Silence::Gone));
            let killed = Err(CmdError::Mailbox(Silence::GivenUp));
            let result = result.as_ref().map(|_| ()).map_err(|error| *error);
            assert!(result == gone || result == killed, "gone: {result:?}");
        } else if before.dead && !before.answered && !prepare {
            let dead = matches!(result, Err(CmdError::Mailbox(Silence::Dead)));
            assert!(dead, "an answer is owed");
            assert_eq!(took, Duration::ZERO);
        }
        match &result {
            Ok(_) => assert!(rung == 1 && seen && cmdresp.status().is_some()),
            Err(CmdError::Firmware(status)) => {
                assert!(rung == 1 && seen && !status.is_success());
                assert_eq!(cmdresp.status(), Some(*status));
            }
            Err(CmdError::Malformed(_)) => assert!(rung == 1 && seen),
            Err(CmdError::Mailbox(Silence::Timeout)) => {
                assert!(
                    rung == 1 && !seen && took >= Duration::from_secs(4),
                    "{took:?}"
                );
                assert!(cmdresp.status().is_none());
            }
            Err(CmdError::Mailbox(Silence::GivenUp)) => {
                assert!(machine.kill_at.is_some_and(|at| at <= machine.now) && !seen);
            }
            Err(CmdError::Mailbox(Silence::Dead)) => assert!(rung == 0 && !seen),
            Err(CmdError::Mailbox(Silence::Gone)) => {
                assert!(machine.unbound || cmdresp.is_all_ones());
            }
            Err(CmdError::Prepare(_)) => assert_eq!(rung, 0),
        }
        drop(machine);
        if let Err(error) = &result {
            check_errno(*error);
            if *error == CmdError::Firmware(FwStatus::INVALID_PLATFORM_STATE) {
                assert!(!self.core().is_initialised(), "what was known is wrong");
            }
        }
        result
    }

    pub(super) fn status(&mut self) {
        let Ok(status) = self.single(Core::status) else {
            return;
        };
        // CAST: the discriminants are 0, 1 and 2.
        let said = (status.state as u8, status.guest_count);
        if let Some(truth) = self.truth() {
            assert_eq!(said, truth, "PLATFORM_STATUS");
        }
        self.misled = false;
        assert_eq!(
            self.core().is_initialised(),
            status.state != PlatformState::Uninit
        );
    }

    pub(super) fn send(&mut self, id: CmdId, len: u32) {
        let buffers = if id == CmdId::PdhCertExport { 2 } else { 1 };
        // CAST: a few pages.
        let alloc = |_| (len > 0).then(|| self.world.alloc(len as usize)).flatten();
        let mut bufs: Vec<_> = (0..buffers).map(alloc).collect();
        let at = |buf: Option<&Option<_>>| match buf {
            Some(Some(buf)) => (Memory::psp_addr(buf), len),
            _ => (0, 0),
        };
        let (first, second) = (at(bufs.first()), at(bufs.get(1)));
        let result = self.single(|core| match id {
            CmdId::GetId => sent(core.send(GetId::new(first.0, first.1), &mut bufs)),
            CmdId::PekCsr => sent(core.send(PekCsr::new(first.0, first.1), &mut bufs)),
            _ => sent(core.send(PdhCertExport::new(first, second), &mut bufs)),
        });
        let unseen = self
            .world
            .machine()
            .watch
            .unanswered()
            .map(|unanswered| unanswered.id);
        // CAST: the discriminant is the id.
        let hostages = result.is_err() && unseen == Some(id as u16);
        if !hostages && len > 0 {
            assert!(bufs.iter().all(Option::is_some), "a buffer is gone");
        }
    }

    pub(super) fn raw(&mut self, id: CmdId, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        self.world.machine().watch.foreign = true;
        let result = self.single(|core| match core.send_raw(id, &mut bytes, &mut [])? {
            FwStatus::SUCCESS => Ok(()),
            status => Err(CmdError::Firmware(status)),
        });
        self.world.machine().watch.foreign = false;
        if id == CmdId::Shutdown && result.is_ok() {
            self.misled = false;
        }
    }

    pub(super) fn wrong_length(&mut self, id: CmdId) {
        let mut bytes = vec![0; id.buffer_len() + 1];
        let result = self.single(|core| core.send_raw(id, &mut bytes, &mut []));
        assert_eq!(result, Err(Errno::EINVAL.into()));
    }
}

/// errno and `error` field are those of the table of `/dev/sev` (Documentation/ccp-sev.rst).
fn check_errno(error: CmdError) {
    let expected = match error {
        CmdError::Firmware(status) => (5, Some(status.code().into())),
        CmdError::Malformed(_) => (5, Some(0)),
        CmdError::Mailbox(Silence::Timeout) => (110, Some(0)),
        CmdError::Mailbox(Silence::GivenUp) => (4, None),
        CmdError::Mailbox(Silence::Dead) => (16, None),
        CmdError::Mailbox(Silence::Gone) => (19, None),
        CmdError::Prepare(errno) => (errno.0, None),
    };
    assert_eq!((error.errno().0, error.fw_error()), expected);
}

/// The answer to a command of which nothing but success matters.
pub(super) fn sent<C: Command>(done: Result<Completed<C>, CmdError>) -> Result<(), CmdError> {
    done?.reply()?;
    Ok(())
}

/// The buffer of a command of KVM's: one that makes sense, or any bytes.
pub(super) fn raw_bytes(id: CmdId, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; id.buffer_len()];
    if seed % 8 == 0 {
        let mut word = seed;
        for chunk in bytes.chunks_mut(8) {
            word = (word ^ 0x55)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        return bytes;
    }
    // CAST: below 4, and below 8.
    let (handle, asid) = ((1 + seed / 8 % 3) as u8, (seed / 24 % 8) as u8);
    match id {
        CmdId::Decommission | CmdId::Deactivate | CmdId::GuestStatus => bytes[0] = handle,
        CmdId::Activate => (bytes[0], bytes[4]) = (handle, asid),
        CmdId::LaunchUpdateData => {
            bytes[0] = handle;
            bytes[8..16].copy_from_slice(&KVM.start.to_le_bytes());
            bytes[16] = 16;
        }
        _ => {}
    }
    bytes
}
