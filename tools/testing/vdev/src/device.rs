// SPDX-License-Identifier: GPL-2.0
//! A virtio device: the registers, the queues, one of the two kinds, and the lies.

use crate::{
    acts::Acts,
    blk::Blk,
    function::{self, COMMON, ISR, KIND, NOTIFY, NOTIFY_STEP},
    lie::{Lie, Plan},
    net::{Net, Next},
    ring::{Chain, Ring, RingError},
    spec::{self, Spec},
    transport::{bit, Change, Transport, NO_VECTOR},
    watch::{Event, Watch, Watched},
};
use tracing::warn;
use vfio_device::{config::ConfigSpace, memory::GuestMemory};
use virtio_bindings::{
    virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1},
    virtio_ids::{VIRTIO_ID_BLOCK, VIRTIO_ID_NET},
    virtio_net::{VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF},
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};

/// PCI classes: SCSI storage, as other virtio disks, and Ethernet.
const CLASS_DISK: u16 = 0x0100;
const CLASS_CARD: u16 = 0x0200;
/// Of a random device one answer of so many is a lie.
const RANDOM_EVERY: u64 = 8;
/// Interrupts for nothing at a time.
const STRAY: usize = 64;

/// Vectors to raise, in this order.
pub type Interrupts = Vec<u16>;

enum Kind {
    Blk(Blk),
    Net(Net),
}

/// A device.
pub struct Device {
    spec: Spec,
    config: ConfigSpace,
    transport: Transport,
    rings: Vec<Option<Ring>>,
    kind: Kind,
    plan: Plan,
    acts: Acts,
    /// The next reset is to be ignored.
    ignore_reset: bool,
    /// What memory it was given.
    pub watch: Watch,
}

/// A device's configuration space, registers and queues after power-on.
fn fresh(spec: &Spec, kind: &Kind) -> (ConfigSpace, Transport, Vec<Option<Ring>>) {
    let (device_type, class, queues, own) = match kind {
        Kind::Blk(blk) => (VIRTIO_ID_BLOCK, CLASS_DISK, spec.queues, blk.features()),
        Kind::Net(net) => (VIRTIO_ID_NET, CLASS_CARD, net.queues(), net.features()),
    };
    let mut features = own | bit(VIRTIO_F_VERSION_1) | bit(VIRTIO_F_RING_RESET);
    for (offered, feature) in [
        (spec.access_platform, VIRTIO_F_ACCESS_PLATFORM),
        (spec.indirect, VIRTIO_RING_F_INDIRECT_DESC),
        (spec.event_idx, VIRTIO_RING_F_EVENT_IDX),
    ] {
        features |= if offered { bit(feature) } else { 0 };
    }
    // CAST: types are small; one vector for each queue and one for the configuration.
    let config = function::config(device_type as u16, class, queues + 1);
    let transport = Transport::new(features, queues, spec.size);
    let rings = (0..queues).map(|_| None).collect();
    (config, transport, rings)
}

impl Device {
    /// A device after power-on.
    #[must_use]
    pub fn new(spec: Spec, seed: u64, watch: Watch) -> Self {
        let kind = match &spec.kind {
            spec::Kind::Blk {
                len,
                contents,
                serial,
            } => Kind::Blk(Blk::new(*len, contents, spec.queues, spec.size, serial)),
            spec::Kind::Net { mrg_rxbuf } => Kind::Net(Net::new(spec.queues, *mrg_rxbuf)),
        };
        let (config, transport, rings) = fresh(&spec, &kind);
        let random = spec.mode == crate::lie::Mode::Random;
        let every = spec.every.unwrap_or(if random { RANDOM_EVERY } else { 1 });
        Self {
            plan: Plan::new(spec.mode, spec.after, every, seed),
            spec,
            config,
            transport,
            rings,
            kind,
            acts: Acts::default(),
            ignore_reset: false,
            watch,
        }
    }

    /// How many interrupt vectors there are.
    #[must_use]
    pub fn vectors(&self) -> u32 {
        // CAST: a few.
        self.rings.len() as u32 + 1
    }

    /// A power cycle: all but what a disk keeps, the plan of lies and the account of memory.
    pub fn power_cycle(&mut self) {
        (self.config, self.transport, self.rings) = fresh(&self.spec, &self.kind);
        self.acts = Acts::default();
        if let Kind::Net(net) = &mut self.kind {
            net.reset();
        }
    }

    /// Reads configuration space.
    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    /// Writes configuration space.
    pub fn config_write(&mut self, offset: u64, data: &[u8]) {
        self.config.write(offset, data);
    }

    /// Reads BAR 0: any length at any offset. What is no register reads as zero.
    pub fn bar0_read(&self, offset: u64, data: &mut [u8]) {
        match offset {
            COMMON..ISR => self.transport.read(offset, data),
            KIND..NOTIFY => self.read_kind(offset - KIND, data),
            // Interrupts are MSI-X, which have no status.
            _ => data.fill(0),
        }
    }

    fn read_kind(&self, offset: u64, data: &mut [u8]) {
        let config = match &self.kind {
            Kind::Blk(blk) => blk.config().to_vec(),
            Kind::Net(net) => net.config().to_vec(),
        };
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| config.get(start..));
        let mut bytes = bytes.unwrap_or_default().iter();
        data.fill_with(|| bytes.next().copied().unwrap_or(0));
    }

    /// Writes BAR 0: what is no register is ignored.
    pub fn bar0_write(
        &mut self,
        offset: u64,
        data: &[u8],
        memory: &mut dyn GuestMemory,
    ) -> Interrupts {
        let mut interrupts = Vec::new();
        match offset {
            COMMON..ISR => {
                let change = self.transport.write(offset, data);
                self.change(change, memory);
            }
            NOTIFY.. => {
                let queue = u16::try_from((offset - NOTIFY) / NOTIFY_STEP);
                if let Ok(queue) = queue {
                    self.notified(queue, memory, &mut interrupts);
                }
            }
            _ => {}
        }
        interrupts
    }

    /// Whether there is something to do without being asked to.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.acts.is_busy()
    }

    /// Does what is to be done without being asked to.
    pub fn tick(&mut self, memory: &mut dyn GuestMemory) {
        let mut memory = Watched::new(memory, &mut self.watch);
        self.acts.tick(&mut memory, self.plan.rng());
    }

    fn change(&mut self, change: Change, memory: &mut dyn GuestMemory) {
        match change {
            Change::Nothing => {}
            Change::Status(value) => self.watch.event(&Event::Status { value }),
            Change::Reset => {
                self.watch.event(&Event::Status { value: 0 });
                self.watch.restart();
                let rings = self.rings.iter_mut().filter_map(Option::take);
                if self.ignore_reset || self.plan.ignores_reset() {
                    self.acts.keep(rings);
                } else {
                    rings.for_each(drop);
                    self.acts = Acts::default();
                }
                self.ignore_reset = false;
                if let Kind::Net(net) = &mut self.kind {
                    net.reset();
                }
            }
            Change::QueueReset(queue) => {
                let ring = self.rings.get_mut(usize::from(queue));
                let ring = ring.and_then(Option::take);
                if self.ignore_reset || self.plan.ignores_reset() {
                    self.acts.keep(ring.into_iter());
                }
                if let Kind::Net(net) = &mut self.kind {
                    net.reset_queue(queue);
                }
            }
            Change::Enabled(queue) => {
                let place = self.transport.place(queue);
                let slot = self.rings.get_mut(usize::from(queue));
                if let (Some(place), Some(slot)) = (place, slot) {
                    let ring = Ring::new(place);
                    ring.note(&mut Watched::new(memory, &mut self.watch));
                    *slot = Some(ring);
                }
            }
        }
    }

    fn notified(&mut self, queue: u16, memory: &mut dyn GuestMemory, interrupts: &mut Interrupts) {
        if !self.transport.is_live() {
            return;
        }
        let mut session = Session {
            transport: &mut self.transport,
            rings: &mut self.rings,
            plan: &mut self.plan,
            acts: &mut self.acts,
            ignore_reset: &mut self.ignore_reset,
            memory: Watched::new(memory, &mut self.watch),
            interrupts,
        };
        match &mut self.kind {
            Kind::Blk(blk) => session.run_disk(blk, queue),
            Kind::Net(net) => {
                let multiqueue = session.transport.has(VIRTIO_NET_F_MQ);
                match net.pair(queue, multiqueue) {
                    Some(pair) => session.run_pair(net, pair),
                    None => session.run_commands(net, queue),
                }
            }
        }
    }
}

/// The device while it works on a notification.
struct Session<'a> {
    transport: &'a mut Transport,
    rings: &'a mut [Option<Ring>],
    plan: &'a mut Plan,
    acts: &'a mut Acts,
    ignore_reset: &'a mut bool,
    memory: Watched<'a>,
    interrupts: &'a mut Interrupts,
}

impl Session<'_> {
    /// The next request of a queue.
    fn pop(&mut self, queue: u16) -> Option<Chain> {
        let ring = self.rings.get_mut(usize::from(queue))?.as_mut()?;
        loop {
            match ring.pop(&mut self.memory) {
                Ok(Some(chain)) => return Some(chain),
                Ok(None) if ring.arm(&mut self.memory) => {}
                // A queue that is not in memory has nothing in it.
                Ok(None) | Err(RingError::Memory(_)) => return None,
                Err(error) => warn!("queue {queue}: {error}"),
            }
        }
    }

    /// Decides about an answer of a queue.
    fn draw(&mut self, queue: u16) -> Option<Lie> {
        let (answer, lie) = self.plan.draw();
        if let Some(lie) = lie {
            let name = lie.name();
            self.memory.event(&Event::Lie {
                answer,
                queue,
                name,
            });
        }
        lie
    }

    /// Gives a request back with all that goes with the lie.
    fn answer(&mut self, queue: u16, chain: &Chain, len: u32, lie: Option<Lie>) {
        let rng = self.plan.rng();
        self.acts.after(lie, &mut self.memory, chain, rng);
        let ring = self.rings.get_mut(usize::from(queue));
        if let Some(ring) = ring.and_then(Option::as_mut) {
            if let Err(error) = Acts::give_back(lie, &mut self.memory, ring, chain, len, rng) {
                warn!("queue {queue}: {error}");
            }
        }
        match lie {
            Some(Lie::Interrupts) => {
                for vector in [self.transport.vector(queue), self.transport.config_vector()] {
                    self.raise_many(vector, STRAY / 2);
                }
            }
            Some(Lie::Reset) => *self.ignore_reset = true,
            _ => {}
        }
    }

    fn raise_many(&mut self, vector: u16, count: usize) {
        if vector != NO_VECTOR {
            self.interrupts.extend(std::iter::repeat_n(vector, count));
        }
    }

    /// Interrupts the driver if it wants to know of a queue.
    fn signal(&mut self, queue: u16) {
        let ring = self.rings.get_mut(usize::from(queue));
        if let Some(ring) = ring.and_then(Option::as_mut) {
            if ring.wants_interrupt(&mut self.memory) {
                self.raise_many(self.transport.vector(queue), 1);
            }
        }
    }

    /// Tells the driver of a new configuration.
    fn config_changed(&mut self) {
        self.transport.config_changed();
        self.raise_many(self.transport.config_vector(), 1);
    }

    fn run_disk(&mut self, blk: &mut Blk, queue: u16) {
        while let Some(chain) = self.pop(queue) {
            let lie = self.draw(queue);
            Acts::before(lie, &mut self.memory, &chain, self.plan.rng());
            let len = blk.serve(&mut self.memory, &chain);
            if lie == Some(Lie::Config) {
                blk.capacity = match self.plan.rng().u8(0..4) {
                    0 => 0,
                    1 => u64::MAX,
                    _ => self.plan.rng().u64(..1 << 20),
                };
                self.config_changed();
            }
            self.answer(queue, &chain, len, lie);
        }
        self.signal(queue);
    }

    fn run_pair(&mut self, net: &mut Net, pair: u16) {
        let (receive, send) = (2 * pair, 2 * pair + 1);
        let mergeable = self.transport.has(VIRTIO_NET_F_MRG_RXBUF);
        // How the frame that is under way will be received.
        let mut lie = None;
        loop {
            let count = (lie == Some(Lie::NumBuffers)).then_some(u16::MAX);
            match net.next(&mut self.memory, pair, mergeable, count) {
                Next::Frame => {
                    let Some(chain) = self.pop(send) else { break };
                    let sent = self.draw(send);
                    Acts::before(sent, &mut self.memory, &chain, self.plan.rng());
                    net.send(&mut self.memory, pair, &chain);
                    self.answer(send, &chain, 0, sent);
                    lie = self.draw(receive);
                }
                Next::Buffer => {
                    let Some(chain) = self.pop(receive) else {
                        break;
                    };
                    Acts::before(lie, &mut self.memory, &chain, self.plan.rng());
                    net.hold(pair, chain);
                }
                Next::Filled(chains) => {
                    if lie == Some(Lie::Config) {
                        net.link ^= 1;
                        self.config_changed();
                    }
                    for (chain, len) in &chains {
                        self.answer(receive, chain, *len, lie);
                    }
                }
            }
        }
        self.signal(send);
        self.signal(receive);
    }

    fn run_commands(&mut self, net: &mut Net, queue: u16) {
        while let Some(chain) = self.pop(queue) {
            let len = net.command(&mut self.memory, &chain);
            self.answer(queue, &chain, len, None);
        }
        self.signal(queue);
    }
}
