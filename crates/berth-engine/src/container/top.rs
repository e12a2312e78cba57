//! top: the processes of a container.

use std::collections::BTreeSet;

use berth_spec::docker::container::TopResponse;
use tokio::process::Command;

use super::state::Status;
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Bytes of `ps`'s output that are read at most.
const OUTPUT_MAX: usize = 8 << 20;

/// Lists processes as `ps` with `ps_args` (`-ef` where empty) does.
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
    let path = container.read(|r| engine.cgroup_path(r));
    let cgroups = engine.0.cgroups.clone();
    let pids: BTreeSet<i32> = blocking(move || {
        let group = cgroups.open(&path).and_then(|group| group.pids());
        group
            .map(|pids| pids.into_iter().collect())
            .map_err(|e| Error::internal(e.to_string()))
    })
    .await?;
    let args: Vec<&str> = match ps_args.trim() {
        "" => vec!["-ef"],
        args => args.split_whitespace().collect(),
    };
    check_args(&args)?;
    // The host's own, by a fixed path: nothing of the container is run.
    let output = Command::new("/usr/bin/ps")
        .args(&args)
        .env_clear()
        .output()
        .await
        .map_err(|e| Error::io("error running ps", e))?;
    if !output.status.success() || output.stdout.len() > OUTPUT_MAX {
        return Err(Error::invalid(format!(
            "error running ps: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    select(&String::from_utf8_lossy(&output.stdout), &pids)
}

/// Arguments that `ps` would take as something else than which columns to show.
fn check_args(args: &[&str]) -> Result<()> {
    for arg in args {
        if arg.contains("pid=") {
            return Err(Error::invalid(format!(
                "specifying \"{arg}\" is not allowed"
            )));
        }
    }
    Ok(())
}

/// The lines of `ps` that are of these processes, cut at their columns.
fn select(output: &str, pids: &BTreeSet<i32>) -> Result<TopResponse> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let column = titles
        .iter()
        .position(|t| t == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let of_ours = words
            .get(column)
            .and_then(|pid| pid.parse().ok())
            .is_some_and(|pid: i32| pids.contains(&pid));
        if !of_ours || words.len() < titles.len() {
            continue;
        }
        // The last column holds what is left: a command has spaces.
        let (fixed, rest) = words.split_at(titles.len() - 1);
        let mut process: Vec<String> = fixed.iter().map(|w| (*w).to_owned()).collect();
        process.push(rest.join(" "));
        processes.push(process);
    }
    Ok(TopResponse { processes, titles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_pid() {
        let output = "UID   PID  PPID CMD\nroot    1     0 init\nroot   42     1 sleep 1 2\n";
        let top = select(output, &BTreeSet::from([42])).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(top.processes, [["root", "42", "1", "sleep 1 2"]]);
        assert!(select("UID CMD\n", &BTreeSet::new()).is_err());
    }
}
