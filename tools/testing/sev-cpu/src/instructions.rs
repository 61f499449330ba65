// SPDX-License-Identifier: GPL-2.0
//! How many instructions each CPU has executed in the guest's kernel, for programs that compare drivers: such a number
//! is the same on a busy machine and on an idle one.
//!
//! A program executes `CPUID` with [`LEAF`] in EAX before and after what it measures, on the same CPU. Interrupts and
//! whatever else ran there in between are included.

use crate::answers::Cpuid;

/// The leaf to ask for: one that no processor has.
pub(crate) const LEAF: u32 = 0x5e50_0000;

/// EBX of the answer, "SEVC": what a processor that does not count will not answer.
const SIGNATURE: u32 = 0x5345_5643;

/// Whether an instruction at that address is the kernel's. Linux has the upper half of the address space for itself.
pub(crate) fn is_kernels(vaddr: u64) -> bool {
    vaddr >> 63 != 0
}

/// The answer to `CPUID`: the number's low half in EAX, the high one in EDX.
pub(crate) fn answer(count: u64) -> Cpuid {
    Cpuid {
        // CAST: the two halves.
        eax: count as u32,
        ebx: SIGNATURE,
        ecx: 0,
        edx: (count >> 32) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_half_is_counted() {
        assert!(is_kernels(0xffff_ffff_8100_0000));
        assert!(is_kernels(0xffff_8000_0000_0000));
        assert!(!is_kernels(0x7fff_ffff_f000));
        assert!(!is_kernels(0));
    }

    #[test]
    fn the_answer_has_the_number_in_two_halves() {
        let expected = Cpuid {
            eax: 0x9abc_def0,
            ebx: 0x5345_5643,
            ecx: 0,
            edx: 0x1234_5678,
        };
        assert_eq!(answer(0x1234_5678_9abc_def0), expected);
    }
}
