// SPDX-License-Identifier: GPL-2.0
//! What the host in the middle can be told to do to guest requests.

use crate::{
    device::fault::{listed, number},
    firmware::Status,
};
use std::{fmt, str::FromStr};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The host is busy: nothing reaches the firmware.
    Busy,
    /// The firmware answers, and the host throws that away and says that it was busy.
    Lost,
    /// The host does not write an answer and says that there is one.
    Silent,
    /// What is delivered as the answer is noise.
    Garbage,
    /// The answer ends in its middle, and its header agrees.
    Short,
    /// The header says that the answer is longer than a page.
    Long,
    /// The last answer again; the firmware does not see the request.
    Replay,
    /// This answer is kept for the next request, which gets it instead of its own, and so on.
    Reordered,
    /// A bit of the tag is another.
    WrongTag,
    /// The sequence number is one too high.
    WrongSeqno,
    /// The type is that of another answer.
    WrongType,
    /// The version is another.
    WrongVersion,
    /// The firmware's status, without the firmware.
    Status(Status),
    /// The host's error, without the firmware.
    VmmError(u32),
    /// The certificates need so many pages, whatever is offered.
    Pages(u32),
    /// Entries of the certificate table point outside, and behind the end of 32 bits.
    Table,
}

/// One fault: what, and how often. Written as [`help`] tells: `KIND[:ARGUMENT][:COUNT]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// So many requests, then never again; `None` means all.
    pub count: Option<u32>,
}

/// The text is no fault of guest requests.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("unknown fault of guest requests \"{0}\" (known: {Names})")]
    Unknown(String),
    #[error("fault \"{0}\" needs an argument")]
    Missing(&'static str),
    #[error("fault \"{0}\": \"{1}\" is none of its arguments")]
    Bad(&'static str, String),
    #[error("fault \"{0}\": \"{1}\" is no count")]
    Count(&'static str, String),
    #[error("too many parts after fault \"{0}\"")]
    TooMany(&'static str),
}

/// Whether a kind of fault has an argument.
enum Argument {
    None(Kind),
    One(&'static str, fn(&str) -> Option<Kind>),
}

/// A kind of fault.
pub struct Description {
    /// Its name, without argument.
    pub name: &'static str,
    argument: Argument,
    /// What happens, in a sentence.
    pub effect: &'static str,
    /// A whole fault.
    pub example: &'static str,
}

macro_rules! faults {
    ($($name:literal $argument:expr, $effect:literal, $example:literal;)+) => {
        /// All kinds of faults.
        pub static FAULTS: &[Description] = &[$(Description {
            name: $name,
            argument: $argument,
            effect: $effect,
            example: $example,
        }),+];
    };
}

use Argument::{None as Plain, One};

faults! {
    "busy" Plain(Kind::Busy), "the host is busy and the firmware does not see the request", "busy:3";
    "lost" Plain(Kind::Lost), "the firmware answers, the host throws that away and says that it was busy", "lost:1";
    "silent" Plain(Kind::Silent), "the firmware answers, the host writes nothing and says that there is an answer", "silent:1";
    "garbage" Plain(Kind::Garbage), "the answer is noise", "garbage:1";
    "short" Plain(Kind::Short), "the answer ends in its middle, and its header agrees", "short:1";
    "long" Plain(Kind::Long), "the header says that the answer is longer than a page", "long:1";
    "replay" Plain(Kind::Replay), "the answer before this one again; the firmware does not see the request", "replay:1";
    "reordered" Plain(Kind::Reordered), "each request gets the answer of the one before it", "reordered";
    "wrong-tag" Plain(Kind::WrongTag), "a bit of the answer's tag is another", "wrong-tag:1";
    "wrong-seqno" Plain(Kind::WrongSeqno), "the answer's sequence number is one too high", "wrong-seqno:1";
    "wrong-type" Plain(Kind::WrongType), "the answer says that it is one to another kind of request", "wrong-type:1";
    "wrong-version" Plain(Kind::WrongVersion), "the answer says that it is of another version", "wrong-version:1";
    "status" One("CODE", |text| text.parse().ok().map(Kind::Status)), "the firmware refuses with this status", "status:INVALID_GUEST_STATE:1";
    "vmm-error" One("CODE", |text| number(text).filter(|&code| code != 0).map(Kind::VmmError)), "the host refuses with this error", "vmm-error:3:1";
    "pages" One("N", |text| number(text).map(Kind::Pages)), "the certificates need N pages, however many are offered", "pages:0xffffffff:1";
    "table" Plain(Kind::Table), "the certificate table points outside, and beyond 32 bits", "table:1";
}

/// How it is written.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.argument {
            Plain(_) => write!(f, "{}[:COUNT]", self.name),
            One(placeholder, _) => write!(f, "{}:{placeholder}[:COUNT]", self.name),
        }
    }
}

/// Names of all faults, with commas between them.
struct Names;

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
        "Faults of guest requests, with --guest; COUNT is how many requests, without it all.",
        entries,
    )
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let found = FAULTS.iter().find(|fault| fault.name == name);
        let found = found.ok_or_else(|| FaultError::Unknown(name.to_owned()))?;
        let kind = match found.argument {
            Plain(kind) => kind,
            One(_, parse) => {
                let argument = parts.next().ok_or(FaultError::Missing(found.name))?;
                let bad = || FaultError::Bad(found.name, argument.to_owned());
                parse(argument).ok_or_else(bad)?
            }
        };
        let bad = |part: &str| FaultError::Count(found.name, part.to_owned());
        let count = parts
            .next()
            .map(|part| number(part).ok_or_else(|| bad(part)));
        let count = count.transpose()?;
        match parts.next() {
            None => Ok(Self { kind, count }),
            Some(_) => Err(FaultError::TooMany(found.name)),
        }
    }
}

/// The faults of a host, and how often each may still happen.
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<Fault>);

impl From<Vec<Fault>> for Faults {
    fn from(faults: Vec<Fault>) -> Self {
        Self(faults)
    }
}

impl Faults {
    /// Removes all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds one more, behind the others.
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// What happens to this request, if anything: of all faults that are left the first.
    pub(super) fn next(&mut self) -> Option<Kind> {
        let fault = self.0.iter_mut().find(|fault| fault.count != Some(0))?;
        if let Some(count) = &mut fault.count {
            *count -= 1;
        }
        Some(fault.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_an_example_of_itself() {
        for described in FAULTS {
            assert!(described.example.parse::<Fault>().is_ok());
            let name = described.example.split(':').next();
            assert_eq!(name, Some(described.name));
            assert!(help().contains(described.example));
        }
    }

    #[test]
    fn faults_are_parsed() {
        let fault = |kind, count| Ok(Fault { kind, count });
        for (text, want) in [
            ("busy", fault(Kind::Busy, None)),
            ("busy:0x2", fault(Kind::Busy, Some(2))),
            (
                "status:0x1d:1",
                fault(Kind::Status(Status::AEAD_OFLOW), Some(1)),
            ),
            ("vmm-error:3", fault(Kind::VmmError(3), None)),
            ("none", Err(FaultError::Unknown("none".to_owned()))),
            ("status", Err(FaultError::Missing("status"))),
            (
                "vmm-error:0",
                Err(FaultError::Bad("vmm-error", "0".to_owned())),
            ),
            ("busy:x", Err(FaultError::Count("busy", "x".to_owned()))),
            ("busy:1:1", Err(FaultError::TooMany("busy"))),
        ] {
            assert_eq!(text.parse::<Fault>(), want, "{text}");
        }
    }

    #[test]
    fn one_fault_comes_after_the_other() {
        let mut faults = Faults::from(vec![
            "busy:2".parse().unwrap(),
            "garbage:1".parse().unwrap(),
        ]);
        let kinds: Vec<_> = (0..4).map(|_| faults.next()).collect();
        let want = [
            Some(Kind::Busy),
            Some(Kind::Busy),
            Some(Kind::Garbage),
            None,
        ];
        assert_eq!(kinds, want);
    }
}
