// SPDX-License-Identifier: GPL-2.0
//! The program: one emulated PSP, or an SNP guest's way to one, on a vfio-user socket.
#![forbid(unsafe_code)]

use clap::{
    builder::{StringValueParser, TypedValueParser},
    error::ErrorKind,
    Arg, CommandFactory, Parser,
};
use psp_emu::{
    device::{
        fault::{self, Fault, Faults},
        latency::Latency,
        Device,
    },
    firmware::{cores::CounterFile, Encryption, Firmware, OnMeasured},
    guest_requests::{
        self,
        certificates::{CertificateError, Chain},
        firmware::Signers,
        generation::Generation,
        guest::Guest,
        host::Host,
    },
    model::{ModelRef, MILAN},
    socket::{self, SocketError},
    state_dir::{StateDir, StateError},
    trace::Trace,
    transcripts::Transcripts,
    vfio,
};
use rand_core::OsRng;
use std::{
    ffi::OsStr,
    fmt::Display,
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
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
    faults: Vec<String>,
    /// Be the device through which an SNP guest reaches its hypervisor and the PSP, instead of the PSP of a host
    #[arg(long, requires_all = ["secrets", "secrets_address"], conflicts_with_all = ["transcripts", "wbinvd"])]
    guest: bool,
    /// With --guest: write the guest's secrets page to this file
    #[arg(long, value_name = "FILE", requires = "guest")]
    secrets: Option<PathBuf>,
    /// With --guest: the guest-physical address that it will be loaded to, in hexadecimal after 0x
    #[arg(long, value_name = "ADDRESS", requires = "guest", value_parser = address)]
    secrets_address: Option<u64>,
    /// With --guest: the host has loaded a VLEK, which signs reports instead of the chip's own key
    #[arg(long, requires = "guest")]
    vlek: bool,
    /// Say more; twice for every message of the protocol
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// The address of a page.
fn address(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    match u64::from_str_radix(digits, 16) {
        Ok(address) if address % 0x1000 == 0 => Ok(address),
        _ => Err("not 0x and the hexadecimal address of a page".to_owned()),
    }
}

/// A fault of one of the devices, or `help`, which prints the tables and ends the program whatever else is missing.
#[derive(Clone)]
struct FaultParser;

impl TypedValueParser for FaultParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        if value == "help" {
            let tables = fault::help() + "\n" + &guest_requests::fault::help();
            return Err(clap::Error::raw(ErrorKind::DisplayHelp, tables));
        }
        StringValueParser::new().parse_ref(command, argument, value)
    }
}

/// The faults of a device; ends the program when one is none of its.
fn parsed<F: FromStr<Err: Display>>(faults: &[String]) -> Vec<F> {
    let parse = |text: &String| {
        text.parse().unwrap_or_else(|cause| {
            let message = format!("invalid value '{text}' for '--fault <SPEC>': {cause}");
            Options::command()
                .error(ErrorKind::ValueValidation, message)
                .exit()
        })
    };
    faults.iter().map(parse).collect()
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
    #[error("{0} has no SNP")]
    NoSnp(&'static str),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
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

/// A guest that is launched now, on a device of its own.
fn guest_device(
    options: &Options,
    state: &StateDir,
    faults: Vec<guest_requests::fault::Fault>,
) -> Result<guest_requests::device::Device, RunError> {
    let model = state.model();
    let generation = Generation::of(model).ok_or(RunError::NoSnp(model.name))?;
    let chip = state.chip();
    let signers = Signers::of(&chip, generation, options.vlek);
    let chain = Chain::of(generation, signers.usual(), &chip.id(), &mut OsRng)?;
    let guest = Guest::launch(&mut OsRng);
    if let Some(path) = &options.secrets {
        let secrets = guest.secrets_page(generation);
        let mut file = OpenOptions::new();
        file.write(true).create(true).truncate(true).mode(0o600);
        let write = |path: &Path| file.open(path)?.write_all(&secrets[..]);
        named(path.clone(), write)?;
    }
    let firmware =
        guest_requests::firmware::Firmware::new(model, generation, &chip, signers, guest);
    let host = Host::new(firmware, chain.table(), faults.into());
    Ok(guest_requests::device::Device::new(
        host,
        options.secrets_address.unwrap_or_default(),
    ))
}

/// The device of guest requests.
fn run_guest(options: &Options) -> Result<(), RunError> {
    let faults = parsed(&options.faults);
    let state = StateDir::open(&options.state, options.model.map(|model| model.0), &MILAN)?;
    let device = guest_device(options, &state, faults)?;
    let model = state.model();
    let create = |path: &PathBuf| {
        named(path.clone(), |path| {
            Trace::create(path, model, model.version)
        })
    };
    let trace = options.trace.as_ref().map(create).transpose()?;
    let (listener, file) = socket::bind(&options.socket)?;
    socket::exit_on_signal(file).map_err(RunError::Signals)?;
    info!(
        "guest requests of {} on {}",
        model.name,
        options.socket.display()
    );
    vfio::serve_guest_requests(listener, device, trace)
}

fn run(options: Options) -> Result<(), RunError> {
    if options.guest {
        return run_guest(&options);
    }
    let faults = Faults::from(parsed::<Fault>(&options.faults));
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
    let mut device = Device::new(model, firmware, faults);
    device.latency = options.latency;
    let (listener, file) = socket::bind(&options.socket)?;
    socket::exit_on_signal(file).map_err(RunError::Signals)?;
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
