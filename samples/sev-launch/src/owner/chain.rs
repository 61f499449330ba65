// SPDX-License-Identifier: GPL-2.0
//! Is it a platform of AMD's? The chain of signatures from the PDH, with which sessions are made, to AMD's root.

use crate::messages::PlatformChain;
use anyhow::{Context, Result};
use codicon::Decoder;
use sev::certs::sev::{ca, sev as platform, Chain, Verifiable};

/// Certificates that the owner has from AMD, not from the host: ASK and ARK in AMD's format.
#[derive(Clone)]
pub(crate) struct Roots(pub(crate) Vec<u8>);

/// Checks every signature.
///
/// # Errors
///
/// Names the certificate that is malformed or whose signature is wrong.
pub(crate) fn verify(chain: &PlatformChain, roots: &Roots) -> Result<Chain> {
    let ca = ca::Chain::decode(&roots.0[..], ()).context("AMD's certificates are malformed")?;
    let sev =
        platform::Chain::decode(&chain.0[..], ()).context("the platform's chain is malformed")?;
    (&ca.ark, &ca.ark)
        .verify()
        .context("the ARK does not sign itself")?;
    (&ca.ark, &ca.ask)
        .verify()
        .context("the ASK is not signed by the ARK")?;
    (&ca.ask, &sev.cek)
        .verify()
        .context("the CEK is not signed by the ASK")?;
    (&sev.cek, &sev.pek)
        .verify()
        .context("the PEK is not signed by the CEK")?;
    (&sev.oca, &sev.oca)
        .verify()
        .context("the OCA does not sign itself")?;
    (&sev.oca, &sev.pek)
        .verify()
        .context("the PEK is not signed by the OCA")?;
    (&sev.pek, &sev.pdh)
        .verify()
        .context("the PDH is not signed by the PEK")?;
    Ok(Chain { ca, sev })
}
