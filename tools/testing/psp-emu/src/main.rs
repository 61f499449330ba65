// SPDX-License-Identifier: GPL-2.0
//! The program: one emulated PSP on a vfio-user socket.
#![forbid(unsafe_code)]

use clap::{builder::TypedValueParser, error::ErrorKind, Arg, Parser};
use psp_emu::{
    device::{
        fault::{self, Fault, Faults},
        latency::Latency,
        Device,
    },
    firmware::{cores::CounterFile, Encryption, Firmware, OnMeasured},
    model::{ModelRef, MILAN},
    socket::{self, SocketError, SocketFile},
    state_dir::{StateDir, StateError},
    trace::Trace,
    transcripts::Transcripts,
    vfio,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    thread,
};
use tracing::{error, info, Level};

/// An emulated AMD Secure Processor (PSP) with its SEV firmware, as a vfio-user PCI device for QEMU.
///
/// Serves one VM after another until it gets SIGTERM or SIGINT. The socket appears when VMs may
/// connect. A new state directory gets a new chip.
#[derive(Parser)]
#[command(name = "psp-emu", version)]
struct Options {
    /// The socket to listen on
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The directory of the chip's identity and persistent data
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// naples, rome, milan, genoa or turin [default: that of the state directory, milan in a new one]
    #[arg(long, value_name = "MODEL")]
    model: Option<ModelRef>,
    /// aes: what a guest is launched from becomes ciphertext in the VM's RAM; plain: it stays readable
    #[arg(long, value_name = "aes|plain", default_value = "aes")]
    memory: Encryption,
    /// Write what each guest was launched from to this directory
    #[arg(long, value_name = "DIR")]
    transcripts: Option<PathBuf>,
    /// How many WBINVD each of the VM's CPUs has executed, as the lab's QEMU plugin keeps count; a driver
    /// that forgets one is then told so
    #[arg(long, value_name = "FILE")]
    wbinvd: Option<PathBuf>,
    /// Write a line for each command to this file
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How long commands take: none, hardware (about as long as on an early EPYC) or slow (ten times that)
    #[arg(long, value_name = "PROFILE", default_value = "none")]
    latency: Latency,
    /// Make something go wrong; may be given several times; help lists what there is
    #[arg(long = "fault", value_name = "SPEC", value_parser = FaultParser)]
    faults: Vec<Fault>,
    /// Say more; twice for every message of the protocol
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// A fault, or `help`, which prints the table and ends the program whatever else is missing.
#[derive(Clone)]
struct FaultParser;

impl TypedValueParser for FaultParser {
    type Value = Fault;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Fault, clap::Error> {
        if value == "help" {
            return Err(clap::Error::raw(ErrorKind::DisplayHelp, fault::help()));
        }
        str::parse::<Fault>.parse_ref(command, argument, value)
    }
}

/// Why the program cannot run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("state directory: {0}")]
    State(#[from] StateError),
    #[error("socket: {0}")]
    Socket(#[from] SocketError),
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("signals: {0}")]
    Signals(io::Error),
    #[error("server: {0}")]
    Server(io::Error),
}

/// Ends the program cleanly at a signal.
///
/// Nothing else needs to end cleanly: the state directory is right at any moment.
fn exit_on_signal(file: SocketFile) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        if signals.forever().next().is_some() {
            drop(file);
            process::exit(0);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)?;
    Ok(())
}

/// Names the file an operation failed on.
fn named<T>(path: PathBuf, open: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, RunError> {
    open(&path).map_err(|source| RunError::File { path, source })
}

/// Writes transcripts as guests are measured. The guest's host must not see a full disk of ours.
fn keeper(mut transcripts: Transcripts) -> OnMeasured {
    Box::new(move |transcript| {
        if let Err(cause) = transcripts.add(transcript) {
            error!("transcript: {cause}");
        }
    })
}

fn run(options: Options) -> Result<(), RunError> {
    let state = StateDir::open(&options.state, options.model.map(|model| model.0), &MILAN)?;
    let model = state.model();
    let mut firmware = Firmware::new(model, state.chip(), state.into_flash());
    firmware = firmware.with_encryption(options.memory);
    if let Some(path) = options.wbinvd {
        let file = named(path, |path| File::open(path))?;
        firmware = firmware.with_cores(Box::new(CounterFile(file)));
    }
    if let Some(path) = options.transcripts {
        let transcripts = named(path, Transcripts::open)?;
        firmware = firmware.with_transcripts(keeper(transcripts));
    }
    let version = firmware.version();
    let create = |path: PathBuf| named(path, |path| Trace::create(path, model, version));
    let trace = options.trace.map(create).transpose()?;
    let mut device = Device::new(model, firmware, Faults::from(options.faults));
    device.latency = options.latency;
    let (listener, file) = socket::bind(&options.socket)?;
    exit_on_signal(file).map_err(RunError::Signals)?;
    info!(
        "{} with SEV API {version} on {}",
        model.name,
        options.socket.display()
    );
    vfio::serve(listener, device, trace).map_err(RunError::Server)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let level = match options.verbose {
        0 => Level::WARN,
        1 => Level::INFO,
        _ => Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(level)
        .init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!("{cause}");
            ExitCode::FAILURE
        }
    }
}
