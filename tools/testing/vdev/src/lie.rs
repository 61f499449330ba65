// SPDX-License-Identifier: GPL-2.0
//! What a hostile device does, and at which of its answers.

use std::str::FromStr;

/// A lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    IdRange,
    IdUnknown,
    IdTwice,
    LenZero,
    LenLong,
    LenMax,
    IndexJump,
    Scribble,
    Beyond,
    ReadOnly,
    Descriptors,
    Config,
    Interrupts,
    Reset,
    Silent,
    NumBuffers,
}

/// All lies: name, effect, and whether a driver can go on after it.
const TABLE: [(Lie, &str, &str, bool); 16] = [
    (
        Lie::IdRange,
        "id-range",
        "the id of a used buffer is none that the queue has",
        false,
    ),
    (
        Lie::IdUnknown,
        "id-unknown",
        "it is that of a buffer the device does not have",
        false,
    ),
    (
        Lie::IdTwice,
        "id-twice",
        "a buffer is given back twice",
        false,
    ),
    (
        Lie::LenZero,
        "len-zero",
        "nothing is said to be written into a buffer",
        true,
    ),
    (
        Lie::LenLong,
        "len-long",
        "more is said to be written than there is room for",
        true,
    ),
    (
        Lie::LenMax,
        "len-max",
        "4 GiB less one byte are said to be written",
        true,
    ),
    (
        Lie::IndexJump,
        "index-jump",
        "the used index goes on by more than there are buffers",
        false,
    ),
    (
        Lie::Scribble,
        "scribble",
        "buffers are written over and over after they were given back",
        true,
    ),
    (
        Lie::Beyond,
        "beyond",
        "what follows a buffer is written, too",
        true,
    ),
    (
        Lie::ReadOnly,
        "read-only",
        "buffers to be read are written",
        true,
    ),
    (
        Lie::Descriptors,
        "descriptors",
        "descriptors are changed while the device has them, those in indirect tables, too",
        true,
    ),
    (
        Lie::Config,
        "config",
        "the configuration changes all the time: a disk's size, a card's link",
        true,
    ),
    (
        Lie::Interrupts,
        "interrupts",
        "64 interrupts for nothing come with each answer",
        true,
    ),
    (
        Lie::Reset,
        "reset",
        "a reset is only said to be done: used rings are written to afterwards",
        true,
    ),
    (Lie::Silent, "silent", "buffers are never given back", false),
    (
        Lie::NumBuffers,
        "num-buffers",
        "a received frame is said to be in 65535 buffers",
        true,
    ),
];

impl Lie {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE
            .iter()
            .find(|(lie, ..)| *lie == self)
            .map_or("", |(_, name, ..)| name)
    }
}

/// When a device lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Never,
    Always(Lie),
    /// At random, any lie.
    Random,
}

/// Not a mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {0:?}; help lists what there is")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        if text == "random" {
            return Ok(Mode::Random);
        }
        let found = TABLE.iter().find(|(_, name, ..)| *name == text);
        found
            .map(|(lie, ..)| Mode::Always(*lie))
            .ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// The table of all modes, for people.
#[must_use]
pub fn help() -> String {
    let line = |(name, effect): (&str, &str)| format!("{name:<12} {effect}\n");
    let lies = TABLE.iter().map(|(_, name, effect, _)| (*name, *effect));
    let random = (
        "random",
        "any of them, drawn from seed=N: about one answer of every=N (default 8)",
    );
    lies.chain([random]).map(line).collect()
}

/// When to lie, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    mode: Mode,
    /// So many answers are right before the first lie.
    after: u64,
    /// Of so many answers then one is a lie.
    every: u64,
    answers: u64,
    rng: fastrand::Rng,
}

impl Plan {
    /// A plan that the same seed repeats.
    #[must_use]
    pub fn new(mode: Mode, after: u64, every: u64, seed: u64) -> Self {
        Self {
            mode,
            after,
            every: every.max(1),
            answers: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// The number of the answer that is due, and the lie it is to be.
    pub fn draw(&mut self) -> (u64, Option<Lie>) {
        let answer = self.answers;
        self.answers += 1;
        let Some(turn) = answer.checked_sub(self.after) else {
            return (answer, None);
        };
        let lie = match self.mode {
            Mode::Never => None,
            Mode::Always(lie) => (turn % self.every == 0).then_some(lie),
            // Of the lies that end everything only a few, or little would be seen of the others.
            Mode::Random if self.rng.u64(0..self.every) == 0 => {
                let harmless = self.rng.u8(0..8) > 0;
                let mut candidates = TABLE.iter().filter(|(.., goes_on)| *goes_on == harmless);
                let index = self.rng.usize(0..candidates.clone().count());
                candidates.nth(index).map(|(lie, ..)| *lie)
            }
            Mode::Random => None,
        };
        (answer, lie)
    }

    /// Whether it lies at every answer by pretending to be reset.
    #[must_use]
    pub fn ignores_reset(&self) -> bool {
        self.mode == Mode::Always(Lie::Reset) && self.answers > self.after
    }

    /// Random numbers for a lie's details.
    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(mode: Mode, seed: u64) -> Vec<Option<Lie>> {
        let mut plan = Plan::new(mode, 3, 2, seed);
        (0..2000).map(|_| plan.draw().1).collect()
    }

    #[test]
    fn a_seed_repeats_its_lies_and_another_does_not() {
        assert_eq!(drawn(Mode::Random, 1), drawn(Mode::Random, 1));
        assert_ne!(drawn(Mode::Random, 1), drawn(Mode::Random, 2));
    }

    #[test]
    fn a_random_device_tells_every_lie_and_is_right_first() {
        let lies = drawn(Mode::Random, 7);
        assert_eq!(lies[..3], [None; 3]);
        for (lie, name, ..) in TABLE {
            assert!(lies.contains(&Some(lie)), "{name}");
        }
        assert!(lies.contains(&None));
    }

    #[test]
    fn a_single_lie_comes_when_it_is_asked_for() {
        let beyond = Mode::Always(Lie::Beyond);
        let expected = [None, None, None, Some(Lie::Beyond), None, Some(Lie::Beyond)];
        assert_eq!(drawn(beyond, 0)[..6], expected);
        assert!(drawn(Mode::Never, 0).iter().all(Option::is_none));
    }

    #[test]
    fn names_are_unique_and_lead_back() {
        for (lie, name, ..) in TABLE {
            assert_eq!(name.parse(), Ok(Mode::Always(lie)));
            assert_eq!(lie.name(), name);
            assert!(help().contains(&format!("\n{name} ")) || help().starts_with(name));
        }
        assert!("none".parse::<Mode>().is_err());
    }
}
