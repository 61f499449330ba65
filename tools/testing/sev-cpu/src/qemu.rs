// SPDX-License-Identifier: GPL-2.0
//! QEMU's plugin interface, version 7 (QEMU 11.1), as far as it is used here. Distributions ship no header for it.
//!
//! The functions are found in the QEMU that loads the plugin, those of GLib in the library it is linked with.

use core::{
    ffi::{c_char, c_int, c_uint, c_void, CStr},
    ptr,
};
use std::sync::OnceLock;

/// The version this file describes.
pub(crate) const API_VERSION: c_int = 7;

/// `qemu_plugin_id_t`.
pub(crate) type PluginId = u64;

/// `enum qemu_plugin_cb_flags`: the callback reads and writes registers, the program counter among them.
const CB_RW_REGS_PC: c_int = 3;

/// `struct qemu_plugin_tb`: a block of instructions being translated.
#[repr(C)]
pub(crate) struct Tb {
    _opaque: [u8; 0],
}

/// `struct qemu_plugin_insn`.
#[repr(C)]
struct Insn {
    _opaque: [u8; 0],
}

/// `struct qemu_plugin_register`.
#[repr(C)]
struct Register {
    _opaque: [u8; 0],
}

/// `qemu_plugin_reg_descriptor`.
#[repr(C)]
struct RegisterDescriptor {
    handle: *mut Register,
    name: *const c_char,
    feature: *const c_char,
    is_readonly: bool,
}

/// The public part of GLib's `GArray` and `GByteArray`.
#[repr(C)]
struct GArray {
    data: *mut u8,
    len: c_uint,
}

/// `qemu_info_t`.
#[repr(C)]
pub struct Info {
    target_name: *const c_char,
    /// The oldest version this QEMU still serves, and its own.
    version: [c_int; 2],
    system_emulation: bool,
    /// The virtual CPUs at the start, and the most there can ever be.
    vcpus: [c_int; 2],
}

/// `struct qemu_plugin_scoreboard`: something for each virtual CPU.
#[repr(C)]
struct Scoreboard {
    _opaque: [u8; 0],
}

/// `qemu_plugin_u64`: a number for each virtual CPU, as a place in a scoreboard.
#[repr(C)]
#[derive(Clone, Copy)]
struct PerVcpu {
    score: *mut Scoreboard,
    offset: usize,
}

/// `enum qemu_plugin_op`: add a number.
const INLINE_ADD_U64: c_int = 0;

/// Called with a virtual CPU's number.
pub(crate) type VcpuCallback = extern "C" fn(c_uint, *mut c_void);
/// Called with a block being translated.
pub(crate) type TbCallback = extern "C" fn(*mut Tb, *mut c_void);

#[rustfmt::skip]
extern "C" {
    fn qemu_plugin_register_vcpu_init_cb(id: PluginId, cb: VcpuCallback, userdata: *mut c_void);
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: PluginId, cb: TbCallback, userdata: *mut c_void);
    fn qemu_plugin_tb_n_insns(tb: *const Tb) -> usize;
    fn qemu_plugin_tb_get_insn(tb: *const Tb, index: usize) -> *mut Insn;
    fn qemu_plugin_insn_data(insn: *const Insn, dest: *mut c_void, len: usize) -> usize;
    fn qemu_plugin_insn_vaddr(insn: *const Insn) -> u64;
    fn qemu_plugin_register_vcpu_insn_exec_cb(insn: *mut Insn, cb: VcpuCallback, flags: c_int, userdata: *mut c_void);
    fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn: *mut Insn, op: c_int, entry: PerVcpu, imm: u64);
    fn qemu_plugin_scoreboard_new(element_size: usize) -> *mut Scoreboard;
    fn qemu_plugin_u64_get(entry: PerVcpu, vcpu_index: c_uint) -> u64;
    fn qemu_plugin_get_registers() -> *mut GArray;
    fn qemu_plugin_read_register(register: *mut Register, buf: *mut GArray) -> bool;
    fn qemu_plugin_write_register(register: *mut Register, buf: *mut GArray) -> bool;
    fn qemu_plugin_set_pc(vaddr: u64);
    fn g_array_free(array: *mut GArray, free_segment: c_int) -> *mut u8;
    fn g_byte_array_new() -> *mut GArray;
    fn g_byte_array_append(array: *mut GArray, data: *const u8, len: c_uint) -> *mut GArray;
    fn g_byte_array_free(array: *mut GArray, free_segment: c_int) -> *mut u8;
}

/// The registers that the watched instructions use.
#[derive(Clone, Copy)]
pub(crate) enum Reg {
    /// RAX.
    Rax,
    /// RBX.
    Rbx,
    /// RCX.
    Rcx,
    /// RDX.
    Rdx,
    /// The selector of the code segment, whose lowest two bits are the privilege level.
    Cs,
}

/// Their names in QEMU, in the order of `Reg`.
const NAMES: [&CStr; 5] = [c"rax", c"rbx", c"rcx", c"rdx", c"cs"];

/// The longest watched instruction in bytes; of longer ones the first bytes are looked at.
const LONGEST: usize = 3;

/// Handles of the registers, in the order of `Reg`, as addresses. The same for all virtual CPUs.
static REGISTERS: OnceLock<[usize; 5]> = OnceLock::new();

/// The version of a QEMU that does not have ours, if so.
///
/// # Safety
///
/// `info` is what QEMU passed to `qemu_plugin_install`.
pub(crate) unsafe fn foreign_version(info: *const Info) -> Option<c_int> {
    // SAFETY: by the caller's promise it is valid, and its first members have been the same in all versions.
    let [_, current] = unsafe { (*info).version };
    (current != API_VERSION).then_some(current)
}

/// The most virtual CPUs there can be; their numbers are below.
///
/// # Safety
///
/// As for `foreign_version`, which has found the version to be ours.
pub(crate) unsafe fn max_vcpus(info: *const Info) -> usize {
    // SAFETY: by the caller's promise it is valid, and all of it is as this version has it.
    let [_, max] = unsafe { (*info).vcpus };
    usize::try_from(max).unwrap_or(0)
}

/// Ask for calls when a virtual CPU starts and when a block is translated.
pub(crate) fn register(id: PluginId, on_vcpu: VcpuCallback, on_tb: TbCallback) {
    // SAFETY: the callbacks live as long as the plugin and ignore their null userdata.
    unsafe {
        qemu_plugin_register_vcpu_init_cb(id, on_vcpu, ptr::null_mut());
        qemu_plugin_register_vcpu_tb_trans_cb(id, on_tb, ptr::null_mut());
    }
}

/// Find the handles of the registers. Must be called from a virtual CPU's start; false when one is missing.
pub(crate) fn find_registers() -> bool {
    // SAFETY: called in a virtual CPU's context; the array is ours to free, its entries are descriptors.
    let found = unsafe {
        let array = qemu_plugin_get_registers();
        let len = (*array).len as usize;
        let all = core::slice::from_raw_parts((*array).data.cast::<RegisterDescriptor>(), len);
        let found = NAMES.map(|name| {
            let register = all
                .iter()
                .find(|register| CStr::from_ptr(register.name) == name);
            register.map_or(0, |register| register.handle as usize)
        });
        g_array_free(array, 1);
        found
    };
    let complete = !found.contains(&0);
    complete && *REGISTERS.get_or_init(|| found) == found
}

/// Read the low half of a register. Only from a callback asked for with `on_execution`.
pub(crate) fn read(register: Reg) -> u32 {
    // SAFETY: the handle came from QEMU; the array is allocated and freed here, QEMU appends the register's bytes.
    unsafe {
        let array = g_byte_array_new();
        let mut bytes = [0; 4];
        if qemu_plugin_read_register(handle(register), array) && (*array).len >= 4 {
            bytes.copy_from_slice(core::slice::from_raw_parts((*array).data, 4));
        }
        g_byte_array_free(array, 1);
        u32::from_le_bytes(bytes)
    }
}

/// Write a register, clearing its high half as 32-bit results do. Only from a callback asked for with `on_execution`.
pub(crate) fn write(register: Reg, value: u32) {
    let bytes = u64::from(value).to_le_bytes();
    // SAFETY: as in `read`; QEMU copies the bytes.
    unsafe {
        let array = g_byte_array_new();
        g_byte_array_append(array, bytes.as_ptr(), bytes.len() as c_uint);
        qemu_plugin_write_register(handle(register), array);
        g_byte_array_free(array, 1);
    }
}

/// Continue at another address, instead of the instruction that is about to be executed. Does not return to the
/// caller: QEMU leaves the callback.
pub(crate) fn jump(vaddr: u64) {
    // SAFETY: only from a callback asked for with `on_execution`, which has the right to.
    unsafe { qemu_plugin_set_pc(vaddr) }
}

/// Have `choose` look at the first bytes of each instruction of a block; the callback it names is called before each
/// execution of that instruction, with its address as userdata.
///
/// # Safety
///
/// `tb` is what QEMU passed to the translation callback.
pub(crate) unsafe fn on_execution(tb: *mut Tb, choose: impl Fn(&[u8]) -> Option<VcpuCallback>) {
    // SAFETY: `tb` is valid by the caller's promise, the indices are below its count.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(tb) {
            let insn = qemu_plugin_tb_get_insn(tb, index);
            let mut bytes = [0u8; LONGEST];
            let len = qemu_plugin_insn_data(insn, bytes.as_mut_ptr().cast(), LONGEST);
            if let Some(callback) = bytes.get(..len).and_then(&choose) {
                let vaddr = qemu_plugin_insn_vaddr(insn) as *mut c_void;
                qemu_plugin_register_vcpu_insn_exec_cb(insn, callback, CB_RW_REGS_PC, vaddr);
            }
        }
    }
}

/// Bytes from one CPU's counter to the next: two cache lines, as processors fetch neighbours together. In one line
/// CPUs would run at a fifth of their speed.
const COUNTER_BYTES: usize = 128;

/// A counter for each virtual CPU, which QEMU increments without calling the plugin.
pub(crate) struct Counter {
    /// The address of QEMU's scoreboard, which lives as long as QEMU.
    score: usize,
}

impl Counter {
    /// All at 0. Only while the plugin is being loaded or later.
    pub(crate) fn new() -> Self {
        // SAFETY: QEMU allocates, or ends.
        let score = unsafe { qemu_plugin_scoreboard_new(COUNTER_BYTES) };
        Self {
            score: score as usize,
        }
    }

    /// A virtual CPU's. What is asked for from its own callback counts everything it has begun.
    pub(crate) fn of(&self, vcpu: c_uint) -> u64 {
        // SAFETY: the scoreboard is ours; QEMU knows the number, which came from it.
        unsafe { qemu_plugin_u64_get(self.entry(), vcpu) }
    }

    /// Count each execution of those instructions of a block whose address `counts`.
    ///
    /// # Safety
    ///
    /// `tb` is what QEMU passed to the translation callback.
    pub(crate) unsafe fn count(&self, tb: *mut Tb, counts: impl Fn(u64) -> bool) {
        // SAFETY: `tb` is valid by the caller's promise, the indices are below its count, the scoreboard is ours.
        unsafe {
            for index in 0..qemu_plugin_tb_n_insns(tb) {
                let insn = qemu_plugin_tb_get_insn(tb, index);
                if counts(qemu_plugin_insn_vaddr(insn)) {
                    qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
                        insn,
                        INLINE_ADD_U64,
                        self.entry(),
                        1,
                    );
                }
            }
        }
    }

    fn entry(&self) -> PerVcpu {
        PerVcpu {
            score: self.score as *mut Scoreboard,
            offset: 0,
        }
    }
}

fn handle(register: Reg) -> *mut Register {
    // CAST: an enum without values to its index.
    REGISTERS.get().map_or(ptr::null_mut(), |all| {
        all[register as usize] as *mut Register
    })
}
