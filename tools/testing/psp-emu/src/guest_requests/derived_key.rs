// SPDX-License-Identifier: GPL-2.0
//! MSG_KEY_REQ: keys that only this guest on this chip can have (SNP-ABI, "Key Derivation").
//!
//! ```text
//! 0x00  4  bit 0 ROOT_KEY_SELECT: 0 the endorsement key, 1 the VMRK; bits 2:1 KEY_SEL
//! 0x08  8  GUEST_FIELD_SELECT
//! 0x10  4  VMPL
//! 0x14  4  GUEST_SVN
//! 0x18  8  TCB_VERSION
//! ```

use super::{
    firmware::{key_for, number, Signers},
    generation::Generation,
    guest::Guest,
};
use crate::{crypto::kdf, firmware::Status};
use zeroize::Zeroizing;

/// Length in bytes of the request.
pub(super) const REQUEST_LEN: usize = 0x20;
/// Length in bytes of the answer.
pub(super) const RESPONSE_LEN: usize = 0x40;

/// GUEST_FIELD_SELECT.
const POLICY: u64 = 1 << 0;
const IMAGE_ID: u64 = 1 << 1;
const FAMILY_ID: u64 = 1 << 2;
const MEASUREMENT: u64 = 1 << 3;
const GUEST_SVN: u64 = 1 << 4;
const TCB_VERSION: u64 = 1 << 5;
const ALL_FIELDS: u64 = (1 << 6) - 1;

/// The key that is asked for.
///
/// # Errors
///
/// `INVALID_PARAM` and `INVALID_KEY`, as the firmware's.
pub(super) fn derive(
    request: &[u8; REQUEST_LEN],
    vmpck: u8,
    guest: &Guest,
    generation: &Generation,
    signers: &Signers,
) -> Result<Zeroizing<[u8; 32]>, Status> {
    let select = u32::from_le_bytes(number(request, 0x00));
    let reserved = u32::from_le_bytes(number(request, 0x04));
    let fields = u64::from_le_bytes(number(request, 0x08));
    let vmpl = u32::from_le_bytes(number(request, 0x10));
    let svn = u32::from_le_bytes(number(request, 0x14));
    let tcb: [u8; 8] = number(request, 0x18);
    if select >> 3 != 0 || reserved != 0 || fields & !ALL_FIELDS != 0 {
        return Err(Status::INVALID_PARAM);
    }
    let from_vmrk = select & 1 != 0;
    let root = match from_vmrk {
        true => Zeroizing::new(guest.vmrk.to_vec()),
        false => Zeroizing::new(key_for(signers, select >> 1 & 3)?.key.scalar().to_vec()),
    };
    let asks = |field| fields & field != 0;
    // A guest speaks for its own privilege level and those below.
    let too_high = vmpl < vmpck.into() || vmpl > 3;
    let too_new = asks(TCB_VERSION) && !generation.tcb.covers(tcb);
    if too_high || too_new || (asks(GUEST_SVN) && svn > guest.guest_svn) {
        return Err(Status::INVALID_PARAM);
    }
    // Each field has its place, so that no two requests mean the same.
    let chosen = |field, bytes: &[u8]| match asks(field) {
        true => bytes.to_vec(),
        false => vec![0; bytes.len()],
    };
    let mix = [
        (select & 1).to_le_bytes().to_vec(),
        vmpl.to_le_bytes().to_vec(),
        guest.host_data.to_vec(),
        fields.to_le_bytes().to_vec(),
        chosen(TCB_VERSION, &tcb),
        chosen(GUEST_SVN, &svn.to_le_bytes()),
        chosen(MEASUREMENT, &guest.measurement),
        chosen(FAMILY_ID, &guest.family_id),
        chosen(IMAGE_ID, &guest.image_id),
        chosen(POLICY, &guest.policy.to_le_bytes()),
    ]
    .concat();
    Ok(Zeroizing::new(kdf(
        &root,
        "psp-emu-guest-derived-key",
        &mix,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{firmware::Chip, model::MILAN};
    use rand_core::OsRng;

    fn key(guest: &Guest, fields: u64) -> [u8; 32] {
        let generation = Generation::of(&MILAN).unwrap();
        let signers = Signers::of(&Chip::from_secret([1; 32]), generation, false);
        let mut request = [0; REQUEST_LEN];
        request[0x08..0x10].copy_from_slice(&fields.to_le_bytes());
        *derive(&request, 0, guest, generation, &signers).unwrap()
    }

    #[test]
    fn a_field_matters_when_it_was_asked_for_and_not_otherwise() {
        type Change = fn(&mut Guest);
        let changes: [(u64, Change); 4] = [
            (POLICY, |guest| guest.policy ^= 1),
            (IMAGE_ID, |guest| guest.image_id[0] ^= 1),
            (FAMILY_ID, |guest| guest.family_id[0] ^= 1),
            (MEASUREMENT, |guest| guest.measurement[0] ^= 1),
        ];
        for (field, change) in changes {
            let mut guest = Guest::launch(&mut OsRng);
            let (with, without) = (key(&guest, field), key(&guest, ALL_FIELDS & !field));
            change(&mut guest);
            assert_ne!(key(&guest, field), with, "{field:#x}");
            assert_eq!(key(&guest, ALL_FIELDS & !field), without, "{field:#x}");
        }
    }

    #[test]
    fn what_the_host_says_at_launch_always_matters() {
        let mut guest = Guest::launch(&mut OsRng);
        let before = key(&guest, 0);
        guest.host_data[0] ^= 1;
        assert_ne!(key(&guest, 0), before);
    }
}
