// SPDX-License-Identifier: GPL-2.0
//! An owner made of the crate `sev`.

use super::{
    chain::{self, Roots},
    secret, Order, Owner,
};
use crate::{
    messages::{LaunchSession, Measurement, PlatformChain, SecretPacket},
    policy, say,
};
use anyhow::{anyhow, Context, Result};
use codicon::{Decoder, Encoder};
use sev::{
    firmware::host::{Build, Version},
    launch::sev::{HeaderFlags, Measurement as SevMeasurement, Policy, PolicyFlags},
    session::{Initialized, Session},
};

/// The owner, before and after its session was opened.
pub(crate) struct LibraryOwner<'a> {
    order: &'a Order,
    roots: Roots,
    session: Option<Session<Initialized>>,
}

impl<'a> LibraryOwner<'a> {
    pub(crate) fn new(order: &'a Order, roots: Roots) -> Self {
        Self {
            order,
            roots,
            session: None,
        }
    }
}

impl Owner for LibraryOwner<'_> {
    fn session(&mut self, chain: &PlatformChain) -> Result<LaunchSession> {
        let chain = chain::verify(chain, &self.roots)?;
        say::owner("checks the certificates", "ARK > ASK > CEK > PEK > PDH");
        let session = Session::try_from(library_policy(self.order.policy))
            .map_err(|error| anyhow!("no random numbers: {error:?}"))?;
        let start = session
            .start_pdh(chain.sev.pdh)
            .map_err(|error| anyhow!("no session with the platform's PDH: {error:?}"))?;
        self.session = Some(session);
        say::owner("opens a session", &policy::describe(self.order.policy));
        let mut certificate = Vec::new();
        start.cert.encode(&mut certificate, ())?;
        let session = start.session;
        Ok(LaunchSession {
            policy: self.order.policy,
            certificate,
            session: [
                &session.nonce[..],
                &session.wrap_tk,
                &session.wrap_iv,
                &session.wrap_mac,
                &session.policy_mac,
            ]
            .concat(),
        })
    }

    fn secret(&mut self, measurement: &Measurement) -> Result<SecretPacket> {
        let session = self.session.take().context("there is no session")?;
        let [major, minor, build] = measurement.version;
        let build = Build {
            version: Version { major, minor },
            build,
        };
        let verified = session
            .verify(
                &self.order.digest(),
                build,
                SevMeasurement::decode(&measurement.blob[..], ())?,
            )
            .map_err(|_| {
                anyhow!("this is not my image under my policy: the measurement differs")
            })?;
        say::owner("compares the measurement", "it is that of the image");
        let secret = verified
            .secret(HeaderFlags::default(), &secret::table(&self.order.disk_key))
            .map_err(|error| anyhow!("the secret could not be encrypted: {error:?}"))?;
        let mut packet = Vec::new();
        secret.encode(&mut packet, ())?;
        say::owner("encrypts the disk key", &say::key(&self.order.disk_key));
        let payload = packet.split_off(packet.len() - secret.ciphertext.len());
        Ok(SecretPacket {
            header: packet,
            payload,
        })
    }
}

/// The crate's own conversion takes the version apart as two halves of a byte, the firmware as two bytes.
fn library_policy(policy: u32) -> Policy {
    let [low, high, major, minor] = policy.to_le_bytes();
    Policy {
        flags: PolicyFlags::from_bits_retain(u16::from_le_bytes([low, high])),
        minfw: Version { major, minor },
    }
}
