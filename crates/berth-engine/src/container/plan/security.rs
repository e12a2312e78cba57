//! `--security-opt`.

use crate::{Error, Result};

/// Which system call filter a container has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum SeccompChoice {
    #[default]
    Default,
    Unconfined,
    /// A profile as JSON text.
    Profile(String),
}

/// What `--security-opt` asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SecurityOptions {
    pub seccomp: SeccompChoice,
    pub no_new_privileges: bool,
    /// `systempaths=unconfined`: nothing of `/proc` and `/sys` is hidden.
    pub system_paths: bool,
    /// `writable-cgroups=true`.
    pub writable_cgroups: bool,
}

impl SecurityOptions {
    /// Reads the options; Docker's words for those that are none.
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut read = Self::default();
        for option in options {
            if option == "no-new-privileges" {
                read.no_new_privileges = true;
                continue;
            }
            if option == "disable" {
                continue;
            }
            // Old clients separate by a colon.
            let (name, value) = option
                .split_once('=')
                .or_else(|| option.split_once(':'))
                .ok_or_else(|| Error::invalid(format!("invalid --security-opt 1: {option:?}")))?;
            let truth = || match value {
                "true" | "1" | "t" => Ok(true),
                "false" | "0" | "f" => Ok(false),
                _ => Err(Error::invalid(format!(
                    "invalid --security-opt 2: {option:?}"
                ))),
            };
            match name {
                // Labels and AppArmor profiles mean nothing where there is no such module.
                "label" | "apparmor" => {}
                "seccomp" => {
                    read.seccomp = match value {
                        "unconfined" => SeccompChoice::Unconfined,
                        "builtin" | "" => SeccompChoice::Default,
                        profile => SeccompChoice::Profile(profile.to_owned()),
                    }
                }
                "no-new-privileges" => read.no_new_privileges = truth()?,
                "writable-cgroups" => read.writable_cgroups = truth()?,
                "systempaths" if value == "unconfined" => read.system_paths = true,
                _ => {
                    return Err(Error::invalid(format!(
                        "invalid --security-opt 2: {option:?}"
                    )));
                }
            }
        }
        Ok(read)
    }
}
