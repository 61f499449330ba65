// SPDX-License-Identifier: GPL-2.0
//! What stands where nothing can be read: in the shared copy of a private page, where hardware has ciphertext, and in
//! the private copy of a shared one. Random to the eye, but known by its address, so that tools can tell it from data.

/// The word at a guest-physical address, a multiple of 8: the address, scrambled as splitmix64 scrambles its counter.
pub(crate) fn word(gpa: u64) -> u64 {
    let word = gpa.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Fills memory that begins at a guest-physical address; both it and the length are multiples of 8.
pub(crate) fn fill(gpa: u64, bytes: &mut [u8]) {
    for (place, gpa) in bytes.chunks_exact_mut(8).zip((gpa..).step_by(8)) {
        place.copy_from_slice(&word(gpa).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    // The first outputs of splitmix64 with the seed 0, as its author publishes them, are those of multiples of its step.
    #[test]
    fn words_are_those_of_splitmix64() {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        assert_eq!(word(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(word(step), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(word(step.wrapping_mul(2)), 0x06c4_5d18_8009_454f);
    }

    #[test]
    fn a_filling_depends_on_the_address_alone() {
        let (mut one, mut other) = ([0; 64], [0; 24]);
        fill(0x1000, &mut one);
        fill(0x1010, &mut other);
        assert_eq!(one[16..40], other);
    }

    #[test]
    fn no_two_words_of_a_gibibyte_are_alike() {
        // Of each page one, to be quick.
        let words: HashSet<u64> = (0..1 << 30).step_by(4096).map(word).collect();
        assert_eq!(words.len(), 1 << 18);
        assert!(!words.contains(&0));
    }
}
