// SPDX-License-Identifier: GPL-2.0
//! The attestation report: what runs here, signed by the platform, at any time after the launch.

use super::Order;
use crate::messages::{PlatformChain, REPORT_LEN};
use anyhow::{anyhow, ensure, Context, Result};
use codicon::Decoder;
use sev::{
    certs::sev::{sev::Chain, Verifiable},
    firmware::host::LegacyAttestationReport,
};
use zerocopy::{little_endian::U32, FromBytes};
use zerocopy_derive::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The report (SEV-API, table "Attestation Report").
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Report {
    nonce: [u8; 16],
    launch_digest: [u8; 32],
    policy: U32,
    signature_usage: U32,
    signature_algorithm: U32,
    reserved: U32,
    signature: [u8; 144],
}

const _: () = assert!(size_of::<Report>() == REPORT_LEN);

/// Checks that the report answers the nonce, is about the order's image under its policy, and is signed by the PEK of a
/// chain that was verified before.
pub(crate) fn verify(
    bytes: &[u8; REPORT_LEN],
    nonce: &[u8; 16],
    order: &Order,
    chain: &PlatformChain,
) -> Result<()> {
    let chain = Chain::decode(&chain.0[..], ()).context("the platform's chain is malformed")?;
    let report =
        Report::ref_from_bytes(bytes).map_err(|_| anyhow!("the report has another length"))?;
    let mut signed = LegacyAttestationReport::default();
    signed.mnonce = report.nonce;
    signed.launch_digest = report.launch_digest;
    signed.policy = report.policy.get();
    signed.signature.0 = report.signature;
    (&chain.pek, &signed)
        .verify()
        .context("the report is not signed by the platform's PEK")?;
    ensure!(report.nonce == *nonce, "the report has another nonce");
    ensure!(
        report.launch_digest == order.digest(),
        "the report is about another image"
    );
    ensure!(
        report.policy.get() == order.policy,
        "the report is about another policy"
    );
    Ok(())
}
