// SPDX-License-Identifier: GPL-2.0
//! Private memory: bound to its address, out of reach beyond RAM and in the TMR, readable with `--memory plain`.

mod common;

use common::{
    address_and_length, export_buffer,
    guests::{debug_buffer, guest_id, Owner, ASID, ES_ASID, GUEST, PAGE},
    id,
    states::{GUEST_COMMANDS, LSECRET, LUPDATE, RUNNING, RUPDATE, SUPDATE, VMSA},
    Platform, A, B, CERT_LEN, CHAIN_LEN, COMMAND, RAM_LEN, TMR,
};
use psp_emu::{
    firmware::{Chip, Encryption, Firmware, Override, Status, VecFlash},
    memory::{DmaError, GuestMemory, VecMemory},
    model::MILAN,
};

const SUCCESS: Status = Status::SUCCESS;
const ES: u32 = 4;
const END: u64 = RAM_LEN as u64;

fn copy(psp: &mut Platform, guest: u32, len: u32, src: u64, dst: u64) -> Status {
    psp.status(guest_id::COPY, &buffer![guest, len, src, dst])
}

/// Four different pages.
fn pages() -> Vec<u8> {
    (0..4 * 4096u32).map(|at| (at / 64) as u8).collect()
}

#[test]
fn ciphertext_moved_is_garbage_and_copy_moves_rightly() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let (guest, _) = psp.launch(0, ASID, &pages());
    let moved = psp.read(GUEST, 4096);
    psp.ram.write(GUEST + 0x8000, &moved).unwrap();
    let garbage = psp.decrypt(guest, GUEST + 0x8000, 4096).unwrap();
    assert!(garbage
        .chunks(16)
        .all(|block| !pages().chunks(16).any(|plain| plain == block)));
    // Within a page it is the same.
    psp.ram.write(GUEST + 0x8010, &moved[..16]).unwrap();
    assert_ne!(
        psp.decrypt(guest, GUEST + 0x8010, 16).unwrap(),
        pages()[..16]
    );

    // Apart, overlapping in both directions, onto itself.
    let places = [0, 0x8000, 0x9000, 0x7000, 0x7000].map(|offset| GUEST + offset);
    for pair in places.windows(2) {
        assert_eq!(copy(&mut psp, guest, 0x4000, pair[0], pair[1]), SUCCESS);
        assert_eq!(
            psp.decrypt(guest, pair[1], 0x4000).unwrap(),
            pages(),
            "{pair:x?}"
        );
    }
}

#[test]
fn what_is_misaligned_or_beyond_ram_has_no_effect() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let (guest, _) = psp.launch(0, ASID, &pages());
    let (len, addr) = (Status::INVALID_LEN, Status::INVALID_ADDRESS);
    let mut check = |command: u16, buffer: Vec<u8>, expected: Status| {
        let before = psp.read(0x2000, RAM_LEN - 0x2000);
        assert_eq!(
            psp.status(command, &buffer),
            expected,
            "{command:#x} {buffer:x?}"
        );
        assert!(
            psp.read(0x2000, RAM_LEN - 0x2000) == before,
            "{command:#x} {buffer:x?}"
        );
    };
    for command in [guest_id::DBG_DECRYPT, guest_id::DBG_ENCRYPT] {
        for (src, dst, length, expected) in [
            (GUEST + 8, A, 16, addr),
            (GUEST, A + 8, 16, addr),
            (GUEST, A, 8, len),
            (GUEST, A, 0, SUCCESS),
            // More than is worked on at a time: none of it may have been written.
            (GUEST, END - 0x2_0000, 0x2_0010, addr),
            (END - 0x2_0000, A, 0x2_0010, addr),
            (GUEST, TMR - 0x2_0000, 0x2_0010, addr),
            (TMR + 0xf_fff0, GUEST, 0x2_0000, addr),
            (GUEST, A, 0xffff_fff0, addr),
            (u64::MAX - 15, A, 16, addr),
            (GUEST, u64::MAX - 15, 32, addr),
        ] {
            check(command, debug_buffer(guest, src, dst, length), expected);
        }
    }
    for (length, src, dst, expected) in [
        (0u32, GUEST, GUEST + PAGE, len),
        (0x800, GUEST, GUEST + PAGE, len),
        (0x1010, GUEST, GUEST + PAGE, len),
        (0x1000, GUEST + 16, GUEST + PAGE, addr),
        (0x1000, GUEST, GUEST + PAGE + 16, addr),
        (0x2000, GUEST, END - PAGE, addr),
        (0x2000, END - PAGE, GUEST, addr),
        (0xffff_f000, GUEST, GUEST + PAGE, addr),
        (0x2000, GUEST, TMR - PAGE, addr),
    ] {
        check(guest_id::COPY, buffer![guest, length, src, dst], expected);
    }
}

/// Where command buffers have addresses, and a state in which the command does.
#[rustfmt::skip] // A table is read by columns.
const ADDRESSES: &[(u16, u8, &[usize])] = &[
    (guest_id::COPY,                RUNNING, &[0x8, 0x10]),
    (guest_id::ACTIVATE_EX,         RUNNING, &[0x10]),
    (guest_id::LAUNCH_START,        LUPDATE, &[0x8, 0x18]),
    (guest_id::LAUNCH_UPDATE_DATA,  LUPDATE, &[0x8]),
    (guest_id::LAUNCH_UPDATE_VMSA,  LUPDATE, &[0x8]),
    (guest_id::LAUNCH_MEASURE,      LUPDATE, &[0x8]),
    (guest_id::LAUNCH_SECRET,       LSECRET, &[0x8, 0x18, 0x28]),
    (guest_id::ATTESTATION,         RUNNING, &[0x8]),
    (guest_id::SEND_START,          RUNNING, &[0x8, 0x38]),
    (guest_id::SEND_UPDATE_DATA,    SUPDATE, &[0x8, 0x18, 0x28]),
    (guest_id::SEND_UPDATE_VMSA,    SUPDATE, &[0x8, 0x18, 0x28]),
    (guest_id::RECEIVE_START,       RUPDATE, &[0x8, 0x18]),
    (guest_id::RECEIVE_UPDATE_DATA, RUPDATE, &[0x8, 0x18, 0x28]),
    (guest_id::RECEIVE_UPDATE_VMSA, RUPDATE, &[0x8, 0x18, 0x28]),
    (guest_id::DBG_DECRYPT,         RUNNING, &[0x8, 0x10]),
    (guest_id::DBG_ENCRYPT,         RUNNING, &[0x8, 0x10]),
    (guest_id::SWAP_OUT,            RUNNING, &[0x8, 0x10, 0x18]),
    (guest_id::SWAP_IN,             RUNNING, &[0x8, 0x10, 0x18]),
];

#[test]
fn no_command_reaches_the_tmr_or_beyond_ram() {
    let bad = [
        (TMR, "TMR"),
        (TMR - 0x10, "into the TMR"),
        (TMR + 0xf_f000, "the TMR's last page"),
        (TMR + 0xf_fff0, "out of the TMR"),
        (END - 0x10, "out of RAM"),
        (END, "after RAM"),
        (u64::MAX - 0xfff, "wraps around"),
    ];
    for (command, state, offsets) in ADDRESSES {
        let mut psp = Platform::new(&MILAN);
        psp.init_for_guests();
        let owner = Owner::of(&mut psp, ES);
        let guest = psp.guest_in(*state, &owner, (ES, ES_ASID), true);
        let mut buffer = psp.valid(*command, &guest);
        if *command == guest_id::ACTIVATE_EX {
            // More than one id: as long as the others' ranges.
            buffer[0xc] = 8;
        }
        for &offset in *offsets {
            for (addr, what) in bad {
                let mut buffer = buffer.clone();
                buffer[offset..offset + 8].copy_from_slice(&addr.to_le_bytes());
                let before = psp.read(0, RAM_LEN);
                let status = psp.status(*command, &buffer);
                let what = format!("{command:#x}, {offset:#x}: {what}");
                assert_eq!(status, Status::INVALID_ADDRESS, "{what}");
                let after = psp.read(0, RAM_LEN);
                assert!(after[0x2000..] == before[0x2000..], "{what}");
            }
        }
        assert_eq!(psp.guest(guest.handle), (ES, ES_ASID, *state));
        // It was the addresses; and the C-bit, which drivers set, does not matter.
        for &offset in *offsets {
            buffer[offset + 6] |= 0x08;
        }
        assert_eq!(psp.status(*command, &buffer), SUCCESS, "{command:#x}");
    }
}

/// RAM with a page that can only be read.
struct WithRom {
    ram: VecMemory,
    rom: u64,
}

impl GuestMemory for WithRom {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        self.ram.read(addr, buf)
    }

    fn write(&mut self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        let len = data.len();
        match self.is_writable(addr, len as u64) {
            true => self.ram.write(addr, data),
            false => Err(DmaError { addr, len }),
        }
    }

    fn is_writable(&self, addr: u64, len: u64) -> bool {
        let apart = addr.saturating_add(len) <= self.rom || self.rom + PAGE <= addr;
        apart && self.ram.is_writable(addr, len)
    }
}

/// Runs a command while the page an address of its buffer leads to, or that of the buffer itself, can only be
/// read.
fn run_with_rom(command: u16, state: u8, offset: Option<usize>) {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let owner = Owner::of(&mut psp, ES);
    let guest = psp.guest_in(state, &owner, (ES, ES_ASID), true);
    let buffer = psp.valid(command, &guest);
    let field = |at: usize| u64::from_le_bytes(buffer[at..at + 8].try_into().unwrap());
    let rom = offset.map_or(COMMAND, field);
    let platform = psp.state();
    psp.ram.write(COMMAND, &buffer).unwrap();
    let before = psp.read(0, RAM_LEN);

    let ram = std::mem::replace(&mut psp.ram, VecMemory::new(0, 0));
    let mut memory = WithRom { ram, rom };
    let over = Override::default();
    let status = psp.firmware.execute(command, COMMAND, &mut memory, over);
    psp.ram = memory.ram;

    let what = format!("{command:#x}: {offset:x?}");
    let after = psp.read(0, RAM_LEN);
    let page = rom as usize..(rom + PAGE) as usize;
    assert!(after[page.clone()] == before[page], "{what}");
    if status != SUCCESS {
        assert_eq!(status, Status::INVALID_ADDRESS, "{what}");
        assert!(after == before, "{what}");
        assert_eq!(psp.state(), platform, "{what}");
        assert_eq!(psp.guest(guest.handle), (ES, ES_ASID, state), "{what}");
        assert_eq!(psp.guest(guest.handle + 1).2, 0, "{what}");
    }
}

#[test]
fn what_cannot_be_written_has_no_effect() {
    for (command, state, offsets) in ADDRESSES {
        run_with_rom(*command, *state, None);
        for &offset in *offsets {
            run_with_rom(*command, *state, Some(offset));
        }
    }
}

#[test]
fn commands_of_the_platform_do_not_reach_the_tmr() {
    let mut psp = Platform::new(&MILAN);
    psp.init_for_guests();
    let chain = CHAIN_LEN as u32;
    for addr in [TMR, TMR - 0x10, TMR + 0xf_fff0] {
        let len = CERT_LEN as u32;
        let buffers = [
            (id::PEK_CSR, address_and_length(addr, len)),
            (id::GET_ID, address_and_length(addr, 64)),
            (id::PDH_CERT_EXPORT, export_buffer(addr, len, B, chain)),
            (id::PDH_CERT_EXPORT, export_buffer(A, len, addr, chain)),
            (id::PEK_CERT_IMPORT, export_buffer(addr, len, B, len)),
            (id::PEK_CERT_IMPORT, export_buffer(A, len, addr, len)),
        ];
        for (command, buffer) in buffers {
            let before = psp.read(0x2000, RAM_LEN - 0x2000);
            assert_eq!(psp.status(command, &buffer), Status::INVALID_ADDRESS);
            assert!(psp.read(0x2000, RAM_LEN - 0x2000) == before, "{command:#x}");
        }
        // Nor may the command buffer be there.
        let over = Override::default();
        let status = psp
            .firmware
            .execute(id::PLATFORM_STATUS, addr, &mut psp.ram, over);
        let expected = match addr + 12 > TMR {
            true => Status::INVALID_ADDRESS,
            false => SUCCESS,
        };
        assert_eq!(status, expected);
    }
    psp.shutdown();
    psp.init();
    let buffer = address_and_length(TMR, CERT_LEN as u32);
    assert_eq!(psp.status(id::PEK_CSR, &buffer), SUCCESS, "without SEV-ES");
}

/// Command and state; status, and the command buffer afterwards.
type Answer = (u16, u8, Status, Vec<u8>);

/// What every command answers in every state; the platform, without guests.
fn life(encryption: Encryption) -> (Vec<Answer>, Platform) {
    let flash = Box::new(VecFlash::default());
    let firmware = Firmware::new(&MILAN, Chip::from_secret([7; 32]), flash);
    let mut psp = Platform {
        firmware: firmware.with_encryption(encryption),
        ram: VecMemory::new(0, RAM_LEN),
    };
    psp.init_for_guests();
    let owner = Owner::of(&mut psp, ES);
    let mut answers = Vec::new();
    for state in 1..=6 {
        for command in GUEST_COMMANDS {
            let guest = psp.guest_in(state, &owner, (ES, ES_ASID), true);
            let buffer = psp.valid(command, &guest);
            let (status, answer) = psp.send(command, &buffer);
            answers.push((command, state, status, answer));
            for handle in 1..=2 {
                psp.plain(guest_id::DEACTIVATE, handle);
                psp.plain(guest_id::DECOMMISSION, handle);
            }
            assert_eq!(psp.status(id::DF_FLUSH, &[]), SUCCESS);
        }
    }
    (answers, psp)
}

#[test]
fn plain_memory_is_readable_and_all_else_the_same() {
    let (encrypted, _) = life(Encryption::Aes);
    let (plain, mut psp) = life(Encryption::Plain);
    assert_eq!(encrypted, plain);

    let owner = Owner::of(&mut psp, ES);
    let digest = openssl::sha::sha256(&[[0x5a; 4096], [0; 4096]].concat());
    psp.ram.write(VMSA, &[0; 4096]).unwrap();
    let guest = psp.guest_in(LUPDATE, &owner, (ES, ES_ASID), true).handle;
    assert_eq!(psp.read(GUEST, 4096), [0x5a; 4096]);
    let (measurement, nonce) = psp.measure(guest);
    let expected = owner.keys.measure(MILAN.version, ES, &digest, &nonce);
    assert_eq!(measurement, expected);
    assert_eq!(psp.decrypt(guest, GUEST, 64).unwrap(), [0x5a; 64]);
    psp.ram.write(A, b"sixteen letters.").unwrap();
    let buffer = debug_buffer(guest, A, GUEST, 16);
    assert_eq!(psp.status(guest_id::DBG_ENCRYPT, &buffer), SUCCESS);
    assert_eq!(psp.read(GUEST, 16), b"sixteen letters.");
    let received = psp.guest_in(RUPDATE, &owner, (ES, ES_ASID + 1), true);
    assert_eq!(psp.read(GUEST, 4096), [0x5a; 4096], "from a packet");
    assert_eq!(
        copy(&mut psp, received.handle, 4096, GUEST, GUEST + 0x9000),
        SUCCESS
    );
    assert_eq!(psp.read(GUEST + 0x9000, 4096), [0x5a; 4096]);
}
