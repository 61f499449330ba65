// SPDX-License-Identifier: GPL-2.0
//! Shows which pages of a SEV guest are shared with its host: prints them, and draws a picture of them.
#![forbid(unsafe_code)]

#[path = "../../sev-cpu/src/filling.rs"]
mod filling;
mod memory;
mod picture;
mod survey;

use anyhow::{Context, Result};
use clap::Parser;
use memenc::{
    cbit::Encoding,
    entry::{Levels, Paging},
};
use memory::Memory;
use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use survey::{State, Survey};

/// Shows which pages of a SEV guest its kernel has shared with the host, from images of its memory.
///
/// A page is shared if the kernel's half of the page tables maps it so anywhere, and in use if it then has
/// something in it: other bytes than zeros, and not what the lab's sealing has put there.
#[derive(Parser)]
#[command(name = "sev-map", version)]
struct Options {
    /// The memory as the host sees it
    #[arg(long, value_name = "FILE")]
    shared: PathBuf,
    /// The memory as the guest sees it where the C-bit is set; may be the same file
    #[arg(long, value_name = "FILE")]
    private: PathBuf,
    /// The register of a processor of the guest, in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = hex)]
    cr3: u64,
    /// Position of the C-bit
    #[arg(long, value_name = "BIT")]
    c_bit: u32,
    /// Levels of page tables: 4 or 5
    #[arg(long, default_value = "4", value_parser = levels)]
    levels: Levels,
    /// How much of the memory begins at address 0; the rest begins at 4 GiB [default: all]
    #[arg(long, value_name = "MIB")]
    low: Option<u64>,
    /// Draw a picture, one pixel for each page
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
}

fn hex(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)
}

fn levels(text: &str) -> Result<Levels, &'static str> {
    match text {
        "4" => Ok(Levels::Four),
        "5" => Ok(Levels::Five),
        _ => Err("there are 4 or 5"),
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sev-map: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let encoding = Encoding::c_bit(options.c_bit)
        .with_context(|| format!("there can be no C-bit at {}", options.c_bit))?;
    let low = options.low.map(|mib| mib.saturating_mul(1 << 20));
    let memory = Memory::open(&options.shared, &options.private, low)?;
    let paging = Paging::new(encoding, options.levels);
    let survey = Survey::new(&memory, &paging, options.cr3)?;
    for fault in &survey.faults {
        eprintln!("sev-map: page tables at {fault}");
    }
    print(&survey, &memory).context("standard output")?;
    if let Some(path) = &options.png {
        File::create(path)
            .map_err(anyhow::Error::from)
            .and_then(|file| picture::write(file, &survey.states))
            .with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

/// A line for each state, then one for each range of shared pages.
fn print(survey: &Survey, memory: &Memory) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for state in State::ALL {
        let pages = survey.count(state);
        writeln!(
            out,
            "{:<16} {pages:>9} pages {:>9.1} MiB",
            state.name(),
            mib(pages)
        )?;
    }
    writeln!(out)?;
    for range in survey.shared_ranges(memory) {
        writeln!(
            out,
            "{:#014x}-{:#014x} {:>9} pages shared, {} of them in use",
            range.first, range.last, range.pages, range.used
        )?;
    }
    Ok(())
}

fn mib(pages: usize) -> f64 {
    // CAST: for people; exact as far as there is memory.
    pages as f64 / 256.0
}
