// SPDX-License-Identifier: GPL-2.0
//! What has happened so far, so that a test can tell whether it has tried everything.

use psp::{driver::NotReady, error::CmdError, mailbox::Fault};
use psp_emu::device::fault::{Kind, FAULTS};
use std::{collections::BTreeMap, fmt};

/// Every way a call can end.
pub const OUTCOMES: [&str; 15] = [
    "done",
    "refused",
    "malformed answer",
    "timeout",
    "caller killed",
    "dead",
    "gone",
    "EINVAL",
    "EAGAIN",
    "EBUSY",
    "ENODEV",
    "only readable",
    "guests active",
    "late answer",
    "given up",
];

/// How often what has happened.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub steps: u64,
    pub sequences: u64,
    faults: BTreeMap<&'static str, u64>,
    outcomes: BTreeMap<&'static str, u64>,
}

/// The name of a fault on the command line.
fn fault_name(kind: Kind) -> &'static str {
    match kind {
        Kind::AllOnes => "all-ones",
        Kind::StuckBusy => "stuck-busy",
        Kind::Vanish => "vanish",
        Kind::NoResponse => "no-response",
        Kind::Forgotten => "forgotten",
        Kind::LostIrq => "lost-irq",
        Kind::EarlyIrq => "early-irq",
        Kind::SpuriousIrq => "spurious-irq",
        Kind::DoubleIrq => "double-irq",
        Kind::LateIrq(_) => "late-irq",
        Kind::Late(_) => "late",
        Kind::Slow(_) => "slow",
        Kind::Status(_) => "status",
        Kind::Length(_) => "length",
        Kind::Garbage(_) => "garbage",
        Kind::StateLoss => "state-loss",
    }
}

fn outcome_name(error: CmdError) -> &'static str {
    match error {
        CmdError::Firmware(_) => "refused",
        CmdError::Malformed(_) => "malformed answer",
        CmdError::Mailbox(Fault::Timeout) => "timeout",
        CmdError::Mailbox(Fault::GivenUp) => "caller killed",
        CmdError::Mailbox(Fault::Dead) => "dead",
        CmdError::Mailbox(Fault::Gone) => "gone",
        CmdError::Prepare(errno) => match errno.0 {
            22 => "EINVAL",
            11 => "EAGAIN",
            16 => "EBUSY",
            19 => "ENODEV",
            other => panic!("no call fails with errno {other}"),
        },
    }
}

impl Coverage {
    pub fn fault(&mut self, kind: Kind) {
        *self.faults.entry(fault_name(kind)).or_default() += 1;
    }

    pub fn outcome<T>(&mut self, outcome: &Result<T, CmdError>) {
        let name = outcome
            .as_ref()
            .map_or_else(|error| outcome_name(*error), |_| "done");
        self.event(name);
    }

    pub fn not_ready(&mut self, reason: NotReady) {
        self.event(match reason {
            NotReady::ReadOnly => "only readable",
            NotReady::GuestsActive => "guests active",
            NotReady::Failed { cause, .. } => outcome_name(cause),
        });
    }

    /// Counts one of [`OUTCOMES`].
    pub fn event(&mut self, name: &'static str) {
        *self.outcomes.entry(name).or_default() += 1;
    }

    /// Faults and outcomes that have not occurred.
    pub fn missing(&self) -> Vec<&'static str> {
        let faults = FAULTS.iter().map(|fault| fault.name);
        let faults = faults.filter(|name| !self.faults.contains_key(name));
        let outcomes = OUTCOMES.into_iter();
        let outcomes = outcomes.filter(|name| !self.outcomes.contains_key(name));
        faults.chain(outcomes).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} steps in {} sequences", self.steps, self.sequences)?;
        for (what, counts) in [("faults", &self.faults), ("outcomes", &self.outcomes)] {
            write!(f, "{what}:")?;
            for (name, count) in counts {
                write!(f, " {name} {count},")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
