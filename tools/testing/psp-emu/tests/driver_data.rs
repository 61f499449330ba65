// SPDX-License-Identifier: GPL-2.0
//! What the driver core keeps for the firmware: the persistent data of INIT_EX, and images.

mod virtual_host;

use psp::{
    cmd::platform::{FwVersion, PdhGen, PlatformStatus, NV_LEN},
    driver::{NotReady, NvTaken},
    error::{CmdError, Errno},
    host::Memory,
    ledger::InitKind,
    mailbox::Fault,
    status::FwStatus,
    uapi::NO_FW_CALL,
};
use psp_emu::{
    firmware::image,
    model::{Model, Version, MILAN, ROME},
};
use rand_core::OsRng;
use std::{rc::Rc, time::Duration};
use virtual_host::{chip::persistent_data, kvm, ram::Buf, Core, World};

const UNINIT: u8 = 0;
const INIT: u8 = 1;
static ERASED: [u8; NV_LEN as usize] = [0xff; NV_LEN as usize];

/// A driver with a TMR.
fn milan(faults: &[&str]) -> (Rc<World>, Core) {
    let world = World::new(&MILAN, faults);
    let core = world.driver(true, false);
    (world, core)
}

/// A driver with persistent data, loaded from `file`.
fn with_nv(faults: &[&str], file: &[u8]) -> (Rc<World>, Core) {
    let world = World::new(&MILAN, faults);
    let mut core = world.driver(true, true);
    assert!(core.wants_nv());
    core.load_nv(file);
    (world, core)
}

fn silent() -> CmdError {
    CmdError::Mailbox(Fault::Timeout)
}

#[test]
fn persistent_data_are_loaded_before_they_are_used_and_saved_when_they_change() {
    let (world, mut core) = with_nv(&[], persistent_data());
    let mut file = [0; NV_LEN as usize];
    assert_eq!(core.take_nv(&mut file), None, "nothing has changed");
    assert!(core.wants_nv(), "the file may change until INIT");
    core.init().unwrap();
    assert_eq!(world.ledger().init, Some(InitKind::InitEx));
    assert!(!core.wants_nv());
    core.load_nv(&ERASED);
    assert_eq!(core.take_nv(&mut file), Some(NvTaken { rejected: false }));
    assert_eq!(file, persistent_data(), "the firmware found its own");

    core.call(PdhGen).unwrap();
    assert_eq!(core.take_nv(&mut file), Some(NvTaken { rejected: false }));
    assert_ne!(file, persistent_data());
    core.call(PlatformStatus::default()).unwrap();
    assert_eq!(core.take_nv(&mut file), None);
    core.shutdown().unwrap();
    assert!(core.wants_nv());
}

#[test]
fn what_could_not_be_stored_is_not_overwritten_by_the_file() {
    let (_world, mut core) = with_nv(&[], &ERASED);
    core.init().unwrap();
    let mut first = [0; NV_LEN as usize];
    let taken = core.take_nv(&mut first).unwrap();
    core.untake_nv(taken);
    core.shutdown().unwrap();
    assert!(!core.wants_nv(), "the file is older");
    core.load_nv(&ERASED);
    core.init().unwrap();
    let mut second = [0; NV_LEN as usize];
    core.take_nv(&mut second).unwrap();
    assert_eq!(first, second);
    core.shutdown().unwrap();
}

#[test]
fn init_wants_the_file_first() {
    let world = World::new(&MILAN, &[]);
    let mut core = world.driver(true, true);
    let error = core.init().unwrap_err();
    assert_eq!(
        (error.cause, error.fw_error),
        (Errno::EAGAIN.into(), NO_FW_CALL)
    );
    assert_eq!(world.commands(), [0x004]);
}

#[test]
fn a_file_that_cannot_be_read_fails_init_and_nothing_else() {
    let (world, mut core) = with_nv(&[], persistent_data());
    core.init().unwrap();
    core.shutdown().unwrap();
    core.take_nv(&mut [0; NV_LEN as usize]).unwrap();
    world.commands();
    core.miss_nv(Errno::EIO);
    let error = core.init().unwrap_err();
    assert_eq!(
        (error.cause, error.fw_error),
        (Errno::EIO.into(), NO_FW_CALL),
        "not with what was read once"
    );
    let export = core.prepared::<PdhGen, _>(true, |core| core.call(PdhGen));
    assert_eq!(
        export.unwrap_err(),
        NotReady::Failed {
            cause: Errno::EIO.into(),
            fw_error: Some(NO_FW_CALL),
        }
    );
    core.factory_reset().unwrap();
    assert_eq!(world.commands(), [0x004, 0x003]);
    core.init().unwrap();
    core.miss_nv(Errno::EIO);
    core.call(PdhGen).unwrap();
    core.shutdown().unwrap();
    core.take_nv(&mut [0; NV_LEN as usize]).unwrap();
    core.miss_nv(Errno::EIO);
    core.load_nv(&ERASED);
    core.init().unwrap();
    core.shutdown().unwrap();
}

#[test]
fn a_file_that_the_firmware_cannot_use_is_said_to_be_rejected_once() {
    let (world, mut core) = with_nv(&[], &[7; NV_LEN as usize]);
    core.init().unwrap();
    assert_eq!(world.commands(), [0x004, 0x00d, 0x00d, 0x00a]);
    assert_eq!(
        world.errors(),
        ["SEV: retrying INIT command because of SECURE_DATA_INVALID error. Retrying once to reset PSP SEV state."]
    );
    let mut file = [0; NV_LEN as usize];
    let taken = core.take_nv(&mut file).unwrap();
    assert!(taken.rejected);
    core.untake_nv(taken);
    assert_eq!(core.take_nv(&mut file), Some(taken), "not stored yet");
    core.call(PdhGen).unwrap();
    assert_eq!(core.take_nv(&mut file), Some(NvTaken { rejected: false }));
    core.shutdown().unwrap();
}

#[test]
fn a_file_that_was_repaired_is_not_blamed_for_the_one_before() {
    let (_world, mut core) = with_nv(&["status:0x18:INIT_EX:2"], &ERASED);
    core.init().unwrap_err();
    assert!(core.wants_nv());
    core.load_nv(persistent_data());
    core.init().unwrap();
    let mut file = [0; NV_LEN as usize];
    assert_eq!(core.take_nv(&mut file), Some(NvTaken { rejected: false }));
    core.shutdown().unwrap();
}

#[test]
fn an_init_ex_that_is_answered_late_keeps_what_the_firmware_wrote() {
    let (world, mut core) = with_nv(&["late:200000:INIT_EX:1"], &ERASED);
    let mut file = [0; NV_LEN as usize];
    core.init().unwrap_err();
    assert!(!core.wants_nv(), "it may be the firmware's");
    core.load_nv(&ERASED);
    assert_eq!(core.take_nv(&mut file), None, "it may be written");
    world.machine().pass(Duration::from_secs(200));
    core.init().unwrap();
    assert_eq!(core.take_nv(&mut file), Some(NvTaken { rejected: false }));
    assert_ne!(file, ERASED);
    assert_eq!(world.ledger().init, Some(InitKind::InitEx));
    core.shutdown().unwrap();
}

#[test]
fn a_key_that_is_made_late_is_saved_late() {
    let (world, mut core) = with_nv(&["late:200000:PDH_GEN:1"], persistent_data());
    core.init().unwrap();
    let (mut before, mut after) = ([0; NV_LEN as usize], [0; NV_LEN as usize]);
    core.take_nv(&mut before).unwrap();
    assert_eq!(core.call(PdhGen), Err(silent()));
    assert_eq!(core.take_nv(&mut after), None);
    world.machine().pass(Duration::from_secs(200));
    core.status().unwrap();
    assert!(core.take_nv(&mut after).is_some());
    assert_ne!(before, after);
    core.shutdown().unwrap();
}

#[test]
fn a_factory_reset_erases_the_persistent_data_too() {
    let (_world, mut core) = with_nv(&[], persistent_data());
    core.init().unwrap();
    core.factory_reset().unwrap();
    let mut file = [0; NV_LEN as usize];
    assert!(core.take_nv(&mut file).is_some());
    assert_eq!(file, ERASED);
    core.init().unwrap();
    core.take_nv(&mut file).unwrap();
    assert!(
        file != ERASED && file != persistent_data(),
        "another identity"
    );
    core.shutdown().unwrap();
}

/// An image of firmware of this version.
fn image(world: &Rc<World>, model: &Model, version: (u8, u8, u8)) -> (Option<Buf>, usize) {
    let (major, minor, build) = version;
    let version = Version {
        major,
        minor,
        build,
    };
    let image = image::build(model, version, &mut OsRng).unwrap();
    let mut buf = world.alloc(image.len()).unwrap();
    buf.write(&image).unwrap();
    (Some(buf), image.len())
}

const NEWER: FwVersion = FwVersion {
    major: 1,
    minor: 99,
    build: 3,
};

#[test]
fn an_update_of_an_initialised_platform_initialises_it_again() {
    let (world, mut core) = milan(&[]);
    let (mut image, size) = image(&world, &MILAN, (1, 99, 3));
    core.init().unwrap();
    world.commands();
    assert_eq!(core.update(&mut image, size), Ok(NEWER));
    assert!(image.is_some());
    let ids = [0x004, 0x002, 0x00b, 0x004, 0x001, 0x00a];
    assert_eq!(world.commands(), ids);
    let before = world.ledger().version_before.unwrap();
    assert_eq!((before.minor, world.ledger().version), (55, Some(NEWER)));
    assert_eq!(world.state(), INIT);
    core.shutdown().unwrap();
}

#[test]
fn old_firmware_gets_the_image_twice() {
    let world = World::new(&ROME, &[]);
    let mut core = world.driver(false, false);
    let (mut image, size) = image(&world, &ROME, (1, 99, 3));
    core.update(&mut image, size).unwrap();
    assert_eq!(world.commands(), [0x004, 0x00b, 0x004, 0x00b, 0x004]);
    assert_eq!(world.state(), UNINIT, "as it was");
}

#[test]
fn what_the_first_of_two_downloads_did_is_known_when_the_second_fails() {
    // The fault that comes last wins while it lasts: the first download succeeds.
    let faults = [
        "garbage:0x80000022:DOWNLOAD_FIRMWARE",
        "garbage:0x80000000:DOWNLOAD_FIRMWARE:1",
    ];
    let world = World::new(&ROME, &faults);
    let mut core = world.driver(false, false);
    let (mut image, size) = image(&world, &ROME, (1, 99, 3));
    let before = core.version().unwrap();
    core.update(&mut image, size).unwrap_err();
    assert_eq!(core.version(), Ok(NEWER));
    assert_eq!(world.ledger().version, Some(NEWER));
    assert_eq!(world.ledger().version_before, Some(before));
}

#[test]
fn an_update_is_refused_while_guests_exist() {
    let (world, mut core) = milan(&[]);
    let (mut image, size) = image(&world, &MILAN, (1, 99, 3));
    core.init().unwrap();
    let guest = kvm::launch(&mut core);
    assert_eq!(core.update(&mut image, size), Err(NotReady::GuestsActive));
    kvm::decommission(&mut core, guest);
    core.update(&mut image, size).unwrap();
    core.shutdown().unwrap();
}

#[test]
fn an_update_that_fails_leaves_the_old_firmware_at_work() {
    let (world, mut core) = milan(&["status:0x22:DOWNLOAD_FIRMWARE:1"]);
    let (mut image, size) = image(&world, &MILAN, (1, 99, 3));
    core.init().unwrap();
    let failed = NotReady::Failed {
        cause: CmdError::Firmware(FwStatus::BAD_VERSION),
        fw_error: Some(0x22),
    };
    assert_eq!(core.update(&mut image, size), Err(failed));
    assert_eq!((world.state(), image.is_some()), (INIT, true));
    core.shutdown().unwrap();
}

#[test]
fn an_image_that_the_firmware_still_reads_is_kept() {
    let (world, mut core) = milan(&["late:200000:DOWNLOAD_FIRMWARE:1"]);
    let (mut image, size) = image(&world, &MILAN, (1, 99, 3));
    let failed = |cause: CmdError| NotReady::Failed {
        cause,
        fw_error: cause.fw_error(),
    };
    assert_eq!(core.update(&mut image, size), Err(failed(silent())));
    assert!(image.is_none(), "a hostage");
    let dead = CmdError::Mailbox(Fault::Dead);
    assert_eq!(core.update(&mut image, size), Err(failed(dead)));
    world.machine().pass(Duration::from_secs(200));
    assert_eq!(core.status().unwrap().version, NEWER);
    let missing = failed(Errno::EBUSY.into());
    assert_eq!(core.update(&mut image, size), Err(missing));
}
