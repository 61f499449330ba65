// SPDX-License-Identifier: GPL-2.0

//! The virtio devices of this VM: which are adopted, and why the others are not.

use kernel::{
    debugfs,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex,
        UniqueArc, //
    }, //
};
use memenc::{
    admission::{
        self,
        Offer,
        Policy,
        Reason,
        Terms, //
    },
    pool::CHUNK_BYTES,
    shares::{
        self,
        Shares, //
    }, //
};

use crate::ffi;

use super::{
    flow::{
        Count,
        Flow,
        PURPOSES, //
    },
    memory::Memory,
    report,
    slots::{
        Slots,
        MAX_FLOWS, //
    }, //
};

/// A device as C describes it.
pub(super) struct Description<'a> {
    /// Its parent: what the rings hand over when they map.
    pub(super) parent: usize,
    pub(super) name: &'a CStr,
    /// Empty: none.
    pub(super) driver: &'a CStr,
    pub(super) offer: Offer,
    /// Low bits of addresses that it wants preserved.
    pub(super) align_mask: u64,
}

/// What is going on with a device.
pub(crate) enum Standing {
    /// No driver is bound.
    Idle,
    /// Its buffers are in the pool.
    Adopted(Arc<Flow>, Terms),
    /// Its driver does its DMA as without this module.
    Left(Reason),
}

/// What is known about it now.
pub(crate) struct State {
    pub(super) driver: CString,
    pub(super) access_platform: bool,
    /// The first 64 that its driver and it have agreed on, once that is bound.
    pub(super) features: Option<u64>,
    pub(super) standing: Standing,
}

/// A device.
#[pin_data]
pub(crate) struct Device {
    pub(super) name: CString,
    pub(super) id: u32,
    #[pin]
    pub(super) state: Mutex<State>,
}

struct Known {
    device: Arc<Device>,
    _file: Pin<KBox<debugfs::File<Arc<Device>>>>,
}

/// All that there are. What a file tells takes its own lock only: a file that goes waits for its readers.
pub(super) struct Registry {
    known: KVec<Known>,
    /// Which numbers are taken: by devices, and for ever by those that did not give everything back.
    slots: [bool; MAX_FLOWS],
    dir: debugfs::Dir,
}

impl Registry {
    /// Nothing is known yet; files are made in `dir`.
    pub(super) fn new(dir: debugfs::Dir) -> Self {
        Registry {
            known: KVec::new(),
            slots: [false; MAX_FLOWS],
            dir,
        }
    }

    /// Tries to adopt a device whose driver is about to be bound; the number of its slot.
    ///
    /// # Errors
    ///
    /// The device is left as it is, and that is noted.
    pub(super) fn adopt(
        &mut self,
        what: &Description<'_>,
        policy: Policy<'_>,
        memory: &Memory,
        slots: &Slots,
        copy_in: bool,
    ) -> Result<(usize, Terms), Reason> {
        let judged = admission::judge(&what.offer, policy).and_then(|terms| {
            let slot = self.free_slot().ok_or(Reason::TooMany)?;
            self.keep(memory, Some(shares_of(what.offer.id)));
            memory.fill().map_err(|_| Reason::NoMemory)?;
            let flow = new_flow(what, slot, memory, copy_in).map_err(|_| Reason::NoMemory)?;
            Ok((slot, flow, terms))
        });
        match judged {
            Ok((slot, flow, terms)) => {
                let standing = Standing::Adopted(flow.clone(), terms);
                // Without books on it a device cannot be given back.
                if self.note(what, standing).is_err() {
                    flow.close(memory);
                    self.divide(memory);
                    return Err(Reason::NoMemory);
                }
                slots.insert(slot, what.parent, &flow);
                self.slots[slot] = true;
                self.divide(memory);
                pr_info!(
                    "{}: DMA of {} through the pool{}\n",
                    what.name,
                    what.driver,
                    match what.offer.access_platform {
                        true => "",
                        false => ", admitted without ACCESS_PLATFORM",
                    }
                );
                Ok((slot, terms))
            }
            Err(reason) => {
                pr_info!("{}: not adopted: {}\n", what.name, format_args!("{reason}"));
                // The log says it, if nothing else can.
                let _ = self.note(what, Standing::Left(reason));
                self.divide(memory);
                Err(reason)
            }
        }
    }

    /// Notes what is going on with a device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; then nothing was noted.
    pub(super) fn note(&mut self, what: &Description<'_>, standing: Standing) -> Result {
        let driver = CString::try_from(what.driver)?;
        let access_platform = what.offer.access_platform;
        let state = State {
            driver,
            access_platform,
            features: None,
            standing,
        };
        if let Some(known) = self.find(what.name) {
            *known.device.state.lock() = state;
            return Ok(());
        }
        let name = CString::try_from(what.name)?;
        let device = Arc::pin_init(
            pin_init!(Device {
                name,
                id: what.offer.id,
                state <- new_mutex!(state),
            }),
            GFP_KERNEL,
        )?;
        let file = self
            .dir
            .read_callback_file(what.name, device.clone(), &report::device);
        let file = KBox::pin_init(file, GFP_KERNEL)?;
        let known = Known {
            device,
            _file: file,
        };
        self.known.push(known, GFP_KERNEL)?;
        Ok(())
    }

    /// Notes which features a device's driver has agreed on.
    pub(super) fn note_features(&self, name: &CStr, features: u64) {
        if let Some(known) = self.find(name) {
            known.device.state.lock().features = Some(features);
        }
    }

    /// The driver of the device in this slot is gone, or was never bound.
    pub(super) fn release(&mut self, slot: usize, memory: &Memory, slots: &Slots) {
        let Some(flow) = slots.remove(slot) else {
            return;
        };
        let device = self.known.iter().find(|known| {
            matches!(&known.device.state.lock().standing,
                Standing::Adopted(other, _) if core::ptr::eq(&**other, flow))
        });
        let Some(known) = device else {
            return;
        };
        let mut state = known.device.state.lock();
        let standing = core::mem::replace(&mut state.standing, Standing::Idle);
        state.features = None;
        drop(state);
        let Standing::Adopted(flow, _) = standing else {
            return;
        };
        let lost = flow.close(memory);
        memory.copied_in.count(flow.counted(Count::CopiedIn));
        memory.copied_out.count(flow.counted(Count::CopiedOut));
        if lost == 0 {
            self.slots[slot] = false;
        } else {
            pr_err!(
                "{}: its driver left buffers mapped: {} KiB of the pool are lost\n",
                &*known.device.name,
                lost * CHUNK_BYTES as u64 / 1024
            );
        }
        self.divide(memory);
    }

    /// Nothing is known any more.
    pub(super) fn forget_all(&mut self) {
        self.known.clear();
    }

    /// The device is gone.
    pub(super) fn forget(&mut self, name: &CStr) {
        if let Some(index) = self
            .known
            .iter()
            .position(|known| &*known.device.name == name)
        {
            // It is removed, whatever comes out.
            let _ = self.known.remove(index);
        }
    }

    fn find(&self, name: &CStr) -> Option<&Known> {
        self.known.iter().find(|known| &*known.device.name == name)
    }

    fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(|taken| !taken)
    }

    /// Calls `visit` with the traffic of each adopted device.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(&Flow)) {
        for known in &self.known {
            if let Standing::Adopted(flow, _) = &known.device.state.lock().standing {
                visit(flow);
            }
        }
    }

    /// How many shares the devices have, and bytes that are to be kept for them; with those of one more.
    fn wanted(&self, more: Option<Shares>) -> (u64, u64) {
        let (mut count, mut kept) = more.map_or((0, 0), |more| (more.count(), more.kept()));
        self.for_each(&mut |flow| {
            count += flow.shares.count();
            kept += flow.shares.kept();
        });
        (count, kept)
    }

    /// Bytes of a share as things are.
    pub(super) fn share(&self, memory: &Memory) -> u64 {
        let (count, kept) = self.wanted(None);
        memory.bounds.share(count, kept)
    }

    /// Bytes that are kept for each network card.
    fn card(&self, memory: &Memory) -> u64 {
        let (_, wanted) = self.wanted(None);
        let own = shares_of(CARD).kept();
        // Either is less than 2^40.
        (memory.kept() * own).checked_div(wanted).unwrap_or(own)
    }

    /// Has the pool keep what the devices there are must find, and one more.
    fn keep(&self, memory: &Memory, more: Option<Shares>) {
        let mut disks = matches!(more, Some(Shares::Together(_)));
        self.for_each(&mut |flow| disks |= matches!(flow.shares, Shares::Together(_)));
        let (count, kept) = self.wanted(more);
        let request = shares::largest_request(memory.bounds.share(count, kept));
        memory.keep(kept, if disks { 2 * request } else { 0 });
    }

    /// Divides the pool among the devices there are; without any it is given back.
    pub(super) fn divide(&self, memory: &Memory) {
        self.keep(memory, None);
        if !self.slots.contains(&true) {
            memory.empty();
        }
        let (share, card) = (self.share(memory), self.card(memory));
        self.for_each(&mut |flow| flow.set_share(memory, share, card));
        ffi::shares_changed();
    }

    /// Bytes of the largest request to a disk.
    pub(super) fn largest_request(&self, memory: &Memory) -> u64 {
        shares::largest_request(self.share(memory))
    }

    /// Bytes that each of so many send queues of a network card may hold.
    pub(super) fn send_limit(&self, memory: &Memory, queues: u64) -> u64 {
        shares::queue_limit(self.card(memory), queues)
    }
}

/// The id of a network card.
const CARD: u32 = 1;

/// Those of a kind of device in this machine.
fn shares_of(id: u32) -> Shares {
    // CAST: as wide.
    Shares::of(id, ffi::cpus() as u64)
}

/// The traffic of a device in this slot.
fn new_flow(
    what: &Description<'_>,
    slot: usize,
    memory: &Memory,
    copy_in: bool,
) -> Result<Arc<Flow>> {
    let name = CString::try_from(what.name)?;
    let shares = shares_of(what.offer.id);
    // The room first: a flow that is dropped instead of closed leaves its slot in use.
    let room = UniqueArc::new_uninit(GFP_KERNEL)?;
    let flow = Flow::new(memory, name, slot, what.align_mask, copy_in, shares)?;
    Ok(room.write(flow).into())
}

/// Adopted devices have ids in 16 bits.
const _: () = assert!(MAX_FLOWS * PURPOSES < u16::MAX as usize);
