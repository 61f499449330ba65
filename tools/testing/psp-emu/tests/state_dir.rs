// SPDX-License-Identifier: GPL-2.0
//! The state directory: persistence, damage, foreign directories, kills at any point.

mod common;

use common::{id, Platform};
use psp_emu::{
    firmware::{Firmware, Status},
    model::{GENOA, MILAN},
    state_dir::{StateDir, StateError},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Opens the directory as the program does and puts its chip on a platform.
fn platform(dir: &Path) -> Platform {
    let state = StateDir::open(dir, None, &MILAN).unwrap();
    let mut psp = Platform::new(&MILAN);
    psp.firmware = Firmware::new(state.model(), state.chip(), state.into_flash());
    psp
}

/// The chip's id, and the exported chain after INIT.
fn identity(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut psp = platform(dir);
    let buffer = common::address_and_length(common::A, 64);
    assert_eq!(psp.status(id::GET_ID, &buffer), Status::SUCCESS);
    let chip = psp.read(common::A, 64);
    psp.init();
    (chip, psp.export())
}

/// Names and contents of everything in a directory.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// Asserts that the directory is refused with this message, and not touched.
fn assert_refused(dir: &Path, message: &str) {
    let before = contents(dir);
    let refusal = StateDir::open(dir, None, &MILAN)
        .err()
        .expect("refused")
        .to_string();
    assert!(refusal.contains(message), "{refusal}");
    // The lock file alone may come into being: it says nothing about the contents.
    let mut after = contents(dir);
    after.retain(|path, _| before.contains_key(path) || path.file_name().unwrap() != "lock");
    assert_eq!(after, before);
}

#[test]
fn chip_and_keys_persist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let first = identity(&path);
    assert_eq!(identity(&path), first);
    assert_ne!(identity(&dir.path().join("other")), first);
    let mut psp = platform(&path);
    assert_eq!(psp.status(id::PLATFORM_RESET, &[]), Status::SUCCESS);
    drop(psp);
    let (chip, chain) = identity(&path);
    assert_eq!(chip, first.0);
    assert_ne!(chain, first.1);
}

#[test]
fn certificates_are_those_of_the_chip() {
    let dir = tempfile::tempdir().unwrap();
    let (chip, chain) = identity(dir.path());
    let certs = dir.path().join("certs");
    let read = |name: &str| fs::read(certs.join(name)).unwrap();
    let cek = read("cek.cert");
    assert_eq!(cek[..0x414], chain[3 * common::CERT_LEN..][..0x414]);
    assert_eq!(
        read("ask_ark.cert"),
        [read("ask.cert"), read("ark.cert")].concat()
    );
    let id: String = chip
        .iter()
        .fold(String::new(), |id, byte| id + &format!("{byte:02X}"));
    assert_eq!(read(&format!("cek/id/{id}")), cek);
    // They are kept, and mended when damaged or removed.
    let before = contents(&certs);
    identity(dir.path());
    assert_eq!(contents(&certs), before);
    fs::write(certs.join("ark.cert"), "junk").unwrap();
    fs::remove_file(certs.join("ask.cert")).unwrap();
    identity(dir.path());
    assert_eq!(contents(&certs), before);
    fs::write(certs.join("cek.cert"), &cek[1..]).unwrap();
    identity(dir.path());
    let mended = read("cek.cert");
    assert_eq!(mended[..0x414], cek[..0x414]);
    assert_ne!(mended, cek, "certified anew");
}

#[test]
fn second_user_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = platform(dir.path());
    assert_refused(dir.path(), "in use by another emulator");
    drop(first);
    platform(dir.path());
}

#[test]
fn foreign_directories_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
    assert_refused(dir.path(), "no state directory of psp-emu");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("chip"), "potato, crinkle-cut").unwrap();
    assert_refused(dir.path(), "not a file of psp-emu");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("certs")).unwrap();
    assert_refused(dir.path(), "no state directory of psp-emu");
}

#[test]
fn damage_is_noticed_and_not_made_worse() {
    for name in ["chip", "flash"] {
        let dir = tempfile::tempdir().unwrap();
        identity(dir.path());
        let path = dir.path().join(name);
        let intact = fs::read(&path).unwrap();
        for at in [0x14, 0x20, 0x38, intact.len() - 1] {
            let mut damaged = intact.clone();
            damaged[at] ^= 0x40;
            fs::write(&path, damaged).unwrap();
            assert_refused(dir.path(), "damaged");
        }
        for len in [0x10, 0x18, 0x37, 0x38, intact.len() - 1] {
            fs::write(&path, &intact[..len]).unwrap();
            assert_refused(dir.path(), "damaged");
        }
        fs::write(&path, "").unwrap();
        assert_refused(dir.path(), "not a file of psp-emu");
        let mut newer = intact.clone();
        newer[0x10] = 2;
        fs::write(&path, newer).unwrap();
        assert_refused(dir.path(), "format version 2");
        fs::write(&path, intact).unwrap();
        identity(dir.path());
    }
}

#[test]
fn model_is_the_chips() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path(), Some(&GENOA), &MILAN).unwrap();
    assert_eq!(state.model(), &GENOA);
    drop(state);
    assert_eq!(
        StateDir::open(dir.path(), None, &MILAN).unwrap().model(),
        &GENOA
    );
    let refused = StateDir::open(dir.path(), Some(&MILAN), &MILAN)
        .err()
        .unwrap();
    assert!(matches!(
        refused,
        StateError::WrongModel {
            found: "genoa",
            wanted: "milan",
            ..
        }
    ));
}

#[test]
fn a_missing_parent_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    assert!(StateDir::open(&dir.path().join("a/b"), None, &MILAN).is_err());
    assert_eq!(contents(dir.path()), BTreeMap::new());
}

/// Every state a kill can leave a directory in, made by hand: between any two steps of making a chip,
/// and of replacing its flash.
#[test]
fn a_kill_at_any_point_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    // Before there is a chip.
    fs::write(path.join("lock"), "").unwrap();
    let (chip, chain) = identity(path);
    let complete = fs::read(path.join("chip")).unwrap();

    let new = tempfile::tempdir().unwrap();
    fs::write(new.path().join("lock"), "").unwrap();
    fs::write(new.path().join("chip.unfinished"), &complete[..20]).unwrap();
    identity(new.path());
    assert!(!new.path().join("chip.unfinished").exists());

    // With a chip and without its certificates, or some of them.
    let mended = |what: &str| {
        assert_eq!(identity(path), (chip.clone(), chain.clone()), "{what}");
        let unfinished = |path: &PathBuf| path.to_string_lossy().ends_with(".unfinished");
        assert!(!contents(path).keys().any(unfinished), "{what}");
    };
    fs::remove_dir_all(path.join("certs")).unwrap();
    mended("no certificates");
    fs::remove_file(path.join("certs/cek.cert")).unwrap();
    fs::write(path.join("certs/cek.cert.unfinished"), "half").unwrap();
    mended("half a certificate");

    // While the flash was being replaced.
    fs::write(path.join("flash.unfinished"), "half").unwrap();
    mended("half a flash");
    fs::rename(path.join("flash"), path.join("flash.unfinished")).unwrap();
    let (same_chip, new_chain) = identity(path);
    assert_eq!(same_chip, chip);
    assert_ne!(new_chain, chain, "what was not renamed was never there");
}
