// SPDX-License-Identifier: GPL-2.0
//! The program on images of memory whose page tables are known.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

/// C-bit of the images.
const C: u64 = 1 << 39;

/// Flags of a table, of a page of 4 KiB and of one of 2 MiB, as the kernel's.
const TABLE: u64 = 0x63;
const SMALL: u64 = 0x8000_0000_0000_0163;
const LARGE: u64 = 0x8000_0000_0000_01e3;

const BLUE: [u8; 3] = [0x00, 0x72, 0xb2];
const YELLOW: [u8; 3] = [0xf0, 0xe4, 0x42];
const VERMILION: [u8; 3] = [0xd5, 0x5e, 0x00];
const GREY: [u8; 3] = [0xc8, 0xc8, 0xc8];

/// 8 MiB of memory, of which the tables' entries and the bytes written are all there is.
struct Guest {
    directory: TempDir,
    shared: Vec<u8>,
    private: Vec<u8>,
}

impl Guest {
    /// The root at 0x1000 and below it a table of each level, for the kernel's addresses from
    /// 0xffff888000000000 on: 2 MiB in pages of 4 KiB, private; 2 MiB private; 2 MiB at `third`, shared.
    fn new(third: u64) -> Self {
        let mut guest = Guest {
            directory: TempDir::new().unwrap(),
            shared: vec![0; 8 * MIB],
            private: vec![0; 8 * MIB],
        };
        guest.entry(0x1000, 0x111, 0x2000 | C | TABLE);
        guest.entry(0x2000, 0, 0x3000 | C | TABLE);
        guest.entry(0x3000, 0, 0x4000 | C | TABLE);
        for page in 0..512 {
            guest.entry(0x4000, page, (page * PAGE) as u64 | C | SMALL);
        }
        guest.entry(0x3000, 1, 0x20_0000 | C | LARGE);
        guest.entry(0x3000, 2, third | LARGE);
        guest
    }

    fn entry(&mut self, table: usize, index: usize, entry: u64) {
        self.private[table + index * 8..][..8].copy_from_slice(&entry.to_le_bytes());
    }

    fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn map(&self, arguments: &[&str]) -> Output {
        let (shared, private) = (self.path("shared"), self.path("private"));
        fs::write(&shared, &self.shared).unwrap();
        fs::write(&private, &self.private).unwrap();
        Command::new(env!("CARGO_BIN_EXE_sev-map"))
            .args(["--shared", &shared, "--private", &private, "--c-bit", "39"])
            .args(arguments)
            .output()
            .unwrap()
    }
}

/// What it prints when all is well.
fn text(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What it says when it gives up.
fn refusal(output: &Output) -> &str {
    assert_eq!(
        (output.status.code(), &output.stdout[..]),
        (Some(1), &b""[..])
    );
    std::str::from_utf8(&output.stderr).unwrap().trim_end()
}

/// Width and pixels.
fn picture(path: &str) -> (usize, Vec<[u8; 3]>) {
    let file = std::io::BufReader::new(fs::File::open(Path::new(path)).unwrap());
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    let pixels = bytes[..info.buffer_size()].chunks_exact(3);
    (
        info.width as usize,
        pixels.map(|pixel| pixel.try_into().unwrap()).collect(),
    )
}

#[test]
fn pages_are_told_and_drawn_as_the_tables_have_them() {
    let mut guest = Guest::new(0x40_0000);
    for page in 16..24 {
        guest.entry(0x4000, page, (page * PAGE) as u64 | SMALL);
    }
    // Private in one place and shared in another, and the reverse; and a device's registers.
    guest.entry(0x3000, 7, 0x5000 | C | TABLE);
    guest.entry(0x5000, 0, (30 * PAGE) as u64 | SMALL);
    guest.entry(0x5000, 1, (20 * PAGE) as u64 | C | SMALL);
    guest.entry(0x3000, 8, 0xfee0_0000 | LARGE);
    // Two are in use; what is in private pages is no business of the host's.
    for (page, byte) in [(17, PAGE - 1), (1024 + 5, 0), (40, 0), (1536, 0)] {
        guest.shared[page * PAGE + byte] = 1;
    }
    guest.private[18 * PAGE] = 1;
    let png = guest.path("map.png");
    let output = guest.map(&["--cr3", "0x8000001000", "--png", &png]);
    assert_eq!(
        text(&output),
        "\
private               1015 pages       4.0 MiB
shared, unused         519 pages       2.0 MiB
shared, in use           2 pages       0.0 MiB
not mapped             512 pages       2.0 MiB

0x000000010000-0x000000017fff         8 pages shared, 1 of them in use
0x00000001e000-0x00000001efff         1 pages shared, 0 of them in use
0x000000400000-0x0000005fffff       512 pages shared, 1 of them in use
"
    );
    assert_eq!(output.stderr, b"");

    let (width, pixels) = picture(&png);
    assert_eq!(width, 512);
    let (pages, legend) = pixels.split_at(2048);
    let mut counts = BTreeMap::new();
    for pixel in pages {
        *counts.entry(*pixel).or_insert(0) += 1;
    }
    assert_eq!(
        counts,
        BTreeMap::from([(BLUE, 1015), (YELLOW, 519), (VERMILION, 2), (GREY, 512)])
    );
    assert_eq!(
        (pages[15], pages[16], pages[17], pages[24]),
        (BLUE, YELLOW, VERMILION, BLUE)
    );
    assert_eq!(
        (pages[30], pages[1023], pages[1029], pages[1536]),
        (YELLOW, BLUE, VERMILION, GREY)
    );
    // The legend has a box of each colour, letters, and nothing else.
    for colour in [BLUE, YELLOW, VERMILION, GREY] {
        assert_eq!(
            legend.iter().filter(|pixel| **pixel == colour).count(),
            12 * 12
        );
    }
    let black = legend.iter().filter(|pixel| **pixel == [0; 3]).count();
    let white = legend.iter().filter(|pixel| **pixel == [0xff; 3]).count();
    assert!(black > 1000, "{black}");
    assert_eq!(black + white + 4 * 12 * 12, legend.len());
}

#[test]
fn private_and_shared_memory_at_one_address_are_two() {
    let mut guest = Guest::new(0x40_0000);
    guest.entry(0x2000, 1, 0x2000 | TABLE);
    let shared = &mut guest.shared[0x2000..][..8];
    shared.copy_from_slice(&(0x60_0000 | C | LARGE).to_le_bytes());
    let output = guest.map(&["--cr3", "8000001000"]);
    assert!(text(&output).contains("private               1536 pages"));
}

/// The seal's filling of a page (Documentation/lab.rst): each word is what splitmix64 makes of its address.
fn filling(address: usize) -> Vec<u8> {
    let splitmix64 = |seed: u64| {
        let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let words = (address..address + PAGE).step_by(8);
    words
        .flat_map(|address| splitmix64(address as u64).to_le_bytes())
        .collect()
}

#[test]
fn what_sealing_has_left_is_no_use() {
    let mut guest = Guest::new(0x40_0000);
    let mut write = |page: usize, bytes: &[u8]| {
        guest.shared[page * PAGE..][..bytes.len()].copy_from_slice(bytes);
    };
    write(1024, &filling(1024 * PAGE));
    // Of another page; and with something written over it.
    write(1025, &filling(1024 * PAGE));
    write(1026, &filling(1026 * PAGE));
    write(1026, b"used");
    let output = guest.map(&["--cr3", "8000001000"]);
    assert!(text(&output).ends_with("512 pages shared, 2 of them in use\n"));
}

#[test]
fn memory_goes_on_at_four_gib() {
    let mut guest = Guest::new(0x1_0000_0000);
    guest.shared[1024 * PAGE] = 1;
    let output = guest.map(&["--cr3", "8000001018", "--low", "4"]);
    assert!(text(&output)
        .ends_with("\n\n0x000100000000-0x0001001fffff       512 pages shared, 1 of them in use\n"));
    // Without the split there is nothing at 4 GiB.
    let output = guest.map(&["--cr3", "8000001018"]);
    assert!(text(&output).contains("shared, unused           0 pages"));
}

#[test]
fn five_levels_are_walked_when_told() {
    let mut guest = Guest::new(0x40_0000);
    guest.entry(0x6000, 0x1ff, 0x1000 | C | TABLE);
    let output = guest.map(&["--cr3", "8000006000", "--levels", "5"]);
    assert!(text(&output).contains("shared, unused         512 pages"));
}

#[test]
fn an_alias_is_read_as_one() {
    // Before sealing both images are one file, and nobody has a copy of his own.
    let mut guest = Guest::new(0x40_0000);
    guest.shared = guest.private.clone();
    let output = guest.map(&["--cr3", "1000"]);
    assert!(text(&output).contains("shared, unused         512 pages"));
}

#[test]
fn broken_tables_are_told_and_the_rest_is_shown() {
    let mut guest = Guest::new(0x40_0000);
    guest.entry(0x2000, 1, 0xf_f000_0000 | C | TABLE);
    let output = guest.map(&["--cr3", "8000001000"]);
    assert!(text(&output).contains("private               1024 pages"));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "sev-map: page tables at 0xffff888040000000: no memory for the table at 0xff0000000\n"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut guest = Guest::new(0x40_0000);
    let output = guest.map(&["--cr3", "7000"]);
    assert_eq!(refusal(&output), "sev-map: CR3 0x7000 maps no memory");
    let output = guest.map(&["--cr3", "8001000000"]);
    assert!(refusal(&output).contains("no memory for the table at 0x1000000"));
    let output = guest.map(&["--cr3", "8000001000", "--png", "/nonexistent/map.png"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        output.stderr,
        b"sev-map: /nonexistent/map.png: No such file or directory (os error 2)\n"
    );
    guest.shared.truncate(4 * MIB);
    let output = guest.map(&["--cr3", "8000001000"]);
    assert_eq!(
        refusal(&output),
        "sev-map: the images differ in length: 4194304 and 8388608 bytes"
    );
}
