// SPDX-License-Identifier: GPL-2.0
//! A guest from one platform to another. The two firmwares agree on keys over the hosts' heads: the sender's checks the
//! receiver's certificates itself, as the guest's policy demands.

use super::{
    command::{self, address_of, CommandError},
    guest::{len, Guest},
    stream::{Header, Packet, Stream},
};
use crate::{
    image::PAGE,
    messages::{PlatformChain, CERTIFICATE_LEN, HEADER_LEN, SESSION_LEN},
};
use anyhow::{Context, Result};
use kvm_bindings::{
    kvm_sev_receive_start, kvm_sev_receive_update_data, kvm_sev_send_start,
    kvm_sev_send_update_data,
};

impl Guest {
    /// Encrypts the guest for the platform with that chain. Afterwards it is here no more.
    ///
    /// `amd` holds the ASK's and the ARK's certificate.
    pub(crate) fn send(
        &mut self,
        own: &PlatformChain,
        target: &mut PlatformChain,
        amd: &mut [u8],
    ) -> Result<Stream> {
        let (pdh, rest) = target
            .0
            .split_at_mut_checked(CERTIFICATE_LEN)
            .context("the target's chain is too short")?;
        let mut session = [0; SESSION_LEN];
        let mut start = kvm_sev_send_start {
            pdh_cert_uaddr: address_of(pdh),
            pdh_cert_len: len(pdh),
            plat_certs_uaddr: address_of(rest),
            plat_certs_len: len(rest),
            amd_certs_uaddr: address_of(amd),
            amd_certs_len: len(amd),
            session_uaddr: address_of(&mut session),
            session_len: len(&session),
            ..Default::default()
        };
        self.issue(&command::SEND_START, &mut start)?;
        let packets = self
            .memory
            .pages()
            .map(|gpa| self.send_page(gpa))
            .collect::<Result<_>>()?;
        self.issue(&command::SEND_FINISH, &mut ())?;
        let own_pdh = own.0.first_chunk().context("this platform's chain")?;
        let header = Header::new(start.policy, *own_pdh, session);
        Ok(Stream { header, packets })
    }

    fn send_page(&self, gpa: u64) -> Result<Packet> {
        let mut header = [0; HEADER_LEN];
        let mut data = [0; PAGE];
        let mut update = kvm_sev_send_update_data {
            hdr_uaddr: address_of(&mut header),
            hdr_len: len(&header),
            guest_uaddr: self.memory.host_address(gpa, PAGE)?,
            guest_len: len(&data),
            trans_uaddr: address_of(&mut data),
            trans_len: len(&data),
            ..Default::default()
        };
        self.issue(&command::SEND_UPDATE_DATA, &mut update)?;
        Ok(Packet {
            gpa: gpa.into(),
            header,
            data,
        })
    }

    /// Opens the sender's session: the firmware makes a new memory key.
    pub(crate) fn receive_start(&mut self, header: &mut Header) -> Result<(), CommandError> {
        let mut start = kvm_sev_receive_start {
            policy: header.policy(),
            pdh_uaddr: address_of(&mut header.pdh),
            pdh_len: len(&header.pdh),
            session_uaddr: address_of(&mut header.session),
            session_len: len(&header.session),
            ..Default::default()
        };
        self.issue(&command::RECEIVE_START, &mut start)
    }

    /// Puts a page into the guest's memory, encrypted with its new key.
    pub(crate) fn receive_update(&mut self, packet: &mut Packet) -> Result<()> {
        let mut update = kvm_sev_receive_update_data {
            hdr_uaddr: address_of(&mut packet.header),
            hdr_len: len(&packet.header),
            guest_uaddr: self.memory.host_address(packet.gpa.get(), PAGE)?,
            guest_len: len(&packet.data),
            trans_uaddr: address_of(&mut packet.data),
            trans_len: len(&packet.data),
            ..Default::default()
        };
        Ok(self.issue(&command::RECEIVE_UPDATE_DATA, &mut update)?)
    }

    /// The guest may run here now.
    pub(crate) fn receive_finish(&mut self) -> Result<(), CommandError> {
        self.issue(&command::RECEIVE_FINISH, &mut ())
    }
}
