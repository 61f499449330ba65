// SPDX-License-Identifier: GPL-2.0
//! The platform: what `/dev/sev` tells about it.

use super::command::CommandError;
use crate::messages::{PlatformChain, CERTIFICATE_LEN};
use anyhow::{ensure, Context, Result};
use codicon::Encoder;
use sev::firmware::host::Firmware;
use std::{fs::File, fs::OpenOptions};

/// The platform this runs on.
pub(crate) struct Platform {
    firmware: Firmware,
}

impl Platform {
    pub(crate) fn open() -> Result<Self> {
        let firmware = Firmware::open().context("/dev/sev")?;
        Ok(Self { firmware })
    }

    /// SEV API version, major and minor, and build of the firmware.
    pub(crate) fn version(&mut self) -> Result<[u8; 3], CommandError> {
        let status = self.firmware.platform_status();
        let status = status.map_err(CommandError::of("PLATFORM_STATUS"))?;
        let build = status.build;
        Ok([build.version.major, build.version.minor, build.build])
    }

    /// The platform's certificates, with the CEK as AMD has signed it: the one that the firmware exports bears no
    /// signature.
    pub(crate) fn chain(&mut self, signed_cek: &[u8]) -> Result<PlatformChain> {
        ensure!(
            signed_cek.len() == CERTIFICATE_LEN,
            "the CEK is not a certificate: {} bytes instead of {CERTIFICATE_LEN}",
            signed_cek.len()
        );
        let chain = self.firmware.pdh_cert_export();
        let chain = chain.map_err(CommandError::of("PDH_CERT_EXPORT"))?;
        let mut bytes = Vec::new();
        for certificate in [&chain.pdh, &chain.pek, &chain.oca] {
            certificate
                .encode(&mut bytes, ())
                .context("PDH_CERT_EXPORT gave something else than certificates")?;
        }
        bytes.extend_from_slice(signed_cek);
        Ok(PlatformChain(bytes))
    }
}

/// `/dev/sev`, opened as KVM wants it: to check that the caller may use it.
pub(super) fn device() -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/sev")
        .context("/dev/sev")
}
