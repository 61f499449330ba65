// SPDX-License-Identifier: GPL-2.0
//! A chip that knows who it is, so that INIT takes little time.

use super::ram::{ORACLE, PAGE};
use psp_emu::{
    firmware::{cores::Cores, Chip, Firmware, Override, Status, VecFlash},
    memory::{GuestMemory, VecMemory},
    model::{Model, MILAN},
};
use std::sync::{
    atomic::{AtomicU64, Ordering},
    Arc, OnceLock,
};

const INIT_EX: u16 = 0x00d;
const NV_LEN: usize = 32 << 10;

/// The persistent data of the chip, as they are in flash or in the file of INIT_EX.
///
/// # Panics
///
/// When the firmware does not make any.
pub fn persistent_data() -> &'static [u8] {
    static DATA: OnceLock<Vec<u8>> = OnceLock::new();
    DATA.get_or_init(|| {
        let nv = ORACLE + PAGE as u64;
        let mut ram = VecMemory::new(0, 0x2_0000);
        let mut data = vec![0xff; NV_LEN];
        let mut buffer = [0; 0x24];
        buffer[0] = 0x24;
        buffer[0x18..0x20].copy_from_slice(&nv.to_le_bytes());
        // CAST: 32 KiB.
        buffer[0x20..].copy_from_slice(&(NV_LEN as u32).to_le_bytes());
        ram.write(nv, &data).expect("RAM");
        ram.write(ORACLE, &buffer).expect("RAM");
        let mut firmware = Firmware::new(&MILAN, chip(), Box::new(VecFlash::default()));
        let status = firmware.execute(INIT_EX, ORACLE, &mut ram, Override::default());
        assert_eq!(status, Status::SUCCESS);
        ram.read(nv, &mut data).expect("RAM");
        data
    })
}

fn chip() -> Chip {
    Chip::from_secret([7; Chip::SECRET_LEN])
}

/// One core, which executes WBINVD when the driver says so.
struct OneCore(Arc<AtomicU64>);

impl Cores for OneCore {
    fn writebacks(&self) -> Option<Vec<u64>> {
        Some(vec![self.0.load(Ordering::Relaxed)])
    }
}

/// The chip's firmware; it counts on `writebacks` being what the core has executed.
pub(super) fn firmware(model: &'static Model, writebacks: Arc<AtomicU64>) -> Firmware {
    let flash = Box::new(VecFlash(Some(persistent_data().to_vec())));
    Firmware::new(model, chip(), flash).with_cores(Box::new(OneCore(writebacks)))
}
