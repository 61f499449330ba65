// SPDX-License-Identifier: GPL-2.0
//! Where the platform's identity is kept: in flash, or in the NV area the driver gives INIT_EX and
//! stores away itself.

use super::{identity::Identity, Done, Firmware, Status};
use crate::{
    crypto::{seal, unseal, SealKey},
    memory::GuestMemory,
};

/// Length of the NV area in bytes.
pub(super) const NV_LEN: u32 = 32 << 10;
/// What erased storage reads as.
const ERASED: u8 = 0xff;
/// So many erased bytes at the start mean that nothing is stored.
const ERASED_PROBE: usize = 4;

/// Place of the persistent data during a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Flash,
    /// Address of the NV area, which is RAM.
    Memory(u64),
}

impl Firmware {
    /// Loads the identity; `None` when the storage is erased.
    ///
    /// # Errors
    ///
    /// SECURE_DATA_INVALID when what is stored is not this chip's; the storage is then erased, so that
    /// the next INIT succeeds with a new identity.
    pub(super) fn load(
        &mut self,
        storage: Storage,
        memory: &mut dyn GuestMemory,
    ) -> Result<Option<Identity>, Status> {
        let stored = match storage {
            Storage::Flash => self.flash.read().map_err(|_| Status::HWERROR_PLATFORM)?,
            Storage::Memory(addr) => {
                let mut area = vec![0; NV_LEN as usize];
                memory.read(addr, &mut area)?;
                Some(area).filter(|area| area[..ERASED_PROBE] != [ERASED; ERASED_PROBE])
            }
        };
        let Some(stored) = stored else {
            return Ok(None);
        };
        let opened = unseal(&SealKey::derive(self.chip.secret()), &stored);
        match opened.and_then(|bytes| Identity::from_bytes(&bytes)) {
            Some(identity) => Ok(Some(identity)),
            None => {
                self.erase(storage, memory)?;
                Err(Status::SECURE_DATA_INVALID)
            }
        }
    }

    /// Stores the identity.
    ///
    /// # Errors
    ///
    /// HWERROR_PLATFORM when the flash fails; INVALID_ADDRESS when the NV area is no longer RAM.
    pub(super) fn save(
        &mut self,
        identity: &Identity,
        storage: Storage,
        memory: &mut dyn GuestMemory,
    ) -> Done {
        let key = SealKey::derive(self.chip.secret());
        let mut sealed = seal(&key, &mut *self.random, &identity.to_bytes());
        match storage {
            Storage::Flash => self
                .flash
                .write(&sealed)
                .map_err(|_| Status::HWERROR_PLATFORM),
            Storage::Memory(addr) => {
                sealed.resize(NV_LEN as usize, ERASED);
                Ok(memory.write(addr, &sealed)?)
            }
        }
    }

    fn erase(&mut self, storage: Storage, memory: &mut dyn GuestMemory) -> Done {
        match storage {
            Storage::Flash => self.flash.erase().map_err(|_| Status::HWERROR_PLATFORM),
            Storage::Memory(addr) => Ok(memory.write(addr, &[ERASED; NV_LEN as usize])?),
        }
    }
}
