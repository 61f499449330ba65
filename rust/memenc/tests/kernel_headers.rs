// SPDX-License-Identifier: GPL-2.0

//! Compares numbers and names with the kernel's own headers, which are read as text.
//!
//! Needs a kernel's source: `KERNEL_HEADERS` is its `include` directory.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;

use memenc::bits::Bit;
use memenc::page_state::{PageState, LINUX_MAX, MAX};
use memenc::status::{Features, SevStatus, MSR_SEV_STATUS};

/// The `#define`s of a header of x86: name to value, which is without blanks and comment.
fn defines(header: &str) -> BTreeMap<String, String> {
    let headers = env::var_os("KERNEL_HEADERS").expect("set KERNEL_HEADERS");
    let path = PathBuf::from(headers)
        .join("../arch/x86/include/asm")
        .join(header);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let defines = text.lines().filter_map(|line| {
        let (name, value) = line
            .strip_prefix("#define")?
            .trim()
            .split_once(char::is_whitespace)?;
        let value = value.split("/*").next()?;
        Some((name.to_owned(), value.split_whitespace().collect()))
    });
    defines.collect()
}

/// Names for files by number.
fn named(table: &[Bit]) -> BTreeMap<u32, String> {
    table
        .iter()
        .map(|bit| (bit.index, bit.sysfs.to_owned()))
        .collect()
}

#[test]
#[ignore = "needs a kernel's source; `make test` runs it"]
fn status_bits_are_the_kernels() {
    let defines = defines("msr-index.h");
    assert_eq!(defines["MSR_AMD64_SEV"], format!("{MSR_SEV_STATUS:#x}"));
    let theirs: BTreeMap<u32, String> = defines
        .iter()
        .filter_map(|(name, value)| {
            let name = name.strip_prefix("MSR_AMD64_S")?.strip_suffix("_BIT")?;
            let name = match name {
                "EV_ENABLED" | "EV_ES_ENABLED" | "EV_SNP_ENABLED" => {
                    format!("S{}", name.strip_suffix("_ENABLED")?)
                }
                _ => name
                    .strip_prefix("NP_")?
                    .replace("_INJ", "_INJECTION")
                    .replace("ALT_", "ALTERNATE_"),
            };
            Some((value.parse().unwrap(), name.to_lowercase()))
        })
        // From here on all is reserved.
        .filter(|(_, name)| name != "resv")
        .collect();
    assert_eq!(named(SevStatus::BITS), theirs);
}

#[test]
#[ignore = "needs a kernel's source; `make test` runs it"]
fn features_are_the_kernels_where_it_names_them() {
    let ours = named(Features::BITS);
    let mut known = 0;
    for (name, value) in defines("cpufeatures.h") {
        let Some(bit) = value
            .strip_prefix("(19*32+")
            .and_then(|rest| rest.strip_suffix(')'))
        else {
            continue;
        };
        let name = name
            .trim_start_matches("X86_FEATURE_")
            .replace("SNP_SECURE", "SECURE");
        assert_eq!(ours[&bit.parse().unwrap()], name.to_lowercase());
        known += 1;
    }
    assert!(known >= 14, "{known}");
}

#[test]
#[ignore = "needs a kernel's source; `make test` runs it"]
fn page_state_changes_have_the_kernels_numbers() {
    let defines = defines("sev-common.h");
    for (name, value) in [
        ("VMGEXIT_PSC_MAX_ENTRY", LINUX_MAX),
        ("VMGEXIT_PSC_MAX_COUNT", MAX),
        ("VMGEXIT_PSC_OP_PRIVATE", PageState::Private as usize),
        ("VMGEXIT_PSC_OP_SHARED", PageState::Shared as usize),
    ] {
        assert_eq!(defines[name], value.to_string(), "{name}");
    }
}
