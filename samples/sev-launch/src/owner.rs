// SPDX-License-Identifier: GPL-2.0
//! The guest's owner: has the image, the secret and AMD's root certificates, and no access to the machine. What it gets
//! from the host it believes only when a key of the chain vouches for it.

pub(crate) mod chain;
pub(crate) mod library;
pub(crate) mod report;
mod secret;
pub(crate) mod sevctl;
#[cfg(test)]
mod tests;
mod vmsa;

use crate::{
    image::{self, Region},
    messages::{LaunchSession, Measurement, PlatformChain, SecretPacket},
    policy,
};
use anyhow::Result;
use openssl::sha::Sha256;

/// Length of the secret.
pub(crate) const DISK_KEY_LEN: usize = 32;

/// What the owner wants to run.
pub(crate) struct Order {
    pub(crate) policy: u32,
    /// What is to be measured, in that order.
    content: Vec<u8>,
    /// The secret, as the guest expects to find it in its memory.
    pub(crate) disk_key: [u8; DISK_KEY_LEN],
}

impl Order {
    /// An order for the image, with a fresh secret.
    pub(crate) fn new(policy: u32) -> Result<Self> {
        let mut disk_key = [0; DISK_KEY_LEN];
        openssl::rand::rand_bytes(&mut disk_key)?;
        Ok(Self {
            policy,
            content: image::regions()
                .iter()
                .flat_map(|Region { bytes, .. }| bytes)
                .copied()
                .collect(),
            disk_key,
        })
    }

    /// Whether the processor's state is measured, too.
    fn has_vmsa(&self) -> bool {
        self.policy & policy::ES != 0
    }

    /// The digest of everything the host is to load.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(&self.content);
        if self.has_vmsa() {
            hash.update(&vmsa::at_reset());
        }
        hash.finish()
    }
}

/// The dialogue in which a guest is launched, from the owner's side.
pub(crate) trait Owner {
    /// Opens a session with a platform.
    ///
    /// # Errors
    ///
    /// Fails if the platform's chain does not lead to AMD's root.
    fn session(&mut self, chain: &PlatformChain) -> Result<LaunchSession>;

    /// Gives away the secret.
    ///
    /// # Errors
    ///
    /// Fails if the measurement is not that of the owner's image, under the owner's policy, in this session.
    fn secret(&mut self, measurement: &Measurement) -> Result<SecretPacket>;
}
