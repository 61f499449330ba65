// SPDX-License-Identifier: GPL-2.0
//! How a guest finds its secrets: a table of entries by GUID, as OVMF reserves a place for it and Linux reads it
//! (`drivers/virt/coco/efi_secret`).

/// 1e74f542-71dd-4d66-963e-ef4287ff173b: the table.
const TABLE: [u8; 16] = [
    0x42, 0xf5, 0x74, 0x1e, 0xdd, 0x71, 0x66, 0x4d, 0x96, 0x3e, 0xef, 0x42, 0x87, 0xff, 0x17, 0x3b,
];

/// 736869e5-84f0-4973-92ec-06879ce3da0b: a disk's passphrase. As text, for sevctl.
pub(super) const DISK_KEY: &str = "736869e5-84f0-4973-92ec-06879ce3da0b";

const DISK_KEY_BYTES: [u8; 16] = [
    0xe5, 0x69, 0x68, 0x73, 0xf0, 0x84, 0x73, 0x49, 0x92, 0xec, 0x06, 0x87, 0x9c, 0xe3, 0xda, 0x0b,
];

/// The firmware takes secrets in units of a cipher block.
const BLOCK: usize = 16;

/// A table with one entry, the key.
pub(super) fn table(key: &[u8]) -> Vec<u8> {
    let mut table = entry(TABLE, &entry(DISK_KEY_BYTES, key));
    table.resize(table.len().next_multiple_of(BLOCK), 0);
    table
}

/// GUID, length of the whole entry, contents.
fn entry(guid: [u8; 16], contents: &[u8]) -> Vec<u8> {
    let len = guid.len() + size_of::<u32>() + contents.len();
    // CAST: keys are short.
    [&guid[..], &(len as u32).to_le_bytes(), contents].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_as_linux_reads_it() {
        let table = table(&[0xaa; 32]);
        assert_eq!(table.len(), 80);
        assert_eq!(table[16..20], 72u32.to_le_bytes());
        assert_eq!(table[36..40], 52u32.to_le_bytes());
        assert_eq!(table[40..72], [0xaa; 32]);
        assert_eq!(table[72..], [0; 8]);
        let groups = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        let text: String = DISK_KEY.replace('-', "");
        for (at, from) in groups.into_iter().enumerate() {
            let byte = u8::from_str_radix(&text[2 * from..2 * from + 2], 16).unwrap();
            assert_eq!(table[20 + at], byte);
        }
    }
}
