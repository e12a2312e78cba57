//! top: the processes of a container, in the columns of `ps`.

use berth_spec::docker::container::TopResponse;

use super::process::{Machine, Process};
use super::state::Status;
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Lists processes in the columns that `ps` has for `ps_args` (`-ef` where empty).
pub async fn top(engine: &Engine, id: &str, ps_args: &str) -> Result<TopResponse> {
    let container = engine.0.containers.find(id)?;
    match container.status() {
        Status::Running | Status::Paused => {}
        Status::Restarting => {
            return Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        _ => {
            return Err(Error::conflict(format!(
                "container {} is not running",
                container.id
            )));
        }
    }
    let columns = columns(ps_args)?;
    let path = container.read(|r| engine.cgroup_path(r));
    let cgroups = engine.0.cgroups.clone();
    let table = blocking(move || {
        let pids = cgroups
            .open(&path)
            .and_then(|group| group.pids())
            .map_err(|e| Error::internal(e.to_string()))?;
        let machine = Machine::read();
        // In the order in which they were started.
        let mut processes: Vec<_> = pids.into_iter().filter_map(Process::read).collect();
        processes.sort_by_key(|p| (p.started, p.pid));
        Ok::<_, Error>(TopResponse {
            titles: columns.iter().map(|c| c.title.clone()).collect(),
            processes: processes
                .iter()
                .map(|p| columns.iter().map(|c| (c.show)(p, &machine)).collect())
                .collect(),
        })
    })
    .await?;
    super::tell(engine, &container, "top", std::collections::BTreeMap::new());
    Ok(table)
}

type Show = fn(&Process, &Machine) -> String;

struct Column {
    title: String,
    show: Show,
}

/// What `ps` shows without being asked for anything in particular.
const FULL: &str = "user=UID,pid,ppid,c,stime,tty=TTY,time,args=CMD";
const LOADED: &str = "user,pid,pcpu,pmem,vsz,rss,tty=TTY,stat,start_time=START,bsdtime,args";

/// The columns that arguments of `ps` ask for: `-ef`, `aux` and their kin, or a list of them by `-o`.
fn columns(arguments: &str) -> Result<Vec<Column>> {
    let mut list = String::new();
    let mut words = arguments.split_whitespace();
    let mut preset = None;
    while let Some(word) = words.next() {
        let letters = word.strip_prefix('-').unwrap_or(word);
        if let Some(names) = letters.strip_prefix("-format") {
            let names = names.strip_prefix('=').or_else(|| words.next());
            push(&mut list, names.unwrap_or_default());
            continue;
        }
        let (flags, names) = letters.split_at(letters.find('o').unwrap_or(letters.len()));
        let known = flags.chars().all(|c| "aAdefgjuwx".contains(c));
        if !known || letters.is_empty() {
            return Err(Error::invalid(format!(
                "ps: unsupported option: {word} (supported are -ef, aux and lists of columns by -o)"
            )));
        }
        preset = match flags {
            f if f.contains('u') => Some(LOADED),
            f if f.contains('f') => Some(FULL),
            _ => preset,
        };
        if let Some(names) = names.strip_prefix('o') {
            let names = match names {
                "" => words.next().unwrap_or_default(),
                names => names,
            };
            push(&mut list, names);
        }
    }
    let list = match (&*list, preset) {
        ("", Some(preset)) => preset,
        ("", None) if arguments.trim().is_empty() => FULL,
        ("", None) => "pid,tty=TTY,time,comm=CMD",
        (list, _) => list,
    };
    let columns = list
        .split(',')
        .filter(|name| !name.is_empty())
        .map(column)
        .collect::<Result<Vec<_>>>()?;
    // Clients find processes by it.
    match columns.iter().any(|c| c.title == "PID") {
        true => Ok(columns),
        false => Err(Error::internal("Couldn't find PID field in ps output")),
    }
}

fn push(list: &mut String, names: &str) {
    list.push(',');
    list.push_str(names);
}

/// A column by its name (ps(1), "standard format specifiers"), with another title after `=`.
fn column(text: &str) -> Result<Column> {
    let (name, title) = text
        .split_once('=')
        .map_or((text, None), |(n, t)| (n, Some(t)));
    if name == "pid" && title.is_some_and(|t| t != "PID") {
        return Err(Error::invalid(format!(
            "specifying \"{text}\" is not allowed"
        )));
    }
    let (own, show): (&str, Show) = match name {
        "user" | "euser" | "uname" => ("USER", |p, m| m.user(p.uid)),
        "uid" | "euid" => ("UID", |p, _| p.uid.to_string()),
        "pid" | "tgid" => ("PID", |p, _| p.pid.to_string()),
        "ppid" => ("PPID", |p, _| p.parent.to_string()),
        "pgid" | "pgrp" => ("PGID", |p, _| p.group.to_string()),
        "sid" | "sess" | "session" => ("SID", |p, _| p.session.to_string()),
        "c" => ("C", |p, m| (m.cpu_share(p) / 10).min(99).to_string()),
        "pcpu" | "%cpu" => ("%CPU", |p, m| tenths(m.cpu_share(p))),
        "pmem" | "%mem" => ("%MEM", |p, m| tenths(m.memory_share(p))),
        "vsz" | "vsize" => ("VSZ", |p, _| (p.virtual_size / 1024).to_string()),
        "rss" | "rssize" | "rsz" => ("RSS", |p, _| (p.resident / 1024).to_string()),
        "tty" | "tt" | "tname" => ("TT", |p, _| p.terminal_name()),
        "stat" => ("STAT", |p, _| p.state_letters()),
        "s" | "state" => ("S", |p, _| p.state.to_string()),
        "pri" => ("PRI", |p, _| (39 - p.priority).to_string()),
        "ni" | "nice" => ("NI", |p, _| p.nice.to_string()),
        "nlwp" | "thcount" => ("NLWP", |p, _| p.threads.to_string()),
        "stime" | "start_time" => ("STIME", |p, m| m.start_text(p)),
        "start" => ("STARTED", |p, m| m.start_text(p)),
        "time" | "cputime" => ("TIME", |p, _| long_time(p.cpu_seconds())),
        "bsdtime" => ("TIME", |p, _| short_time(p.cpu_seconds())),
        "etime" => ("ELAPSED", |p, m| elapsed(m.age(p))),
        "etimes" => ("ELAPSED", |p, m| m.age(p).to_string()),
        "args" | "cmd" | "command" => ("COMMAND", |p, _| p.command()),
        "comm" | "ucmd" | "ucomm" => ("COMMAND", |p, _| p.name.clone()),
        _ => {
            return Err(Error::invalid(format!(
                "error: unknown user-defined format specifier \"{name}\""
            )));
        }
    };
    let title = title.unwrap_or(if name == "cmd" { "CMD" } else { own });
    Ok(Column {
        title: title.to_owned(),
        show,
    })
}

fn tenths(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

/// `00:01:02`, with days before it where there are some.
fn long_time(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let days = match days {
        0 => String::new(),
        days => format!("{days}-"),
    };
    format!(
        "{days}{hours:02}:{:02}:{:02}",
        seconds / 60 % 60,
        seconds % 60
    )
}

/// `1:02`.
fn short_time(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// `01:02`, `01:00:00`, `1-00:00:00`.
fn elapsed(seconds: u64) -> String {
    match seconds {
        ..3600 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        _ => long_time(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> String {
        match columns(arguments) {
            Ok(columns) => columns
                .into_iter()
                .map(|c| c.title)
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn columns_are_those_of_ps() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        for (arguments, expected) in [
            ("", full),
            ("-ef", full),
            ("-efww", full),
            (
                "aux",
                "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
            ),
            (
                "-aux",
                "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
            ),
            ("-e", "PID TTY TIME CMD"),
            ("-o pid,comm", "PID COMMAND"),
            ("-eo pid,cmd", "PID CMD"),
            ("-opid,user=WHO", "PID WHO"),
            ("axo pid -o %cpu", "PID %CPU"),
            ("--format=pid,etime", "PID ELAPSED"),
            ("-o comm", "Couldn't find PID field in ps output"),
            ("-o pid=X", "specifying \"pid=X\" is not allowed"),
            (
                "-o pid,nonsense",
                "error: unknown user-defined format specifier \"nonsense\"",
            ),
        ] {
            assert_eq!(titles(arguments), expected, "{arguments}");
        }
        assert!(titles("-C sh").starts_with("ps: unsupported option: -C"));
    }

    #[test]
    fn times_are_those_of_ps() {
        for (seconds, long, short, since) in [
            (0, "00:00:00", "0:00", "00:00"),
            (62, "00:01:02", "1:02", "01:02"),
            (3_661, "01:01:01", "61:01", "01:01:01"),
            (90_000, "1-01:00:00", "1500:00", "1-01:00:00"),
        ] {
            assert_eq!(long_time(seconds), long);
            assert_eq!(short_time(seconds), short);
            assert_eq!(elapsed(seconds), since);
        }
        assert_eq!(tenths(1234), "123.4");
    }
}
