// SPDX-License-Identifier: GPL-2.0
//! The hypervisor between guest and firmware: carries messages, adds certificates, and may misbehave.

use super::{
    fault::{Faults, Kind},
    firmware::Firmware,
    guest::PAGE_LEN,
    message::Page,
};
use crate::memory::GuestMemory;

/// SW_EXITCODE of a guest request and of an extended one.
pub const GUEST_REQUEST: u32 = 0x8000_0011;
pub const EXT_GUEST_REQUEST: u32 = 0x8000_0012;

/// The host's errors, the high half of SW_EXITINFO2.
pub const INVALID_LEN: u32 = 1;
pub const BUSY: u32 = 2;
/// What KVM says of requests that it cannot make sense of.
pub const GENERIC: u32 = u32::MAX;

/// Where things are in guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub request: u64,
    pub response: u64,
    pub data: u64,
    /// Pages at `data`.
    pub pages: u32,
}

/// What the guest is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The firmware's status.
    pub firmware: u32,
    /// The host's error.
    pub vmm: u32,
    /// Pages that certificates need, when they do not fit.
    pub pages: Option<u32>,
}

impl Answer {
    fn vmm(error: u32) -> Self {
        Self {
            vmm: error,
            ..Self::default()
        }
    }
}

/// The host, with the firmware behind it.
pub struct Host {
    firmware: Firmware,
    /// The certificate table that was loaded into it.
    table: Vec<u8>,
    /// May be changed at any time.
    pub faults: Faults,
    /// The last answer of the firmware.
    last: Option<Box<Page>>,
}

impl Host {
    /// A host that hands out these certificates.
    #[must_use]
    pub fn new(firmware: Firmware, table: Vec<u8>, faults: Faults) -> Self {
        Self {
            firmware,
            table,
            faults,
            last: None,
        }
    }

    /// The guest starts again with the secrets page it had.
    pub fn restart_guest(&mut self) {
        self.firmware.restart_guest();
        self.last = None;
    }

    /// Carries out a request, and tells which fault it met.
    pub fn request(
        &mut self,
        exit_code: u32,
        places: Places,
        memory: &mut dyn GuestMemory,
    ) -> (Answer, Option<Kind>) {
        let extended = match exit_code {
            GUEST_REQUEST => false,
            EXT_GUEST_REQUEST => true,
            _ => return (Answer::vmm(GENERIC), None),
        };
        let fault = self.faults.next();
        let answer = match fault {
            Some(Kind::Busy) => Answer::vmm(BUSY),
            Some(Kind::VmmError(error)) => Answer::vmm(error),
            Some(Kind::Status(status)) => Answer {
                firmware: status.0.into(),
                ..Answer::default()
            },
            _ => self.carry(extended, places, fault, memory),
        };
        (answer, fault)
    }

    fn carry(
        &mut self,
        extended: bool,
        places: Places,
        fault: Option<Kind>,
        memory: &mut dyn GuestMemory,
    ) -> Answer {
        let mut request = [0; PAGE_LEN];
        let data_len = u64::from(places.pages) * PAGE_LEN as u64;
        let aligned = [places.request, places.response, places.data]
            .iter()
            .all(|address| address % PAGE_LEN as u64 == 0);
        if !aligned
            || memory.read(places.request, &mut request).is_err()
            || !memory.is_writable(places.response, PAGE_LEN as u64)
            || extended && places.pages > 0 && !memory.is_writable(places.data, data_len)
        {
            return Answer::vmm(GENERIC);
        }
        if extended {
            // CAST: the table is some kilobytes.
            let needed = match fault {
                Some(Kind::Pages(pages)) => pages,
                _ => self.table.len().div_ceil(PAGE_LEN) as u32,
            };
            if places.pages < needed || matches!(fault, Some(Kind::Pages(_))) {
                return Answer {
                    pages: Some(needed),
                    ..Answer::vmm(INVALID_LEN)
                };
            }
        }
        match self.deliver(&request, fault) {
            Err(answer) => answer,
            Ok(response) => {
                // Both were found writable; RAM that has gone meanwhile is the guest's doing.
                let response =
                    response.map_or(Ok(()), |page| memory.write(places.response, &page[..]));
                let table = match extended && places.pages > 0 {
                    true => memory.write(places.data, &self.certificates(fault)),
                    false => Ok(()),
                };
                match response.and(table) {
                    Ok(()) => Answer::default(),
                    Err(_) => Answer::vmm(GENERIC),
                }
            }
        }
    }

    /// What the guest gets to see as the answer, if anything.
    fn deliver(
        &mut self,
        request: &Page,
        fault: Option<Kind>,
    ) -> Result<Option<Box<Page>>, Answer> {
        if fault == Some(Kind::Replay) {
            return Ok(self.last.clone());
        }
        let answer = self.firmware.request(request).map_err(|status| Answer {
            firmware: status.0.into(),
            ..Answer::default()
        })?;
        let before = self.last.replace(answer.clone());
        let mut shown = answer;
        match fault {
            Some(Kind::Lost) => return Err(Answer::vmm(BUSY)),
            Some(Kind::Silent) => return Ok(None),
            Some(Kind::Reordered) => return Ok(before),
            Some(Kind::Garbage) => {
                for (at, byte) in shown.iter_mut().enumerate() {
                    // CAST: noise.
                    *byte = (at as u8).wrapping_mul(167).wrapping_add(13);
                }
            }
            Some(Kind::Short) => {
                let len = u16::from_le_bytes([shown[0x36], shown[0x37]]) / 2;
                shown[0x36..0x38].copy_from_slice(&len.to_le_bytes());
                shown[0x60 + usize::from(len)..].fill(0);
            }
            Some(Kind::Long) => shown[0x36..0x38].copy_from_slice(&u16::MAX.to_le_bytes()),
            Some(Kind::WrongTag) => shown[15] ^= 0x80,
            Some(Kind::WrongSeqno) => shown[0x20] = shown[0x20].wrapping_add(1),
            Some(Kind::WrongType) => shown[0x34] = shown[0x34].wrapping_add(2),
            Some(Kind::WrongVersion) => shown[0x35] = shown[0x35].wrapping_add(1),
            _ => {}
        }
        Ok(Some(shown))
    }

    fn certificates(&self, fault: Option<Kind>) -> Vec<u8> {
        let mut table = self.table.clone();
        if fault == Some(Kind::Table) {
            // The first entry's end is beyond 32 bits, the second's beyond every buffer.
            table[16..24].copy_from_slice(&[0xff; 8]);
            table[40..48].copy_from_slice(&[0, 0, 0, 0x40, 0, 0, 0, 0x40]);
        }
        table
    }
}
