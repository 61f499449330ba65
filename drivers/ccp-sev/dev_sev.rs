// SPDX-License-Identifier: GPL-2.0

//! The device node `/dev/sev`.

use kernel::{
    bindings,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*, //
};

use crate::{
    ioctl,
    registry, //
};

/// An open `/dev/sev`. It holds nothing: each call goes to the PSP that is in use then, so a file
/// outlives an unbind and works again after the next bind.
pub(crate) struct DevSev;

/// Name of the node, in `/dev` and in `/sys/class/misc`.
pub(crate) const OPTIONS: MiscDeviceOptions = MiscDeviceOptions { name: c"sev" };

#[vtable]
impl MiscDevice for DevSev {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Ok(KBox::new(DevSev, GFP_KERNEL)?)
    }

    fn ioctl(_device: &Self, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let psp = registry::active()?;
        // As FMODE_WRITE; the fourth access mode, 3, is neither for reading nor for writing.
        let access = file.flags() & bindings::O_ACCMODE;
        let writable = access == bindings::O_WRONLY || access == bindings::O_RDWR;
        ioctl::dispatch(&psp, cmd, arg, writable)
    }
}
