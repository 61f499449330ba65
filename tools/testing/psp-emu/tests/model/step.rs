// SPDX-License-Identifier: GPL-2.0
//! What can happen to a driver, out of a number: so that any bytes are a sequence of it.

use psp::cmd::CmdId;
use psp_emu::{
    device::fault::{Fault, Kind},
    firmware::Status,
};
use std::time::Duration;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Status,
    /// A command that points to buffers of the driver's, each with so many bytes; zero asks for the length.
    Send {
        id: CmdId,
        len: u32,
    },
    /// A command of KVM's; `seed` makes its bytes.
    Raw {
        id: CmdId,
        seed: u64,
    },
    /// One whose length is wrong.
    WrongLength(CmdId),
    Init,
    Shutdown,
    /// A platform that is in a state for this command. For PLATFORM_RESET nothing is done in it.
    Prepared {
        id: CmdId,
        may_init: bool,
    },
    FactoryReset,
    Update(Image),
    /// INIT without having read the file of the persistent data.
    InitUnread,
    /// From now on that file cannot be written, or can again.
    DiskFull(bool),
    /// Somebody changes the file.
    NewFile(u8),
    GiveTmr,
    Recover,
    /// Unbind, and bind again.
    Rebind {
        tmr: bool,
        registers_go: bool,
    },
    /// The machine is switched off and on.
    PowerCycle,
    /// The machine sleeps, and the PSP forgets.
    Sleep,
    /// The PSP starts afresh by itself.
    DeviceReset,
    Fault(Fault),
    NoFaults,
    Pass(Duration),
    Poll(bool),
}

/// What is to be downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    Good,
    /// A byte is missing.
    Short,
    /// An earlier command that was not answered has it.
    Gone,
}

/// When whoever calls is killed, after the call began.
pub type Kill = Option<Duration>;

/// Takes numbers out of one.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        let value = self.0 % end;
        self.0 /= end;
        value
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        // CAST: shorter than 4 GiB.
        from[self.below(from.len() as u64) as usize]
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Cheap commands that KVM or a tool may send; the first ones more often.
const RAW: &[CmdId] = &[
    CmdId::PlatformStatus,
    CmdId::LaunchStart,
    CmdId::LaunchStart,
    CmdId::Decommission,
    CmdId::Decommission,
    CmdId::Activate,
    CmdId::Deactivate,
    CmdId::DfFlush,
    CmdId::LaunchUpdateData,
    CmdId::GuestStatus,
];

/// Commands that give memory to the firmware for good, or take long.
fn never_raw(id: CmdId) -> bool {
    matches!(
        id,
        CmdId::Init
            | CmdId::InitEx
            | CmdId::RingBuffer
            | CmdId::PekGen
            | CmdId::PdhGen
            | CmdId::PlatformReset
    )
}

fn kind(dice: &mut Dice) -> Kind {
    // A status of zero would be a firmware that lies about what it has done.
    let status = [0x01, 0x03, 0x0e, 0x13, 0x14, 0x18, 0x8004];
    match dice.below(32) {
        0 => Kind::AllOnes,
        1 => Kind::StuckBusy,
        2 => Kind::Vanish,
        3 => Kind::NoResponse,
        4 | 5 => Kind::Forgotten,
        6..=8 => Kind::LostIrq,
        9 | 10 => Kind::EarlyIrq,
        11 | 12 => Kind::SpuriousIrq,
        13 => Kind::DoubleIrq,
        14 => Kind::LateIrq(Duration::from_millis(dice.choose(&[1, 50, 2000]))),
        15..=20 => Kind::Late(Duration::from_millis(
            dice.choose(&[1, 30, 900, 7000, 90_000, 130_000]),
        )),
        // CAST: at most 40000.
        21 | 22 => Kind::Slow(dice.choose(&[2, 100, 40_000]) as u32),
        23..=25 => Kind::Status(Status(dice.choose(&status))),
        26 | 27 => Kind::Length(dice.choose(&[0, 1, 2084, 0x1000, u32::MAX])),
        28 | 29 => Kind::Garbage(dice.choose(&[0x8000_dead, 0xffff_8001, 0x1234, 0, u32::MAX])),
        _ => Kind::StateLoss,
    }
}

fn fault(dice: &mut Dice) -> Fault {
    let kind = kind(dice);
    // Ids that are worth it.
    let ids = [
        0x001, 0x00d, 0x002, 0x004, 0x004, 0x00a, 0x00c, 0x008, 0x006,
    ];
    let of_device = matches!(kind, Kind::AllOnes | Kind::StuckBusy);
    Fault {
        kind,
        command: (!of_device && dice.one_in(2)).then(|| dice.choose(&ids)),
        // CAST: below 4.
        count: match of_device || kind == Kind::Vanish {
            true => None,
            false => Some(1 + dice.below(3) as u32),
        },
    }
}

impl Step {
    /// The step that a number stands for, and when its caller is killed.
    pub fn of(number: u64) -> (Self, Kill) {
        let mut dice = Dice(number);
        let what = dice.below(256);
        let kill = dice
            .one_in(16)
            .then(|| Duration::from_millis(dice.choose(&[0, 1, 20, 50, 3000])));
        (Self::what(what, &mut dice), kill)
    }

    fn what(what: u64, dice: &mut Dice) -> Self {
        match what {
            0..=79 => Self::Status,
            80..=111 => Self::Send {
                // The last one multiplies points of a curve.
                id: match dice.below(16) {
                    0..=7 => CmdId::GetId,
                    8..=14 => CmdId::PekCsr,
                    _ => CmdId::PdhCertExport,
                },
                len: dice.choose(&[0, 16, 128, 2084, 8192]),
            },
            112..=143 => Self::raw(dice),
            144..=153 => Self::Init,
            154..=161 => Self::Shutdown,
            162..=165 => Self::Prepared {
                id: match dice.below(64) {
                    0 => CmdId::PdhGen,
                    1 => CmdId::PekGen,
                    2..=19 => CmdId::PlatformReset,
                    _ => CmdId::PekCsr,
                },
                may_init: !dice.one_in(4),
            },
            166 => match dice.below(64) {
                0 => Self::FactoryReset,
                1..=8 => Self::Update(dice.choose(&[
                    Image::Good,
                    Image::Good,
                    Image::Short,
                    Image::Gone,
                ])),
                10..=13 => Self::Sleep,
                9 => Self::NewFile(dice.choose(&[7, 0xff])),
                _ => Self::Status,
            },
            167 => Self::InitUnread,
            168 => Self::DiskFull(dice.one_in(2)),
            169..=171 => Self::GiveTmr,
            172..=181 => Self::Recover,
            182 => match dice.below(4) {
                0 => Self::PowerCycle,
                _ => Self::Rebind {
                    tmr: !dice.one_in(4),
                    registers_go: dice.one_in(2),
                },
            },
            183..=191 => Self::DeviceReset,
            192..=215 => Self::Fault(fault(dice)),
            216..=239 => Self::NoFaults,
            240..=251 => {
                let ms = dice.choose(&[1, 50, 4000, 60_000, 300_000]);
                Self::Pass(Duration::from_millis(ms))
            }
            _ => Self::Poll(dice.one_in(2)),
        }
    }

    fn raw(dice: &mut Dice) -> Self {
        let id = match dice.below(8) {
            0 => dice.choose(CmdId::ALL),
            1 => return Self::WrongLength(dice.choose(CmdId::ALL)),
            _ => dice.choose(RAW),
        };
        match never_raw(id) {
            true => Self::Status,
            false => Self::Raw { id, seed: dice.0 },
        }
    }
}
