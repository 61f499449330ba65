// SPDX-License-Identifier: GPL-2.0
//! The program: one virtio device on a vfio-user socket.
#![forbid(unsafe_code)]

use clap::Parser;
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};
use tracing::{error, Level};
use vdev::{
    device::Device,
    lie,
    spec::{Spec, SpecError},
    vfio,
    watch::Watch,
};
use vfio_device::socket::{self, SocketError};

/// A virtio device for QEMU's vfio-user-pci that keeps account of what memory it was given, and that may lie.
///
/// Serves one VM after another until it gets SIGTERM or SIGINT. The socket appears when VMs may connect.
#[derive(Parser)]
#[command(name = "vdev", version)]
struct Options {
    /// The socket to listen on
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Write a line of JSON to this file for all memory the device is given, and for each lie
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The guest-physical address, in hexadecimal after 0x, from which on memory is private: the device takes none of it
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    private: Option<u64>,
    /// The device: blk or net, and options after commas; hostile=help lists the lies there are
    spec: String,
}

fn address(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| "not 0x and a hexadecimal number".to_owned())
}

/// Why the program cannot run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("{spec}: {source}")]
    Spec { spec: String, source: SpecError },
    #[error("socket: {0}")]
    Socket(#[from] SocketError),
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    System(io::Error),
}

fn run(options: Options) -> Result<(), RunError> {
    let spec: Spec = options.spec.parse().map_err(|source| RunError::Spec {
        spec: options.spec.clone(),
        source,
    })?;
    let seed = spec.seed.unwrap_or_else(|| fastrand::u64(..));
    let watch = match options.log {
        None => Watch::default(),
        Some(path) => Watch::create(&path, &options.spec, seed)
            .map_err(|source| RunError::File { path, source })?,
    };
    let device = Device::new(spec, seed, watch);
    let (listener, file) = socket::bind(&options.socket)?;
    socket::exit_on_signal(file).map_err(RunError::System)?;
    vfio::serve(listener, device, options.private).map_err(RunError::System)
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options
        .spec
        .split(',')
        .any(|word| word == "help" || word == "hostile=help")
    {
        print!("{}", lie::help());
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(Level::WARN)
        .init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!("{cause}");
            ExitCode::FAILURE
        }
    }
}
