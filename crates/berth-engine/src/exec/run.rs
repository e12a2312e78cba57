//! From an exec's request to a running process. Blocks.

use std::os::fd::OwnedFd;
use std::path::Path;

use berth_spec::docker::ExecCreateBody;
use berth_spec::oci::runtime::Process;
use berth_sys::root::RootFd;

use super::record;
use super::registry::{Exec, ExecState};
use crate::container::plan::spec::{self, capabilities, capability_sets, console_size, oci_user};
use crate::container::plan::user::Accounts;
use crate::container::plan::{SecurityOptions, overlay, rlimits};
use crate::container::record::{Container, Record};
use crate::task::ExecRequest;
use crate::{Engine, Error, Result};

/// Docker's exit codes of a process that could not be run.
pub(crate) fn failed_code(error: &Error) -> i64 {
    let text = error.to_string();
    if text.contains("executable file not found") || text.contains("no such file or directory") {
        127
    } else {
        126
    }
}

/// Runs an exec; its PID and stream.
pub(super) fn run(
    engine: &Engine,
    container: &Container,
    exec: &Exec,
    size: [u32; 2],
    detach: bool,
) -> Result<(i32, Option<OwnedFd>)> {
    let task = container.task()?;
    let record = container.snapshot();
    let mut process = process(engine, &record, task.pid(), &exec.body)?;
    process.console_size = console_size(size);
    // Should the engine end before it has the answer, the shim's word counts.
    record::keep(&engine.0.db, exec, ExecState::Starting)?;
    let attached = |asked: bool| asked && !detach;
    task.exec(ExecRequest {
        id: exec.id.clone(),
        process,
        stdin: attached(exec.body.attach_stdin),
        stdout: attached(exec.body.attach_stdout),
        stderr: attached(exec.body.attach_stderr),
    })
}

/// The process that an exec asks for.
pub(crate) fn process(
    engine: &Engine,
    record: &Record,
    pid: i32,
    body: &ExecCreateBody,
) -> Result<Process> {
    let (config, host) = (&record.config, &record.host);
    let root = RootFd::open(&Path::new("/proc").join(pid.to_string()).join("root"))
        .map_err(|e| Error::io("cannot open the container's root", e))?;
    let name = match body.user.as_str() {
        "" => &config.user,
        user => user,
    };
    let add = host.group_add.as_deref().unwrap_or_default();
    let user = Accounts::read(&root)?.resolve(name, add)?;
    let mut asked = config.env.clone().unwrap_or_default();
    overlay(&mut asked, body.env.as_deref().unwrap_or_default());
    let privileged = host.privileged || body.privileged;
    let security = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let cwd = match body.working_dir.as_str() {
        "" => spec::cwd(config),
        dir if dir.starts_with('/') => dir.to_owned(),
        dir => {
            return Err(Error::invalid(format!(
                "Cwd must be an absolute path: {dir}"
            )));
        }
    };
    Ok(Process {
        user: oci_user(&user),
        args: body.cmd.as_ref().map_or_else(Vec::new, |c| c.0.clone()),
        cwd,
        terminal: body.tty,
        env: spec::env(config, &asked, body.tty, &user.home),
        capabilities: Some(capability_sets(capabilities(host, privileged)?)),
        rlimits: rlimits(
            host.ulimits.as_deref().unwrap_or_default(),
            &engine.0.defaults.ulimits,
        )?,
        no_new_privileges: security.no_new_privileges,
        oom_score_adj: i32::try_from(host.oom_score_adj).ok().filter(|n| *n != 0),
        ..Process::default()
    })
}
