// SPDX-License-Identifier: GPL-2.0

//! Platform management commands (`SEV-API` chapter 5).
//!
//! Wire structs use byte-order types: alignment 1, no padding, the bytes are the specification's.

mod certs;
mod init;
mod status;

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{check, CmdId, Command, Malformed};
use crate::platform::States;

pub use certs::{DownloadFirmware, GetId, PdhCertExport, PdhLens, PekCertImport, PekCsr};
pub use init::{Init, InitEx, INIT_FLAG_ES, NV_LEN, TMR_LEN};
pub use status::{FwVersion, PlatformStatus, Status, STATUS_FLAG_ES, STATUS_FLAG_OWNED};

/// Declares a command that has neither a buffer nor a reply.
macro_rules! bare_command {
    ($(#[doc = $doc:literal])+ $name:ident, $states:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name;

        impl Command for $name {
            const ID: CmdId = CmdId::$name;
            const STATES: States = States::$states;
            type Reply = ();

            fn reply(&self, _sent: &Self) -> Result<(), Malformed> {
                Ok(())
            }
        }

        const _: () = check::<$name>();
    };
}

bare_command! {
    /// Ends all guests and leaves the platform uninitialised (`SEV-API` chapter 5).
    Shutdown, ANY
}
bare_command! {
    /// Returns the platform to its self-owned state with fresh keys (`SEV-API` 5.5). Linux calls it
    /// FACTORY_RESET.
    PlatformReset, UNINIT
}
bare_command! {
    /// Makes a new PEK, and with it a new PDH; a platform owned by someone becomes self-owned
    /// (`SEV-API` 5.7).
    PekGen, INIT
}
bare_command! {
    /// Makes a new PDH (`SEV-API` 5.10).
    PdhGen, INIT_WORKING
}
bare_command! {
    /// Flushes the data fabric's write buffers, after which freed ASIDs may be used again
    /// (`SEV-API` chapter 5).
    DfFlush, INIT_WORKING
}
bare_command! {
    /// Does nothing, successfully (`SEV-API` chapter 5).
    Nop, ANY
}
