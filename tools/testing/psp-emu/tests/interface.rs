// SPDX-License-Identifier: GPL-2.0
//! What emulator and driver state independently must agree.

mod common;

use common::{Platform, CERT_LEN};
use psp::{
    cert::{AmdCert, SevCert, Usage},
    cmd::CmdId,
    regs::{Capabilities, DEVICES},
    status::FwStatus,
};
use psp_emu::{
    firmware::{command_id, command_name, Status},
    model::{GENOA, MILAN, MODELS, NAPLES},
    vendor::Vendor,
};
use zerocopy::FromBytes;

#[test]
fn commands_have_the_same_ids_and_names() {
    // SNP commands are another specification's and not emulated.
    let sev = |id: u16| id < 0x80;
    for &command in CmdId::ALL.iter().filter(|&&command| sev(command as u16)) {
        assert_eq!(command_name(command as u16), Some(command.name()));
        assert_eq!(command_id(command.name()), Some(command as u16));
    }
    for id in (0..0x800).filter(|&id| sev(id)) {
        let known = CmdId::try_from(id).ok().map(CmdId::name);
        assert_eq!(command_name(id), known, "{id:#x}");
    }
}

#[test]
fn command_buffers_have_the_same_lengths() {
    // A buffer ending at the end of RAM is read, one byte further is not.
    for &command in CmdId::ALL
        .iter()
        .filter(|&&command| (command as u16) < 0x10)
    {
        let len = command.buffer_len() as u64;
        if len == 0 {
            continue;
        }
        let end = common::RAM_LEN as u64;
        let mut psp = Platform::new(&GENOA);
        let mut run = |addr| {
            psp.firmware
                .execute(command as u16, addr, &mut psp.ram, Default::default())
        };
        assert_eq!(
            run(end - len + 1),
            Status::INVALID_ADDRESS,
            "{}",
            command.name()
        );
        assert_ne!(
            run(end - len),
            Status::INVALID_ADDRESS,
            "{}",
            command.name()
        );
    }
}

#[test]
fn statuses_have_the_same_codes() {
    for &(status, name) in Status::NAMED {
        assert_eq!(FwStatus::new(status.0).name(), Some(name), "{status}");
    }
}

#[test]
fn devices_have_the_same_registers() {
    for model in MODELS {
        let (_, map) = DEVICES
            .into_iter()
            .find(|(id, _)| *id == model.device_id)
            .unwrap();
        let ours = model.registers;
        assert_eq!(map.cmdresp as u64, ours.cmdresp, "{}", model.name);
        assert_eq!(map.cmdbuf_lo as u64, ours.addr_lo);
        assert_eq!(map.cmdbuf_hi as u64, ours.addr_hi);
        assert_eq!(map.inten as u64, ours.inten);
        assert_eq!(map.intsts as u64, ours.intsts);
        assert_eq!(map.capability as u64, ours.capability);
        assert_eq!(map.bootloader as u64, ours.bootloader);
        assert!(Capabilities::from_raw(model.capability).unwrap().sev());
    }
}

#[test]
fn certificates_are_read_the_same_way() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    let exported = psp.export();
    for (bytes, usage) in
        exported
            .chunks(CERT_LEN)
            .zip([Usage::PDH, Usage::PEK, Usage::OCA, Usage::CEK])
    {
        let cert = SevCert::read_from_bytes(bytes).unwrap();
        assert_eq!(cert.check(usage), Ok(()), "{usage:?}");
    }
    for model in [&NAPLES, &MILAN] {
        let vendor = Vendor::of(model);
        for cert in [vendor.ark, vendor.ask] {
            let (_, _, rest) = AmdCert::parse(cert.as_bytes()).unwrap();
            assert!(rest.is_empty());
        }
    }
}
