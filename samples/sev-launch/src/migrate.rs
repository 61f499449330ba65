// SPDX-License-Identifier: GPL-2.0
//! A guest moves from one host to another. They share a directory: the receiver puts its certificates there, the sender
//! the encrypted guest.

use crate::{
    certificates::Certificates,
    cheat::{flip, Cheat},
    host::{guest::Guest, platform::Platform, stream::Stream},
    image::{self, Region},
    launch::{say_state, Launched},
    messages::PlatformChain,
    policy, say,
};
use anyhow::{ensure, Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(100);

/// The directory's files.
fn chain_file(directory: &Path) -> PathBuf {
    directory.join("receiver.chain")
}

fn guest_file(directory: &Path) -> PathBuf {
    directory.join("guest")
}

/// Sends a running guest to the platform whose certificates are in the directory, or will be within the time.
pub(crate) fn send(
    launched: &mut Launched,
    certificates: &Certificates,
    directory: &Path,
    patience: Duration,
    cheat: Option<Cheat>,
) -> Result<()> {
    let (policy, _) = launched.guest.status()?;
    ensure!(
        policy & policy::ES == 0,
        "KVM has no command to send the registers of a SEV-ES guest"
    );
    let path = chain_file(directory);
    wait_for(&path, patience)?;
    let mut target = PlatformChain(fs::read(&path).with_context(|| path.display().to_string())?);
    if cheat == Some(Cheat::Receiver) {
        flip(&mut target.0, 0x14);
    }
    let mut amd = certificates.roots.0.clone();
    let mut stream = launched
        .guest
        .send(&launched.chain, &mut target, &mut amd)?;
    let pages = stream.packets.len();
    say_state("SEND_START ... SEND_FINISH", &launched.guest)?;
    if cheat == Some(Cheat::Packet) {
        stream.tamper();
    }
    stream.write(&guest_file(directory))?;
    say::host(
        "",
        &format!("{pages} pages, encrypted for the other platform only"),
    );
    Ok(())
}

/// Receives a guest that is in the directory, or will be within the time.
pub(crate) fn receive(
    certificates: &Certificates,
    directory: &Path,
    patience: Duration,
) -> Result<Guest> {
    let chain = Platform::open()?.chain(&certificates.cek)?;
    let path = chain_file(directory);
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, &chain.0)
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| path.display().to_string())?;
    say::host("shows its certificates", "PDH, PEK, OCA, CEK");

    let path = guest_file(directory);
    wait_for(&path, patience)?;
    let mut stream = Stream::read(&path)?;
    let empty: Vec<Region> = image::regions()
        .into_iter()
        .map(|region| Region {
            bytes: vec![0; region.bytes.len()],
            ..region
        })
        .collect();
    let mut guest = Guest::create(stream.header.policy(), &empty)?;
    guest.receive_start(&mut stream.header)?;
    say_state("RECEIVE_START", &guest)?;
    for packet in &mut stream.packets {
        guest.receive_update(packet)?;
    }
    say::host(
        "RECEIVE_UPDATE_DATA",
        &format!("{} pages", stream.packets.len()),
    );
    guest.receive_finish()?;
    say_state("RECEIVE_FINISH", &guest)?;
    Ok(guest)
}

/// Waits for the other host.
fn wait_for(path: &Path, patience: Duration) -> Result<()> {
    let start = Instant::now();
    while !path.exists() {
        ensure!(
            start.elapsed() < patience,
            "{} did not appear within {} s",
            path.display(),
            patience.as_secs()
        );
        thread::sleep(POLL);
    }
    Ok(())
}
