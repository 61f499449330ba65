// SPDX-License-Identifier: GPL-2.0
//! What travels between a guest's owner and the firmware under the transport keys: packets of guest memory
//! and secrets, and the measurement of a launch (SEV-API, LAUNCH_SECRET, SEND_UPDATE_*, RECEIVE_UPDATE_*,
//! LAUNCH_MEASURE).

use super::{hmac_sha256, session::TransportKeys, take, BadMac, Random};
use crate::model::Version;
use aes::{
    cipher::{KeyIvInit, StreamCipher},
    Aes128,
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Length of a packet header in bytes.
pub const LEN: usize = 52;

/// First byte of what the MAC of a measurement covers; packets have [`Context::code`].
const MEASUREMENT: u8 = 4;

/// What a packet is for. One made for one purpose does not open for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context<'a> {
    /// A secret for the guest whose launch was measured so.
    Secret { measurement: &'a [u8; 32] },
    /// Guest memory.
    Data,
    /// The registers of a vCPU of a SEV-ES guest.
    Vmsa,
}

impl Context<'_> {
    fn code(self) -> u8 {
        match self {
            Self::Secret { .. } => 1,
            Self::Data => 2,
            Self::Vmsa => 3,
        }
    }
}

/// The header of a packet (SEV-API, table "Packet Header").
///
/// ```text
/// 0x00   4  FLAGS  bit 0: the data is compressed, little-endian
/// 0x04  16  IV     initial counter block of the data
/// 0x14  32  MAC
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeader {
    pub flags: u32,
    pub iv: [u8; 16],
    pub mac: [u8; 32],
}

impl PacketHeader {
    /// Takes a header apart.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; LEN]) -> Self {
        let mut rest = &bytes[..];
        Self {
            flags: u32::from_le_bytes(take(&mut rest)),
            iv: take(&mut rest),
            mac: take(&mut rest),
        }
    }

    /// The header as it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&self.flags.to_le_bytes());
        bytes[4..20].copy_from_slice(&self.iv);
        bytes[20..].copy_from_slice(&self.mac);
        bytes
    }
}

impl TransportKeys {
    /// Encrypts `data` in place and authenticates it; the header says so to the receiver.
    #[must_use]
    pub fn seal(
        &self,
        context: Context<'_>,
        data: &mut [u8],
        random: &mut dyn Random,
    ) -> PacketHeader {
        let (flags, mut iv) = (0, [0; 16]);
        random.fill_bytes(&mut iv);
        self.crypt(&iv, data);
        let mac = self.packet_mac(context, flags, &iv, data);
        PacketHeader {
            flags,
            iv,
            mac: mac.finalize().into_bytes().into(),
        }
    }

    /// Checks `data` and decrypts it in place.
    ///
    /// # Errors
    ///
    /// [`BadMac`] when header or data were changed, or sealed for another guest or context. `data` is
    /// untouched then.
    pub fn open(
        &self,
        context: Context<'_>,
        header: &PacketHeader,
        data: &mut [u8],
    ) -> Result<(), BadMac> {
        self.packet_mac(context, header.flags, &header.iv, data)
            .verify_slice(&header.mac)
            .map_err(|_| BadMac)?;
        self.crypt(&header.iv, data);
        Ok(())
    }

    /// The measurement of a launch: authenticates firmware version, policy and launch digest to the owner.
    #[must_use]
    pub fn measure(
        &self,
        version: Version,
        policy: u32,
        digest: &[u8; 32],
        nonce: &[u8; 16],
    ) -> [u8; 32] {
        let parts: [&[u8]; 4] = [
            &[MEASUREMENT, version.major, version.minor, version.build],
            &policy.to_le_bytes(),
            digest,
            nonce,
        ];
        hmac_sha256(&*self.tik, &parts)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Encrypts or decrypts, which is the same in this mode.
    fn crypt(&self, iv: &[u8; 16], data: &mut [u8]) {
        ctr::Ctr128BE::<Aes128>::new((&*self.tek).into(), iv.into()).apply_keystream(data);
    }

    fn packet_mac(
        &self,
        context: Context<'_>,
        flags: u32,
        iv: &[u8; 16],
        ciphertext: &[u8],
    ) -> Hmac<Sha256> {
        // CAST: lengths are 32-bit fields of the commands.
        let len = (ciphertext.len() as u32).to_le_bytes();
        // Length in the guest and on the way; they are the same without compression.
        let parts: [&[u8]; 6] = [
            &[context.code()],
            &flags.to_le_bytes(),
            iv,
            &len,
            &len,
            ciphertext,
        ];
        let mut mac = hmac_sha256(&*self.tik, &parts);
        if let Context::Secret { measurement } = context {
            mac.update(measurement);
        }
        mac
    }
}
