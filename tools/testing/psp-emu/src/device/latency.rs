// SPDX-License-Identifier: GPL-2.0
//! How long commands take: nothing, or as long as on hardware.
//!
//! Few times are public. Measured on an early EPYC: 4.0 ms for LAUNCH_START, 0.48 ms for each page of 4 KiB in
//! LAUNCH_UPDATE_DATA, linear from 32 MiB on. Everything else here is an estimate that follows from them: a
//! command that handles keys and certificates costs some milliseconds, and every page that is encrypted,
//! decrypted or hashed costs the same.

use crate::firmware::command_id;
use std::{str::FromStr, time::Duration};

/// A page of private memory is read once and written once.
const MOVED_PER_PAGE: u64 = 2 * 4096;

/// Commands that take longer than [`Times::command`], with their times in microseconds.
static SLOW_COMMANDS: [(&str, u64); 15] = [
    // Generates or loads keys, writes flash, takes the TMR away from the x86.
    ("INIT", 200_000),
    ("INIT_EX", 200_000),
    ("SHUTDOWN", 20_000),
    ("PLATFORM_RESET", 50_000),
    ("DOWNLOAD_FIRMWARE", 500_000),
    // Generate keys, sign, write flash.
    ("PEK_GEN", 50_000),
    ("PDH_GEN", 20_000),
    ("PEK_CERT_IMPORT", 50_000),
    // Agree on keys.
    ("LAUNCH_START", 4_000),
    ("RECEIVE_START", 4_000),
    // Verifies six certificates, two of them RSA's, besides.
    ("SEND_START", 20_000),
    // Sign.
    ("ATTESTATION", 8_000),
    ("PEK_CSR", 1_000),
    // Wait for the data fabric and for key slots.
    ("DF_FLUSH", 1_000),
    ("ACTIVATE", 500),
];

/// What commands cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    /// Of a command not in [`SLOW_COMMANDS`].
    command: Duration,
    /// Of a page of private memory.
    page: Duration,
    /// Everything is this many times slower.
    factor: u32,
}

/// How long commands take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency(Option<Times>);

/// None of the profiles.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown latency profile \"{0}\" (known: none, hardware, slow)")]
pub struct UnknownProfile(String);

impl Latency {
    /// Commands complete at once.
    pub const NONE: Self = Self(None);
    /// Commands take about as long as on hardware.
    pub const HARDWARE: Self = Self(Some(Times {
        command: Duration::from_micros(100),
        page: Duration::from_micros(480),
        factor: 1,
    }));
    /// A PSP that is busy with something else: ten times as long.
    pub const SLOW: Self = match Self::HARDWARE.0 {
        Some(times) => Self(Some(Times {
            factor: 10,
            ..times
        })),
        None => Self::NONE,
    };

    /// The same, or for none that of hardware: what a slow command is measured by.
    pub(super) fn or_hardware(self) -> Self {
        Self(self.0.or(Self::HARDWARE.0))
    }

    /// The time of a command that has read and written `moved` bytes of RAM.
    #[must_use]
    pub fn of(self, id: u16, moved: u64) -> Duration {
        let Some(times) = self.0 else {
            return Duration::ZERO;
        };
        let slow = SLOW_COMMANDS
            .iter()
            .find(|(name, _)| command_id(name) == Some(id));
        let command = slow.map_or(times.command, |&(_, us)| Duration::from_micros(us));
        // CAST: moved is at most some gigabytes.
        let pages = u32::try_from(moved / MOVED_PER_PAGE).unwrap_or(u32::MAX);
        (command + times.page * pages) * times.factor
    }
}

impl FromStr for Latency {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "none" => Ok(Self::NONE),
            "hardware" => Ok(Self::HARDWARE),
            "slow" => Ok(Self::SLOW),
            _ => Err(UnknownProfile(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAUNCH_START: u16 = 0x030;
    const LAUNCH_UPDATE_DATA: u16 = 0x031;

    #[test]
    fn measured_times_are_met() {
        let ms = |latency: Latency, id, moved| latency.of(id, moved).as_millis();
        assert_eq!(ms(Latency::HARDWARE, LAUNCH_START, 200), 4);
        // 32 MiB took 3.93 s.
        let moved = 2 * (32 << 20);
        assert_eq!(ms(Latency::HARDWARE, LAUNCH_UPDATE_DATA, moved), 3932);
        assert_eq!(ms(Latency::SLOW, LAUNCH_UPDATE_DATA, moved), 39_322);
        assert_eq!(ms(Latency::NONE, LAUNCH_UPDATE_DATA, moved), 0);
    }

    #[test]
    fn every_slow_command_exists() {
        assert!(SLOW_COMMANDS
            .iter()
            .all(|(name, _)| command_id(name).is_some()));
    }

    #[test]
    fn profiles_have_names() {
        assert_eq!("none".parse(), Ok(Latency::default()));
        assert_eq!("hardware".parse(), Ok(Latency::HARDWARE));
        assert_eq!("slow".parse(), Ok(Latency::SLOW));
        assert!("fast".parse::<Latency>().is_err());
    }
}
