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

/// Copies a `T` of `N` bytes in.
///
/// # Errors
///
/// `EFAULT`.
pub(crate) fn read<T: FromBytes, const N: usize>(addr: usize) -> Result<T> {
    const { assert!(size_of::<T>() == N) };
    // An array's length is known to the compiler, so its place need not be checked at run time.
    let bytes: [u8; N] = UserSlice::new(UserPtr::from_addr(addr), N)
        .reader()
        .read()?;
    T::read_from_bytes(&bytes).map_err(|_| EFAULT)
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

/// Copies `value` of `N` bytes out.
///
/// # Errors
///
/// `EFAULT`.
pub(crate) fn write<T: IntoBytes + Immutable, const N: usize>(addr: usize, value: &T) -> Result {
    const { assert!(size_of::<T>() == N) };
    let bytes = <&[u8; N]>::try_from(value.as_bytes()).map_err(|_| EFAULT)?;
    UserSlice::new(UserPtr::from_addr(addr), N)
        .writer()
        .write(bytes)
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
