// SPDX-License-Identifier: GPL-2.0
//! QEMU TCG plugin that gives the guest a processor with SEV, as far as `CPUID` and `RDMSR` tell: enough for an
//! unmodified kernel to load its SEV host drivers.
//!
//! `-plugin libsev_cpu.so,role=host,model=milan`. TCG has neither instruction answer for SEV, so each of them is
//! recognised by its bytes when a block is translated; before it is executed the answer goes into the registers and
//! execution continues behind it. Both instructions are two bytes long.
//!
//! `answers` holds what is answered, `qemu` speaks to QEMU.

mod answers;
mod qemu;

use answers::Model;
use core::ffi::{c_char, c_int, c_uint, c_void, CStr};
use qemu::Reg;
use std::sync::OnceLock;

/// Read by QEMU before anything else: it refuses a plugin whose version it does not serve, and says so.
#[no_mangle]
pub static qemu_plugin_version: c_int = qemu::API_VERSION;

const CPUID: [u8; 2] = [0x0f, 0xa2];
const RDMSR: [u8; 2] = [0x0f, 0x32];
const LENGTH: u64 = 2;

static MODEL: OnceLock<Model> = OnceLock::new();

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
    match parse(arguments) {
        Ok(model) => {
            MODEL.get_or_init(|| model);
            qemu::register(id, on_vcpu, on_translation);
            0
        }
        Err(message) => {
            eprintln!("sev-cpu: {message}");
            1
        }
    }
}

/// The model the arguments ask for. The role is a must: a guest's processor answers otherwise, and is not here yet.
fn parse(arguments: impl Iterator<Item = String>) -> Result<Model, String> {
    let (mut role, mut model) = (None, None);
    for argument in arguments {
        match argument.split_once('=') {
            Some(("role", "host")) => role = Some(()),
            Some(("model", name)) => {
                model = Some(Model::from_name(name).ok_or(format!("unknown model {name}"))?);
            }
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    role.ok_or("role=host is missing")?;
    model.ok_or("model=NAME is missing".into())
}

extern "C" fn on_vcpu(_vcpu: c_uint, _userdata: *mut c_void) {
    if !qemu::find_registers() {
        eprintln!("sev-cpu: QEMU does not name the registers as expected");
        std::process::exit(1);
    }
}

extern "C" fn on_translation(tb: *mut qemu::Tb, _userdata: *mut c_void) {
    // SAFETY: `tb` comes from QEMU.
    unsafe {
        qemu::on_execution(tb, |opcode| match opcode {
            CPUID => Some(on_cpuid),
            RDMSR => Some(on_rdmsr),
            _ => None,
        });
    }
}

extern "C" fn on_cpuid(_vcpu: c_uint, vaddr: *mut c_void) {
    let answer = MODEL
        .get()
        .and_then(|model| model.cpuid(qemu::read(Reg::Rax)));
    if let Some(answer) = answer {
        qemu::write(Reg::Rax, answer.eax);
        qemu::write(Reg::Rbx, answer.ebx);
        qemu::write(Reg::Rcx, answer.ecx);
        qemu::write(Reg::Rdx, answer.edx);
        qemu::jump(vaddr as u64 + LENGTH);
    }
}

extern "C" fn on_rdmsr(_vcpu: c_uint, vaddr: *mut c_void) {
    let answer = MODEL
        .get()
        .and_then(|model| model.rdmsr(qemu::read(Reg::Rcx)));
    if let Some(answer) = answer {
        // CAST: the two halves.
        qemu::write(Reg::Rax, answer as u32);
        qemu::write(Reg::Rdx, (answer >> 32) as u32);
        qemu::jump(vaddr as u64 + LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(arguments: &[&str]) -> Result<Model, String> {
        parse(arguments.iter().map(|argument| argument.to_string()))
    }

    #[test]
    fn host_and_model_are_understood() {
        let model = parse_all(&["role=host", "model=genoa"]);
        assert_eq!(model, Model::from_name("genoa").ok_or(String::new()));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            &["role=host"][..],
            &["model=milan"],
            &["role=guest", "model=milan"],
            &["role=host", "model=8086"],
            &["role=host", "model=milan", "x"],
        ] {
            assert!(parse_all(bad).is_err(), "{bad:?}");
        }
    }
}
