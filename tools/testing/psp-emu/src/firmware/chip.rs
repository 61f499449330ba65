// SPDX-License-Identifier: GPL-2.0
//! What is fused into one chip, and what follows from it.

use crate::crypto::{ecc::EcKey, kdf, Random};

/// One chip. Its secret is not wiped from memory: it lies in the state directory anyway.
#[derive(Clone)]
pub struct Chip {
    secret: [u8; Chip::SECRET_LEN],
}

impl Chip {
    /// Length in bytes of the secret all chip-unique keys are derived from.
    pub const SECRET_LEN: usize = 32;

    /// A new chip.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut secret = [0; Self::SECRET_LEN];
        random.fill_bytes(&mut secret);
        Self { secret }
    }

    /// The chip with this secret.
    #[must_use]
    pub fn from_secret(secret: [u8; Self::SECRET_LEN]) -> Self {
        Self { secret }
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &[u8; Self::SECRET_LEN] {
        &self.secret
    }

    /// The 64 bytes by which AMD's key server knows the chip (GET_ID).
    ///
    /// On hardware a point of secp256k1 made from the chip's secret; here 64 bytes made from it
    /// another way. They are unique and say nothing about the secret, which is all anyone relies on.
    #[must_use]
    pub fn id(&self) -> [u8; 64] {
        kdf(&self.secret, "psp-emu-chip-id", &[])
    }

    /// The chip endorsement key (CEK), derived anew at each INIT.
    #[must_use]
    pub fn cek(&self) -> EcKey {
        // All but one in 2^190 candidates are scalars of P-384.
        let mut candidates = (0u8..=u8::MAX).filter_map(|attempt| {
            let scalar = kdf(&self.secret, "sev-chip-endorsement-key", &[attempt]);
            EcKey::from_scalar(&scalar)
        });
        // PANIC: 256 misses in a row do not happen.
        candidates.next().expect("a scalar within 256 attempts")
    }
}
