// SPDX-License-Identifier: GPL-2.0
//! What a device is to be, as text: `blk,size=64M,hostile=beyond`.

use crate::{blk::Contents, lie::Mode};
use std::str::FromStr;

/// Most queues of a disk, most pairs of a card.
const MOST_QUEUES: u16 = 16;
/// Fewest descriptors of a queue: Linux sends nothing if there is not room for 19 in a card's.
const LEAST_SIZE: u16 = 32;
/// Most descriptors of a queue.
const MOST_SIZE: u16 = 1024;
/// Largest disk that keeps what is written to it.
const MOST_BYTES: u64 = 4 << 30;

/// What kind of device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Blk {
        len: u64,
        contents: Contents,
        serial: String,
    },
    Net {
        mrg_rxbuf: bool,
    },
}

/// A device to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub kind: Kind,
    /// A disk's queues, or a card's pairs of them.
    pub queues: u16,
    /// Descriptors of each.
    pub size: u16,
    pub access_platform: bool,
    pub indirect: bool,
    pub event_idx: bool,
    pub mode: Mode,
    /// So many answers are right before the first lie.
    pub after: u64,
    /// Of so many answers then one is a lie; the mode's own number if not given.
    pub every: Option<u64>,
    pub seed: Option<u64>,
}

/// Why a text is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(String);

fn wrong<T>(text: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError(text.into()))
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut words = text.split(',');
        let kind = match words.next() {
            Some("blk") => Kind::Blk {
                len: 64 << 20,
                contents: Contents::Zeros,
                serial: "vdev".to_owned(),
            },
            Some("net") => Kind::Net { mrg_rxbuf: true },
            other => {
                return wrong(format!(
                    "unknown kind of device {:?}; there are blk and net",
                    other.unwrap_or_default()
                ))
            }
        };
        let mut spec = Self {
            kind,
            queues: 1,
            size: 256,
            access_platform: true,
            indirect: true,
            event_idx: true,
            mode: Mode::Never,
            after: 32,
            every: None,
            seed: None,
        };
        for word in words {
            let (name, value) = word
                .split_once('=')
                .map_or((word, None), |(name, value)| (name, Some(value)));
            spec.set(name, value)?;
        }
        Ok(spec)
    }
}

impl Spec {
    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), SpecError> {
        match (name, value, &mut self.kind) {
            ("no-access-platform", None, _) => self.access_platform = false,
            ("no-indirect", None, _) => self.indirect = false,
            ("no-event-idx", None, _) => self.event_idx = false,
            ("queues", Some(text), _) => self.queues = number(name, text, 1, MOST_QUEUES)?,
            ("ring", Some(text), _) => {
                self.size = number(name, text, LEAST_SIZE, MOST_SIZE)?;
                if !self.size.is_power_of_two() {
                    return wrong(format!("ring={text} is no power of two"));
                }
            }
            ("hostile", Some(text), _) => {
                self.mode = text
                    .parse()
                    .map_err(|error| SpecError(format!("hostile: {error}")))?;
            }
            ("after", Some(text), _) => self.after = number(name, text, 0, u64::MAX)?,
            ("every", Some(text), _) => self.every = Some(number(name, text, 1, u64::MAX)?),
            ("seed", Some(text), _) => self.seed = Some(number(name, text, 0, u64::MAX)?),
            ("size", Some(text), Kind::Blk { len, .. }) => *len = bytes(text)?,
            ("null", None, Kind::Blk { contents, .. }) => *contents = Contents::Null,
            ("pattern", None, Kind::Blk { contents, .. }) => *contents = Contents::Pattern,
            ("serial", Some(text), Kind::Blk { serial, .. }) => *serial = text.to_owned(),
            ("no-mrg-rxbuf", None, Kind::Net { mrg_rxbuf }) => *mrg_rxbuf = false,
            _ => {
                return wrong(format!(
                "unknown option {name:?} of such a device, or one with a value too many or missing"
            ))
            }
        }
        match self.kind {
            Kind::Blk {
                len, ref contents, ..
            } if *contents != Contents::Null && len > MOST_BYTES => {
                wrong("a disk of more than 4G can only be a null one")
            }
            _ => Ok(()),
        }
    }
}

fn number<N: FromStr + PartialOrd + std::fmt::Display>(
    name: &str,
    text: &str,
    low: N,
    high: N,
) -> Result<N, SpecError> {
    match text.parse() {
        Ok(number) if low <= number && number <= high => Ok(number),
        _ => wrong(format!("{name}={text} is no number from {low} to {high}")),
    }
}

/// A number of bytes: whole sectors, with K, M, G or T for powers of 1024.
fn bytes(text: &str) -> Result<u64, SpecError> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &text[digits.len()..] {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let bytes = number
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes > 0 && bytes % crate::blk::SECTOR == 0 && bytes < 1 << 50 => Ok(bytes),
        _ => wrong(format!("size={text} is no size of whole sectors, as 64M")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lie::Lie;

    fn parsed(text: &str) -> Result<Spec, String> {
        text.parse().map_err(|error: SpecError| error.to_string())
    }

    #[test]
    fn options_change_what_they_name() {
        let spec = parsed("blk,size=1M,pattern,no-indirect,queues=2,ring=64,serial=x").unwrap();
        let kind = Kind::Blk {
            len: 1 << 20,
            contents: Contents::Pattern,
            serial: "x".to_owned(),
        };
        assert_eq!((spec.kind, spec.queues, spec.size), (kind, 2, 64));
        assert!(!spec.indirect && spec.event_idx && spec.access_platform);
        let spec = parsed(
            "net,no-access-platform,no-event-idx,no-mrg-rxbuf,hostile=beyond,seed=3,after=0",
        )
        .unwrap();
        assert_eq!(spec.kind, Kind::Net { mrg_rxbuf: false });
        assert!(!spec.access_platform && !spec.event_idx);
        assert_eq!(
            (spec.mode, spec.seed, spec.after),
            (Mode::Always(Lie::Beyond), Some(3), 0)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, expected) in [
            ("", "unknown kind of device \"\""),
            ("disk", "unknown kind"),
            ("net,size=1M", "unknown option \"size\""),
            ("blk,null=1", "unknown option \"null\""),
            ("blk,size", "unknown option \"size\""),
            ("blk,size=1000", "whole sectors"),
            ("blk,size=1MM", "whole sectors"),
            ("blk,size=17179869184G", "whole sectors"),
            ("blk,size=5G", "only be a null one"),
            ("blk,queues=0", "no number from 1 to 16"),
            ("net,ring=100", "no power of two"),
            ("blk,hostile=x", "unknown mode \"x\""),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(parsed("blk,null,size=5G").is_ok());
    }
}
