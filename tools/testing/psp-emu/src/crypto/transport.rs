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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::tests::hex;

    /// The vector of the unit tests of virtee's `sev`.
    #[test]
    fn matches_the_measurement_sev_publishes() {
        let mut keys = TransportKeys::default();
        *keys.tik = hex("66320db73158a35a255d051758e95ed4");
        let version = Version {
            major: 0,
            minor: 0x12,
            build: 0xf,
        };
        let digest = hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let nonce = hex("4fbe0bedbad6c86ae8f68971d103e554");
        assert_eq!(
            keys.measure(version, 0, &digest, &nonce),
            hex("6faab2daae389bcd3405a05d6cafe33c0414f7bedd0bae19ba5f38b7fd1664ea")
        );
    }

    /// The first vector of sevctl's `measurement build`.
    #[test]
    fn matches_the_measurement_sevctl_publishes() {
        let mut keys = TransportKeys::default();
        *keys.tik = hex("3569cf61a32a602b87185ac6e0f55913");
        let version = Version {
            major: 1,
            minor: 40,
            build: 40,
        };
        let digest = hex("c64bd101fc9a4a2ce0a27c408d9200911f139a895469b04a40a6fa2890830d23");
        assert_eq!(
            keys.measure(
                version,
                3,
                &digest,
                &hex("c313fab511c216b1505b1b2ea9903c40")
            ),
            hex("96cc1bc56c48f60724c9ad7a250bdd16da5898d3b86fede29c03e9aac828048e")
        );
    }

    /// The first vector of sevctl's `secret build`: a table with one entry, padded.
    #[test]
    fn opens_the_secret_sevctl_publishes() {
        let keys = TransportKeys {
            tek: hex("52a869b79ab9c13bb6a92b0561619cb3").into(),
            tik: hex("c6d5a9956133050912b24bbe5c372686").into(),
        };
        let measurement = hex("4cb780efad3b959427b4b8d1635fe2fac6ed75267eef9cf1a73e0fc7d873a412");
        let header = PacketHeader::from_bytes(&hex("00000000ac5474ed4dd32c7d989ec523d92559ec\
             bc152cde610e17f0aef557334a2d4fca42c22c4312e3b5b85a3d47b0aac857e5"));
        let mut data = hex::<64>(
            "d14ddee4f717bf4516f87e2d48114a39d0987ca135fa3dfc05cd9fb8ed7a9988\
             b223eb16c7b20d7e7fa58188f9e862f5db2ca29c36be9557c20b00ffdb0e5c3c",
        );
        let context = Context::Secret {
            measurement: &measurement,
        };
        assert_eq!(keys.open(context, &header, &mut data), Ok(()));
        // Table: UUID, length; entry: UUID, length, secret.
        assert_eq!(data[40..58], *b"MY-LUKS-PASSPHRASE");
        assert_eq!(data[58..], [0; 6]);
    }
}
