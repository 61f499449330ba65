// SPDX-License-Identifier: GPL-2.0
//! The guest: a program of a few instructions at the place where a processor starts. Host and owner each have a copy,
//! as they would of a firmware image.

/// Guest memory is handed to firmware in pages.
pub(crate) const PAGE: usize = 4096;

/// Where the guest expects the owner's secrets. Zero in the image, so that the measurement covers the page.
pub(crate) const SECRET_GPA: u64 = 0x2000;

/// Where the guest's program is.
pub(crate) const PROGRAM_GPA: u64 = 0x1000;

const RAM_LEN: usize = 16 * PAGE;

/// The last page below 4 GiB. In it, 16 bytes before the end, is the instruction every x86 processor starts with.
const RESET_GPA: u64 = 0xffff_f000;
const RESET_OFFSET: usize = 0xff0;

/// `jmp 0:0x1000`
const RESET_CODE: [u8; 5] = [0xea, 0x00, 0x10, 0x00, 0x00];

/// Prints the text that follows it to the serial port, in real mode:
///
/// ```text
///         mov si, 0x1020
/// next:   lodsb
///         test al, al
///         jz halt
///         mov dx, 0x3f8
///         out dx, al
///         jmp next
/// halt:   hlt
///         jmp halt
/// ```
const PROGRAM: [u8; 17] = [
    0xbe, 0x20, 0x10, 0xac, 0x84, 0xc0, 0x74, 0x06, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, 0xf4, 0xeb,
    0xfd,
];
const TEXT_OFFSET: usize = 0x20;
const TEXT: &[u8] = b"The owner's guest is running.\r\n\0";

/// A part of the guest's memory as the owner wants it to be at the start.
#[derive(Clone)]
pub(crate) struct Region {
    /// Guest physical address, a multiple of the page size.
    pub(crate) gpa: u64,
    /// A multiple of the page size.
    pub(crate) bytes: Vec<u8>,
}

/// The image, in the order in which it is measured.
pub(crate) fn regions() -> Vec<Region> {
    let mut ram = vec![0; RAM_LEN];
    let program = &mut ram[PROGRAM_GPA as usize..]; // CAST: a constant below 64 KiB
    program[..PROGRAM.len()].copy_from_slice(&PROGRAM);
    program[TEXT_OFFSET..TEXT_OFFSET + TEXT.len()].copy_from_slice(TEXT);

    let mut reset = vec![0; PAGE];
    reset[RESET_OFFSET..RESET_OFFSET + RESET_CODE.len()].copy_from_slice(&RESET_CODE);

    vec![
        Region { gpa: 0, bytes: ram },
        Region {
            gpa: RESET_GPA,
            bytes: reset,
        },
    ]
}
