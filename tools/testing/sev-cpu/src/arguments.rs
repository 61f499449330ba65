// SPDX-License-Identifier: GPL-2.0
//! What the plugin is asked for on QEMU's command line: `name=value` each.

use crate::answers::{Model, Role};
use std::{os::fd::RawFd, path::PathBuf};

/// SEV_STATUS of a guest when nobody asks for another: SEV, and nothing beyond it.
const SEV_ENABLED: u64 = 1;

/// What the plugin was asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Arguments {
    /// Whose processor it is.
    pub(crate) role: Role,
    /// Where WBINVD is counted.
    pub(crate) wbinvd: Option<PathBuf>,
    /// Whether the kernel's instructions are counted.
    pub(crate) instructions: bool,
    /// What is to be sealed on order.
    pub(crate) sealed: Option<Sealed>,
}

/// Memory that is to be sealed: who orders it, and the two names of its file.
#[derive(Debug, PartialEq)]
pub(crate) struct Sealed {
    /// A socket, for the plugin alone.
    pub(crate) orders: RawFd,
    /// What the host sees.
    pub(crate) shared: PathBuf,
    /// What the guest's processors see with the C-bit.
    pub(crate) private: PathBuf,
}

/// What the arguments ask for. The role is a must, and so is what it needs; what belongs to another role is refused.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut role, mut model, mut status, mut wbinvd) = (None, None, None, None);
    let (mut orders, mut shared, mut private) = (None, None, None);
    let mut instructions = false;
    for argument in arguments {
        match argument.split_once('=') {
            Some(("role", name)) => role = Some(name.to_string()),
            Some(("model", name)) => {
                model = Some(Model::from_name(name).ok_or(format!("unknown model {name}"))?);
            }
            Some(("status", number)) => {
                status = Some(number.parse().map_err(|_| format!("bad status {number}"))?);
            }
            Some(("wbinvd", file)) => wbinvd = Some(PathBuf::from(file)),
            Some(("instructions", "count")) => instructions = true,
            Some(("orders", number)) => {
                let descriptor: Result<u16, _> = number.parse();
                orders = Some(descriptor.map_err(|_| format!("bad descriptor {number}"))?);
            }
            Some(("shared", file)) => shared = Some(PathBuf::from(file)),
            Some(("private", file)) => private = Some(PathBuf::from(file)),
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    let sealed = match (orders, shared, private) {
        (Some(orders), Some(shared), Some(private)) => Some(Sealed {
            orders: orders.into(),
            shared,
            private,
        }),
        (None, None, None) => None,
        _ => return Err("orders, shared and private belong together".into()),
    };
    let role = match (role.as_deref(), model, status, &wbinvd, &sealed) {
        (Some("host"), Some(model), None, _, None) => Role::Host(model),
        (Some("guest"), None, status, None, _) => Role::Guest(status.unwrap_or(SEV_ENABLED)),
        (Some("plain"), None, None, None, None) => Role::Plain,
        (Some("host"), None, ..) => return Err("model=NAME is missing".into()),
        (Some(name @ ("host" | "guest" | "plain")), ..) => {
            return Err(format!("role={name} has no use for all of the arguments"))
        }
        (Some(name), ..) => return Err(format!("unknown role {name}")),
        (None, ..) => return Err("role=NAME is missing".into()),
    };
    Ok(Arguments {
        role,
        wbinvd,
        instructions,
        sealed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(arguments: &[&str]) -> Result<Arguments, String> {
        parse(arguments.iter().map(|argument| argument.to_string()))
    }

    #[test]
    fn host_model_file_and_count_are_understood() {
        let model = Model::from_name("genoa").unwrap();
        let mut expected = Arguments {
            role: Role::Host(model),
            wbinvd: None,
            instructions: false,
            sealed: None,
        };
        assert_eq!(
            parse_all(&["role=host", "model=genoa"]).as_ref(),
            Ok(&expected)
        );
        expected.wbinvd = Some("/run/a=b".into());
        assert_eq!(
            parse_all(&["role=host", "model=genoa", "wbinvd=/run/a=b"]).as_ref(),
            Ok(&expected)
        );
        (expected.wbinvd, expected.instructions) = (None, true);
        assert_eq!(
            parse_all(&["role=host", "instructions=count", "model=genoa"]),
            Ok(expected)
        );
    }

    #[test]
    fn the_other_roles_are_understood() {
        for (arguments, role, instructions) in [
            (&["role=guest"][..], Role::Guest(1), false),
            (
                &["status=131073", "role=guest"],
                Role::Guest(0x2_0001),
                false,
            ),
            (&["role=plain", "instructions=count"], Role::Plain, true),
            (&["role=guest", "instructions=count"], Role::Guest(1), true),
        ] {
            let expected = Arguments {
                role,
                wbinvd: None,
                instructions,
                sealed: None,
            };
            assert_eq!(parse_all(arguments), Ok(expected), "{arguments:?}");
        }
    }

    #[test]
    fn what_to_seal_is_understood() {
        let arguments = ["role=guest", "orders=7", "shared=/a", "private=/b=c"];
        let sealed = Sealed {
            orders: 7,
            shared: "/a".into(),
            private: "/b=c".into(),
        };
        assert_eq!(parse_all(&arguments).unwrap().sealed, Some(sealed));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            &["role=host"][..],
            &["model=milan"],
            &["role=king"],
            &["role=guest", "model=milan"],
            &["role=guest", "status=one"],
            &["role=guest", "wbinvd=file"],
            &["role=host", "model=milan", "status=1"],
            &["role=plain", "status=1"],
            &["role=guest", "orders=1"],
            &["role=guest", "orders=-1", "shared=a", "private=b"],
            &["role=guest", "orders=x", "shared=a", "private=b"],
            &["role=plain", "orders=1", "shared=a", "private=b"],
            &["role=host", "model=8086"],
            &["role=host", "model=milan", "x"],
            &["role=host", "model=milan", "instructions=on"],
        ] {
            assert!(parse_all(bad).is_err(), "{bad:?}");
        }
    }
}
