// SPDX-License-Identifier: GPL-2.0

//! Compares ids, lengths, offsets and codes with the kernel's own headers, through a C program.
//!
//! Needs a C compiler and a kernel's `include` directory: `KERNEL_HEADERS`, or the newest
//! `/usr/src/linux-headers-*-common` (Debian).

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;

use psp::cmd::platform::{
    DownloadFirmware, GetId, Init, InitEx, PdhCertExport, PekCertImport, PekCsr, PlatformStatus,
};
use psp::cmd::snp::SNP_STATUS_LEN;
use psp::cmd::{CmdId, BLOB_MAX_LEN};
use psp::guest_msg::uapi::{ExtReportReq, GuestCall, GuestIoctl};
use psp::guest_msg::{ExitInfo2, KeyRequest, ReportRequest};
use psp::status::FwStatus;
use psp::uapi::{IoctlCmd, IssueCmd, GET_ID_LEN, SEV_ISSUE_CMD, SEV_MAX};

/// Commands of the SEV API that Linux has no struct for.
const NOT_IN_LINUX: [CmdId; 6] = [
    CmdId::Nop,
    CmdId::RingBuffer,
    CmdId::Copy,
    CmdId::ActivateEx,
    CmdId::SwapOut,
    CmdId::SwapIn,
];

fn headers() -> PathBuf {
    if let Some(path) = env::var_os("KERNEL_HEADERS") {
        return path.into();
    }
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/src")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("include"))
        .filter(|path| path.join("linux/psp-sev.h").exists())
        .collect();
    found.sort();
    found
        .pop()
        .expect("no kernel headers in /usr/src; set KERNEL_HEADERS to a tree's include directory")
}

/// What the headers say: "kind name" to the numbers that follow.
fn oracle() -> BTreeMap<String, Vec<u64>> {
    let headers = headers();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel_headers.c");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kernel_headers");
    // A directory with these headers alone: the kernel's include/ must not hide the C library's.
    let include = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("include");
    for sub in ["linux", "uapi/linux"] {
        fs::create_dir_all(include.join(sub)).unwrap();
        let name = format!("{sub}/psp-sev.h");
        fs::copy(headers.join(&name), include.join(&name)).unwrap();
    }
    let name = "uapi/linux/sev-guest.h";
    fs::copy(headers.join(name), include.join(name)).unwrap();
    let built = Command::new("cc")
        .args(["-Wall", "-DCONFIG_CRYPTO_DEV_SP_PSP", "-o"])
        .arg(&program)
        .arg("-I")
        .arg(&include)
        .arg(&source)
        .status()
        .expect("cc cannot be run");
    assert!(built.success(), "the C program does not build");
    let output = Command::new(&program).output().unwrap();
    assert!(output.status.success());

    let number = |word: &str| match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => word.parse().unwrap(),
    };
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let numbers = words[2..].iter().map(|word| number(word)).collect();
            (format!("{} {}", words[0], words[1]), numbers)
        })
        .collect()
}

/// What the crate says, in the same form.
fn crate_says() -> BTreeMap<String, Vec<u64>> {
    let mut all = BTreeMap::new();
    for id in CmdId::ALL.iter().filter(|id| !NOT_IN_LINUX.contains(id)) {
        let numbers = vec![*id as u64, id.buffer_len() as u64];
        all.insert(format!("cmd {}", id.name()), numbers);
    }
    for status in FwStatus::ALL {
        let name = status.name().unwrap();
        all.insert(format!("status {name}"), vec![status.code().into()]);
    }
    macro_rules! fields {
        ($($type:ident: $($field:ident),+;)+) => {
            $($(all.insert(
                format!("field {}.{}", stringify!($type), stringify!($field)),
                vec![offset_of!($type, $field) as u64],
            );)+)+
        };
    }
    fields! {
        Init: flags, tmr_paddr, tmr_len;
        InitEx: length, flags, tmr_paddr, tmr_len, nv_paddr, nv_len;
        PlatformStatus: api_major, api_minor, state, flags, build, guest_count;
        PekCsr: paddr, len;
        GetId: paddr, len;
        PekCertImport: pek_paddr, pek_len, oca_paddr, oca_len;
        PdhCertExport: pdh_paddr, pdh_len, chain_paddr, chain_len;
        DownloadFirmware: paddr, len;
        IssueCmd: cmd, data, error;
        GuestCall: req_data, resp_data, exitinfo2;
        ReportRequest: vmpl;
        KeyRequest: root_key_select, guest_field_select, vmpl, guest_svn, tcb_version;
        ExtReportReq: certs_address, certs_len;
    }
    let numbers = [
        ("SNP_GET_REPORT", GuestIoctl::GetReport as u64),
        ("SNP_GET_DERIVED_KEY", GuestIoctl::GetDerivedKey as u64),
        ("SNP_GET_EXT_REPORT", GuestIoctl::GetExtReport as u64),
        ("GUEST_CALL_LEN", size_of::<GuestCall>() as u64),
        (
            "REPORT_REQUEST_LEN",
            GuestIoctl::GetReport.request_len() as u64,
        ),
        (
            "REPORT_RESPONSE_LEN",
            GuestIoctl::GetReport.response_len() as u64,
        ),
        (
            "KEY_REQUEST_LEN",
            GuestIoctl::GetDerivedKey.request_len() as u64,
        ),
        (
            "KEY_RESPONSE_LEN",
            GuestIoctl::GetDerivedKey.response_len() as u64,
        ),
        (
            "EXT_REPORT_REQUEST_LEN",
            GuestIoctl::GetExtReport.request_len() as u64,
        ),
        ("VMM_INVALID_LEN", ExitInfo2::INVALID_LEN.0),
        ("VMM_BUSY", ExitInfo2::BUSY.0),
        ("SEV_ISSUE_CMD", SEV_ISSUE_CMD.into()),
        ("SEV_MAX", SEV_MAX.into()),
        ("FACTORY_RESET", IoctlCmd::FactoryReset as u64),
        ("PLATFORM_STATUS", IoctlCmd::PlatformStatus as u64),
        ("PEK_GEN", IoctlCmd::PekGen as u64),
        ("PEK_CSR", IoctlCmd::PekCsr as u64),
        ("PDH_GEN", IoctlCmd::PdhGen as u64),
        ("PDH_CERT_EXPORT", IoctlCmd::PdhCertExport as u64),
        ("PEK_CERT_IMPORT", IoctlCmd::PekCertImport as u64),
        ("GET_ID", IoctlCmd::GetId as u64),
        ("GET_ID2", IoctlCmd::GetId2 as u64),
        ("SNP_PLATFORM_STATUS", IoctlCmd::SnpPlatformStatus as u64),
        ("SNP_COMMIT", IoctlCmd::SnpCommit as u64),
        ("SNP_SET_CONFIG", IoctlCmd::SnpSetConfig as u64),
        ("SNP_VLEK_LOAD", IoctlCmd::SnpVlekLoad as u64),
        ("SNP_STATUS_LEN", SNP_STATUS_LEN as u64),
        ("GET_ID_LEN", GET_ID_LEN.into()),
        ("BLOB_MAX_LEN", BLOB_MAX_LEN as u64),
    ];
    for (name, value) in numbers {
        all.insert(format!("number {name}"), vec![value]);
    }
    all
}

#[test]
#[ignore = "needs a kernel's headers and a C compiler; `make test` runs it"]
fn the_crate_agrees_with_the_kernels_headers() {
    assert_eq!(crate_says(), oracle());
}
