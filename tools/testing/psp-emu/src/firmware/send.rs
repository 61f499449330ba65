// SPDX-License-Identifier: GPL-2.0
//! Commands that send a guest to another platform (SEV-API, chapter "Guest Migration API").

use super::{
    command::CommandBuffer,
    guest::Phase,
    policy::Policy,
    private::is_aligned,
    transport::{self, check_len},
    Done, Firmware, Status,
};
use crate::{
    cert::{
        amd::AmdCert,
        sev::{SevCert, LEN as CERT_LEN},
        Usage,
    },
    crypto::{
        session::{Session, LEN as SESSION_LEN},
        transport::{Context, LEN as HEADER_LEN},
    },
    memory::GuestMemory,
    vendor,
};

/// Offset in the command buffers of all commands here.
const HANDLE: usize = 0x0;

/// Offsets in the command buffer of SEND_START.
mod start_at {
    pub(super) const POLICY: usize = 0x4;
    pub(super) const PDH_CERT_PADDR: usize = 0x8;
    pub(super) const PDH_CERT_LEN: usize = 0x10;
    pub(super) const PLAT_CERTS_PADDR: usize = 0x18;
    pub(super) const PLAT_CERTS_LEN: usize = 0x20;
    pub(super) const AMD_CERTS_PADDR: usize = 0x28;
    pub(super) const AMD_CERTS_LEN: usize = 0x30;
    pub(super) const SESSION_PADDR: usize = 0x38;
    pub(super) const SESSION_LEN: usize = 0x40;
}

/// Certificates of ASK and ARK, with RSA of 2048 or of 4096 bits.
const AMD_CERTS_LENS: [usize; 2] = [2 * 0x340, 2 * 0x640];

/// The certificates of the platform a guest is to be sent to.
struct Target {
    pdh: SevCert,
    pek: SevCert,
    oca: SevCert,
    cek: SevCert,
}

impl Target {
    /// # Errors
    ///
    /// INVALID_LEN, INVALID_ADDRESS.
    fn read(buffer: &CommandBuffer, memory: &dyn GuestMemory) -> Result<Self, Status> {
        use start_at as at;
        if buffer.len(at::PLAT_CERTS_LEN) != 3 * CERT_LEN {
            return Err(Status::INVALID_LEN);
        }
        let chain = buffer.address(at::PLAT_CERTS_PADDR);
        let nth = |n: usize| read_cert(memory, chain.wrapping_add((n * CERT_LEN) as u64));
        Ok(Self {
            pdh: read_pdh(buffer, memory)?,
            pek: nth(0)?,
            oca: nth(1)?,
            cek: nth(2)?,
        })
    }

    /// Checks that it is a genuine platform, whose chip AMD has certified.
    ///
    /// # Errors
    ///
    /// INVALID_LEN, INVALID_ADDRESS, INVALID_CERTIFICATE, BAD_SIGNATURE.
    fn is_genuine(&self, buffer: &CommandBuffer, memory: &dyn GuestMemory) -> Done {
        let len = buffer.len(start_at::AMD_CERTS_LEN);
        if !AMD_CERTS_LENS.contains(&len) {
            return Err(Status::INVALID_LEN);
        }
        let mut bytes = vec![0; len];
        memory.read(buffer.address(start_at::AMD_CERTS_PADDR), &mut bytes)?;
        let ask = AmdCert::parse(&bytes)?;
        let ark = AmdCert::parse(&bytes[ask.as_bytes().len()..])?;
        if !vendor::is_root(&ark) {
            return Err(Status::INVALID_CERTIFICATE);
        }
        ark.verify(Usage::Ark, &ark)?;
        ask.verify(Usage::Ask, &ark)?;
        if !self.cek.has_usage(Usage::Cek) {
            return Err(Status::INVALID_CERTIFICATE);
        }
        self.cek.verify_rsa(Usage::Ask, ask.algo(), &ask.key())?;
        self.pek.verify(&self.cek)?;
        Ok(self.pdh.verify(&self.pek)?)
    }

    /// Checks that it has the same owner.
    ///
    /// # Errors
    ///
    /// INVALID_CERTIFICATE, BAD_SIGNATURE; POLICY_FAILURE when the owner is another.
    fn is_in_domain(&self, own_oca: &SevCert) -> Done {
        self.oca.verify(&self.oca)?;
        self.pek.verify(&self.oca)?;
        self.pdh.verify(&self.pek)?;
        match self.oca == *own_oca {
            true => Ok(()),
            false => Err(Status::POLICY_FAILURE),
        }
    }
}

fn read_cert(memory: &dyn GuestMemory, addr: u64) -> Result<SevCert, Status> {
    let mut bytes = [0; CERT_LEN];
    memory.read(addr, &mut bytes)?;
    Ok(SevCert::from(bytes))
}

fn read_pdh(buffer: &CommandBuffer, memory: &dyn GuestMemory) -> Result<SevCert, Status> {
    if buffer.len(start_at::PDH_CERT_LEN) != CERT_LEN {
        return Err(Status::INVALID_LEN);
    }
    read_cert(memory, buffer.address(start_at::PDH_CERT_PADDR))
}

impl Firmware {
    /// The certificate of the platform the command buffer names, if the policy lets the guest go there.
    ///
    /// # Errors
    ///
    /// POLICY_FAILURE, and what is wrong with the certificates.
    fn target_pdh(
        &self,
        policy: Policy,
        buffer: &CommandBuffer,
        memory: &dyn GuestMemory,
    ) -> Result<SevCert, Status> {
        if policy.has(Policy::NOSEND) {
            return Err(Status::POLICY_FAILURE);
        }
        if !policy.has(Policy::SEV | Policy::DOMAIN) {
            return read_pdh(buffer, memory);
        }
        let target = Target::read(buffer, memory)?;
        if policy.has(Policy::SEV) {
            target.is_genuine(buffer, memory)?;
            if target.pek.api() < policy.api() {
                return Err(Status::POLICY_FAILURE);
            }
        }
        if policy.has(Policy::DOMAIN) {
            target.is_in_domain(&self.session()?.identity.oca_cert)?;
        }
        Ok(target.pdh)
    }
}

/// SEND_START (0x040): makes the session by which the target gets the transport keys.
pub(super) fn send_start(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    let handle = buffer.u32(HANDLE);
    let guest = fw.session()?.guest(handle)?;
    let policy = guest.policy;
    let is_running = matches!(guest.phase, Phase::Running);
    if buffer.len(start_at::SESSION_LEN) != SESSION_LEN {
        // CAST: 128.
        buffer.set_u32(start_at::SESSION_LEN, SESSION_LEN as u32);
        return Err(Status::INVALID_LEN);
    }
    if !is_running {
        return Err(Status::INVALID_GUEST_STATE);
    }
    let target = fw.target_pdh(policy, buffer, memory)?.dh_point()?;
    let session = fw.session.as_mut().ok_or(Status::INVALID_PLATFORM_STATE)?;
    let made = Session::create(session.identity.pdh(), &target, policy.0, &mut *fw.random);
    let (blob, channel) = made.ok_or(Status::INVALID_CERTIFICATE)?;
    memory.write(buffer.address(start_at::SESSION_PADDR), &blob.to_bytes())?;
    buffer.set_u32(start_at::POLICY, policy.0);
    session.guest_mut(handle)?.phase = Phase::SendUpdate { channel };
    Ok(())
}

/// SEND_UPDATE_DATA (0x041): makes a packet of a piece of private memory.
pub(super) fn send_update_data(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    update(fw, buffer, memory, Context::Data)
}

/// SEND_UPDATE_VMSA (0x042): makes a packet of the registers of a vCPU.
pub(super) fn send_update_vmsa(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
) -> Done {
    update(fw, buffer, memory, Context::Vmsa)
}

fn update(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    memory: &mut dyn GuestMemory,
    context: Context<'_>,
) -> Done {
    use transport::at;
    let session = fw.session.as_ref().ok_or(Status::INVALID_PLATFORM_STATE)?;
    let guest = session.guest(buffer.u32(HANDLE))?;
    let (len, capacity) = (buffer.len(at::GUEST_LEN), buffer.len(at::TRANS_LEN));
    let header_fits = buffer.len(at::HDR_LEN) >= HEADER_LEN;
    // CAST: 52.
    buffer.set_u32(at::HDR_LEN, HEADER_LEN as u32);
    if !header_fits || capacity < len {
        buffer.set_u32(at::TRANS_LEN, buffer.u32(at::GUEST_LEN));
        return Err(Status::INVALID_LEN);
    }
    let Phase::SendUpdate { channel } = &guest.phase else {
        return Err(Status::INVALID_GUEST_STATE);
    };
    if context == Context::Vmsa {
        guest.has_es()?;
    }
    guest.active()?;
    check_len(len)?;
    let (guest_addr, header_addr) = (
        buffer.address(at::GUEST_PADDR),
        buffer.address(at::HDR_PADDR),
    );
    if !is_aligned(guest_addr) || !memory.is_writable(header_addr, HEADER_LEN as u64) {
        return Err(Status::INVALID_ADDRESS);
    }
    let mut data = vec![0; len];
    guest.vek.read(memory, guest_addr, &mut data)?;
    if context == Context::Vmsa {
        let checked = guest.vek.encrypts();
        guest
            .vmsas
            .check(&data, checked)
            .map_err(|_| Status::INVALID_PARAM)?;
    }
    let header = channel.seal(context, &mut data, &mut *fw.random);
    memory.write(buffer.address(at::TRANS_PADDR), &data)?;
    memory.write(header_addr, &header.to_bytes())?;
    buffer.set_u32(at::TRANS_LEN, buffer.u32(at::GUEST_LEN));
    Ok(())
}

/// SEND_FINISH (0x043): the guest is with the target now.
pub(super) fn send_finish(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    leave(fw, buffer, Phase::Sent)
}

/// SEND_CANCEL (0x044): the guest stays.
pub(super) fn send_cancel(
    fw: &mut Firmware,
    buffer: &mut CommandBuffer,
    _: &mut dyn GuestMemory,
) -> Done {
    leave(fw, buffer, Phase::Running)
}

fn leave(fw: &mut Firmware, buffer: &CommandBuffer, next: Phase) -> Done {
    let guest = fw.session_mut()?.guest_mut(buffer.u32(HANDLE))?;
    let Phase::SendUpdate { .. } = guest.phase else {
        return Err(Status::INVALID_GUEST_STATE);
    };
    guest.phase = next;
    Ok(())
}
