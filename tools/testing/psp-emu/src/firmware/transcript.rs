// SPDX-License-Identifier: GPL-2.0
//! The transcript of a launch: what was measured, in order, and the measurement it led to.
//!
//! A measurement that is not the expected one says nothing about why. The transcript does: its regions can
//! be compared with what the owner wanted to be there.

use super::policy::Policy;
use crate::model::Version;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;

/// Version of the JSON form.
const FORMAT: u32 = 1;
/// More regions than this are counted only.
const MAX_REGIONS: usize = 1 << 18;

/// A digest, nonce or measurement, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a region was taken as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RegionKind {
    /// By LAUNCH_UPDATE_DATA.
    #[serde(rename = "data")]
    Data,
    /// By LAUNCH_UPDATE_VMSA.
    #[serde(rename = "vmsa")]
    Vmsa,
}

/// A piece of memory one command has measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    pub kind: RegionKind,
    /// System physical address.
    pub address: u64,
    /// In bytes.
    pub length: u64,
    /// SHA-256 of the contents before they were encrypted.
    pub sha256: Hex<32>,
}

/// What LAUNCH_MEASURE has made of the regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// SHA-256 of all regions one after another.
    pub launch_digest: Hex<32>,
    /// MNONCE: part of the measurement, so that each is different.
    pub nonce: Hex<16>,
    /// HMAC-SHA-256 with the owner's TIK of 0x04, API major, minor, build, policy, launch digest and
    /// nonce.
    pub measurement: Hex<32>,
}

/// The launch of one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transcript {
    format: u32,
    /// Handle of the guest.
    pub handle: u32,
    /// API version and build number of the firmware, as they are measured.
    pub api_major: u8,
    pub api_minor: u8,
    pub build: u8,
    /// The policy as it is measured.
    pub policy: u32,
    /// Names of the bits set in the policy.
    pub policy_names: Vec<&'static str>,
    pub regions: Vec<Region>,
    /// Regions beyond the number a transcript keeps.
    pub regions_left_out: u64,
    /// `None` before LAUNCH_MEASURE.
    pub measured: Option<Measured>,
}

impl Transcript {
    pub(super) fn new(handle: u32, version: Version, policy: Policy) -> Self {
        Self {
            format: FORMAT,
            handle,
            api_major: version.major,
            api_minor: version.minor,
            build: version.build,
            policy: policy.0,
            policy_names: policy.names(),
            regions: Vec::new(),
            regions_left_out: 0,
            measured: None,
        }
    }

    pub(super) fn add(&mut self, kind: RegionKind, address: u64, length: u64, digest: Sha256) {
        if self.regions.len() == MAX_REGIONS {
            self.regions_left_out += 1;
            return;
        }
        let sha256 = Hex(digest.finalize().into());
        self.regions.push(Region {
            kind,
            address,
            length,
            sha256,
        });
    }

    /// As JSON, for programs. Documentation/psp-emu.rst describes the fields, which are only ever added to.
    #[must_use]
    pub fn to_json(&self) -> String {
        // PANIC: no map with other keys than strings, and nothing that can fail to be serialized.
        serde_json::to_string_pretty(self).expect("plain data")
    }
}

/// For people.
impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.policy_names.join(", ");
        writeln!(f, "guest {}", self.handle)?;
        writeln!(
            f,
            "firmware {}.{}, build {}",
            self.api_major, self.api_minor, self.build
        )?;
        writeln!(f, "policy {:#010x} ({names})", self.policy)?;
        writeln!(f)?;
        writeln!(
            f,
            "{:>4} {:>4} {:>18} {:>12}  sha256",
            "", "", "address", "length"
        )?;
        for (number, region) in (1..).zip(&self.regions) {
            let kind = match region.kind {
                RegionKind::Data => "data",
                RegionKind::Vmsa => "vmsa",
            };
            let (address, length) = (region.address, region.length);
            writeln!(
                f,
                "{number:>4} {kind:>4} {address:>#18x} {length:>#12x}  {}",
                region.sha256
            )?;
        }
        if self.regions_left_out > 0 {
            writeln!(f, "and {} more", self.regions_left_out)?;
        }
        writeln!(f)?;
        match &self.measured {
            None => writeln!(f, "not measured"),
            Some(measured) => {
                writeln!(f, "launch digest {}", measured.launch_digest)?;
                writeln!(f, "nonce         {}", measured.nonce)?;
                writeln!(f, "measurement   {}", measured.measurement)
            }
        }
    }
}
