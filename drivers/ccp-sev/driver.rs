// SPDX-License-Identifier: GPL-2.0

//! PCI glue: probe, the order in which things come and go, unbind.

use kernel::{
    device::{
        Bound,
        Core, //
    },
    irq, pci,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};
use psp::{
    cmd::platform::FwVersion,
    error::WithHint,
    host::{
        Host,
        Level,
        Patience, //
    },
    platform::PlatformState,
    regs::{
        RegisterMap,
        BAR, //
    },
};

use crate::{
    ffi,
    fw_update,
    host::Registers,
    psp_dev::Psp,
    registry,
    regs::{
        Bar,
        Regs, //
    },
    report, //
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

/// What `/proc/interrupts` says, as the C driver numbers PSPs; nobody has seen more.
const IRQ_NAMES: [&CStr; 4] = [c"psp-1", c"psp-2", c"psp-3", c"psp-4"];

/// The interrupt handler's view of a PSP.
#[pin_data]
pub(crate) struct Handler {
    psp: Arc<Psp>,
}

impl irq::Handler for Handler {
    fn handle(&self) -> irq::IrqReturn {
        if self.psp.shared.interrupt() {
            irq::IrqReturn::Handled
        } else {
            irq::IrqReturn::None
        }
    }
}

/// A bound PSP. The fields go in this order: first nobody can open the report, then no interrupt
/// comes, then the vectors are free.
#[pin_data]
pub(crate) struct Served<'bound> {
    report: Option<Pin<KBox<report::Report>>>,
    #[pin]
    irq: irq::Registration<'bound, Handler>,
    vectors: pci::IrqVectorRegistration<'bound>,
    psp: Arc<Psp>,
}

/// What a bound function holds: a PSP, or nothing, because there is no SEV to serve. Being bound to
/// nothing is no failure: the function is ours.
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
        registry::remove(&served.psp);
        if served.psp.shared.regs.enable_interrupts(false).is_err() {
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
    if ffi::is_kdump() {
        // Its guests, its TMR: all of that is still the crashed kernel's.
        dev_info!(
            pdev,
            "SEV: this kernel dumps another, the firmware is left alone\n"
        );
        return Ok(None);
    }
    if capabilities.tsme() == Some(true) {
        dev_notice!(pdev, "psp: TSME enabled\n");
    }

    // Quiet until there is a handler.
    regs.enable_interrupts(false).map_err(|_| ENODEV)?;
    regs.clear_interrupts().map_err(|_| ENODEV)?;

    let psp = Psp::new(ARef::from(pdev.as_ref()), regs, capabilities)?;
    let served = KBox::pin_init(Served::new(pdev, psp.clone()), GFP_KERNEL)?;
    dev_notice!(pdev, "sev enabled\n");
    let regs = &psp.shared.regs;
    regs.enable_interrupts(true).map_err(|_| ENODEV)?;
    dev_notice!(pdev, "psp enabled\n");

    let bootloader = matches!(regs.bootloader(), Ok(Some(_)));
    ffi::add_attributes(pdev.as_ref(), capabilities.tells_security(), bootloader)?;
    registry::add(&psp).inspect_err(|_| {
        // Nobody handles them any more.
        let _ = regs.enable_interrupts(false);
    })?;
    Ok(Some(served))
}

/// Makes the acquaintance of a PSP that is taken into use. One that does not answer is used all the
/// same: whoever asks `/dev/sev` learns why.
pub(crate) fn bring_up(psp: &Psp) {
    let dev = &*psp.shared.dev;
    // Early, while memory is in large pieces.
    let Ok(mut core) = psp.ready(Patience::Endless) else {
        return;
    };
    let status = match core.status() {
        Ok(status) => status,
        Err(error) => {
            core.host().log(
                Level::Error,
                core::format_args!("SEV: failed to get status. Error: {}", WithHint(error)),
            );
            return;
        }
    };
    let FwVersion {
        major,
        minor,
        build,
    } = status.version;
    dev_info!(dev, "SEV firmware {}.{} build {}\n", major, minor, build);
    if status.state != PlatformState::Uninit {
        // Whatever the kernel before this one gave the firmware is ordinary memory now.
        dev_warn!(
            dev,
            "SEV: left initialised by a kernel before this one, shutting it down\n"
        );
        if core.shutdown().is_err() {
            return;
        }
    }
    drop(core);
    // No file is the usual case, and a failure is logged.
    let _ = fw_update::update(psp);
}

impl<'bound> Served<'bound> {
    fn new(pdev: &'bound pci::Device<Bound>, psp: Arc<Psp>) -> impl PinInit<Self, Error> + 'bound {
        try_pin_init!(Served {
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
                        IRQ_NAMES[registry::count().min(IRQ_NAMES.len() - 1)],
                        try_pin_init!(Handler { psp }),
                    )
                }
            },
            // Nobody needs it so much that the PSP should not be served without it.
            report: report::file(psp.clone()).ok(),
            psp,
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
