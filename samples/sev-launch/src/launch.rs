// SPDX-License-Identifier: GPL-2.0
//! A launch, step by step: what the host does, what the owner does, and what goes between them.

use crate::{
    certificates::Certificates,
    cheat::{flip, Cheat},
    host::{
        command::{CommandError, FirmwareStatus},
        guest::Guest,
        platform::Platform,
    },
    image::{self, PROGRAM_GPA, SECRET_GPA},
    messages::{Measurement, PlatformChain, CERTIFICATE_LEN},
    owner::{library::LibraryOwner, report, sevctl::SevctlOwner, Order, Owner, DISK_KEY_LEN},
    policy, say,
};
use anyhow::{bail, ensure, Context, Result};
use clap::ValueEnum;

/// Where the disk key is in the guest's memory: behind the GUIDs and lengths of table and entry.
const DISK_KEY_GPA: u64 = SECRET_GPA + 40;

/// What a guest's memory is looked at by: a few blocks of its program.
const GLANCE: usize = 48;

/// What the owner's side is made of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OwnerKind {
    /// The crate `sev`
    Library,
    /// The program sevctl
    Sevctl,
}

/// A guest that runs, and those who talk about it.
pub(crate) struct Launched {
    pub(crate) guest: Guest,
    pub(crate) chain: PlatformChain,
    order: Order,
}

/// Launches a guest up to the point where it may run and has its secret.
pub(crate) fn launch(
    certificates: &Certificates,
    policy: u32,
    kind: OwnerKind,
    cheat: Option<Cheat>,
) -> Result<Launched> {
    let mut platform = Platform::open()?;
    let mut chain = platform.chain(&certificates.cek)?;
    say::host("shows its certificates", "PDH, PEK, OCA, CEK");
    if cheat == Some(Cheat::Chain) {
        flip(&mut chain.0, CERTIFICATE_LEN + 0x20);
    }

    let order = Order::new(policy)?;
    let mut owner: Box<dyn Owner> = match kind {
        OwnerKind::Library => Box::new(LibraryOwner::new(&order, certificates.roots.clone())),
        OwnerKind::Sevctl => Box::new(SevctlOwner::new(&order, certificates.roots.clone())?),
    };
    let mut session = owner
        .session(&chain)
        .context("the owner refuses the platform")?;
    match cheat {
        Some(Cheat::Session) => flip(&mut session.session, 0),
        Some(Cheat::Policy) => session.policy &= !policy::NODBG,
        _ => {}
    }

    let mut image = image::regions();
    if cheat == Some(Cheat::Image) {
        flip(&mut image[0].bytes, 0x1000);
    }
    let mut guest = Guest::create(session.policy, &image)?;
    guest.launch_start(&mut session)?;
    say_state("LAUNCH_START", &guest)?;
    load(&mut guest, session.policy)?;
    let measurement = Measurement {
        version: platform.version()?,
        blob: guest.launch_measure()?,
    };
    say::host("LAUNCH_MEASURE", &say::bytes(&measurement.blob));

    let mut packet = owner
        .secret(&measurement)
        .context("the owner keeps the secret")?;
    drop(owner);
    if cheat == Some(Cheat::Secret) {
        flip(&mut packet.payload, 40);
    }
    guest.launch_secret(&mut packet, SECRET_GPA)?;
    say::host(
        "LAUNCH_SECRET",
        "the firmware writes the key into the guest",
    );
    guest.launch_finish()?;
    say_state("LAUNCH_FINISH", &guest)?;
    Ok(Launched {
        guest,
        chain,
        order,
    })
}

/// Has the image encrypted and measured, and shows what becomes of the guest's program before the host's eyes.
fn load(guest: &mut Guest, policy: u32) -> Result<()> {
    let before = guest.memory.read(PROGRAM_GPA, GLANCE)?;
    guest.launch_update_data()?;
    let after = guest.memory.read(PROGRAM_GPA, GLANCE)?;
    ensure!(before != after, "the guest's memory is not encrypted");
    say::host(
        "LAUNCH_UPDATE_DATA",
        "the image is encrypted where it is, and measured:",
    );
    say::host("", &format!("{} before", say::bytes(&before)));
    say::host("", &format!("{} after", say::bytes(&after)));
    if policy & policy::ES != 0 {
        guest.launch_update_vmsa()?;
        say::host("LAUNCH_UPDATE_VMSA", "so are the processor's registers");
    }
    Ok(())
}

impl Launched {
    /// Has the owner ask for a report and check it.
    pub(crate) fn attest(&self, cheat: Option<Cheat>) -> Result<()> {
        let mut nonce = [0; 16];
        openssl::rand::rand_bytes(&mut nonce)?;
        let mut bytes = match self.guest.attestation_report(nonce) {
            Err(error) if error.status == FirmwareStatus::INVALID_COMMAND => {
                say::host("GET_ATTESTATION_REPORT", "this firmware is too old for it");
                return Ok(());
            }
            answer => answer?,
        };
        say::host("GET_ATTESTATION_REPORT", &say::bytes(&bytes));
        if cheat == Some(Cheat::Report) {
            flip(&mut bytes, 0x10);
        }
        report::verify(&bytes, &nonce, &self.order, &self.chain)
            .context("the owner does not believe the report")?;
        say::owner(
            "checks the report",
            "its nonce, its image and policy, the PEK's signature",
        );
        Ok(())
    }
}

/// Has the host try to see the disk key: without the firmware's help, and with it.
pub(crate) fn peek(guest: &Guest) -> Result<()> {
    let (policy, _) = guest.status()?;
    let seen = guest.memory.read(DISK_KEY_GPA, DISK_KEY_LEN)?;
    say::host(
        "looks for the disk key",
        &format!("sees {}", say::bytes(&seen)),
    );
    match guest.decrypt(DISK_KEY_GPA, seen.len()) {
        Ok(_) if policy & policy::NODBG != 0 => {
            bail!("DBG_DECRYPT gave the key away, against the policy")
        }
        Ok(key) => {
            ensure!(key != seen, "the host sees the disk key");
            say::host("DBG_DECRYPT", &say::key(&key));
        }
        Err(error) if policy & policy::NODBG != 0 && is_policy_failure(&error) => {
            say::host("DBG_DECRYPT", &format!("refused: {error}"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Says in which state a guest is after a command.
pub(crate) fn say_state(command: &str, guest: &Guest) -> Result<()> {
    let (policy, state) = guest.status()?;
    say::host(command, &format!("state {state}, policy {policy:#x}"));
    Ok(())
}

fn is_policy_failure(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<CommandError>()
        .is_some_and(|error| error.status == FirmwareStatus::POLICY_FAILURE)
}
