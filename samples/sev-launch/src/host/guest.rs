// SPDX-License-Identifier: GPL-2.0
//! A guest from its creation to its attestation, each step one command of KVM (the kernel's
//! Documentation/virt/kvm/x86/amd-memory-encryption.rst).

use super::{
    command::{self, address_of, issue, Command, CommandError},
    memory::Memory,
    platform,
};
use crate::{
    image::Region,
    messages::{LaunchSession, SecretPacket, MEASUREMENT_LEN, REPORT_LEN},
    policy,
};
use anyhow::{Context, Result};
use kvm_bindings::{
    kvm_sev_attestation_report, kvm_sev_dbg, kvm_sev_guest_status, kvm_sev_init,
    kvm_sev_launch_measure, kvm_sev_launch_secret, kvm_sev_launch_start,
    kvm_sev_launch_update_data, KVM_X86_SEV_ES_VM, KVM_X86_SEV_VM,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use std::fs::File;

/// A guest. The firmware forgets it when this is dropped.
pub(crate) struct Guest {
    // The order of drop: the VM must not outlive its memory.
    _vcpu: VcpuFd,
    pub(super) vm: VmFd,
    pub(super) sev: File,
    pub(crate) memory: Memory,
}

impl Guest {
    /// A VM with the image in its memory, nothing encrypted yet, and one processor in its reset state.
    pub(crate) fn create(policy: u32, image: &[Region]) -> Result<Self> {
        let kvm = Kvm::new().context("/dev/kvm")?;
        let kind = if policy & policy::ES != 0 {
            KVM_X86_SEV_ES_VM
        } else {
            KVM_X86_SEV_VM
        };
        let vm = kvm
            .create_vm_with_type(kind.into())
            .context("KVM_CREATE_VM")?;
        let sev = platform::device()?;
        issue(&vm, &sev, &command::INIT2, &mut kvm_sev_init::default())?;
        let memory = Memory::with(image)?;
        memory.attach(&vm)?;
        let vcpu = vm.create_vcpu(0).context("KVM_CREATE_VCPU")?;
        Ok(Self {
            _vcpu: vcpu,
            vm,
            sev,
            memory,
        })
    }

    /// Opens the owner's session: the firmware makes the guest's memory key.
    pub(crate) fn launch_start(&mut self, session: &mut LaunchSession) -> Result<(), CommandError> {
        let mut start = kvm_sev_launch_start {
            policy: session.policy,
            dh_uaddr: address_of(&mut session.certificate[..]),
            dh_len: len(&session.certificate),
            session_uaddr: address_of(&mut session.session[..]),
            session_len: len(&session.session),
            ..Default::default()
        };
        self.issue(&command::LAUNCH_START, &mut start)
    }

    /// Has all memory encrypted in place and measured, range by range.
    pub(crate) fn launch_update_data(&mut self) -> Result<()> {
        for (_, uaddr, size) in self.memory.ranges() {
            let mut update = kvm_sev_launch_update_data {
                uaddr,
                len: u32::try_from(size)?,
                ..Default::default()
            };
            self.issue(&command::LAUNCH_UPDATE_DATA, &mut update)?;
        }
        Ok(())
    }

    /// Has the registers of a SEV-ES guest's processor encrypted and measured.
    pub(crate) fn launch_update_vmsa(&mut self) -> Result<(), CommandError> {
        self.issue(&command::LAUNCH_UPDATE_VMSA, &mut ())
    }

    /// What was launched, authenticated with the session's key, and the firmware's nonce.
    pub(crate) fn launch_measure(&mut self) -> Result<[u8; MEASUREMENT_LEN], CommandError> {
        let mut blob = [0; MEASUREMENT_LEN];
        let mut measure = kvm_sev_launch_measure {
            uaddr: address_of(&mut blob),
            len: len(&blob),
            ..Default::default()
        };
        self.issue(&command::LAUNCH_MEASURE, &mut measure)?;
        Ok(blob)
    }

    /// Puts the owner's secret into the guest's memory.
    pub(crate) fn launch_secret(&mut self, packet: &mut SecretPacket, gpa: u64) -> Result<()> {
        let mut secret = kvm_sev_launch_secret {
            hdr_uaddr: address_of(&mut packet.header[..]),
            hdr_len: len(&packet.header),
            guest_uaddr: self.memory.host_address(gpa, packet.payload.len())?,
            guest_len: len(&packet.payload),
            trans_uaddr: address_of(&mut packet.payload[..]),
            trans_len: len(&packet.payload),
            ..Default::default()
        };
        Ok(self.issue(&command::LAUNCH_SECRET, &mut secret)?)
    }

    /// The guest may run now.
    pub(crate) fn launch_finish(&mut self) -> Result<(), CommandError> {
        self.issue(&command::LAUNCH_FINISH, &mut ())
    }

    /// The guest's policy, and its state by name.
    pub(crate) fn status(&self) -> Result<(u32, &'static str), CommandError> {
        let mut status = kvm_sev_guest_status::default();
        self.issue(&command::GUEST_STATUS, &mut status)?;
        Ok((status.policy, state_name(status.state)))
    }

    /// A statement about the guest, signed by the platform, with the asker's nonce in it.
    pub(crate) fn attestation_report(
        &self,
        nonce: [u8; 16],
    ) -> Result<[u8; REPORT_LEN], CommandError> {
        let mut bytes = [0; REPORT_LEN];
        let mut report = kvm_sev_attestation_report {
            mnonce: nonce,
            uaddr: address_of(&mut bytes),
            len: len(&bytes),
            ..Default::default()
        };
        self.issue(&command::GET_ATTESTATION_REPORT, &mut report)?;
        Ok(bytes)
    }

    /// The guest's memory in plain, if its policy lets the host see it.
    pub(crate) fn decrypt(&self, gpa: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut request = kvm_sev_dbg {
            src_uaddr: self.memory.host_address(gpa, length)?,
            dst_uaddr: address_of(&mut bytes[..]),
            len: len(&bytes),
            ..Default::default()
        };
        self.issue(&command::DBG_DECRYPT, &mut request)?;
        Ok(bytes)
    }

    pub(super) fn issue<T>(&self, command: &Command, argument: &mut T) -> Result<(), CommandError> {
        issue(&self.vm, &self.sev, command, argument)
    }
}

/// A length as the kernel takes it.
pub(super) fn len(bytes: &[u8]) -> u32 {
    // PANIC: certificates, packets and pages are a few KiB.
    u32::try_from(bytes.len()).expect("a short buffer")
}

/// The name of a guest's state (SEV-API, "Guest State Machine").
fn state_name(state: u32) -> &'static str {
    const NAMES: [&str; 7] = [
        "UNINIT", "LUPDATE", "LSECRET", "RUNNING", "SUPDATE", "RUPDATE", "SENT",
    ];
    usize::try_from(state)
        .ok()
        .and_then(|index| NAMES.get(index))
        .unwrap_or(&"unknown")
}
