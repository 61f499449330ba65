// SPDX-License-Identifier: GPL-2.0

//! What happened, for whoever asks later: counters of each command, failures, the history of the
//! platform.

use core::fmt;

use crate::cmd::platform::FwVersion;
use crate::cmd::CmdId;
use crate::error::CmdError;
use crate::image::FileName;
use crate::status::FwStatus;

/// Buckets of a latency histogram: bucket 0 has what took less than 2 microseconds, bucket n what took
/// 2^n to 2^(n+1), the last one everything longer (from 33 s).
pub const BUCKETS: usize = 26;

/// Counters of one command.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// How often it was sent.
    pub count: u64,
    /// How often it did not succeed.
    pub failures: u64,
    /// Microseconds of all together.
    pub total_us: u64,
    /// Microseconds of the longest.
    pub max_us: u64,
    /// How many took how long; see [`BUCKETS`].
    pub latency: [u32; BUCKETS],
}

impl Counters {
    const ZERO: Counters = Counters {
        count: 0,
        failures: 0,
        total_us: 0,
        max_us: 0,
        latency: [0; BUCKETS],
    };

    /// An upper bound for the latency of `percent` of the commands, in microseconds; exact to a factor of
    /// two.
    pub fn percentile_us(&self, percent: u64) -> u64 {
        let mut left = self.count.saturating_mul(percent).div_ceil(100);
        for (bucket, &count) in self.latency.iter().enumerate() {
            left = left.saturating_sub(count.into());
            if left == 0 {
                return (2u64 << bucket).min(self.max_us);
            }
        }
        self.max_us
    }
}

fn bucket(us: u64) -> usize {
    // CAST: below 64.
    (us.max(1).ilog2() as usize).min(BUCKETS - 1)
}

/// A way a command failed, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// The command.
    pub id: CmdId,
    /// How it failed.
    pub cause: CmdError,
    /// How often in just this way.
    pub count: u64,
    /// When it did so last, as [`Host::now_us`](crate::host::Host::now_us) counts.
    pub at_us: u64,
}

/// Ways to fail that are kept. More would not make a better report.
const FAILURES: usize = 16;

/// How the platform was initialised last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitKind {
    /// INIT: the persistent data are in the PSP's flash.
    Init,
    /// INIT_EX: the persistent data are in a file of the host.
    InitEx,
}

/// What became of the search for a firmware file.
#[derive(Clone, Copy, Debug)]
pub enum Update {
    /// Not tried: this kernel leaves the firmware alone, or the firmware cannot be updated.
    NotTried,
    /// There is none for this processor.
    NoFile,
    /// It was found and downloaded.
    Done {
        /// Its name.
        file: FileName,
        /// Its bytes.
        size: usize,
    },
    /// It was found, and the firmware did not take it.
    Failed {
        /// Its name.
        file: FileName,
        /// Its bytes.
        size: usize,
        /// Why.
        cause: CmdError,
    },
}

/// Everything that is kept.
#[derive(Clone, Debug)]
pub struct Ledger {
    counters: [Counters; CmdId::ALL.len()],
    failures: [Option<Failure>; FAILURES],
    /// Failures that did not fit.
    pub other_failures: u64,
    first: Option<Failure>,
    last: Option<Failure>,
    /// Version of the firmware before the last update.
    pub version_before: Option<FwVersion>,
    /// Version of the firmware.
    pub version: Option<FwVersion>,
    /// The last search for a firmware file.
    pub update: Update,
    /// The last successful initialisation.
    pub init: Option<InitKind>,
    /// Bytes of the TMR; `None` if there is none, and thus no SEV-ES.
    pub tmr_len: Option<usize>,
    /// Commands that completed without the interrupt they asked for.
    pub lost_interrupts: u32,
    /// Times that an answer came after its caller had gone.
    pub late_answers: u32,
}

impl Ledger {
    /// An empty one.
    pub const fn new() -> Self {
        Ledger {
            counters: [Counters::ZERO; CmdId::ALL.len()],
            failures: [None; FAILURES],
            other_failures: 0,
            first: None,
            last: None,
            version_before: None,
            version: None,
            update: Update::NotTried,
            init: None,
            tmr_len: None,
            lost_interrupts: 0,
            late_answers: 0,
        }
    }

    /// Counts a command that is over, `sent` or not. Returns how often it failed in just this way, if it
    /// failed.
    pub fn count(
        &mut self,
        id: CmdId,
        outcome: Result<FwStatus, CmdError>,
        sent: bool,
        us: u64,
        now_us: u64,
    ) -> Option<u64> {
        let cause = match outcome {
            Ok(FwStatus::SUCCESS) => None,
            Ok(status) => Some(CmdError::Firmware(status)),
            Err(cause) => Some(cause),
        };
        if let Some(counters) = self.counters.get_mut(id.index()) {
            // Whatever was not sent took no time of the firmware's.
            if sent {
                counters.count += 1;
                counters.total_us = counters.total_us.saturating_add(us);
                counters.max_us = counters.max_us.max(us);
                if let Some(count) = counters.latency.get_mut(bucket(us)) {
                    *count = count.saturating_add(1);
                }
            }
            if cause.is_some() {
                counters.failures += 1;
            }
        }
        Some(self.fail(id, cause?, now_us))
    }

    fn fail(&mut self, id: CmdId, cause: CmdError, at_us: u64) -> u64 {
        let new = Failure {
            id,
            cause,
            count: 1,
            at_us,
        };
        self.first = self.first.or(Some(new));
        self.last = Some(new);
        for slot in &mut self.failures {
            match slot {
                Some(old) if old.id == id && old.cause == cause => {
                    old.count += 1;
                    old.at_us = at_us;
                    return old.count;
                }
                Some(_) => {}
                None => {
                    *slot = Some(new);
                    return 1;
                }
            }
        }
        self.other_failures += 1;
        1
    }

    /// Commands that were sent, with their counters.
    pub fn commands(&self) -> impl Iterator<Item = (CmdId, &Counters)> {
        Iterator::zip(CmdId::ALL.iter().copied(), &self.counters)
            .filter(|(_, counters)| counters.count > 0 || counters.failures > 0)
    }

    /// Ways in which commands failed.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter().flatten()
    }

    /// The very first failure, which is often the cause of those after it.
    pub fn first_failure(&self) -> Option<&Failure> {
        self.first.as_ref()
    }

    /// The last failure.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.last.as_ref()
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds(f: &mut fmt::Formatter<'_>, us: u64) -> fmt::Result {
    write!(f, "{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, at ", self.id.name(), self.cause)?;
        seconds(f, self.at_us)?;
        match self.cause.hint() {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Update::NotTried => f.write_str("not looked for"),
            Update::NoFile => f.write_str("none for this processor"),
            Update::Done { file, size } => write!(f, "{file} ({size} bytes)"),
            Update::Failed { file, size, cause } => {
                write!(f, "{file} ({size} bytes), not taken: {cause}")
            }
        }
    }
}

struct Version(Option<FwVersion>);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(version) => write!(f, "{version}"),
            None => f.write_str("unknown"),
        }
    }
}

/// A report: a line for each fact, `name: value`, then tables.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "firmware: {}", Version(self.version))?;
        writeln!(
            f,
            "firmware-before-update: {}",
            Version(self.version_before)
        )?;
        writeln!(f, "firmware-file: {}", self.update)?;
        match self.init {
            Some(InitKind::Init) => writeln!(f, "initialised-with: INIT")?,
            Some(InitKind::InitEx) => writeln!(f, "initialised-with: INIT_EX")?,
            None => writeln!(f, "initialised-with: nothing yet")?,
        }
        match self.tmr_len {
            Some(len) => writeln!(f, "tmr: {len} bytes")?,
            None => writeln!(f, "tmr: none, no SEV-ES")?,
        }
        writeln!(f, "lost-interrupts: {}", self.lost_interrupts)?;
        writeln!(f, "late-answers: {}", self.late_answers)?;
        for (name, failure) in [("first-failure", self.first), ("last-failure", self.last)] {
            match failure {
                Some(failure) => writeln!(f, "{name}: {failure}")?,
                None => writeln!(f, "{name}: none")?,
            }
        }
        writeln!(
            f,
            "\ncommand count failures mean-us median-us p99-us max-us"
        )?;
        for (id, counters) in self.commands() {
            writeln!(
                f,
                "{} {} {} {} {} {} {}",
                id.name(),
                counters.count,
                counters.failures,
                counters.total_us / counters.count.max(1),
                counters.percentile_us(50),
                counters.percentile_us(99),
                counters.max_us,
            )?;
        }
        writeln!(f, "\ncommand latency-from-us:count...")?;
        for (id, counters) in self.commands() {
            f.write_str(id.name())?;
            for (bucket, count) in counters.latency.iter().enumerate() {
                if *count > 0 {
                    let from = if bucket == 0 { 0 } else { 1u64 << bucket };
                    write!(f, " {from}:{count}")?;
                }
            }
            writeln!(f)?;
        }
        writeln!(f, "\ncommand failure count")?;
        for failure in self.failures() {
            writeln!(
                f,
                "{} {} {}",
                failure.id.name(),
                failure.cause,
                failure.count
            )?;
        }
        if self.other_failures > 0 {
            writeln!(f, "others - {}", self.other_failures)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::mailbox::Fault;
    use std::{format, vec::Vec};

    #[test]
    fn latencies_go_to_powers_of_two() {
        assert_eq!(
            [0, 1, 2, 3, 4, 1023, 1024, u64::MAX].map(bucket),
            [0, 0, 1, 1, 2, 9, 10, BUCKETS - 1]
        );
        let mut ledger = Ledger::new();
        for us in (0..99).map(|_| 100).chain([5000]) {
            ledger.count(CmdId::PekCsr, Ok(FwStatus::SUCCESS), true, us, 0);
        }
        let (_, csr) = ledger.commands().next().unwrap();
        assert_eq!((csr.percentile_us(50), csr.percentile_us(99)), (128, 128));
        assert_eq!(csr.percentile_us(100), 5000);
    }

    #[test]
    fn failures_are_told_apart_and_the_first_is_kept() {
        let mut ledger = Ledger::new();
        let refused = Ok(FwStatus::INVALID_CONFIG);
        assert_eq!(ledger.count(CmdId::Init, refused, true, 10, 1), Some(1));
        assert_eq!(ledger.count(CmdId::Init, refused, true, 10, 2), Some(2));
        let timeout = Err(CmdError::Mailbox(Fault::Timeout));
        assert_eq!(ledger.count(CmdId::Init, timeout, true, 10, 3), Some(1));
        let dead = Err(CmdError::Mailbox(Fault::Dead));
        assert_eq!(ledger.count(CmdId::PekGen, dead, false, 10, 4), Some(1));
        assert_eq!(
            ledger.count(CmdId::PekGen, Ok(FwStatus::SUCCESS), true, 10, 5),
            None
        );
        let first = ledger.first_failure().unwrap();
        assert_eq!((first.id, first.at_us), (CmdId::Init, 1));
        assert_eq!(ledger.last_failure().unwrap().id, CmdId::PekGen);
        let counts: Vec<_> = ledger
            .commands()
            .map(|(id, c)| (id, c.count, c.failures))
            .collect();
        // What was not sent is a failure, and no command.
        assert_eq!(counts, [(CmdId::Init, 3, 3), (CmdId::PekGen, 1, 1)]);
    }

    #[test]
    fn more_kinds_of_failures_than_are_kept_are_counted() {
        let mut ledger = Ledger::new();
        for code in 1..40 {
            ledger.count(CmdId::Init, Ok(FwStatus::new(code)), true, 1, 0);
        }
        assert_eq!(ledger.failures().count(), FAILURES);
        assert_eq!(ledger.other_failures, 39 - 16);
    }

    #[test]
    fn the_report_says_what_to_do() {
        let mut ledger = Ledger::new();
        ledger.count(
            CmdId::Init,
            Ok(FwStatus::HWERROR_PLATFORM),
            true,
            1500,
            2_000_001,
        );
        let report = format!("{ledger}");
        assert!(report.contains(
            "first-failure: INIT 0x0013 (HWERROR_PLATFORM), rc -5, at 2.000001 s: enable SMEE in the BIOS"
        ));
        assert!(report.contains("\nINIT 1 1 1500 1500 1500 1500\n"));
        assert!(report.contains("\nINIT 1024:1\n"));
    }
}
