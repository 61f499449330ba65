// SPDX-License-Identifier: GPL-2.0
//! Platform commands, as bytes written by hand from the specification's tables.

mod common;

use common::{address_and_length, hex, id, Platform, A, COMMAND, NV, RAM_LEN, TMR};
use psp_emu::{
    firmware::{image, Flash, Override, Status, VecFlash},
    memory::GuestMemory,
    model::{Version, GENOA, MILAN, MODELS, NAPLES, ROME, TURIN},
};
use rand_core::OsRng;
use std::io;

const SUCCESS: Status = Status::SUCCESS;

/// INIT with SEV-ES: flags 1, TMR of 1 MiB at 1 MiB.
const INIT_ES: &str = "01000000 00000000  0000100000000000  00001000";
/// INIT_EX: length 0x24, no SEV-ES, NV area of 32 KiB at 2 MiB.
const INIT_EX: &str =
    "24000000 00000000  0000000000000000 00000000 00000000  0000200000000000 00800000";

#[test]
fn status_before_init_is_the_version_alone() {
    for (model, expected) in [
        (&NAPLES, "00 11 00 00 0000 00 30 00000000"),
        (&ROME, "00 18 00 00 0000 00 0f 00000000"),
        (&MILAN, "01 37 00 00 0000 00 15 00000000"),
        (&GENOA, "01 37 00 00 0000 00 25 00000000"),
        (&TURIN, "01 3a 00 00 0000 00 01 00000000"),
    ] {
        let answer = Platform::new(model).send(id::PLATFORM_STATUS, &[0xee; 12]);
        assert_eq!(answer, (SUCCESS, hex(expected)), "{}", model.name);
    }
}

#[test]
fn status_after_init_shows_state_and_es() {
    let mut psp = Platform::new(&MILAN);
    psp.init();
    assert_eq!(psp.state(), (1, 0, 0));
    psp.shutdown();
    assert_eq!(psp.state(), (0, 0, 0));
    assert_eq!(psp.status(id::INIT, &hex(INIT_ES)), SUCCESS);
    assert_eq!(psp.state(), (1, 0, 1));
}

#[test]
fn commands_keep_to_their_states() {
    let image = address_and_length(A, 0);
    // In UNINIT, in INIT: what the command answers when its buffer is not even looked at further.
    let refused = Status::INVALID_PLATFORM_STATE;
    let export = [0; 28];
    for (id, buffer, uninit, init) in [
        (id::INIT, &[0; 20][..], SUCCESS, refused),
        (
            id::INIT_EX,
            &hex(INIT_EX)[..],
            Status::SECURE_DATA_INVALID,
            refused,
        ),
        (id::SHUTDOWN, &[], SUCCESS, SUCCESS),
        (id::PLATFORM_RESET, &[], SUCCESS, refused),
        (id::PLATFORM_STATUS, &[0; 12], SUCCESS, SUCCESS),
        (id::PEK_GEN, &[], refused, SUCCESS),
        (id::PEK_CSR, &[0; 12], refused, Status::INVALID_LEN),
        (id::PEK_CERT_IMPORT, &export, refused, Status::INVALID_LEN),
        (id::PDH_CERT_EXPORT, &export, refused, Status::INVALID_LEN),
        (id::PDH_GEN, &[], refused, SUCCESS),
        (id::DF_FLUSH, &[], SUCCESS, SUCCESS),
        (id::DOWNLOAD_FIRMWARE, &image, Status::INVALID_LEN, refused),
        (
            id::GET_ID,
            &[0; 12],
            Status::INVALID_LEN,
            Status::INVALID_LEN,
        ),
        (id::NOP, &[], SUCCESS, SUCCESS),
    ] {
        let mut psp = Platform::new(&MILAN);
        assert_eq!(psp.status(id, buffer), uninit, "{id:#x} in UNINIT");
        let mut psp = Platform::new(&MILAN);
        psp.init();
        assert_eq!(psp.status(id, buffer), init, "{id:#x} in INIT");
    }
}

#[test]
fn reserved_bits_of_init_are_refused() {
    for byte in 0..8 {
        for bit in 0..8 {
            if (byte, bit) == (0, 0) {
                continue;
            }
            let mut buffer = [0; 20];
            buffer[byte] = 1 << bit;
            let mut psp = Platform::new(&MILAN);
            assert_eq!(
                psp.status(id::INIT, &buffer),
                Status::INVALID_CONFIG,
                "{byte}.{bit}"
            );
            assert_eq!(psp.state(), (0, 0, 0));
        }
    }
}

#[test]
fn tmr_is_one_aligned_mebibyte_of_ram() {
    for (addr, len, expected) in [
        (TMR, 0x10_0000, SUCCESS),
        (TMR + 0x1000, 0x10_0000, Status::INVALID_ADDRESS),
        (TMR, 0xf_f000, Status::INVALID_LEN),
        (TMR, 0x20_0000, Status::INVALID_LEN),
        (TMR, 0, Status::INVALID_LEN),
        (RAM_LEN as u64, 0x10_0000, Status::INVALID_ADDRESS),
        (0xffff_ffff_fff0_0000, 0x10_0000, Status::INVALID_ADDRESS),
        // The C-bit does not matter.
        (TMR | (1 << 51), 0x10_0000, SUCCESS),
    ] {
        let mut buffer = hex("01000000 00000000");
        buffer.extend_from_slice(&address_and_length(addr, len));
        let mut psp = Platform::new(&MILAN);
        assert_eq!(
            psp.status(id::INIT, &buffer),
            expected,
            "{addr:#x} {len:#x}"
        );
    }
    // Without SEV-ES nobody looks at it.
    let mut psp = Platform::new(&MILAN);
    let buffer = hex("00000000 00000000 ffffffffffffffff ffffffff");
    assert_eq!(psp.status(id::INIT, &buffer), SUCCESS);
}

#[test]
fn init_ex_starts_from_erased_memory_and_finds_its_data_again() {
    let mut psp = Platform::new(&MILAN);
    // The first four bytes tell; what follows may be anything.
    psp.ram.write(NV, &[0x11; 0x8000]).unwrap();
    psp.ram.write(NV, &[0xff; 4]).unwrap();
    assert_eq!(psp.status(id::INIT_EX, &hex(INIT_EX)), SUCCESS);
    assert_eq!(
        psp.read(NV + 0x7000, 0x1000),
        [0xff; 0x1000],
        "the rest is erased"
    );
    let chain = psp.export();
    psp.shutdown();
    assert_eq!(psp.status(id::INIT_EX, &hex(INIT_EX)), SUCCESS);
    assert_eq!(psp.export(), chain);
    psp.shutdown();
    // Flash is another matter.
    psp.init();
    assert_ne!(psp.export(), chain);
}

#[test]
fn init_ex_refuses_foreign_data_once_and_then_starts_afresh() {
    let mut psp = Platform::new(&MILAN);
    for stored in [vec![0; 0x8000], vec![0xfe; 0x8000]] {
        psp.ram.write(NV, &stored).unwrap();
        assert_eq!(
            psp.status(id::INIT_EX, &hex(INIT_EX)),
            Status::SECURE_DATA_INVALID
        );
        assert_eq!(psp.read(NV, 0x8000), [0xff; 0x8000], "erased");
        assert_eq!(psp.state().0, 0);
        assert_eq!(psp.status(id::INIT_EX, &hex(INIT_EX)), SUCCESS);
        psp.shutdown();
    }
    // One bit of genuine data.
    let mut stored = psp.read(NV, 0x8000);
    stored[0x200] ^= 1;
    psp.ram.write(NV, &stored).unwrap();
    assert_eq!(
        psp.status(id::INIT_EX, &hex(INIT_EX)),
        Status::SECURE_DATA_INVALID
    );
}

#[test]
fn nv_data_of_another_chip_is_refused() {
    let mut psp = Platform::new(&MILAN);
    psp.ram.write(NV, &[0xff; 0x8000]).unwrap();
    assert_eq!(psp.status(id::INIT_EX, &hex(INIT_EX)), SUCCESS);
    let chip = psp_emu::firmware::Chip::from_secret([8; 32]);
    let flash = Box::new(VecFlash::default());
    psp.firmware = psp_emu::firmware::Firmware::new(&MILAN, chip, flash);
    assert_eq!(
        psp.status(id::INIT_EX, &hex(INIT_EX)),
        Status::SECURE_DATA_INVALID
    );
}

#[test]
fn init_ex_checks_its_parameters() {
    let flash = "24000000 00000000  0000000000000000 00000000 00000000  0000000000000000 00000000";
    for (what, buffer, expected) in [
        ("address zero is flash", flash, SUCCESS),
        (
            "length of the buffer",
            "20000000 00000000  0000000000000000 00000000 00000000  0000200000000000 00800000",
            Status::INVALID_LEN,
        ),
        (
            "length of the area",
            "24000000 00000000  0000000000000000 00000000 00000000  0000200000000000 00400000",
            Status::INVALID_LEN,
        ),
        (
            "alignment of the area",
            "24000000 00000000  0000000000000000 00000000 00000000  0001200000000000 00800000",
            Status::INVALID_ADDRESS,
        ),
        (
            "area outside RAM",
            "24000000 00000000  0000000000000000 00000000 00000000  00b03f0000000000 00800000",
            Status::INVALID_ADDRESS,
        ),
        (
            "area in the TMR",
            "24000000 01000000  0000100000000000 00001000 00000000  00f01f0000000000 00800000",
            Status::INVALID_ADDRESS,
        ),
        (
            "reserved flags",
            "24000000 02000000  0000000000000000 00000000 00000000  0000000000000000 00000000",
            Status::INVALID_CONFIG,
        ),
        (
            "reserved half of the flags",
            "24000000 00000100  0000000000000000 00000000 00000000  0000000000000000 00000000",
            Status::INVALID_CONFIG,
        ),
        (
            "reserved word",
            "24000000 00000000  0000000000000000 00000000 00000080  0000000000000000 00000000",
            Status::INVALID_CONFIG,
        ),
    ] {
        let mut psp = Platform::new(&MILAN);
        assert_eq!(psp.status(id::INIT_EX, &hex(buffer)), expected, "{what}");
    }
}

#[test]
fn old_firmware_does_not_know_new_commands() {
    for (model, id, expected) in [
        (&NAPLES, id::INIT_EX, Status::INVALID_COMMAND),
        (&NAPLES, id::NOP, Status::INVALID_COMMAND),
        (&NAPLES, id::GET_ID, Status::INVALID_LEN),
        (&ROME, id::INIT_EX, Status::INVALID_LEN),
        (&ROME, id::NOP, SUCCESS),
    ] {
        let mut psp = Platform::new(model);
        assert_eq!(psp.status(id, &[0; 36]), expected, "{} {id:#x}", model.name);
    }
}

#[test]
fn unknown_commands_and_absent_ones_differ() {
    let mut psp = Platform::new(&MILAN);
    for id in [0x000, 0x010, 0x080, 0x081, 0x7ff] {
        assert_eq!(psp.status(id, &[0; 64]), Status::INVALID_COMMAND, "{id:#x}");
    }
    assert_eq!(psp.status(0x00f, &[0; 64]), Status::UNSUPPORTED);
}

#[test]
fn get_id_returns_the_needed_length_and_then_the_id() {
    let mut psp = Platform::new(&MILAN);
    for short in [0, 1, 63] {
        let buffer = [hex("0000010000000000"), vec![short, 0, 0, 0]].concat();
        let answer = psp.send(id::GET_ID, &buffer);
        let needed = hex("0000010000000000 40000000");
        assert_eq!(answer, (Status::INVALID_LEN, needed));
    }
    assert_eq!(psp.read(A, 128), [0; 128], "nothing written yet");
    // Room for two sockets; there is one.
    let answer = psp.send(id::GET_ID, &hex("0000010000000000 80000000"));
    assert_eq!(answer, (SUCCESS, hex("0000010000000000 40000000")));
    let id = psp.read(A, 64);
    assert_ne!(id, [0; 64]);
    assert_eq!(psp.read(A + 64, 64), [0; 64]);
    psp.firmware.reset();
    psp.send(id::GET_ID, &hex("0000010000000000 40000000"));
    assert_eq!(psp.read(A, 64), id, "a chip keeps its id");
}

#[test]
fn buffers_outside_ram_are_refused() {
    let mut psp = Platform::new(&MILAN);
    for addr in [RAM_LEN as u64 - 63, RAM_LEN as u64, u64::MAX - 8, u64::MAX] {
        let status = psp.status(id::GET_ID, &address_and_length(addr, 64));
        assert_eq!(status, Status::INVALID_ADDRESS, "{addr:#x}");
        let none = Override::default();
        for id in [id::INIT, id::PLATFORM_STATUS, id::GET_ID] {
            let addr = addr.saturating_add(56);
            let status = psp.firmware.execute(id, addr, &mut psp.ram, none);
            assert_eq!(status, Status::INVALID_ADDRESS, "{id:#x} at {addr:#x}");
        }
    }
    // A command without buffer ignores the address.
    let none = Override::default();
    assert_eq!(
        psp.firmware.execute(id::NOP, u64::MAX, &mut psp.ram, none),
        SUCCESS
    );
}

#[test]
fn refused_commands_leave_the_buffer_alone() {
    let mut psp = Platform::new(&MILAN);
    let (status, buffer) = psp.send(id::PEK_CSR, &[0xaa; 12]);
    assert_eq!(
        (status, buffer),
        (Status::INVALID_PLATFORM_STATE, vec![0xaa; 12])
    );
}

#[test]
fn addresses_may_carry_the_c_bit() {
    for (model, bit) in [(&ROME, 47), (&MILAN, 51), (&GENOA, 51)] {
        let mut psp = Platform::new(model);
        let buffer = address_and_length(A | (1 << bit), 64);
        psp.ram.write(COMMAND, &buffer).unwrap();
        let at = COMMAND | (1 << bit);
        let status = psp
            .firmware
            .execute(id::GET_ID, at, &mut psp.ram, Override::default());
        assert_eq!(status, SUCCESS, "{}", model.name);
        assert_ne!(psp.read(A, 64), [0; 64]);
    }
}

#[test]
fn downloaded_firmware_runs_until_power_is_cut() {
    for model in MODELS {
        let version = Version {
            build: model.version.build + 1,
            ..model.version
        };
        let image = image::build(model, version, &mut OsRng).unwrap();
        let mut psp = Platform::new(model);
        psp.ram.write(A, &image).unwrap();
        let buffer = address_and_length(A, image.len() as u32);
        assert_eq!(
            psp.status(id::DOWNLOAD_FIRMWARE, &buffer),
            SUCCESS,
            "{}",
            model.name
        );
        let (_, status) = psp.send(id::PLATFORM_STATUS, &[0; 12]);
        assert_eq!(
            (status[0], status[1], status[7]),
            (version.major, version.minor, version.build)
        );
        psp.firmware.reset();
        assert_eq!(psp.firmware.version(), model.version);
    }
}

#[test]
fn only_genuine_images_are_run() {
    let version = Version {
        major: 1,
        minor: 56,
        build: 0,
    };
    let genuine = image::build(&MILAN, version, &mut OsRng).unwrap();
    let flip = |at: usize| {
        let mut image = genuine.clone();
        image[at] ^= 1;
        image
    };
    let older = Version {
        major: 1,
        minor: 54,
        build: 0,
    };
    for (what, image, expected) in [
        (
            "one for another model",
            image::build(&GENOA, version, &mut OsRng).unwrap(),
            Status::BAD_SIGNATURE,
        ),
        (
            "an older one",
            image::build(&MILAN, older, &mut OsRng).unwrap(),
            Status::BAD_VERSION,
        ),
        ("a changed version", flip(0x61), Status::BAD_SIGNATURE),
        ("a changed cookie", flip(0x10), Status::BAD_SIGNATURE),
        ("a changed signature", flip(0x120), Status::BAD_SIGNATURE),
        ("a changed length", flip(0x6c), Status::INVALID_LEN),
        ("less signed than there is", flip(0x15), Status::INVALID_LEN),
        ("more signed than there is", flip(0x17), Status::INVALID_LEN),
        (
            "half of one",
            genuine[..0x180].to_vec(),
            Status::INVALID_LEN,
        ),
        ("nothing", vec![], Status::INVALID_LEN),
    ] {
        let mut psp = Platform::new(&MILAN);
        psp.ram.write(A, &image).unwrap();
        let buffer = address_and_length(A, image.len() as u32);
        assert_eq!(
            psp.status(id::DOWNLOAD_FIRMWARE, &buffer),
            expected,
            "{what}"
        );
        assert_eq!(psp.firmware.version(), MILAN.version, "{what}");
    }
    let mut psp = Platform::new(&MILAN);
    for (addr, len, expected) in [
        (A + 16, 0x300, Status::INVALID_ADDRESS),
        (A, u32::MAX, Status::INVALID_LEN),
        (RAM_LEN as u64 - 0x100, 0x300, Status::INVALID_ADDRESS),
    ] {
        let buffer = address_and_length(addr, len);
        assert_eq!(
            psp.status(id::DOWNLOAD_FIRMWARE, &buffer),
            expected,
            "{addr:#x} {len:#x}"
        );
    }
}

/// Flash that is worn out.
struct BrokenFlash;

impl Flash for BrokenFlash {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn erase(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn broken_flash_is_a_platform_error() {
    let mut psp = Platform::with_flash(&MILAN, Box::new(BrokenFlash));
    assert_eq!(psp.status(id::INIT, &[0; 20]), Status::HWERROR_PLATFORM);
    assert_eq!(psp.state().0, 0);
    assert_eq!(
        psp.status(id::PLATFORM_RESET, &[]),
        Status::HWERROR_PLATFORM
    );
}
