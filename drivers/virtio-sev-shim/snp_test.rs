// SPDX-License-Identifier: GPL-2.0

//! KUnit: what can be known of the kernel's channel to the firmware where there is no firmware.

use kernel::{
    ffi::c_int,
    prelude::*, //
};

use crate::{
    ffi,
    snp::Snp, //
};

extern "C" {
    fn sev_shim_ask_without_key(destroyed: bool, wiped: &mut bool) -> c_int;
}

#[kunit_tests(sev_shim_snp)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_channel_outside_sev_snp_guests() {
        if !ffi::is_snp_guest() {
            for vmpck in [None, Some(0), Some(3)] {
                assert_eq!(Snp::new(vmpck).err(), Some(ENODEV));
            }
        }
    }

    #[test]
    fn what_the_cipher_made_of_a_key_goes_with_it() {
        for destroyed in [false, true] {
            let mut wiped = false;
            // SAFETY: It makes a channel of its own, with which nothing can be sent.
            let errno = unsafe { sev_shim_ask_without_key(destroyed, &mut wiped) };
            // Whose key is still there may have others under way.
            assert_eq!((errno, wiped), (ENOTTY.to_errno(), destroyed));
        }
    }
}
