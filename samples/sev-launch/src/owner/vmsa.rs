// SPDX-License-Identifier: GPL-2.0
//! The processor's state at the start of a SEV-ES guest, as the kernel's KVM makes it for a VM initialised with
//! KVM_SEV_INIT2 whose registers nobody has set (arch/x86/kvm/svm/svm.c, `init_vmcb`; sev.c, `sev_es_sync_vmsa`).
//! It is measured like memory, so the owner must know every byte of it.

use crate::image::PAGE;

/// Attributes of segments: P, DPL, S and type, as in a descriptor.
const CODE: u16 = 0x9a;
const DATA: u16 = 0x92;
const LDT: u16 = 0x82;
const BUSY_TSS16: u16 = 0x83;

/// Offset, selector, attributes, base; all limits are 0xffff (APM2 table B-4).
const SEGMENTS: [(usize, u16, u16, u64); 10] = [
    (0x00, 0, DATA, 0),                // ES
    (0x10, 0xf000, CODE, 0xffff_0000), // CS
    (0x20, 0, DATA, 0),                // SS
    (0x30, 0, DATA, 0),                // DS
    (0x40, 0, DATA, 0),                // FS
    (0x50, 0, DATA, 0),                // GS
    (0x60, 0, 0, 0),                   // GDTR
    (0x70, 0, LDT, 0),                 // LDTR
    (0x80, 0, 0, 0),                   // IDTR
    (0x90, 0, BUSY_TSS16, 0),          // TR
];
const LIMIT: u32 = 0xffff;

/// Offset and value of what else is not zero.
const REGISTERS: [(usize, u64); 11] = [
    (0x0d0, 0x1000),      // EFER: SVME, which AMD processors need to run a guest
    (0x148, 0x40),        // CR4: MCE, as hosts with CONFIG_X86_MCE have it
    (0x158, 0x10),        // CR0: ET
    (0x160, 0x400),       // DR7
    (0x168, 0xffff_0ff0), // DR6
    (0x170, 0x2),         // RFLAGS
    (0x178, 0xfff0),      // RIP
    (0x268, 0x0007_0406_0007_0406), // PAT
    (0x310, 0x600),       // RDX: the processor's signature where CPUID is not set
    (0x3e8, 0x1),         // XCR0: x87
    (0x408, 0x1f80),      // MXCSR, and below it the x87 tag word
];
/// The x87 control word.
const FCW: (usize, u16) = (0x410, 0x37f);

/// The page.
pub(super) fn at_reset() -> [u8; PAGE] {
    let mut page = [0; PAGE];
    let mut put = |offset: usize, bytes: &[u8]| {
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    for (offset, selector, attributes, base) in SEGMENTS {
        put(offset, &selector.to_le_bytes());
        put(offset + 2, &attributes.to_le_bytes());
        put(offset + 4, &LIMIT.to_le_bytes());
        put(offset + 8, &base.to_le_bytes());
    }
    for (offset, value) in REGISTERS {
        put(offset, &value.to_le_bytes());
    }
    put(FCW.0, &FCW.1.to_le_bytes());
    page
}
