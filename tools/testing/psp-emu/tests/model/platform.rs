// SPDX-License-Identifier: GPL-2.0
//! Calls that bring the platform into a state, and what must be so after them.

use super::super::virtual_host::Core;
use super::{single::sent, step::Image, Before, Session, MODELS};
use psp::{
    cmd::{
        platform::{Nop, PdhGen, PekCsr, PekGen, PlatformReset, NV_LEN},
        CmdId,
    },
    driver::{InitError, NotReady},
    error::CmdError,
    host::Memory,
    mailbox::Fault as Silence,
    uapi::NO_FW_CALL,
};
use psp_emu::{
    device::Record,
    firmware::{image, Status},
    model::{Model, Version},
};
use rand_core::OsRng;
use std::sync::OnceLock;

impl Session<'_> {
    /// What the driver does around everything that may initialise the platform; see `Psp::with_init()`.
    pub(super) fn with_file<T>(&mut self, call: impl FnOnce(&mut Core) -> T) -> (Before, T) {
        if self.core().wants_nv() {
            let file = self.file.take().expect("persistent data");
            self.core().load_nv(&file);
            self.file = Some(file);
            self.unsaved = false;
        }
        let done = self.call(call);
        let mut next = vec![0; NV_LEN as usize];
        if let Some(taken) = self.core().take_nv(&mut next) {
            if self.disk_full {
                self.core().untake_nv(taken);
                self.unsaved = true;
            } else {
                self.file = Some(next);
                self.unsaved = false;
            }
        }
        self.check_file();
        done
    }

    /// The file has what the firmware uses.
    pub(super) fn check_file(&self) {
        let machine = self.world.machine();
        let (Some(file), Some(used)) = (&self.file, machine.watch.persistent_data()) else {
            return;
        };
        if self.unsaved || self.misled || machine.watch.unanswered().is_some() {
            return;
        }
        let memory: [u8; NV_LEN as usize] = machine.ram.peek(used.start);
        assert!(file[..] == memory, "the file is not what the firmware uses");
    }

    pub(super) fn init(&mut self) {
        let (before, result) = self.with_file(Core::init);
        self.check_init(&before, result);
    }

    pub(super) fn check_init(&mut self, before: &Before, result: Result<(), InitError>) {
        self.coverage.outcome(&result.map_err(|error| error.cause));
        match result {
            Ok(()) => self.check_flushed(),
            Err(error) => {
                check_fw_error(error.cause, Some(error.fw_error));
                self.check_reason(before, error.cause);
            }
        }
    }

    pub(super) fn check_flushed(&self) {
        if let Some((state, _)) = self.truth() {
            assert!(state > 0 || self.misled, "done, but in UNINIT");
            assert!(!self.world.machine().watch.flush_due, "not flushed");
        }
    }

    /// A failure has a reason.
    pub(super) fn check_reason(&self, before: &Before, cause: CmdError) {
        let calm = self.faults.is_empty() && self.world.machine().kill_at.is_none();
        let idle = before.truth.is_some() && !before.gone && !before.dead;
        assert!(!(calm && idle && !self.misled), "nothing is wrong: {cause}");
    }

    pub(super) fn init_unread(&mut self) {
        if self.file.is_none() {
            return;
        }
        let (_, result) = self.call(Core::init);
        self.coverage.outcome(&result.map_err(|error| error.cause));
        if result.is_ok() {
            self.check_flushed();
        }
    }

    pub(super) fn shutdown(&mut self) {
        let (before, result) = self.call(Core::shutdown);
        self.coverage.outcome(&result);
        match result {
            Ok(()) => {
                if let Some((state, _)) = self.truth() {
                    assert_eq!(state, 0, "shut down");
                }
                self.misled = false;
            }
            Err(cause) => self.check_reason(&before, cause),
        }
    }

    pub(super) fn not_ready(&mut self, before: &Before, reason: NotReady) {
        self.coverage.not_ready(reason);
        match reason {
            NotReady::Failed { cause, fw_error } => {
                check_fw_error(cause, fw_error);
                self.check_reason(before, cause);
            }
            NotReady::GuestsActive => {
                let guests = before.truth.is_none_or(|(_, guests)| guests > 0);
                assert!(guests || self.misled, "there are no guests");
            }
            NotReady::ReadOnly => {
                let idle = before.truth.is_none_or(|(state, _)| state == 0);
                assert!(idle || self.misled, "it was initialised");
            }
        }
    }

    pub(super) fn prepared(&mut self, id: CmdId, may_init: bool) {
        let (before, result) = self.with_file(|core| match id {
            CmdId::PdhGen => core.prepared::<PdhGen, _>(may_init, |core| core.call(PdhGen)),
            CmdId::PekGen => core.prepared::<PekGen, _>(may_init, |core| core.call(PekGen)),
            CmdId::PekCsr => core.prepared::<PekCsr, _>(may_init, |core| {
                sent(core.send(PekCsr::new(0, 0), &mut []))
            }),
            _ => core.prepared::<PlatformReset, _>(may_init, |core| core.call(Nop)),
        });
        match result {
            Ok(done) => self.coverage.outcome(&done),
            Err(reason) => self.not_ready(&before, reason),
        }
        // Found in UNINIT, left in UNINIT, unless the SHUTDOWN failed or an answer is not known.
        let answers = std::mem::take(&mut self.world.machine().records);
        let well = answers
            .iter()
            .all(|record| record.status.is_some() && !refused_shutdown(record));
        if let (Some((0, _)), Some((state, _)), true) = (before.truth, self.truth(), well) {
            assert!(state == 0 || self.misled, "left initialised");
        }
    }

    pub(super) fn factory_reset(&mut self) {
        let (before, result) = self.with_file(Core::factory_reset);
        match result {
            Ok(()) => {
                self.coverage.event("done");
                if let Some((state, _)) = self.truth() {
                    assert_eq!(state, 0);
                }
            }
            Err(reason) => self.not_ready(&before, reason),
        }
    }

    pub(super) fn update(&mut self, kind: Image) {
        let image = newer(self.world.machine().device.model());
        let good = kind == Image::Good;
        let size = image.len() - usize::from(!good);
        let mut buf = self.world.alloc(image.len());
        if let Some(buf) = &mut buf {
            buf.write(image).expect("room");
        }
        if kind == Image::Gone {
            buf = None;
        }
        let (before, result) = self.with_file(|core| core.update(&mut buf, size));
        match result {
            Ok(version) => {
                self.coverage.event("done");
                assert!(good && (version.minor == 99 || self.misled), "{version}");
                assert!(self.world.ledger().version_before.is_some());
                if let (Some((1, _)), Some((0, _))) = (before.truth, self.truth()) {
                    let calm = self.faults.is_empty() && self.world.machine().kill_at.is_none();
                    assert!(!calm, "not initialised again");
                }
            }
            Err(reason) if good => self.not_ready(&before, reason),
            Err(reason) => self.coverage.not_ready(reason),
        }
    }
}

fn refused_shutdown(record: &Record) -> bool {
    record.id == 0x002 && record.status != Some(Status::SUCCESS)
}

/// What a caller's `error` field gets when several commands are sent for it.
fn check_fw_error(cause: CmdError, fw_error: Option<u32>) {
    let expected = match cause {
        CmdError::Firmware(status) => u32::from(status.code()),
        CmdError::Malformed(_) | CmdError::Mailbox(Silence::Timeout) => 0,
        CmdError::Mailbox(_) | CmdError::Prepare(_) => NO_FW_CALL,
    };
    // Nothing, if the firmware was not called; zero, if INIT was done and the flush was not.
    let fine = [None, Some(NO_FW_CALL), Some(0), Some(expected)];
    assert!(fine.contains(&fw_error), "{cause}: {fw_error:?}");
}

/// Firmware that these models take, newer than what they have.
fn newer(model: &'static Model) -> &'static [u8] {
    static IMAGES: [OnceLock<Vec<u8>>; 3] = [const { OnceLock::new() }; 3];
    let at = MODELS.iter().position(|of| *of == model).expect("listed");
    IMAGES[at].get_or_init(|| {
        let version = Version {
            major: 1,
            minor: 99,
            build: 1,
        };
        image::build(model, version, &mut OsRng).expect("a key that signs")
    })
}
