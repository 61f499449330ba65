// SPDX-License-Identifier: GPL-2.0
//! An owner who uses sevctl, as administrators do: `sevctl verify`, `session`, `measurement build`, `secret build`.

use super::{secret, vmsa, Order, Owner};
use crate::{
    messages::{LaunchSession, Measurement, PlatformChain, SecretPacket},
    owner::chain::Roots,
    policy, say,
};
use anyhow::{ensure, Context, Result};
use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;

/// The owner, with a directory for sevctl's files. They are secrets, and go with it.
pub(crate) struct SevctlOwner<'a> {
    order: &'a Order,
    roots: Roots,
    directory: TempDir,
}

impl<'a> SevctlOwner<'a> {
    pub(crate) fn new(order: &'a Order, roots: Roots) -> Result<Self> {
        Ok(Self {
            order,
            roots,
            directory: TempDir::new()?,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        fs::write(self.path(name), contents).with_context(|| name.to_owned())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.path(name)).with_context(|| name.to_owned())
    }

    /// Runs sevctl in the directory.
    fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("sevctl")
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .context("sevctl")?;
        ensure!(
            output.status.success(),
            "sevctl {}: {}",
            arguments[0],
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

impl Owner for SevctlOwner<'_> {
    fn session(&mut self, chain: &PlatformChain) -> Result<LaunchSession> {
        self.write("chain", &chain.0)?;
        self.write("roots", &self.roots.0)?;
        self.run(&["verify", "--sev", "chain", "--ca", "roots"])?;
        say::owner("sevctl verify", "every signature is good");
        let policy = self.order.policy.to_string();
        // It reads the chain's first certificate, the PDH.
        self.run(&["session", "--name", "vm", "chain", &policy])?;
        say::owner("sevctl session", &policy::describe(self.order.policy));
        Ok(LaunchSession {
            policy: self.order.policy,
            certificate: openssl::base64::decode_block(&String::from_utf8(
                self.read("vm_godh.b64")?,
            )?)?,
            session: openssl::base64::decode_block(&String::from_utf8(
                self.read("vm_session.b64")?,
            )?)?,
        })
    }

    fn secret(&mut self, measurement: &Measurement) -> Result<SecretPacket> {
        self.write("image", &self.order.content)?;
        self.write("measured", &measurement.blob)?;
        let [major, minor, build] = measurement.version.map(|number| number.to_string());
        let policy = self.order.policy.to_string();
        #[rustfmt::skip]
        let mut arguments = vec![
            "measurement", "build", "--api-major", &major, "--api-minor", &minor, "--build-id", &build,
            "--policy", &policy, "--tik", "vm_tik.bin", "--launch-measure-blob", "measured", "--firmware", "image",
            "--outfile", "expected",
        ];
        if self.order.has_vmsa() {
            self.write("vmsa", &vmsa::at_reset())?;
            arguments.extend([
                "--num-cpus",
                "1",
                "--vmsa-cpu0",
                "vmsa",
                "--vmsa-cpu1",
                "vmsa",
            ]);
        }
        self.run(&arguments)?;
        ensure!(
            self.read("expected")? == measurement.blob,
            "this is not my image under my policy: sevctl's measurement differs"
        );
        say::owner("sevctl measurement build", "equal to the byte");
        self.write("disk-key", &self.order.disk_key)?;
        let entry = format!("{}:disk-key", secret::DISK_KEY);
        #[rustfmt::skip]
        self.run(&[
            "secret", "build", "--tik", "vm_tik.bin", "--tek", "vm_tek.bin", "--launch-measure-blob", "measured",
            "--secret", &entry, "header", "payload",
        ])?;
        say::owner("sevctl secret build", &say::key(&self.order.disk_key));
        Ok(SecretPacket {
            header: self.read("header")?,
            payload: self.read("payload")?,
        })
    }
}
