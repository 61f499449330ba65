// SPDX-License-Identifier: GPL-2.0
//! Launches a SEV guest through the kernel's KVM, and plays its owner, too.
//!
//! Two parties who do not trust each other: the host (`host`) has the machine, the owner (`owner`) has the image and the
//! secret. They exchange messages (`messages`) and nothing else.
//!
//! Specifications: AMD publication 55766, "Secure Encrypted Virtualization API", revision 3.24 (`SEV-API`), and 24593,
//! "AMD64 Architecture Programmer's Manual, volume 2" (`APM2`).
#![deny(unsafe_code)]

mod certificates;
mod cheat;
mod host;
mod image;
mod launch;
mod messages;
mod migrate;
mod owner;
mod policy;
mod say;

use anyhow::Result;
use certificates::Certificates;
use cheat::Cheat;
use clap::{Args, Parser, Subcommand};
use launch::OwnerKind;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// Launch a guest with encrypted memory, give it a secret, have it attested, move it to another host.
#[derive(Parser)]
#[command(name = "sev-launch", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Launch a guest, attest it, and have the host try to see its secret
    Launch(Launch),
    /// Launch a guest and send it to another host
    Send {
        #[command(flatten)]
        launch: Launch,
        #[command(flatten)]
        exchange: Exchange,
    },
    /// Receive a guest from another host
    Receive {
        #[command(flatten)]
        platform: Platform,
        #[command(flatten)]
        exchange: Exchange,
    },
}

#[derive(Args)]
struct Platform {
    /// AMD's certificates for this chip: the directory with cek.cert and ask_ark.cert
    #[arg(long, value_name = "DIR")]
    certs: PathBuf,
}

#[derive(Args)]
struct Launch {
    #[command(flatten)]
    platform: Platform,
    /// The guest's policy, a sum of 1 no debugging, 2 no key sharing, 4 SEV-ES, 8 not to be sent,
    /// 16 same owner only, 32 AMD's platforms only
    #[arg(long, value_name = "NUMBER", default_value = "3", value_parser = number)]
    policy: u32,
    /// What the owner's side is made of
    #[arg(long, value_enum, default_value = "library")]
    owner: OwnerKind,
    /// Have the host cheat
    #[arg(long, value_enum)]
    cheat: Option<Cheat>,
}

#[derive(Args)]
struct Exchange {
    /// The directory that both hosts share
    #[arg(long, value_name = "DIR")]
    exchange: PathBuf,
    /// How long to wait for the other host
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    patience: u64,
}

/// A number, decimal or with 0x.
fn number(text: &str) -> Result<u32, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Launch(options) => {
            let launched = start(&options)?;
            launched.attest(options.cheat)?;
            launch::peek(&launched.guest)
        }
        Command::Send {
            launch: options,
            exchange,
        } => {
            let mut launched = start(&options)?;
            let certificates = Certificates::read(&options.platform.certs)?;
            let patience = Duration::from_secs(exchange.patience);
            migrate::send(
                &mut launched,
                &certificates,
                &exchange.exchange,
                patience,
                options.cheat,
            )
        }
        Command::Receive { platform, exchange } => {
            let certificates = Certificates::read(&platform.certs)?;
            let patience = Duration::from_secs(exchange.patience);
            let guest = migrate::receive(&certificates, &exchange.exchange, patience)?;
            launch::peek(&guest)
        }
    }
}

fn start(options: &Launch) -> Result<launch::Launched> {
    let certificates = Certificates::read(&options.platform.certs)?;
    launch::launch(&certificates, options.policy, options.owner, options.cheat)
}

fn main() -> ExitCode {
    match run(Options::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sev-launch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
