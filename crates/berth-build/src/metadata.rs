//! Instructions that change nothing but the image's configuration. Pure.

use std::collections::BTreeMap;

use berth_spec::oci::image::{Empty, ExecConfig};

use crate::dockerfile::{CommandLine, Expander, Instruction, Variables, go_format};
use crate::ignore::clean;
use crate::{Error, Result};

/// What a command without a shell of its own is given to.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Ports one `EXPOSE` may name.
const PORTS_MAX: usize = 65_536;

/// What an instruction did to the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// As the history tells it, after `#(nop) `.
    pub(crate) comment: String,
    /// For the user, a whole line.
    pub(crate) note: Option<String>,
    /// `MAINTAINER`.
    pub(crate) author: Option<String>,
}

/// Applies a metadata instruction to `config`, or answers `None` where it is none of those.
/// `cmd_set` says whether this stage has had a `CMD`.
pub(crate) fn apply(
    config: &mut ExecConfig,
    instruction: &Instruction,
    variables: &Variables,
    escape: char,
    cmd_set: &mut bool,
) -> Result<Option<Applied>> {
    let expander = Expander::new(escape);
    let word = |text: &str| expander.word(text, variables);
    let mut applied = Applied::default();
    applied.comment = match instruction {
        Instruction::Env(pairs) => env(config, &expand(pairs, word)?)?,
        Instruction::Label { pairs, expand: on } => {
            let pairs = if *on {
                expand(pairs, word)?
            } else {
                pairs.clone()
            };
            label(config, &pairs)
        }
        Instruction::Maintainer(name) => {
            applied.author = Some(name.clone());
            format!("MAINTAINER {name}")
        }
        Instruction::Cmd(line) => {
            let args = resolve(line, config);
            let text = format!(
                "CMD {}",
                go_format::quote_list(args.as_deref().unwrap_or(&[]))
            );
            *cmd_set |= line.args.as_ref().is_some_and(|args| !args.is_empty());
            config.cmd = args;
            text
        }
        Instruction::Entrypoint(line) => {
            let args = resolve(line, config);
            let text = go_format::quote_list(args.as_deref().unwrap_or(&[]));
            config.entrypoint = args;
            if !*cmd_set {
                config.cmd = None;
            }
            format!("ENTRYPOINT {text}")
        }
        Instruction::Healthcheck(check) => {
            if let Some(old) = config.healthcheck.as_ref()
                && old.test.first().is_some_and(|kind| kind != "NONE")
            {
                let old = go_format::plain_list(&old.test);
                applied.note = Some(format!("Note: overriding previous HEALTHCHECK: {old}\n"));
            }
            config.healthcheck = Some(check.clone());
            format!("HEALTHCHECK {}", go_format::quote_healthcheck(check))
        }
        Instruction::Expose(words) => {
            let mut ports = Vec::new();
            for text in words {
                ports.extend(expander.words(text, variables)?);
            }
            expose(config, &ports)?;
            format!("EXPOSE {}", ports.join(" "))
        }
        Instruction::Onbuild(expression) => {
            config
                .on_build
                .get_or_insert_default()
                .push(expression.clone());
            format!("ONBUILD {expression}")
        }
        Instruction::Shell(shell) => {
            config.shell = Some(shell.clone());
            format!("SHELL {}", go_format::plain_list(shell))
        }
        Instruction::Stopsignal(signal) => {
            let signal = word(signal)?;
            check_signal(&signal)?;
            config.stop_signal = Some(signal.clone());
            format!("STOPSIGNAL {signal}")
        }
        Instruction::User(user) => {
            config.user = word(user)?;
            format!("USER {}", config.user)
        }
        Instruction::Volume(volumes) => {
            let volumes = volumes
                .iter()
                .map(|v| word(v))
                .collect::<Result<Vec<_>>>()?;
            if volumes.iter().any(String::is_empty) {
                return Err(Error::invalid(
                    "VOLUME specified can not be an empty string",
                ));
            }
            let set = config.volumes.get_or_insert_default();
            set.extend(volumes.iter().map(|volume| (volume.clone(), Empty {})));
            format!("VOLUME {}", go_format::plain_list(&volumes))
        }
        _ => return Ok(None),
    };
    Ok(Some(applied))
}

/// `WORKDIR`: the new working directory.
pub(crate) fn workdir(current: &str, path: &str) -> Result<String> {
    if path.is_empty() {
        return Err(Error::invalid("cannot normalize nothing"));
    }
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{current}/{path}")
    };
    Ok(clean(&joined))
}

/// What is run: the shell before a command in shell form.
pub(crate) fn resolve(line: &CommandLine, config: &ExecConfig) -> Option<Vec<String>> {
    let args = line.args.clone()?;
    if !line.shell {
        return Some(args);
    }
    let mut all = shell(config);
    all.extend(args);
    Some(all)
}

/// The shell of shell forms.
pub(crate) fn shell(config: &ExecConfig) -> Vec<String> {
    match &config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
    }
}

fn expand(
    pairs: &[(String, String)],
    word: impl Fn(&str) -> Result<String>,
) -> Result<Vec<(String, String)>> {
    pairs
        .iter()
        .map(|(key, value)| Ok((word(key)?, word(value)?)))
        .collect()
}

fn env(config: &mut ExecConfig, pairs: &[(String, String)]) -> Result<String> {
    let mut comment = String::from("ENV");
    for (name, value) in pairs {
        if name.is_empty() {
            return Err(Error::invalid(format!(
                "invalid environment variable: ={value}"
            )));
        }
        set_variable(&mut config.env, name, value);
        comment.push_str(&format!(" {name}={value}"));
    }
    Ok(comment)
}

/// Sets a variable in place, or adds it at the end.
pub(crate) fn set_variable(environment: &mut Vec<String>, name: &str, value: &str) {
    let text = format!("{name}={value}");
    let known = environment
        .iter_mut()
        .find(|variable| crate::variables::name_of(variable) == name);
    match known {
        Some(variable) => *variable = text,
        None => environment.push(text),
    }
}

fn label(config: &mut ExecConfig, pairs: &[(String, String)]) -> String {
    let labels: &mut BTreeMap<_, _> = config.labels.get_or_insert_default();
    let mut comment = String::from("LABEL");
    for (name, value) in pairs {
        labels.insert(name.clone(), value.clone());
        comment.push_str(&format!(" {name}={value}"));
    }
    comment
}

/// `[[ip:]host:]port[-port][/protocol]`: what matters is the container's port.
fn expose(config: &mut ExecConfig, ports: &[String]) -> Result<()> {
    let mut found = Vec::new();
    for text in ports {
        let container = text.rsplit(':').next().unwrap_or(text);
        let (range, protocol) = match container.split_once('/') {
            Some((range, "")) => (range, "tcp".to_owned()),
            Some((range, protocol)) => (range, protocol.to_ascii_lowercase()),
            None => (container, "tcp".to_owned()),
        };
        if range.is_empty() {
            return Err(Error::invalid(format!("no port specified: {text}<empty>")));
        }
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(Error::invalid(format!("invalid proto: {protocol}")));
        }
        let bad = || Error::invalid(format!("invalid containerPort: {range}"));
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let low: u16 = low.parse().map_err(|_| bad())?;
        let high: u16 = high.parse().map_err(|_| bad())?;
        if low > high || found.len() + usize::from(high - low) >= PORTS_MAX {
            return Err(bad());
        }
        found.extend((low..=high).map(|port| format!("{port}/{protocol}")));
    }
    let set = config.exposed_ports.get_or_insert_default();
    set.extend(found.into_iter().map(|port| (port, Empty {})));
    Ok(())
}

/// A number from 1 to 64, or a name with or without `SIG`.
fn check_signal(text: &str) -> Result<()> {
    const NAMES: [&str; 36] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN", "RTMAX",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, most: u32| {
        name.strip_prefix(prefix)
            .and_then(|n| n.parse::<u32>().ok())
            .is_some_and(|n| (1..=most).contains(&n))
    };
    let good = match text.parse::<u32>() {
        Ok(number) => (1..=64).contains(&number),
        Err(_) => NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14),
    };
    if good {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid signal: {text}")))
}

#[cfg(test)]
mod tests;
