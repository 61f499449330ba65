// SPDX-License-Identifier: GPL-2.0
//! SWAP_OUT and SWAP_IN: pages of a guest that the host stores away and brings back.

mod common;

use common::{
    guests::{debug_buffer, guest_id, Owner, ASID, ES_ASID, GUEST},
    states::{RUNNING, VMSA},
    Platform, RAM_LEN,
};
use psp_emu::{
    firmware::Status,
    memory::{GuestMemory, VecMemory},
    model::MILAN,
};

const SUCCESS: Status = Status::SUCCESS;
const ADDRESS: Status = Status::INVALID_ADDRESS;
const PARAM: Status = Status::INVALID_PARAM;
const ES: u32 = 4;
/// FLAGS: a page of 2 MiB; a VMSA; source and destination are the same page.
const BIG: u32 = 1 << 0;
const TYPE_VMSA: u32 = 2 << 1;
const IN_PLACE: u32 = 1 << 3;
/// Where pages and metadata are stored, and where pages come back to.
const STORE: u64 = GUEST + 0x1_0000;
const BACK: u64 = GUEST + 0x2_0000;
const MDATA: u64 = GUEST + 0x3_0000;
const END: u64 = RAM_LEN as u64;

fn out(psp: &mut Platform, guest: u32, flags: u32, [src, dst, mdata]: [u64; 3]) -> Status {
    psp.status(
        guest_id::SWAP_OUT,
        &buffer![guest, flags, src, dst, mdata, 0x0123_4567_89ab_cdefu64],
    )
}

fn back(psp: &mut Platform, guest: u32, flags: u32, [src, dst, mdata]: [u64; 3]) -> Status {
    psp.status(guest_id::SWAP_IN, &buffer![guest, flags, src, dst, mdata])
}

/// A guest with a data page at [`GUEST`] and a VMSA.
fn running(psp: &mut Platform) -> u32 {
    let owner = Owner::of(psp, ES);
    psp.guest_in(RUNNING, &owner, (ES, ES_ASID), true).handle
}

#[test]
fn pages_come_back_at_another_address() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let guest = running(&mut psp);
    let data = psp.decrypt(guest, GUEST, 4096).unwrap();
    let vmsa = psp.decrypt(guest, VMSA, 4096).unwrap();
    for (page, flags, contents) in [(GUEST, 0, &data), (VMSA, TYPE_VMSA, &vmsa)] {
        assert_eq!(out(&mut psp, guest, flags, [page, STORE, MDATA]), SUCCESS);
        let (stored, mdata) = (psp.read(STORE, 4096), psp.read(MDATA, 64));
        assert!(stored != *contents && stored != psp.read(page, 4096));
        assert_eq!(mdata[..8], 0x0123_4567_89ab_cdefu64.to_le_bytes());
        assert_eq!(mdata[0x20..0x3c], [0; 28]);
        assert_eq!(mdata[0x3c..], flags.to_le_bytes());
        // The host stores both elsewhere meanwhile.
        psp.ram.write(STORE, &[0; 4096]).unwrap();
        psp.ram.write(STORE + 0x3000, &stored).unwrap();
        assert_eq!(
            back(&mut psp, guest, flags, [STORE + 0x3000, BACK, MDATA]),
            SUCCESS
        );
        assert_eq!(psp.decrypt(guest, BACK, 4096).unwrap(), *contents);
        // A page that has not changed looks different each time.
        assert_eq!(out(&mut psp, guest, flags, [page, STORE, MDATA]), SUCCESS);
        assert_ne!(psp.read(STORE, 4096), stored);
        assert_ne!(psp.read(MDATA, 64)[..0x10], mdata[..0x10]);
    }
    // What came back as a VMSA is one.
    assert_eq!(
        out(&mut psp, guest, TYPE_VMSA, [BACK, STORE, MDATA]),
        SUCCESS
    );
}

#[test]
fn big_pages_come_back_too() {
    const MIB: u64 = 1 << 20;
    let mut psp = Platform::new(&MILAN);
    psp.ram = VecMemory::new(0, 10 << 20);
    psp.init_for_guests();
    let (guest, _) = psp.launch(0, ASID, &[1; 16]);
    let page: Vec<u8> = (0..2 * MIB).map(|at| (at / 4096) as u8).collect();
    psp.ram.write(4 * MIB, &page).unwrap();
    let encrypt = debug_buffer(guest, 4 * MIB, 6 * MIB, 2 << 20);
    assert_eq!(psp.status(guest_id::DBG_ENCRYPT, &encrypt), SUCCESS);
    assert_eq!(
        out(&mut psp, guest, BIG, [6 * MIB, 4 * MIB, MDATA]),
        SUCCESS
    );
    assert_eq!(psp.read(MDATA + 0x3c, 4), BIG.to_le_bytes());
    psp.ram.write(6 * MIB, &[0; 4096]).unwrap();
    assert_eq!(
        back(&mut psp, guest, BIG, [4 * MIB, 8 * MIB, MDATA]),
        SUCCESS
    );
    let decrypt = debug_buffer(guest, 8 * MIB, 4 * MIB, 2 << 20);
    assert_eq!(psp.status(guest_id::DBG_DECRYPT, &decrypt), SUCCESS);
    assert!(psp.read(4 * MIB, 2 << 20) == page);
    for pages in [[5 * MIB, 4 * MIB], [6 * MIB, 5 * MIB], [6 * MIB, 10 * MIB]] {
        let [src, dst] = pages;
        assert_eq!(out(&mut psp, guest, BIG, [src, dst, MDATA]), ADDRESS);
        assert_eq!(back(&mut psp, guest, BIG, [src, dst, MDATA]), ADDRESS);
    }
    // A big page is not brought back as a small one.
    assert_eq!(back(&mut psp, guest, 0, [4 * MIB, 8 * MIB, MDATA]), PARAM);
}

#[test]
fn every_changed_byte_is_noticed() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let guest = running(&mut psp);
    assert_eq!(out(&mut psp, guest, 0, [GUEST, STORE, MDATA]), SUCCESS);
    psp.ram.write(BACK, &[0xee; 4096]).unwrap();
    let places = (0..64).map(|at| MDATA + at);
    let places = places.chain([0, 1, 2048, 4095].map(|at| STORE + at));
    for at in places {
        let byte = psp.read(at, 1)[0];
        psp.ram.write(at, &[byte ^ 0x10]).unwrap();
        let expected = match at {
            at if (MDATA + 0x3c..MDATA + 0x40).contains(&at) => PARAM,
            _ => Status::BAD_MEASUREMENT,
        };
        let status = back(&mut psp, guest, 0, [STORE, BACK, MDATA]);
        assert_eq!(status, expected, "{at:#x}");
        assert_eq!(psp.read(BACK, 4096), [0xee; 4096]);
        psp.ram.write(at, &[byte]).unwrap();
    }
    // Another guest's page is not brought back either.
    let owner = Owner::of(&mut psp, ES);
    let other = psp
        .guest_in(RUNNING, &owner, (ES, ES_ASID + 1), true)
        .handle;
    let status = back(&mut psp, other, 0, [STORE, BACK, MDATA]);
    assert_eq!(status, Status::BAD_MEASUREMENT);
    assert_eq!(back(&mut psp, guest, 0, [STORE, BACK, MDATA]), SUCCESS);
}

#[test]
fn a_page_is_of_one_type() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let guest = running(&mut psp);
    let mut try_out = |page: u64, flags: u32| {
        let before = psp.read(0x2000, RAM_LEN - 0x2000);
        let status = out(&mut psp, guest, flags, [page, STORE, MDATA]);
        assert_eq!(
            psp.read(0x2000, RAM_LEN - 0x2000) == before,
            status != SUCCESS
        );
        status
    };
    for (page, flags, expected) in [
        (GUEST, TYPE_VMSA, PARAM),
        (VMSA, 0, PARAM),
        (GUEST, 1 << 1, PARAM),
        (GUEST, 3 << 1, PARAM),
        (GUEST, IN_PLACE, PARAM),
        (GUEST, 1 << 4, PARAM),
        (GUEST, 1 << 31, PARAM),
        (GUEST, 0, SUCCESS),
        (VMSA, TYPE_VMSA, SUCCESS),
    ] {
        assert_eq!(try_out(page, flags), expected, "{page:#x} {flags:#x}");
    }
    // Now the VMSA is stored, and comes back as nothing else.
    assert_eq!(back(&mut psp, guest, 0, [STORE, BACK, MDATA]), PARAM);
    let flags = TYPE_VMSA | IN_PLACE;
    assert_eq!(back(&mut psp, guest, flags, [STORE, STORE, MDATA]), PARAM);
    assert_eq!(
        back(&mut psp, guest, TYPE_VMSA, [STORE, BACK, MDATA]),
        SUCCESS
    );
}

#[test]
fn pages_come_back_in_place_if_asked() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let guest = running(&mut psp);
    let data = psp.decrypt(guest, GUEST, 4096).unwrap();
    assert_eq!(out(&mut psp, guest, 0, [GUEST, GUEST, MDATA]), SUCCESS);
    assert_ne!(psp.decrypt(guest, GUEST, 4096).unwrap(), data);
    assert_eq!(back(&mut psp, guest, IN_PLACE, [GUEST, BACK, MDATA]), PARAM);
    assert_eq!(
        back(&mut psp, guest, IN_PLACE, [GUEST, GUEST, MDATA]),
        SUCCESS
    );
    assert_eq!(psp.decrypt(guest, GUEST, 4096).unwrap(), data);
}

#[test]
fn addresses_are_aligned_and_apart() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let guest = running(&mut psp);
    assert_eq!(out(&mut psp, guest, 0, [GUEST, STORE, MDATA]), SUCCESS);
    for (addresses, expected) in [
        ([STORE + 0x800, BACK, MDATA], ADDRESS),
        ([STORE, BACK + 0x10, MDATA], ADDRESS),
        ([STORE, BACK, MDATA + 0x20], ADDRESS),
        ([STORE, BACK, END], ADDRESS),
        ([STORE, END, MDATA], ADDRESS),
        ([END, BACK, MDATA], ADDRESS),
        ([STORE, BACK, STORE], PARAM),
        ([STORE, BACK, STORE + 0xfc0], PARAM),
        ([STORE, BACK, BACK + 0x40], PARAM),
    ] {
        let before = psp.read(0x2000, RAM_LEN - 0x2000);
        assert_eq!(
            out(&mut psp, guest, 0, addresses),
            expected,
            "{addresses:x?}"
        );
        assert_eq!(
            back(&mut psp, guest, 0, addresses),
            expected,
            "{addresses:x?}"
        );
        assert!(psp.read(0x2000, RAM_LEN - 0x2000) == before);
    }
    assert_eq!(back(&mut psp, guest, 0, [STORE, BACK, MDATA]), SUCCESS);
}
