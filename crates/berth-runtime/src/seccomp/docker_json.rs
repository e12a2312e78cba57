//! Profiles as `--security-opt seccomp=FILE` has them: the OCI form with conditions, resolved for
//! one container on one machine.

use berth_spec::oci::runtime::{
    LinuxSeccomp, SeccompAction, SeccompArch, SeccompArg, SeccompSyscall,
};
use serde::{Deserialize, Deserializer};

use super::{Error, Result};
use crate::capability::CapSet;

/// Bytes of a profile at most.
const MAX: usize = 4 << 20;

/// What conditions are held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Docker's name: `amd64`, `arm64`.
    pub arch: &'static str,
    /// The first two numbers of the kernel's version.
    pub kernel: (u64, u64),
}

impl Host {
    /// This machine.
    pub fn detect() -> Host {
        Host {
            arch: if cfg!(target_arch = "aarch64") {
                "arm64"
            } else {
                "amd64"
            },
            kernel: crate::kernel::version(),
        }
    }

    fn seccomp_arch(&self) -> SeccompArch {
        match self.arch {
            "arm64" => SeccompArch::Aarch64,
            _ => SeccompArch::X86_64,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default, deserialize_with = "optional_action")]
    default_action: Option<SeccompAction>,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")]
    architectures: Vec<SeccompArch>,
    #[serde(default, deserialize_with = "nullable")]
    arch_map: Vec<ArchMap>,
    #[serde(default, deserialize_with = "nullable")]
    flags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    listener_path: String,
    #[serde(default, deserialize_with = "nullable")]
    listener_metadata: String,
    #[serde(default, deserialize_with = "nullable")]
    syscalls: Vec<Syscall>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: SeccompArch,
    #[serde(default, deserialize_with = "nullable")]
    sub_architectures: Vec<SeccompArch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    #[serde(default, deserialize_with = "nullable")]
    names: Vec<String>,
    /// The old form of `names`.
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    action: SeccompAction,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")]
    args: Vec<SeccompArg>,
    #[serde(default, deserialize_with = "nullable")]
    includes: Filter,
    #[serde(default, deserialize_with = "nullable")]
    excludes: Filter,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default, deserialize_with = "nullable")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    arches: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    min_kernel: String,
}

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An empty text is no action, as Docker has it.
fn optional_action<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<SeccompAction>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)?.filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    SeccompAction::deserialize(serde::de::value::StringDeserializer::new(text)).map(Some)
}

/// Resolves a profile in Docker's format for a container with these capabilities in its bounding
/// set. `None` when the profile says nothing at all, which means no filter.
pub fn from_docker_json(text: &str, caps: CapSet, host: &Host) -> Result<Option<LinuxSeccomp>> {
    if text.len() > MAX {
        return Err(Error::Invalid("seccomp profile is too large".to_owned()));
    }
    let profile: Profile = serde_json::from_str(text)
        .map_err(|e| Error::Invalid(format!("Decoding seccomp profile failed: {e}")))?;
    let Some(default_action) = profile.default_action else {
        if profile.syscalls.is_empty() {
            return Ok(None);
        }
        return Err(Error::Invalid(
            "seccomp profile has no defaultAction".to_owned(),
        ));
    };
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(Error::Invalid(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
                .to_owned(),
        ));
    }
    let mut architectures = profile.architectures;
    let own = host.seccomp_arch();
    if let Some(map) = profile.arch_map.into_iter().find(|m| m.architecture == own) {
        architectures.push(map.architecture);
        architectures.extend(map.sub_architectures);
    }
    let mut syscalls = Vec::new();
    for call in profile.syscalls {
        syscalls.extend(resolve(call, caps, host)?);
    }
    Ok(Some(LinuxSeccomp {
        default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    }))
}

/// The rule without its conditions, if they hold.
fn resolve(call: Syscall, caps: CapSet, host: &Host) -> Result<Option<SeccompSyscall>> {
    let mut names = call.names;
    if !call.name.is_empty() {
        if !names.is_empty() {
            return Err(Error::Invalid(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
                    .to_owned(),
            ));
        }
        names.push(call.name);
    }
    let has_arch = |filter: &Filter| filter.arches.iter().any(|a| a == host.arch);
    let excludes = &call.excludes;
    let includes = &call.includes;
    let excluded = has_arch(excludes)
        || excludes.caps.iter().any(|c| caps.has(c))
        || new_enough(excludes, host)?.unwrap_or(false);
    let included = (includes.arches.is_empty() || has_arch(includes))
        && includes.caps.iter().all(|c| caps.has(c))
        && new_enough(includes, host)?.unwrap_or(true);
    Ok((included && !excluded).then_some(SeccompSyscall {
        names,
        action: call.action,
        errno_ret: call.errno_ret,
        args: call.args,
    }))
}

/// Whether the kernel is at least what the filter names; `None` if it names none.
fn new_enough(filter: &Filter, host: &Host) -> Result<Option<bool>> {
    let text = &filter.min_kernel;
    if text.is_empty() {
        return Ok(None);
    }
    let parse = |n: &str| n.parse::<u8>().ok().map(u64::from);
    let version = text
        .split_once('.')
        .and_then(|(kernel, major)| Some((parse(kernel)?, parse(major)?)))
        .filter(|v| *v != (0, 0))
        .ok_or_else(|| {
            Error::Invalid(format!(
                "invalid kernel version: {text:?}, expected \"<kernel>.<major>\""
            ))
        })?;
    Ok(Some(host.kernel >= version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Host = Host {
        arch: "amd64",
        kernel: (6, 1),
    };

    fn names(text: &str, caps: CapSet) -> Vec<String> {
        let profile = from_docker_json(text, caps, &HOST).unwrap().unwrap();
        profile.syscalls.into_iter().flat_map(|s| s.names).collect()
    }

    #[test]
    fn conditions_are_resolved() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
          "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]},
                     {"architecture":"SCMP_ARCH_S390X","subArchitectures":null}],
          "syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW","args":null,"comment":"x","includes":{},"excludes":{}},
            {"name":"write","action":"SCMP_ACT_ALLOW"},
            {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"],"arches":["s390x"]}},
            {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
            {"names":["later"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}},
            {"names":["old"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"6.1"}},
            {"names":["arm"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}}]}"#;
        assert_eq!(
            names(text, CapSet::docker_default()),
            ["read", "write", "clone", "ptrace"]
        );
        assert_eq!(
            names(text, CapSet::all()),
            ["read", "write", "mount", "ptrace"]
        );
        let profile = from_docker_json(text, CapSet::EMPTY, &HOST)
            .unwrap()
            .unwrap();
        assert_eq!(
            profile.architectures,
            [SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32]
        );
    }

    #[test]
    fn an_empty_profile_is_no_filter() {
        assert_eq!(from_docker_json("{}", CapSet::EMPTY, &HOST).unwrap(), None);
        let text = r#"{"defaultAction":"","syscalls":null}"#;
        assert_eq!(from_docker_json(text, CapSet::EMPTY, &HOST).unwrap(), None);
    }

    #[test]
    fn bad_profiles_are_refused() {
        for (text, why) in [
            ("nonsense", "Decoding seccomp profile failed"),
            (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
                "both 'architectures' and 'archMap'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
                "both 'name' and 'names'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4"}}]}"#,
                "invalid kernel version",
            ),
        ] {
            let error = from_docker_json(text, CapSet::EMPTY, &HOST).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn this_machine_has_a_version() {
        assert!(Host::detect().kernel >= (5, 6));
    }
}
