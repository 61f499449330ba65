// SPDX-License-Identifier: GPL-2.0
//! QEMU TCG plugin that gives the guest a processor with SEV, as far as `CPUID` and `RDMSR` tell: enough for an
//! unmodified kernel to load its SEV host drivers, or to believe that it is a SEV guest.
//!
//! `-plugin libsev_cpu.so,role=host,model=milan,wbinvd=FILE`, `role=guest[,status=N]` or `role=plain`. TCG has neither
//! instruction answer for SEV, so each of them is recognised by its bytes when a block is translated; before it is
//! executed the answer goes into the registers and execution continues behind it. Both instructions are two bytes long.
//! WBINVD is recognised in the same way, and counted in FILE when there is one. With `instructions=count`, in any role,
//! the instructions that the guest's kernel executes are counted too, and programs can ask for their number.
//!
//! With `orders=FD,shared=FILE,private=FILE` a guest's private memory, until then the shared FILE by a second name, is
//! sealed when the socket FD says so.
//!
//! `arguments` reads what is asked for, `answers` holds what is answered, `instructions` and `wbinvd` count, `seal` seals,
//! with `memory` and `filling`; `qemu` speaks to QEMU.

mod answers;
mod arguments;
mod filling;
mod instructions;
mod memory;
mod qemu;
mod seal;
mod wbinvd;

use answers::Role;
use arguments::Arguments;
use core::ffi::{c_char, c_int, c_uint, c_void, CStr};
use qemu::Reg;
use seal::Seal;
use std::{
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Mutex, OnceLock},
};
use wbinvd::Counters;

/// Read by QEMU before anything else: it refuses a plugin whose version it does not serve, and says so.
#[no_mangle]
pub static qemu_plugin_version: c_int = qemu::API_VERSION;

/// The length of `CPUID` and of `RDMSR` in bytes.
const LENGTH: u64 = 2;

/// Bits of a selector in CS that are the privilege level.
const CPL: u32 = 3;

static ROLE: OnceLock<Role> = OnceLock::new();
static COUNTERS: OnceLock<Counters> = OnceLock::new();
/// What each CPU has executed of the kernel; empty when nobody asked for it.
static INSTRUCTIONS: OnceLock<qemu::Counter> = OnceLock::new();

/// What is to be sealed, until the thread for it has been started.
static SEAL: Mutex<Option<Seal>> = Mutex::new(None);

/// The instructions that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Cpuid,
    Rdmsr,
    /// WBINVD. Not WBNOINVD, which leaves what it writes back in the caches: hardware does not take it for one.
    Wbinvd,
}

impl Watched {
    /// The watched instruction that begins with `bytes`, if it is one.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x0f, 0xa2, ..] => Some(Self::Cpuid),
            [0x0f, 0x32, ..] => Some(Self::Rdmsr),
            [0x0f, 0x09, ..] => Some(Self::Wbinvd),
            _ => None,
        }
    }
}

/// Called by QEMU when it loads the plugin; anything but 0 ends QEMU.
///
/// # Safety
///
/// QEMU's promise: `info` is valid, `argv` has `argc` strings.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: qemu::PluginId,
    info: *const qemu::Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU's promise, passed on.
    if let Some(version) = unsafe { qemu::foreign_version(info) } {
        eprintln!(
            "sev-cpu: this QEMU has plugin interface {version}; the plugin is written for {}",
            qemu::API_VERSION
        );
        return 1;
    }
    let arguments = (0..usize::try_from(argc).unwrap_or(0)).map(|index| {
        // SAFETY: QEMU's promise; `index` is below `argc`.
        unsafe { CStr::from_ptr(*argv.add(index)) }
            .to_string_lossy()
            .into_owned()
    });
    // SAFETY: QEMU's promise, passed on; the version is ours.
    let cpus = unsafe { qemu::max_vcpus(info) };
    match arguments::parse(arguments).and_then(|arguments| prepare(arguments, cpus)) {
        Ok(count_instructions) => {
            if count_instructions {
                INSTRUCTIONS.get_or_init(qemu::Counter::new);
            }
            qemu::register(id, on_vcpu, on_translation);
            0
        }
        Err(message) => {
            eprintln!("sev-cpu: {message}");
            1
        }
    }
}

/// Puts in place what the callbacks use, as far as that needs no QEMU; whether instructions are to be counted.
fn prepare(arguments: Arguments, cpus: usize) -> Result<bool, String> {
    ROLE.get_or_init(|| arguments.role);
    if let Some(path) = arguments.wbinvd {
        let counters = Counters::create(&path, cpus)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        COUNTERS.get_or_init(|| counters);
    }
    if let Some(sealed) = arguments.sealed {
        // SAFETY: by the meaning of the argument the descriptor is there for this plugin, and for nobody else.
        let orders = unsafe { OwnedFd::from_raw_fd(sealed.orders) };
        // PANIC: nobody can have panicked with the lock held; it would have been the end of QEMU.
        *SEAL.lock().unwrap() = Some(Seal {
            orders: UnixStream::from(orders),
            shared: sealed.shared,
            private: sealed.private,
        });
    }
    Ok(arguments.instructions)
}

extern "C" fn on_vcpu(_vcpu: c_uint, _userdata: *mut c_void) {
    if !qemu::find_registers() {
        eprintln!("sev-cpu: QEMU does not name the registers as expected");
        std::process::exit(1);
    }
    // From a virtual CPU's thread, because the new one then has all signals blocked as that one has: they are for QEMU's.
    // PANIC: as in `prepare`.
    if let Some(seal) = SEAL.lock().unwrap().take() {
        std::thread::spawn(move || {
            if let Err(error) = seal.serve() {
                eprintln!("sev-cpu: cannot take orders: {error}");
                std::process::exit(1);
            }
        });
    }
}

extern "C" fn on_translation(tb: *mut qemu::Tb, _userdata: *mut c_void) {
    // SAFETY: `tb` comes from QEMU.
    unsafe {
        qemu::on_execution(tb, |bytes| match Watched::from_bytes(bytes)? {
            Watched::Cpuid => Some(on_cpuid),
            Watched::Rdmsr => Some(on_rdmsr),
            Watched::Wbinvd => COUNTERS.get().map(|_| on_wbinvd as qemu::VcpuCallback),
        });
        if let Some(counter) = INSTRUCTIONS.get() {
            counter.count(tb, instructions::is_kernels);
        }
    }
}

extern "C" fn on_cpuid(vcpu: c_uint, vaddr: *mut c_void) {
    let leaf = qemu::read(Reg::Rax);
    let answer = match (leaf, INSTRUCTIONS.get()) {
        (instructions::LEAF, Some(counter)) => Some(instructions::answer(counter.of(vcpu))),
        _ => ROLE.get().and_then(|role| role.cpuid(leaf)),
    };
    if let Some(answer) = answer {
        qemu::write(Reg::Rax, answer.eax);
        qemu::write(Reg::Rbx, answer.ebx);
        qemu::write(Reg::Rcx, answer.ecx);
        qemu::write(Reg::Rdx, answer.edx);
        qemu::jump(vaddr as u64 + LENGTH);
    }
}

extern "C" fn on_rdmsr(_vcpu: c_uint, vaddr: *mut c_void) {
    let answer = ROLE.get().and_then(|role| role.rdmsr(qemu::read(Reg::Rcx)));
    if let Some(answer) = answer {
        // CAST: the two halves.
        qemu::write(Reg::Rax, answer as u32);
        qemu::write(Reg::Rdx, (answer >> 32) as u32);
        qemu::jump(vaddr as u64 + LENGTH);
    }
}

/// Before each execution, so the counter is written before the guest can know that the instruction has ended. One that
/// KVM intercepts in a guest of its own counts as well: the lab's guests do not execute.
extern "C" fn on_wbinvd(vcpu: c_uint, _vaddr: *mut c_void) {
    // A program's attempt does not count: it would fault on a real processor.
    if qemu::read(Reg::Cs) & CPL != 0 {
        return;
    }
    let counted = COUNTERS.get().map_or(Ok(()), |counters| {
        // CAST: a number below `max_vcpus`.
        counters.increment(vcpu as usize)
    });
    if let Err(error) = counted {
        // With a counter that stands still, the PSP would blame the guest.
        eprintln!("sev-cpu: cannot count WBINVD of CPU {vcpu}: {error}");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let arguments = Arguments {
            role: Role::Plain,
            wbinvd: Some("/no/such/file".into()),
            instructions: false,
            sealed: None,
        };
        let message = prepare(arguments, 2).unwrap_err();
        assert!(message.contains("/no/such/file"), "{message}");
    }

    #[test]
    fn instructions_are_known_by_their_first_bytes() {
        for (bytes, expected) in [
            (&[0x0f, 0xa2][..], Some(Watched::Cpuid)),
            (&[0x0f, 0x32], Some(Watched::Rdmsr)),
            (&[0x0f, 0x09], Some(Watched::Wbinvd)),
            (&[0xf3, 0x0f, 0x09], None), // WBNOINVD
            (&[0x0f, 0x08], None),       // INVD writes nothing back
            (&[0xf3, 0x0f], None),
            (&[0x0f], None),
            (&[], None),
        ] {
            assert_eq!(Watched::from_bytes(bytes), expected, "{bytes:x?}");
        }
    }
}
