// SPDX-License-Identifier: GPL-2.0
//! Commands about the platform's keys and owner (SEV-API, chapter "Platform Management API").
//!
//! A command that changes the identity makes the new one aside, stores it, and only then uses it: when
//! anything fails the platform is as before.

use super::{
    command::CommandBuffer,
    identity::{Identity, Maker, Owner},
    Done, Firmware, Status,
};
use crate::{
    cert::{
        sev::{SevCert, LEN as CERT_LEN},
        Algo, CertError, Usage,
    },
    memory::GuestMemory,
};

/// Offsets in the command buffer of GET_ID.
mod get_id_at {
    pub(super) const ID_PADDR: usize = 0x0;
    pub(super) const ID_LEN: usize = 0x8;
}

/// Offsets in the command buffer of PEK_CSR.
mod pek_csr_at {
    pub(super) const CSR_PADDR: usize = 0x0;
    pub(super) const CSR_LEN: usize = 0x8;
}

/// Offsets in the command buffer of PEK_CERT_IMPORT.
mod pek_cert_import_at {
    pub(super) const PEK_PADDR: usize = 0x0;
    pub(super) const PEK_LEN: usize = 0x8;
    pub(super) const OCA_PADDR: usize = 0x10;
    pub(super) const OCA_LEN: usize = 0x18;
}

/// Offsets in the command buffer of PDH_CERT_EXPORT.
mod pdh_cert_export_at {
    pub(super) const PDH_PADDR: usize = 0x0;
    pub(super) const PDH_LEN: usize = 0x8;
    pub(super) const CHAIN_PADDR: usize = 0x10;
    pub(super) const CHAIN_LEN: usize = 0x18;
}

impl From<CertError> for Status {
    fn from(error: CertError) -> Self {
        match error {
            CertError::Invalid => Self::INVALID_CERTIFICATE,
            CertError::BadSignature => Self::BAD_SIGNATURE,
        }
    }
}

impl Firmware {
    /// Runs `make`, which makes an identity, with what that takes.
    pub(super) fn make<T>(
        &mut self,
        make: impl FnOnce(&mut Maker<'_>) -> Result<T, CertError>,
    ) -> Result<T, Status> {
        let (version, cek) = (self.version, self.chip.cek());
        let mut maker = Maker {
            version,
            cek: &cek,
            random: &mut *self.random,
        };
        Ok(make(&mut maker)?)
    }

    /// Stores an identity and uses it from now on.
    fn replace_identity(&mut self, identity: Identity, memory: &mut dyn GuestMemory) -> Done {
        let storage = self.session()?.storage;
        self.save(&identity, storage, memory)?;
        self.session_mut()?.identity = identity;
        Ok(())
    }
}

/// PEK_GEN (0x005): new OCA, PEK and PDH; the platform owns itself again. In INIT.
pub(super) fn pek_gen(
    fw: &mut Firmware,
    _: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    fw.session_without_guests()?;
    let identity = fw.make(Identity::generate)?;
    fw.replace_identity(identity, memory)
}

/// PEK_CSR (0x006): the PEK's certificate without signatures, for an owner to sign. In INIT, WORKING.
pub(super) fn pek_csr(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let csr = fw.session()?.identity.pek_cert.unsigned();
    buffer.offer(pek_csr_at::CSR_LEN, CERT_LEN)?;
    let addr = buffer.address(pek_csr_at::CSR_PADDR);
    Ok(memory.write(addr, csr.as_bytes())?)
}

/// PEK_CERT_IMPORT (0x007): an owner takes the platform. In INIT.
pub(super) fn pek_cert_import(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    use pek_cert_import_at as at;
    let identity = fw.session_without_guests()?.identity.clone();
    if matches!(identity.owner, Owner::External) {
        return Err(Status::ALREADY_OWNED);
    }
    let lengths = [at::PEK_LEN, at::OCA_LEN].map(|offset| usize::try_from(buffer.u32(offset)));
    if lengths != [Ok(CERT_LEN); 2] {
        return Err(Status::INVALID_LEN);
    }
    let read = |offset: usize| {
        let mut bytes = [0; CERT_LEN];
        memory.read(buffer.address(offset), &mut bytes)?;
        Ok::<_, Status>(SevCert::from(bytes))
    };
    let (pek, oca) = (read(at::PEK_PADDR)?, read(at::OCA_PADDR)?);
    let owned = fw.make(|maker| identity.with_owner(pek, oca, maker))?;
    fw.replace_identity(owned, memory)
}

/// PDH_CERT_EXPORT (0x008): the PDH's certificate, and those of PEK, OCA and CEK in this order. In INIT,
/// WORKING.
///
/// As on hardware, the CEK comes without signature: AMD's is had from its key server, which knows the
/// chip by GET_ID. Here it lies in the state directory.
pub(super) fn pdh_cert_export(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    use pdh_cert_export_at as at;
    let identity = &fw.session()?.identity;
    let cek = fw.chip.cek().public();
    let cek = SevCert::new(fw.version, Usage::Cek, Algo::ECDSA_SHA256, &cek);
    let chain = [&identity.pek_cert, &identity.oca_cert, &cek]
        .map(|cert| &cert.as_bytes()[..])
        .concat();
    let pdh = buffer.offer(at::PDH_LEN, CERT_LEN);
    buffer.offer(at::CHAIN_LEN, chain.len()).and(pdh)?;
    let pdh_addr = buffer.address(at::PDH_PADDR);
    let chain_addr = buffer.address(at::CHAIN_PADDR);
    if !memory.is_writable(chain_addr, chain.len() as u64) {
        return Err(Status::INVALID_ADDRESS);
    }
    memory.write(pdh_addr, identity.pdh_cert.as_bytes())?;
    Ok(memory.write(chain_addr, &chain)?)
}

/// PDH_GEN (0x009): a new PDH. In INIT, WORKING.
pub(super) fn pdh_gen(
    fw: &mut Firmware,
    _: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let identity = fw.session()?.identity.clone();
    let identity = fw.make(|maker| identity.with_new_pdh(maker))?;
    fw.replace_identity(identity, memory)
}

/// GET_ID (0x00c): the chip's id; in any state.
///
/// One socket is emulated, so 64 bytes are returned even where 128 are offered.
pub(super) fn get_id(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let id = fw.chip.id();
    buffer.offer(get_id_at::ID_LEN, id.len())?;
    let addr = buffer.address(get_id_at::ID_PADDR);
    Ok(memory.write(addr, &id)?)
}
