// SPDX-License-Identifier: GPL-2.0
//! The SEV firmware as a state machine: commands in, statuses out, no I/O of its own.
//!
//! A [`Firmware`] sees the machine through [`GuestMemory`] and its persistent storage through
//! [`Flash`]. What does not survive a power cycle is dropped by [`Firmware::reset`].
//!
//! Glossary: PSTATE, the platform state (UNINIT, INIT, WORKING); TMR, trusted memory region for SEV-ES;
//! NV, the persistent data of the platform, in flash (INIT) or in memory the driver provides (INIT_EX);
//! VEK, a guest's memory encryption key; TEK and TIK, the keys a guest's owner shares with the firmware.

mod activation;
mod asid;
mod attestation;
mod chip;
mod command;
mod copy;
pub mod cores;
mod debug;
mod guest;
mod identity;
pub mod image;
mod launch;
mod ownership;
mod platform;
mod policy;
mod private;
mod protected;
mod receive;
mod ring_buffer;
mod send;
mod start;
mod status;
mod storage;
mod swap;
pub mod transcript;
mod transport;
mod vmsa;

pub use chip::Chip;
pub use command::{command_id, command_name};
pub use policy::Policy;
pub use private::{Encryption, UnknownEncryption};
pub(crate) use ring_buffer::{QueuePages, RingBuffer};
pub use status::{Status, UnknownStatus};

use crate::{
    crypto::Random,
    memory::{DmaError, GuestMemory},
    model::{Model, Version},
};
use asid::Asids;
use command::{Buffer, Command, CommandBuffer};
use cores::{Caches, Cores, Unwatched};
use guest::Guests;
use identity::Identity;
use platform::Tmr;
use protected::Protected;
use rand_core::OsRng;
use std::io;
use storage::Storage;
use transcript::Transcript;
use vmsa::ChecksumPool;

/// Result of a command handler.
type Done = Result<(), Status>;

/// A number as people write it: decimal, or hexadecimal after `0x`.
fn parse_u16(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl From<DmaError> for Status {
    fn from(_: DmaError) -> Self {
        Self::INVALID_ADDRESS
    }
}

/// The flash (SPI ROM) that holds the platform's persistent data.
pub trait Flash: Send {
    /// The stored data, or `None` when the flash is erased.
    ///
    /// # Errors
    ///
    /// When the storage cannot be read.
    fn read(&self) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the stored data; after a failure or a power cut the old data is still there.
    ///
    /// # Errors
    ///
    /// When the storage cannot be written.
    fn write(&mut self, data: &[u8]) -> io::Result<()>;

    /// Erases the flash.
    ///
    /// # Errors
    ///
    /// When the storage cannot be written.
    fn erase(&mut self) -> io::Result<()>;
}

/// Flash that forgets, for tests and for driving the firmware without a state directory.
#[derive(Debug, Default)]
pub struct VecFlash(pub Option<Vec<u8>>);

impl Flash for VecFlash {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.clone())
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.0 = Some(data.to_vec());
        Ok(())
    }

    fn erase(&mut self) -> io::Result<()> {
        self.0 = None;
        Ok(())
    }
}

/// What changes a command's execution from outside; see [`crate::device::fault`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Answer with this status instead of running the command.
    pub status: Option<Status>,
    /// Report this length wherever the command reports one.
    pub length: Option<u32>,
}

/// Is told what a guest was launched from, once that is measured.
pub type OnMeasured = Box<dyn FnMut(&Transcript) + Send>;

/// What exists between INIT and SHUTDOWN. With a guest the platform is in PSTATE.WORKING, otherwise in
/// PSTATE.INIT.
struct Session {
    /// CONFIG of INIT as PLATFORM_STATUS reports it.
    config: u16,
    /// Where the identity is kept.
    storage: Storage,
    identity: Identity,
    /// With SEV-ES only.
    tmr: Option<Tmr>,
    asids: Asids,
    guests: Guests,
    checksums: ChecksumPool,
    /// In ring buffer mode.
    ring_buffer: Option<RingBuffer>,
}

/// The firmware of one chip.
pub struct Firmware {
    model: &'static Model,
    chip: Chip,
    flash: Box<dyn Flash>,
    random: Box<dyn Random>,
    /// The running version: the model's, or that of an image downloaded since the last reset.
    version: Version,
    encryption: Encryption,
    caches: Caches,
    moved: u64,
    /// Who wants transcripts of launches.
    on_measured: Option<OnMeasured>,
    /// `None` in PSTATE.UNINIT.
    session: Option<Session>,
}

impl Firmware {
    /// The firmware of `chip` after power-on.
    #[must_use]
    pub fn new(model: &'static Model, chip: Chip, flash: Box<dyn Flash>) -> Self {
        let random = Box::new(OsRng);
        Self {
            model,
            chip,
            flash,
            random,
            version: model.version,
            encryption: Encryption::default(),
            caches: Caches::new(Box::new(Unwatched)),
            moved: 0,
            on_measured: None,
            session: None,
        }
    }

    /// The same firmware with another source of randomness.
    #[must_use]
    pub fn with_random(self, random: Box<dyn Random>) -> Self {
        Self { random, ..self }
    }

    /// The same firmware with another treatment of private memory.
    #[must_use]
    pub fn with_encryption(self, encryption: Encryption) -> Self {
        Self { encryption, ..self }
    }

    /// The same firmware, in a machine whose cores say when they have executed WBINVD.
    #[must_use]
    pub fn with_cores(self, cores: Box<dyn Cores>) -> Self {
        let caches = Caches::new(cores);
        Self { caches, ..self }
    }

    /// The same firmware, keeping a [`Transcript`] of every launch. `on_measured` is called with it at each
    /// successful LAUNCH_MEASURE. That costs time: what is measured is hashed twice.
    #[must_use]
    pub fn with_transcripts(self, on_measured: OnMeasured) -> Self {
        let on_measured = Some(on_measured);
        Self {
            on_measured,
            ..self
        }
    }

    /// A power cycle: only fuses and flash survive.
    pub fn reset(&mut self) {
        self.session = None;
        self.caches.reset();
        self.version = self.model.version;
    }

    /// The running firmware's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Runs the command `id` whose buffer is at `addr`.
    ///
    /// Never panics and never touches memory but through `memory`, whatever the arguments.
    pub fn execute(
        &mut self,
        id: u16,
        addr: u64,
        memory: &mut dyn GuestMemory,
        over: Override,
    ) -> Status {
        self.moved = 0;
        if let Some(status) = over.status {
            return status;
        }
        let known = command::find(id)
            .filter(|command| (self.version.major, self.version.minor) >= command.since);
        let Some(command) = known else {
            return Status::INVALID_COMMAND;
        };
        let tmr = self.session.as_ref().and_then(|session| session.tmr);
        let mut memory = Protected::new(memory, tmr, self.ring_buffer());
        let done = self.run(command, addr & !self.c_bit(), &mut memory, over.length);
        self.moved = memory.moved();
        match done {
            Ok(()) => Status::SUCCESS,
            Err(status) => status,
        }
    }

    /// Bytes of RAM the last command has read and written, from which follows how long it would take on
    /// hardware.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// The queues commands come from in ring buffer mode.
    pub(crate) fn ring_buffer(&self) -> Option<RingBuffer> {
        self.session.as_ref()?.ring_buffer
    }

    /// Leaves the ring buffer mode.
    pub(crate) fn leave_ring_buffer(&mut self) {
        if let Some(session) = &mut self.session {
            session.ring_buffer = None;
        }
    }

    fn run(
        &mut self,
        command: &Command,
        addr: u64,
        memory: &mut dyn GuestMemory,
        length: Option<u32>,
    ) -> Done {
        if !(command.offered)(self.model) {
            return Err(Status::UNSUPPORTED);
        }
        let mut buffer = CommandBuffer::zeroed(command.len, self.c_bit());
        if matches!(command.buffer, Buffer::In | Buffer::InOut) {
            memory.read(addr, buffer.bytes_mut())?;
        }
        // A command whose answer has no place must not happen: nobody would know of the guest it makes.
        let answers = matches!(command.buffer, Buffer::Out | Buffer::InOut);
        if answers && !memory.is_writable(addr, command.len as u64) {
            return Err(Status::INVALID_ADDRESS);
        }
        let done = (command.handler)(self, &mut buffer, memory);
        if let Some(length) = length {
            command
                .lengths
                .iter()
                .for_each(|&offset| buffer.set_u32(offset, length));
        }
        let write_back = match command.buffer {
            Buffer::None | Buffer::In => false,
            Buffer::Out => done.is_ok(),
            Buffer::InOut => matches!(done, Ok(()) | Err(Status::INVALID_LEN)),
        };
        if write_back {
            let written = memory.write(addr, buffer.bytes());
            // A refused write must not hide why the command itself failed.
            done?;
            written?;
        }
        done
    }

    /// Drivers set it in addresses when the host's memory is encrypted.
    fn c_bit(&self) -> u64 {
        1 << self.model.c_bit
    }

    /// # Errors
    ///
    /// INVALID_PLATFORM_STATE in PSTATE.UNINIT.
    fn session(&self) -> Result<&Session, Status> {
        self.session.as_ref().ok_or(Status::INVALID_PLATFORM_STATE)
    }

    /// As [`Firmware::session`].
    fn session_mut(&mut self) -> Result<&mut Session, Status> {
        self.session.as_mut().ok_or(Status::INVALID_PLATFORM_STATE)
    }

    /// As [`Firmware::session`], but nothing may change under a guest's feet.
    ///
    /// # Errors
    ///
    /// INVALID_PLATFORM_STATE unless in PSTATE.INIT.
    fn session_without_guests(&self) -> Result<&Session, Status> {
        let session = self.session()?;
        match session.guests.count() {
            0 => Ok(session),
            _ => Err(Status::INVALID_PLATFORM_STATE),
        }
    }

    /// # Errors
    ///
    /// INVALID_PLATFORM_STATE unless in PSTATE.UNINIT.
    fn uninitialized(&self) -> Done {
        match self.session {
            None => Ok(()),
            Some(_) => Err(Status::INVALID_PLATFORM_STATE),
        }
    }
}
