// SPDX-License-Identifier: GPL-2.0
//! The table of all faults: what the parser knows, what `--fault help` prints, and what Documentation/psp-emu.rst has.

use super::{number, Kind};
use std::{fmt, time::Duration};

/// What may follow a fault's name and argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Nothing: it concerns the whole device, from power-on.
    Device,
    /// A command: the first of it is the last thing the device does.
    Once,
    /// A command and a count.
    Commands,
}

/// A fault's argument: how it is written in the table, and what it is.
pub(super) struct Argument {
    placeholder: &'static str,
    pub(super) what: &'static str,
}

/// One kind of fault.
pub struct Description {
    /// Its name, without argument.
    pub name: &'static str,
    pub(super) argument: Option<Argument>,
    pub(super) scope: Scope,
    /// What happens, in a sentence.
    pub effect: &'static str,
    /// A whole fault.
    pub example: &'static str,
    /// From the text of the argument, which is empty when there is none to be given.
    pub(super) kind: fn(&str) -> Option<Kind>,
}

const MILLISECONDS: &str = "number of milliseconds";

fn milliseconds(text: &str) -> Option<Duration> {
    Some(Duration::from_millis(number(text)?.into()))
}

/// All kinds of faults.
pub static FAULTS: [Description; 16] = [
    Description {
        name: "all-ones",
        argument: None,
        scope: Scope::Device,
        effect: "all registers read 0xffffffff and ignore writes, as when the BIOS blocks the device",
        example: "all-ones",
        kind: |_| Some(Kind::AllOnes),
    },
    Description {
        name: "stuck-busy",
        argument: None,
        scope: Scope::Device,
        effect: "the mailbox never reports ready and takes no command",
        example: "stuck-busy",
        kind: |_| Some(Kind::StuckBusy),
    },
    Description {
        name: "vanish",
        argument: None,
        scope: Scope::Once,
        effect: "when the command is taken the device is gone: all reads 0xff, configuration space too, until reset",
        example: "vanish:PDH_GEN",
        kind: |_| Some(Kind::Vanish),
    },
    Description {
        name: "no-response",
        argument: None,
        scope: Scope::Commands,
        effect: "the command is taken and never completes; the mailbox stays busy until reset",
        example: "no-response:PEK_CSR:1",
        kind: |_| Some(Kind::NoResponse),
    },
    Description {
        name: "forgotten",
        argument: None,
        scope: Scope::Commands,
        effect: "the command never completes, because the firmware has started afresh; the mailbox takes the next one",
        example: "forgotten:PDH_GEN:1",
        kind: |_| Some(Kind::Forgotten),
    },
    Description {
        name: "state-loss",
        argument: None,
        scope: Scope::Commands,
        effect: "the firmware has started afresh before the command: no INIT, no guests",
        example: "state-loss:PDH_GEN:1",
        kind: |_| Some(Kind::StateLoss),
    },
    Description {
        name: "lost-irq",
        argument: None,
        scope: Scope::Commands,
        effect: "the command completes, the interrupt does not come and is not marked pending",
        example: "lost-irq:any:3",
        kind: |_| Some(Kind::LostIrq),
    },
    Description {
        name: "early-irq",
        argument: None,
        scope: Scope::Commands,
        effect: "an interrupt comes when the command is taken, a millisecond or more before there is an answer",
        example: "early-irq",
        kind: |_| Some(Kind::EarlyIrq),
    },
    Description {
        name: "spurious-irq",
        argument: None,
        scope: Scope::Commands,
        effect: "the same, but the interrupt status register says that there is none",
        example: "spurious-irq",
        kind: |_| Some(Kind::SpuriousIrq),
    },
    Description {
        name: "double-irq",
        argument: None,
        scope: Scope::Commands,
        effect: "the interrupt of the completion comes again a millisecond later",
        example: "double-irq:GET_ID",
        kind: |_| Some(Kind::DoubleIrq),
    },
    Description {
        name: "late-irq",
        argument: Some(Argument {
            placeholder: "MS",
            what: MILLISECONDS,
        }),
        scope: Scope::Commands,
        effect: "the command completes in time, its interrupt comes MS milliseconds later",
        example: "late-irq:100:GET_ID",
        kind: |text| milliseconds(text).map(Kind::LateIrq),
    },
    Description {
        name: "late",
        argument: Some(Argument {
            placeholder: "MS",
            what: MILLISECONDS,
        }),
        scope: Scope::Commands,
        effect: "the command completes MS milliseconds later",
        example: "late:50:PEK_CSR",
        kind: |text| milliseconds(text).map(Kind::Late),
    },
    Description {
        name: "slow",
        argument: Some(Argument {
            placeholder: "FACTOR",
            what: "factor of 1 or more",
        }),
        scope: Scope::Commands,
        effect: "the command takes FACTOR times as long as with this --latency; with none, as with hardware",
        example: "slow:20:LAUNCH_UPDATE_DATA",
        kind: |text| number(text).filter(|&factor| factor > 0).map(Kind::Slow),
    },
    Description {
        name: "status",
        argument: Some(Argument {
            placeholder: "CODE",
            what: "status code",
        }),
        scope: Scope::Commands,
        effect: "the command is not run and answers CODE, a name or a number up to 0xffff",
        example: "status:HWERROR_PLATFORM:INIT:1",
        kind: |text| text.parse().ok().map(Kind::Status),
    },
    Description {
        name: "length",
        argument: Some(Argument {
            placeholder: "N",
            what: "32-bit length",
        }),
        scope: Scope::Commands,
        effect: "where the command reports a length it reports N, whether it succeeded or not",
        example: "length:0xffffffff:PEK_CSR",
        kind: |text| number(text).map(Kind::Length),
    },
    Description {
        name: "garbage",
        argument: Some(Argument {
            placeholder: "WORD",
            what: "32-bit word",
        }),
        scope: Scope::Commands,
        effect: "the command completes, and CMDRESP holds WORD",
        example: "garbage:0xdeadbeef:GET_ID:1",
        kind: |text| number(text).map(Kind::Garbage),
    },
];

impl Description {
    /// The kind of that name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        FAULTS.iter().find(|fault| fault.name == name)
    }
}

/// How it is written, what follows the name included.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = match self.scope {
            Scope::Device => "",
            Scope::Once => "[:COMMAND]",
            Scope::Commands => "[:COMMAND[:COUNT]]",
        };
        match &self.argument {
            Some(argument) => write!(f, "{}:{}{rest}", self.name, argument.placeholder),
            None => write!(f, "{}{rest}", self.name),
        }
    }
}

/// Names of all faults, with commas between them.
pub(super) struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
        f.write_str(&names.join(", "))
    }
}

/// The table for people: how each fault is written, what happens, an example.
#[must_use]
pub fn help() -> String {
    let entries = FAULTS
        .iter()
        .map(|fault| (fault.to_string(), fault.effect, fault.example));
    listed(
        "Faults; COMMAND is a command's name or number, or any; COUNT is how often it happens, without it always.",
        entries,
    )
}

/// A table of faults: how each is written, what happens, an example.
pub(crate) fn listed(
    heading: &str,
    entries: impl Iterator<Item = (String, &'static str, &'static str)>,
) -> String {
    let entries = entries.map(|(fault, effect, example)| {
        format!("{fault}\n    {effect}\n    for example {example}\n")
    });
    format!("{heading}\n\n{}", entries.collect::<String>())
}
