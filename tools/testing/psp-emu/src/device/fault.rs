// SPDX-License-Identifier: GPL-2.0
//! Faults a device can be told to have, so that a driver's error paths can be run.

use crate::firmware::{command_id, Override, Status};
use std::{str::FromStr, time::Duration};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Registers read as all ones and ignore writes, as when the BIOS blocks the device.
    AllOnes,
    /// The mailbox is never ready and takes no command.
    StuckBusy,
    /// The command is taken and never completes.
    NoResponse,
    /// The command completes without an interrupt.
    LostIrq,
    /// An interrupt comes when the command is taken, before the one of its completion.
    EarlyIrq,
    /// The interrupt of the completion comes a second time, a millisecond later.
    DoubleIrq,
    /// The command completes this much later.
    Late(Duration),
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
/// Written `KIND[:ARGUMENT][:COMMAND[:COUNT]]`; COMMAND is a name, an id or `any`.
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
    #[error(
        "unknown fault \"{0}\" (known: all-ones, stuck-busy, no-response, lost-irq, early-irq, double-irq, \
         late:MS, status:CODE, length:N, garbage:WORD, state-loss)"
    )]
    Unknown(String),
    #[error("fault \"{0}\" needs an argument: {1}")]
    Missing(&'static str, &'static str),
    #[error("fault \"{0}\": \"{1}\" is no {2}")]
    Bad(&'static str, String, &'static str),
    #[error("fault \"{0}\" concerns the whole device and takes nothing after its name")]
    WholeDevice(&'static str),
    #[error("too many parts after fault \"{0}\"")]
    TooMany(&'static str),
}

/// A 32-bit number, decimal or hexadecimal after `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Takes the next part of a fault's text as its argument.
fn argument<T>(
    name: &'static str,
    what: &'static str,
    part: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, FaultError> {
    let part = part.ok_or(FaultError::Missing(name, what))?;
    parse(part).ok_or_else(|| FaultError::Bad(name, part.to_owned(), what))
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut parts = text.split(':');
        let (name, kind) = match parts.next().unwrap_or_default() {
            "all-ones" => ("all-ones", Kind::AllOnes),
            "stuck-busy" => ("stuck-busy", Kind::StuckBusy),
            "no-response" => ("no-response", Kind::NoResponse),
            "lost-irq" => ("lost-irq", Kind::LostIrq),
            "early-irq" => ("early-irq", Kind::EarlyIrq),
            "double-irq" => ("double-irq", Kind::DoubleIrq),
            "state-loss" => ("state-loss", Kind::StateLoss),
            "garbage" => {
                let word = argument("garbage", "32-bit word", parts.next(), number)?;
                ("garbage", Kind::Garbage(word))
            }
            "late" => {
                let ms = argument("late", "number of milliseconds", parts.next(), number)?;
                ("late", Kind::Late(Duration::from_millis(ms.into())))
            }
            "status" => {
                let parse = |part: &str| part.parse().ok();
                (
                    "status",
                    Kind::Status(argument("status", "status code", parts.next(), parse)?),
                )
            }
            "length" => (
                "length",
                Kind::Length(argument("length", "32-bit length", parts.next(), number)?),
            ),
            other => return Err(FaultError::Unknown(other.to_owned())),
        };
        let mut fault = Self {
            kind,
            command: None,
            count: None,
        };
        if let Some(part) = parts.next() {
            if matches!(kind, Kind::AllOnes | Kind::StuckBusy) {
                return Err(FaultError::WholeDevice(name));
            }
            if part != "any" {
                let bad = || FaultError::Bad(name, part.to_owned(), "command");
                fault.command = Some(command_id(part).filter(|&id| id <= 0x7ff).ok_or_else(bad)?);
            }
        }
        if let Some(part) = parts.next() {
            fault.count = Some(argument(name, "count", Some(part), number)?);
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
    pub(super) no_response: bool,
    pub(super) lost_irq: bool,
    pub(super) early_irq: bool,
    pub(super) double_irq: bool,
    pub(super) state_loss: bool,
    pub(super) garbage: Option<u32>,
    pub(super) delay: Duration,
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
                Kind::NoResponse => effect.no_response = true,
                Kind::LostIrq => effect.lost_irq = true,
                Kind::EarlyIrq => effect.early_irq = true,
                Kind::DoubleIrq => effect.double_irq = true,
                Kind::StateLoss => effect.state_loss = true,
                Kind::Garbage(word) => effect.garbage = Some(word),
                Kind::Late(delay) => effect.delay = delay,
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
            ("state-loss", fault(Kind::StateLoss, None, None)),
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
            "status",
            "status:70000",
            "length",
            "length:0x100000000",
            "garbage",
            "garbage:-1",
            "all-ones:INIT",
            "stuck-busy:any",
            "no-response:NOSUCH",
            "no-response:0x800",
            "no-response:INIT:x",
            "no-response:INIT:1:2",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
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
