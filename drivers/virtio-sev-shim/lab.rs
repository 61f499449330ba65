// SPDX-License-Identifier: GPL-2.0

//! The lab's way to the firmware: an emulated device that plays hypervisor and PSP, so that all that is
//! above it can be tested on any machine. Its reports prove nothing, whatever they say; it is only
//! used when the administrator asks for it, never in an SEV-SNP guest, and taints the kernel.
//!
//! Registers: Documentation/psp-emu.rst, "The guest device".

use kernel::{
    bindings,
    device::Core,
    io::Io,
    pci,
    prelude::*, //
};
use psp::guest_msg::{
    Channel,
    ExitInfo2,
    Exited,
    Failure,
    GivenUp,
    Message,
    Request,
    Slot,
    Step,
    Vmpck,
    VmpckId, //
};
use zerocopy::{
    FromBytes,
    IntoBytes, //
};

use crate::{
    fair_lock::FairLock,
    ffi::{
        self,
        PrivateMapping, //
    },
    gcm::Gcm,
    guest,
    shared::SharedPages,
    transport::{
        to_error,
        NoAnswer,
        Transport, //
    },
};

const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"SEVL");
const VERSION_VALUE: u32 = 1;

/// Offsets in BAR 0. Addresses have their low half first.
mod reg {
    pub(super) const MAGIC: usize = 0x00;
    pub(super) const VERSION: usize = 0x04;
    pub(super) const REQUEST: usize = 0x08;
    pub(super) const RESPONSE: usize = 0x10;
    pub(super) const DATA: usize = 0x18;
    pub(super) const DATA_PAGES: usize = 0x20;
    pub(super) const EXITCODE: usize = 0x24;
    pub(super) const EXITINFO2: usize = 0x28;
    pub(super) const SECRETS: usize = 0x30;
    pub(super) const END: usize = 0x40;
}

const PAGE_LEN: usize = 4096;

/// Where request and response are in the two shared pages.
const REQUEST_AT: usize = 0;
const RESPONSE_AT: usize = PAGE_LEN;

/// How long to wait until a busy host is asked again, and how often: a tenth of what the kernel does on
/// hardware.
const RETRY_MS: u32 = 200;
const RETRIES: u32 = 30;

type DevresBar = pci::DevresBar<{ reg::END }>;

/// The device's registers. After unbind every access says `ENODEV`.
struct Regs(DevresBar);

impl Regs {
    fn read(&self, offset: usize) -> Result<u32> {
        self.0
            .try_access_with(|bar| bar.try_read32(offset))
            .ok_or(ENODEV)?
    }

    fn write(&self, offset: usize, value: u32) -> Result {
        self.0
            .try_access_with(|bar| bar.try_write32(value, offset))
            .ok_or(ENODEV)?
    }

    fn read_wide(&self, offset: usize) -> Result<u64> {
        let low = self.read(offset)?;
        Ok(u64::from(self.read(offset + 4)?) << 32 | u64::from(low))
    }

    fn write_wide(&self, offset: usize, value: u64) -> Result {
        // CAST: the two halves.
        self.write(offset, value as u32)?;
        self.write(offset + 4, (value >> 32) as u32)
    }
}

/// The place of one key and its counter in the secrets page.
struct SecretsSlot {
    page: PrivateMapping,
    id: VmpckId,
}

impl Slot for SecretsSlot {
    fn counter(&self) -> u32 {
        u32::from_le_bytes(self.page.read(self.id.counter_offset()))
    }

    fn set_counter(&mut self, counter: u32) {
        self.page
            .write(self.id.counter_offset(), counter.to_le_bytes());
    }

    fn destroy_key(&mut self) {
        self.page
            .write(self.id.key_offset(), [0; psp::guest_msg::VMPCK_LEN]);
    }
}

/// What one request at a time needs.
struct Exchanges {
    regs: Regs,
    channel: Channel<Gcm, SecretsSlot>,
    /// Request and response, where the host reads and writes them.
    shared: SharedPages,
    /// The same in private memory.
    page: KVec<u8>,
}

impl Exchanges {
    fn ask(
        &mut self,
        request: &Request<'_>,
        certs: Option<&SharedPages>,
        out: &mut [u8],
    ) -> Result<(), NoAnswer> {
        let Exchanges {
            regs,
            channel,
            shared,
            page,
        } = self;
        let page = Message::mut_from_bytes(page).map_err(|_| EINVAL)?;
        let mut exchange = channel.begin(request, page)?;
        // From here on an early return destroys the key: the message may be with the host.
        shared.zero();
        shared.write(REQUEST_AT, page.as_bytes())?;
        let address = shared.address();
        regs.write_wide(reg::REQUEST, address + REQUEST_AT as u64)?;
        regs.write_wide(reg::RESPONSE, address + RESPONSE_AT as u64)?;
        regs.write_wide(reg::DATA, certs.map_or(0, SharedPages::address))?;
        let mut tries = 0;
        loop {
            // CAST: at most four.
            let offered = certs.map_or(0, |certs| certs.range().pages as u32);
            regs.write(reg::DATA_PAGES, offered)?;
            // CAST: exit codes have 32 bits.
            regs.write(reg::EXITCODE, exchange.exit().code() as u32)?;
            let exited = Exited {
                exitinfo2: ExitInfo2(regs.read_wide(reg::EXITINFO2)?),
                pages: regs.read(reg::DATA_PAGES)?,
            };
            shared.read(RESPONSE_AT, page.as_mut_bytes())?;
            exchange = match exchange.answered(exited, page, out) {
                Step::Done(_) => return Ok(()),
                Step::Failed(failure) => return Err(told(failure)),
                Step::Plain(same) => same,
                Step::Busy(same) if tries == RETRIES => {
                    return Err(told(same.give_up(GivenUp::TimeOver)));
                }
                Step::Busy(same) => {
                    tries += 1;
                    if !ffi::sleep_killable(RETRY_MS) {
                        return Err(told(same.give_up(GivenUp::Killed)));
                    }
                    same
                }
            };
        }
    }
}

/// Has the log say what cost a key: callers get an errno, which is the same for a forged answer and an old one. Once for
/// each key, whatever the host does.
fn told(failure: Failure) -> NoAnswer {
    if failure.key_destroyed {
        pr_err!("{}\n", core::format_args!("{failure}"));
    }
    failure.into()
}

/// The lab's device as a transport.
#[pin_data]
struct Lab {
    vmpck: u32,
    #[pin]
    exchanges: FairLock<Exchanges>,
}

impl Transport for Pin<KBox<Lab>> {
    fn name(&self) -> &'static str {
        "lab"
    }

    fn vmpck(&self) -> u32 {
        self.vmpck
    }

    fn ask(
        &self,
        request: &Request<'_>,
        certs: Option<&SharedPages>,
        out: &mut [u8],
    ) -> Result<(), NoAnswer> {
        let mut exchanges = self.exchanges.lock_killable()?;
        let had_key = exchanges.channel.is_usable();
        let outcome = exchanges.ask(request, certs, out);
        if had_key && !exchanges.channel.is_usable() {
            let exitinfo2 = outcome.as_ref().err().and_then(|failure| failure.exitinfo2);
            pr_alert!(
                "VMPCK{} destroyed, or a number would be used twice; exitinfo2 {:#x}. Reload with another vmpck_id\n",
                self.vmpck,
                exitinfo2.unwrap_or_default().0
            );
        }
        outcome
    }
}

/// The driver of the device.
pub(crate) struct LabDriver;

/// A bound device; when it goes, so does what was served over it.
pub(crate) struct Bound;

impl Drop for Bound {
    fn drop(&mut self) {
        guest::withdraw();
    }
}

/// The device's id; the kernel crate knows vendors by name only, and this one has none.
const ID: pci::DeviceId = {
    let id = bindings::pci_device_id {
        vendor: 0x1234,
        device: 0x5e50,
        subvendor: !0,
        subdevice: !0,
        class: 0,
        class_mask: 0,
        driver_data: 0,
        override_only: 0,
    };
    // SAFETY: `DeviceId` is a transparent wrapper, and every value of the C struct is an id.
    unsafe { core::mem::transmute::<bindings::pci_device_id, pci::DeviceId>(id) }
};

kernel::pci_device_table!(PCI_TABLE, <LabDriver as pci::Driver>::IdInfo, [(ID, ())]);

impl pci::Driver for LabDriver {
    type IdInfo = ();
    type Data<'bound> = Bound;
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound ()>,
    ) -> impl PinInit<Bound, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            pdev.enable_device_mem()?;
            pdev.set_master();
            let bar: pci::Bar<'_, { reg::END }> = pdev.iomap_region_sized(0, c"virtio_sev_shim")?;
            let regs = Regs(bar.into_devres()?);
            if regs.read(reg::MAGIC)? != MAGIC_VALUE || regs.read(reg::VERSION)? != VERSION_VALUE {
                dev_err!(pdev, "not the lab's device, or of another version\n");
                return Err(ENODEV);
            }
            let lab = KBox::new(open(regs)?, GFP_KERNEL)?;
            // Before anybody can ask.
            ffi::taint_test();
            dev_warn!(
                pdev,
                "LAB TRANSPORT: /dev/sev-guest asks an EMULATED PSP. Its reports prove NOTHING.\n"
            );
            guest::publish(lab)?;
            Ok(Ok::<_, Error>(Bound))
        })
    }
}

fn open(regs: Regs) -> Result<Pin<KBox<Lab>>> {
    let id = VmpckId::try_from(ffi::vmpck_id()?.unwrap_or(0)).map_err(to_error)?;
    let page = PrivateMapping::new(regs.read_wide(reg::SECRETS)?, PAGE_LEN)?;
    let mut key = page.read(id.key_offset());
    let key = Vmpck::take(&mut key).map_err(|errno| {
        pr_err!("there is no VMPCK{}, or it was destroyed\n", id.index());
        to_error(errno)
    })?;
    let exchanges = Exchanges {
        regs,
        channel: Channel::new(id, Gcm::new(&key)?, SecretsSlot { page, id }),
        shared: SharedPages::new(2)?,
        // Not by way of the stack: it is a page.
        page: KVec::from_elem(0, size_of::<Message>(), GFP_KERNEL)?,
    };
    KBox::pin_init(
        pin_init!(Lab {
            vmpck: id.index().into(),
            exchanges <- FairLock::new(exchanges),
        }),
        GFP_KERNEL,
    )
}
