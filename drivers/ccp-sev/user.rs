// SPDX-License-Identifier: GPL-2.0

//! Typed copies from and to user space.
//!
//! `kernel::uaccess` asks for `kernel::transmute` traits, which a driver cannot implement for the
//! library's types; these go by bytes.

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use zerocopy::{
    FromBytes,
    Immutable,
    IntoBytes, //
};

/// Copies a `T` in.
///
/// # Errors
///
/// `EFAULT`.
pub(crate) fn read<T: FromBytes + IntoBytes>(addr: usize) -> Result<T> {
    let mut value = T::new_zeroed();
    let bytes = value.as_mut_bytes();
    UserSlice::new(UserPtr::from_addr(addr), bytes.len())
        .reader()
        .read_slice(bytes)?;
    Ok(value)
}

/// Copies `len` bytes in.
///
/// # Errors
///
/// `EFAULT`, `ENOMEM`.
pub(crate) fn read_bytes(addr: usize, len: usize) -> Result<KVec<u8>> {
    let mut bytes = KVec::with_capacity(len, GFP_KERNEL)?;
    UserSlice::new(UserPtr::from_addr(addr), len).read_all(&mut bytes, GFP_KERNEL)?;
    Ok(bytes)
}

/// Copies `value` out.
///
/// # Errors
///
/// `EFAULT`.
pub(crate) fn write<T: IntoBytes + Immutable>(addr: usize, value: &T) -> Result {
    write_bytes(addr, value.as_bytes())
}

/// Copies `bytes` out.
///
/// # Errors
///
/// `EFAULT`.
pub(crate) fn write_bytes(addr: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(addr), bytes.len())
        .writer()
        .write_slice(bytes)
}
