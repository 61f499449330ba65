// SPDX-License-Identifier: GPL-2.0
//! An emulated AMD Secure Processor (PSP) running the SEV firmware.
//!
//! Layers, each knowing only the ones above it in this list:
//!
//! - [`model`]: what differs between processor generations.
//! - [`crypto`], [`cert`], [`vendor`]: keys, certificates, and the emulated AMD that certifies chips.
//! - [`memory`]: the guest RAM the firmware reads and writes, as a trait.
//! - [`firmware`]: the SEV firmware as a state machine. A command goes in, a status comes out.
//! - [`device`]: the PCI function around it: registers, mailbox, interrupts, faults. No clock and no I/O.
//! - [`guest_requests`]: the same for an SNP guest: a PCI function, the hypervisor behind it, and the firmware that
//!   answers with reports and keys.
//! - [`state_dir`]: the directory that holds what a real chip keeps in fuses and flash.
//! - [`transcripts`]: the directory that tells what guests were launched from.
//! - [`vfio`]: serves one of the devices to QEMU over a vfio-user socket.
//!
//! Everything here is written from the specification and shares no definition with the driver's crate
//! `psp`: command layouts, status codes and certificate formats are stated twice and compared by tests,
//! so that a mistake on either side shows.
//!
//! A driver's test, without QEMU:
//!
//! ```
//! use psp_emu::{
//!     device::{fault::Faults, Device},
//!     firmware::{Chip, Firmware, VecFlash},
//!     memory::{GuestMemory, VecMemory},
//!     model::MILAN,
//! };
//! use std::time::Duration;
//!
//! let firmware = Firmware::new(&MILAN, Chip::from_secret([1; 32]), Box::new(VecFlash::default()));
//! let mut device = Device::new(&MILAN, firmware, Faults::default());
//! let mut ram = VecMemory::new(0, 0x10000);
//! let mut write = |offset, value: u32| {
//!     device.bar2_write(offset, &value.to_le_bytes(), &mut ram, Duration::ZERO)
//! };
//!
//! // PLATFORM_STATUS with its buffer at 0x1000; no interrupt.
//! write(MILAN.registers.addr_lo, 0x1000);
//! write(MILAN.registers.addr_hi, 0);
//! let outcome = write(MILAN.registers.cmdresp, 0x004 << 16);
//!
//! assert!(!outcome.interrupt);
//! let mut cmdresp = [0; 4];
//! device.bar2_read(MILAN.registers.cmdresp, &mut cmdresp);
//! assert_eq!(u32::from_le_bytes(cmdresp), 0x8000_0000);
//! let mut api = [0; 2];
//! ram.read(0x1000, &mut api).unwrap();
//! assert_eq!(api, [1, 55]);
//! ```
//!
//! A guest, launched and given a secret by its owner:
//!
//! ```
//! use psp_emu::{
//!     cert::{sev::SevCert, Algo, Usage},
//!     crypto::{ecc::EcKey, session::Session, transport::Context},
//!     firmware::{command_id, Chip, Firmware, Status, VecFlash},
//!     memory::{GuestMemory, VecMemory},
//!     model::MILAN,
//! };
//! use rand_core::OsRng;
//!
//! let chip = Chip::from_secret([1; 32]);
//! let mut firmware = Firmware::new(&MILAN, chip, Box::new(VecFlash::default()));
//! let mut ram = VecMemory::new(0, 0x10_0000);
//! // Runs a command whose buffer is these numbers, and returns the buffer.
//! let mut run = |ram: &mut VecMemory, name: &str, fields: &[(u64, usize)]| {
//!     let bytes = fields.iter().flat_map(|(value, len)| value.to_le_bytes()[..*len].to_vec());
//!     let mut buffer: Vec<u8> = bytes.collect();
//!     ram.write(0x1000, &buffer).unwrap();
//!     let id = command_id(name).unwrap();
//!     assert_eq!(firmware.execute(id, 0x1000, ram, Default::default()), Status::SUCCESS);
//!     ram.read(0x1000, &mut buffer).unwrap();
//!     buffer
//! };
//!
//! // The host: INIT, DF_FLUSH, and the platform's certificates.
//! run(&mut ram, "INIT", &[(0, 8), (0, 8), (0, 4)]);
//! run(&mut ram, "DF_FLUSH", &[]);
//! run(&mut ram, "PDH_CERT_EXPORT", &[(0x2000, 8), (2084, 8), (0x3000, 8), (3 * 2084, 4)]);
//! let mut pdh = [0; 2084];
//! ram.read(0x2000, &mut pdh).unwrap();
//!
//! // The owner, who would check those certificates first: a session for a guest of policy NODBG.
//! let policy = 1;
//! let key = EcKey::generate(&mut OsRng);
//! let pdh = SevCert::from(pdh).dh_point().unwrap();
//! let (session, keys) = Session::create(&key, &pdh, policy, &mut OsRng).unwrap();
//! let cert = SevCert::new(MILAN.version, Usage::Pdh, Algo::ECDH_SHA256, &key.public());
//!
//! // The host: the guest is one page.
//! ram.write(0x4000, cert.as_bytes()).unwrap();
//! ram.write(0x5000, &session.to_bytes()).unwrap();
//! let start = [(0, 4), (policy.into(), 4), (0x4000, 8), (2084, 8), (0x5000, 8), (128, 4)];
//! let guest: u64 = run(&mut ram, "LAUNCH_START", &start)[0].into();
//! run(&mut ram, "ACTIVATE", &[(guest, 4), (100, 4)]);
//! let image = [7; 0x1000];
//! ram.write(0x8000, &image).unwrap();
//! run(&mut ram, "LAUNCH_UPDATE_DATA", &[(guest, 8), (0x8000, 8), (0x1000, 4)]);
//! run(&mut ram, "LAUNCH_MEASURE", &[(guest, 8), (0x6000, 8), (48, 4)]);
//! let (mut measurement, mut nonce) = ([0; 32], [0; 16]);
//! ram.read(0x6000, &mut measurement).unwrap();
//! ram.read(0x6020, &mut nonce).unwrap();
//!
//! // The owner: that is the image indeed, so here is the key of the disk.
//! use sha2::{Digest, Sha256};
//! let digest = Sha256::digest(image).into();
//! assert_eq!(measurement, keys.measure(MILAN.version, policy, &digest, &nonce));
//! let mut secret = *b"the disk's key, ";
//! let context = Context::Secret { measurement: &measurement };
//! let header = keys.seal(context, &mut secret, &mut OsRng);
//!
//! // The host brings it in, and sees nothing of it.
//! ram.write(0x6000, &header.to_bytes()).unwrap();
//! ram.write(0x7000, &secret).unwrap();
//! let packet = [(guest, 8), (0x6000, 8), (52, 8), (0x8010, 8), (16, 8), (0x7000, 8), (16, 4)];
//! run(&mut ram, "LAUNCH_SECRET", &packet);
//! run(&mut ram, "LAUNCH_FINISH", &[(guest, 4)]);
//! let mut page = [0; 0x1000];
//! ram.read(0x8000, &mut page).unwrap();
//! assert_ne!(page[..16], image[..16]);
//! assert_ne!(page[16..32], *b"the disk's key, ");
//! ```
//!
//! Specification: AMD publication 55766, "Secure Encrypted Virtualization API", revision 3.24 (`SEV-API`).
//! Where it is silent, the behaviour is that of the firmware sources AMD published for Genoa.
#![forbid(unsafe_code)]

pub use vfio_device::{memory, socket};

pub mod cert;
pub mod crypto;
pub mod device;
pub mod firmware;
pub mod guest_requests;
pub mod model;
pub mod state_dir;
pub mod trace;
pub mod transcripts;
pub mod vendor;
pub mod vfio;
