// SPDX-License-Identifier: GPL-2.0
//! Command buffers out of an input: every field gets a value that may make sense in it, or any.

use super::{
    machine::{A, B, C, CERT_LEN, COMMAND, GUEST, NV, TMR},
    ram,
};
use arbitrary::{Result, Unstructured};
use psp_emu::model::MILAN;

/// Every command with its fields: `h` handle, `a` ASID, `p` policy, `@` address, `l` length, `w` any word,
/// `f` flags of 16 bits, `q` sizes of two queues in pages, `.` padding of 4 bytes, `,` of 2, `8` any 8 bytes.
pub const COMMANDS: &[(u16, &str)] = &[
    (0x001, "f,.@l"),
    (0x002, ""),
    (0x003, ""),
    (0x004, "www"),
    (0x005, ""),
    (0x006, "@l"),
    (0x007, "@l.@l"),
    (0x008, "@l.@l"),
    (0x009, ""),
    (0x00a, ""),
    (0x00b, "@l"),
    (0x00c, "@l"),
    (0x00d, "lf,@l.@l"),
    (0x00e, ""),
    (0x00f, "@@@@qfff"),
    (0x020, "h"),
    (0x021, "ha"),
    (0x022, "h"),
    (0x023, "hww."),
    (0x024, "hl@@"),
    (0x025, "lhaw@"),
    (0x030, "hp@l.@l"),
    (0x031, "h.@l"),
    (0x032, "h.@l"),
    (0x033, "h.@l"),
    (0x034, "h.@l.@l.@l"),
    (0x035, "h"),
    (0x036, "h.@88l"),
    (0x040, "hp@l.@l.@l.@l"),
    (0x041, "h.@l.@l.@l"),
    (0x042, "h.@l.@l.@l"),
    (0x043, "h"),
    (0x044, "h"),
    (0x050, "hp@l.@l"),
    (0x051, "h.@l.@l.@l"),
    (0x052, "h.@l.@l.@l"),
    (0x053, "h"),
    (0x060, "h.@@l"),
    (0x061, "h.@@l"),
    (0x070, "hw@@@8"),
    (0x071, "hw@@@"),
];

const ADDRESSES: [u64; 14] = [
    A,
    B,
    C,
    GUEST,
    GUEST + 0x1000,
    GUEST + 0x2000,
    COMMAND,
    TMR,
    NV,
    ram::LEN - 0x1000,
    ram::LEN - 0x10,
    0,
    TMR - 0x1000,
    1 << MILAN.c_bit,
];
const OFFSETS: [u64; 6] = [0, 0x10, 1, 0xff0, 0x1000, 0x10_0000];

/// Around the limits of the models.
const ASIDS: [u32; 12] = [1, 2, 3, 99, 100, 101, 102, 0, 15, 16, 509, 510];

const LENGTHS: [u32; 20] = [
    0x1000,
    0x10,
    52,
    128,
    CERT_LEN as u32,
    3 * CERT_LEN as u32,
    2 * 0x640,
    48,
    0xd0,
    0x4000,
    0x4010,
    0x2000,
    0,
    1,
    64,
    0x18,
    0x24,
    0x8000,
    0x10_0000,
    u32::MAX,
];

/// An address: one that matters, and seldom any.
pub fn address(u: &mut Unstructured<'_>) -> Result<u64> {
    if u.ratio(1, 32)? {
        return u.arbitrary();
    }
    let offset = match u.ratio(1, 4)? {
        true => *u.choose(&OFFSETS)?,
        false => 0,
    };
    Ok(*u.choose(&ADDRESSES)? + offset)
}

fn length(u: &mut Unstructured<'_>) -> Result<u32> {
    match u.ratio(1, 32)? {
        true => u.arbitrary(),
        false => Ok(*u.choose(&LENGTHS)?),
    }
}

/// A small number, and seldom any.
fn small(u: &mut Unstructured<'_>, end: u32) -> Result<u32> {
    match u.ratio(1, 32)? {
        true => u.arbitrary(),
        false => u.int_in_range(0..=end),
    }
}

fn asid(u: &mut Unstructured<'_>) -> Result<u32> {
    match u.ratio(1, 32)? {
        true => u.arbitrary(),
        false => Ok(*u.choose(&ASIDS)?),
    }
}

/// The buffer of a command with these fields.
pub fn buffer(u: &mut Unstructured<'_>, fields: &str) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    for field in fields.chars() {
        match field {
            'h' => buffer.extend(small(u, 8)?.to_le_bytes()),
            'a' => buffer.extend(asid(u)?.to_le_bytes()),
            'p' => buffer.extend(small(u, 0x3f)?.to_le_bytes()),
            'w' => buffer.extend(small(u, 15)?.to_le_bytes()),
            'l' => buffer.extend(length(u)?.to_le_bytes()),
            '@' => buffer.extend(address(u)?.to_le_bytes()),
            '8' => buffer.extend(u.arbitrary::<u64>()?.to_le_bytes()),
            'f' => buffer.extend(u.int_in_range(0..=1u16)?.to_le_bytes()),
            'q' => buffer.extend([1, u.int_in_range(0..=2)?]),
            '.' => buffer.extend([0; 4]),
            _ => buffer.extend([0; 2]),
        }
    }
    Ok(buffer)
}
