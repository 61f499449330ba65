// SPDX-License-Identifier: GPL-2.0

//! PCI glue: probe, the order in which things come and go, unbind.

use kernel::{
    device::{
        Bound,
        Core, //
    },
    irq,
    miscdevice::MiscDeviceRegistration,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};
use psp::regs::{
    RegisterMap,
    BAR, //
};

use crate::{
    dev_sev,
    dev_sev::DevSev,
    ffi, fw_update,
    psp_dev::{
        Active,
        Psp,
        ACTIVE, //
    },
    regs::{
        Bar,
        Regs, //
    },
};

pub(crate) struct SevDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <SevDriver as pci::Driver>::IdInfo,
    [
        (
            pci::DeviceId::from_id(pci::Vendor::AMD, 0x1456),
            RegisterMap::V1
        ),
        (
            pci::DeviceId::from_id(pci::Vendor::AMD, 0x1486),
            RegisterMap::V2
        ),
        (
            pci::DeviceId::from_id(pci::Vendor::AMD, 0x14ca),
            RegisterMap::V4
        ),
        (
            pci::DeviceId::from_id(pci::Vendor::AMD, 0x156e),
            RegisterMap::V6
        ),
        (
            pci::DeviceId::from_id(pci::Vendor::AMD, 0x17d8),
            RegisterMap::V6
        ),
    ]
);

/// The interrupt handler's view of a PSP.
#[pin_data]
pub(crate) struct Handler {
    psp: Arc<Psp>,
}

impl irq::Handler for Handler {
    fn handle(&self) -> irq::IrqReturn {
        if self.psp.bell.interrupt() {
            irq::IrqReturn::Handled
        } else {
            irq::IrqReturn::None
        }
    }
}

/// A bound PSP. The fields go in this order: first nobody can open the node, then no interrupt
/// comes, then the vectors are free.
#[pin_data]
pub(crate) struct Served<'bound> {
    #[pin]
    node: MiscDeviceRegistration<DevSev>,
    #[pin]
    irq: irq::Registration<'bound, Handler>,
    vectors: pci::IrqVectorRegistration<'bound>,
    psp: Arc<Psp>,
}

/// What a bound function holds: a PSP that is served, or nothing, because there is no SEV to serve
/// or another PSP serves it already. Being bound to nothing is no failure: the function is ours.
#[pin_data]
pub(crate) struct Binding<'bound> {
    served: Option<Pin<KBox<Served<'bound>>>>,
}

impl pci::Driver for SevDriver {
    type IdInfo = RegisterMap;
    type Data<'bound> = Binding<'bound>;
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        map: Option<&'bound RegisterMap>,
    ) -> impl PinInit<Binding<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let map = known_map(pdev.device_id(), map)?;
            pdev.enable_device_mem()?;
            pdev.set_master();
            let bar: Bar<'_> = pdev.iomap_region_sized(BAR, c"ccp")?;
            let regs = Regs::new(bar.into_devres()?, map);
            Ok(try_pin_init!(Binding {
                served: serve(pdev, regs)?,
            }))
        })
    }

    fn unbind<'bound>(pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        let Some(served) = &this.served else {
            return;
        };
        // From here on every call finds no PSP; those that found one before finish first.
        *ACTIVE.lock() = None;
        served.psp.lock().retire();
        if served.psp.bell.regs.enable_interrupts(false).is_err() {
            dev_warn!(pdev, "psp: gone before it was unbound\n");
        }
    }
}

/// The static register map of a device: a reference into the id table lives only as long as the
/// bound device, and files outlive that. An id that was added by hand has no map.
fn known_map(id: u16, listed: Option<&RegisterMap>) -> Result<&'static RegisterMap> {
    let listed = listed.ok_or(ENODEV)?;
    psp::regs::DEVICES
        .iter()
        .find(|(known, map)| *known == id && map == listed)
        .or_else(|| psp::regs::DEVICES.iter().find(|(_, map)| map == listed))
        .map(|(_, map)| map)
        .ok_or(ENODEV)
}

/// Brings a PSP into service, if it is one that SEV can use.
fn serve<'bound>(
    pdev: &'bound pci::Device<Core<'_>>,
    regs: Regs,
) -> Result<Option<Pin<KBox<Served<'bound>>>>> {
    let Some(capabilities) = regs.capabilities().map_err(|_| ENODEV)? else {
        dev_notice!(
            pdev,
            "psp: unable to access the device: you might be running a broken BIOS.\n"
        );
        return Ok(None);
    };
    if !capabilities.sev() {
        dev_info!(pdev, "psp: does not support SEV\n");
        return Ok(None);
    }
    if !ffi::cpu_has_sev() {
        dev_info!(pdev, "SEV: memory encryption not enabled by BIOS\n");
        return Ok(None);
    }
    if ACTIVE.lock().is_some() {
        dev_info!(pdev, "psp: another PSP serves SEV already\n");
        return Ok(None);
    }
    if capabilities.tsme() == Some(true) {
        dev_notice!(pdev, "psp: TSME enabled\n");
    }

    // Quiet until there is a handler.
    regs.enable_interrupts(false).map_err(|_| ENODEV)?;
    regs.clear_interrupts().map_err(|_| ENODEV)?;

    let psp = Psp::new(ARef::from(pdev.as_ref()), regs)?;
    let served = KBox::pin_init(Served::new(pdev, psp.clone()), GFP_KERNEL)?;
    dev_notice!(pdev, "sev enabled\n");
    psp.bell.regs.enable_interrupts(true).map_err(|_| ENODEV)?;
    dev_notice!(pdev, "psp enabled\n");

    // A PSP that does not answer is served all the same: whoever asks /dev/sev learns why.
    let status = psp.lock().status();
    match status {
        Ok(status) => {
            dev_info!(
                pdev,
                "SEV firmware {}.{} build {}\n",
                status.version.major,
                status.version.minor,
                status.version.build
            );
            fw_update::update(pdev.as_ref(), &psp, status);
        }
        Err(error) => dev_err!(pdev, "SEV: failed to get status. Error: {}\n", error),
    }
    // SAFETY: The registration is alive, and only an address is read.
    let fops = unsafe { (*served.node.as_raw()).fops }.addr();
    *ACTIVE.lock() = Some(Active { psp, fops });
    Ok(Some(served))
}

impl<'bound> Served<'bound> {
    fn new(pdev: &'bound pci::Device<Bound>, psp: Arc<Psp>) -> impl PinInit<Self, Error> + 'bound {
        try_pin_init!(Served {
            psp,
            vectors: alloc_vectors(pdev)?,
            irq <- {
                // Vector 0 is the PSP's; a second one would be the crypto engine's.
                //
                // SAFETY: `vectors` is initialised before this expression, does not move, and goes
                // after `irq`, because fields are dropped in the order of their declaration.
                let vectors: &'bound pci::IrqVectorRegistration<'bound> =
                    unsafe { &*core::ptr::from_ref(&*vectors) };
                let psp = psp.clone();
                // SAFETY: `Served` is pinned in a box that the bound device owns and drops.
                unsafe {
                    irq::Registration::new(
                        vectors.index(0)?.into(),
                        irq::Flags::TRIGGER_NONE,
                        c"psp-1",
                        try_pin_init!(Handler { psp }),
                    )
                }
            },
            node <- MiscDeviceRegistration::register(dev_sev::OPTIONS),
        })
    }
}

/// MSI-X if the function has it, else MSI; never INTx, as the C driver.
fn alloc_vectors(pdev: &pci::Device<Bound>) -> Result<pci::IrqVectorRegistration<'_>> {
    let msix = pci::IrqTypes::default().with(pci::IrqType::MsiX);
    let msi = pci::IrqTypes::default().with(pci::IrqType::Msi);
    pdev.alloc_irq_vectors(1, 2, msix)
        .or_else(|_| pdev.alloc_irq_vectors(1, 1, msi))
        .inspect_err(|_| dev_err!(pdev, "psp: unable to allocate an IRQ\n"))
}
