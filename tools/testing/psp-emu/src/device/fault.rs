// SPDX-License-Identifier: GPL-2.0
//! Faults a device can be told to have, so that a driver's error paths can be run.

mod table;

pub(crate) use table::listed;
pub use table::{help, Description, FAULTS};

use crate::firmware::{command_id, Override, Status};
use std::{str::FromStr, time::Duration};
use table::{Names, Scope};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Registers read as all ones and ignore writes, as when the BIOS blocks the device.
    AllOnes,
    /// The mailbox is never ready and takes no command.
    StuckBusy,
    /// From the moment the command is taken there is no device any more.
    Vanish,
    /// The command is taken and never completes.
    NoResponse,
    /// The command is taken, and before it completes the firmware crashes and starts again: what is not in flash is
    /// lost, and the mailbox takes the next command.
    Forgotten,
    /// The command completes without an interrupt.
    LostIrq,
    /// An interrupt comes when the command is taken, before the one of its completion.
    EarlyIrq,
    /// The same with nothing in the interrupt status register.
    SpuriousIrq,
    /// The interrupt of the completion comes a second time, a millisecond later.
    DoubleIrq,
    /// The interrupt of the completion comes this much after it.
    LateIrq(Duration),
    /// The command completes this much later.
    Late(Duration),
    /// The command takes so many times as long as it would.
    Slow(u32),
    /// The command is not run and answers this status.
    Status(Status),
    /// The command reports this length wherever it reports one.
    Length(u32),
    /// The command completes and the response register then holds this word.
    Garbage(u32),
    /// The firmware has crashed and started again before the command: what is not in flash is lost.
    StateLoss,
}

/// One fault: what, for which command, how often.
///
/// Written as [`help`] tells: `KIND[:ARGUMENT][:COMMAND[:COUNT]]`, COMMAND being a name, an id or `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// Only this command id; `None` means every command.
    pub command: Option<u16>,
    /// So many times, then never again; `None` means always.
    pub count: Option<u32>,
}

/// The text is no fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("unknown fault \"{0}\" (known: {Names})")]
    Unknown(String),
    #[error("fault \"{0}\" needs an argument: {1}")]
    Missing(&'static str, &'static str),
    #[error("fault \"{0}\": \"{1}\" is no {2}")]
    Bad(&'static str, String, &'static str),
    #[error("fault \"{0}\" concerns the whole device and takes nothing after its name")]
    WholeDevice(&'static str),
    #[error("fault \"{0}\" happens once and takes no count")]
    Once(&'static str),
    #[error("too many parts after fault \"{0}\"")]
    TooMany(&'static str),
}

/// A 32-bit number, decimal or hexadecimal after `0x`.
pub(crate) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let found = Description::find(name).ok_or_else(|| FaultError::Unknown(name.to_owned()))?;
        let name = found.name;
        let (what, argument) = match &found.argument {
            Some(argument) => {
                let missing = FaultError::Missing(name, argument.what);
                (argument.what, parts.next().ok_or(missing)?)
            }
            None => ("", ""),
        };
        let bad = |part: &str, what| FaultError::Bad(name, part.to_owned(), what);
        let mut fault = Self {
            kind: (found.kind)(argument).ok_or_else(|| bad(argument, what))?,
            command: None,
            count: None,
        };
        if let Some(part) = parts.next() {
            if found.scope == Scope::Device {
                return Err(FaultError::WholeDevice(name));
            }
            if part != "any" {
                let id = command_id(part).filter(|&id| id <= 0x7ff);
                fault.command = Some(id.ok_or_else(|| bad(part, "command"))?);
            }
        }
        if let Some(part) = parts.next() {
            if found.scope == Scope::Once {
                return Err(FaultError::Once(name));
            }
            fault.count = Some(number(part).ok_or_else(|| bad(part, "count"))?);
        }
        match parts.next() {
            None => Ok(fault),
            Some(_) => Err(FaultError::TooMany(name)),
        }
    }
}

/// The faults of a device and how often each may still happen.
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<Fault>);

/// What the faults do to one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) vanish: bool,
    pub(super) no_response: bool,
    pub(super) forgotten: bool,
    pub(super) lost_irq: bool,
    pub(super) early_irq: bool,
    pub(super) spurious_irq: bool,
    pub(super) double_irq: bool,
    pub(super) late_irq: Duration,
    pub(super) state_loss: bool,
    pub(super) garbage: Option<u32>,
    pub(super) delay: Duration,
    pub(super) slow: Option<u32>,
    pub(super) over: Override,
}

impl From<Vec<Fault>> for Faults {
    fn from(faults: Vec<Fault>) -> Self {
        Self(faults)
    }
}

impl Faults {
    /// Adds one more.
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|fault| fault.kind == kind)
    }

    /// Collects what happens to a command, using up counts. Of two faults that contradict each other
    /// the later wins.
    pub(super) fn apply(&mut self, id: u16) -> Effect {
        let mut effect = Effect::default();
        for fault in &mut self.0 {
            if fault.command.is_some_and(|command| command != id) {
                continue;
            }
            match &mut fault.count {
                Some(0) => continue,
                Some(count) => *count -= 1,
                None => {}
            }
            match fault.kind {
                Kind::AllOnes | Kind::StuckBusy => {}
                Kind::Vanish => effect.vanish = true,
                Kind::NoResponse => effect.no_response = true,
                Kind::Forgotten => effect.forgotten = true,
                Kind::LostIrq => effect.lost_irq = true,
                Kind::EarlyIrq => effect.early_irq = true,
                Kind::SpuriousIrq => effect.spurious_irq = true,
                Kind::DoubleIrq => effect.double_irq = true,
                Kind::StateLoss => effect.state_loss = true,
                Kind::Garbage(word) => effect.garbage = Some(word),
                Kind::LateIrq(delay) => effect.late_irq = delay,
                Kind::Late(delay) => effect.delay = delay,
                Kind::Slow(factor) => effect.slow = Some(factor),
                Kind::Status(status) => effect.over.status = Some(status),
                Kind::Length(length) => effect.over.length = Some(length),
            }
        }
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Kind, command: Option<u16>, count: Option<u32>) -> Result<Fault, FaultError> {
        Ok(Fault {
            kind,
            command,
            count,
        })
    }

    #[test]
    fn faults_are_parsed() {
        for (text, expected) in [
            ("all-ones", fault(Kind::AllOnes, None, None)),
            ("stuck-busy", fault(Kind::StuckBusy, None, None)),
            ("no-response", fault(Kind::NoResponse, None, None)),
            (
                "lost-irq:PEK_CSR:2",
                fault(Kind::LostIrq, command_id("PEK_CSR"), Some(2)),
            ),
            ("lost-irq:any:1", fault(Kind::LostIrq, None, Some(1))),
            (
                "late:50:0x4",
                fault(Kind::Late(Duration::from_millis(50)), Some(4), None),
            ),
            (
                "status:0x13:INIT:1",
                fault(Kind::Status(Status(0x13)), Some(1), Some(1)),
            ),
            (
                "status:bad_signature",
                fault(Kind::Status(Status::BAD_SIGNATURE), None, None),
            ),
            ("early-irq:any:1", fault(Kind::EarlyIrq, None, Some(1))),
            ("double-irq:4", fault(Kind::DoubleIrq, Some(4), None)),
            (
                "late-irq:5:any:1",
                fault(Kind::LateIrq(Duration::from_millis(5)), None, Some(1)),
            ),
            ("state-loss", fault(Kind::StateLoss, None, None)),
            ("vanish:any", fault(Kind::Vanish, None, None)),
            ("vanish:INIT", fault(Kind::Vanish, Some(1), None)),
            ("slow:3:4:2", fault(Kind::Slow(3), Some(4), Some(2))),
            (
                "garbage:0x8000dead:4",
                fault(Kind::Garbage(0x8000_dead), Some(4), None),
            ),
            (
                "length:0xffffffff:GET_ID",
                fault(Kind::Length(u32::MAX), Some(0xc), None),
            ),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn bad_faults_are_refused() {
        for text in [
            "",
            "none",
            "late",
            "late:",
            "late:x",
            "late:-1",
            "late-irq",
            "late-irq:x",
            "status",
            "status:70000",
            "length",
            "length:0x100000000",
            "garbage",
            "garbage:-1",
            "all-ones:INIT",
            "stuck-busy:any",
            "vanish:INIT:1",
            "slow",
            "slow:0",
            "no-response:NOSUCH",
            "no-response:0x800",
            "no-response:INIT:x",
            "no-response:INIT:1:2",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_fault_has_an_example_of_itself() {
        for described in &FAULTS {
            let fault: Fault = described.example.parse().unwrap();
            let name = described.example.split(':').next();
            assert_eq!(name, Some(described.name));
            assert!(help().contains(described.example), "{fault:?}");
        }
    }

    #[test]
    fn counted_faults_run_out() {
        let mut faults = Faults::from(vec!["no-response:INIT:2".parse().unwrap()]);
        assert!(!faults.apply(4).no_response);
        assert!(faults.apply(1).no_response);
        assert!(faults.apply(1).no_response);
        assert!(!faults.apply(1).no_response);
    }
}
