// SPDX-License-Identifier: GPL-2.0
//! Launching guests: what is measured, what becomes ciphertext, what owner and host may do when.

mod common;

use common::{
    guests::{guest_id, Owner, ASID, GUEST, PAGE},
    Platform,
};
use psp_emu::{crypto::transport::Context, firmware::Status, model::MILAN};
use sha2::{Digest, Sha256};

const SUCCESS: Status = Status::SUCCESS;

#[test]
fn a_guest_is_launched_measured_and_given_a_secret() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let policy = 0;
    let owner = Owner::of(&mut psp, policy);
    let (status, handle) = psp.start(guest_id::LAUNCH_START, &owner, 0, policy);
    assert_eq!((status, handle), (SUCCESS, 1));
    assert_eq!(psp.state().0, 2);
    assert_eq!(psp.activate(handle, ASID), SUCCESS);
    let image = [[1; PAGE as usize], [2; PAGE as usize]].concat();
    assert_eq!(psp.update(handle, GUEST, &image), SUCCESS);
    assert_eq!(psp.update(handle, GUEST + 0x8000, &image[..16]), SUCCESS);
    let (measurement, nonce) = psp.measure(handle);

    let digest = Sha256::digest([&image[..], &image[..16]].concat());
    let expected = owner
        .keys
        .measure(MILAN.version, policy, &digest.into(), &nonce);
    assert_eq!(measurement, expected);

    let context = Context::Secret {
        measurement: &measurement,
    };
    let packet = owner.packet(context, b"the disk's key..");
    assert_eq!(psp.secret(handle, GUEST + PAGE, &packet), SUCCESS);
    assert_eq!(psp.plain(guest_id::LAUNCH_FINISH, handle), SUCCESS);

    assert_ne!(psp.read(GUEST, 16), image[..16]);
    assert_ne!(psp.read(GUEST, 16), psp.read(GUEST + 16, 16));
    assert_eq!(psp.decrypt(handle, GUEST, 16).unwrap(), image[..16]);
    assert_eq!(
        psp.decrypt(handle, GUEST + PAGE, 16).unwrap(),
        b"the disk's key.."
    );
}
