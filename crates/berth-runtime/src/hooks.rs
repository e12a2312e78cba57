//! Programs run at points of a container's life (config.md, "POSIX-platform Hooks").

use std::ffi::{CString, OsStr};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_spec::oci::runtime::{Hook, OCI_VERSION, Spec, State, Status};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Context, Error, Result};

/// Bytes of a hook's complaints that are told.
const STDERR_MAX: u64 = 4096;

/// What hooks read on standard input.
pub(crate) fn state(
    spec: &Spec,
    id: &str,
    status: Status,
    pid: Option<i32>,
    bundle: &Path,
) -> State {
    State {
        oci_version: OCI_VERSION.to_owned(),
        id: id.to_owned(),
        status,
        pid,
        bundle: bundle.display().to_string(),
        annotations: spec.annotations.clone(),
    }
}

/// Runs hooks in order; the first failure ends it. One that names no environment has ours, as with
/// runc.
pub(crate) fn run(point: &str, hooks: &[Hook], state: &State) -> Result<()> {
    run_in(point, hooks, state, None)
}

/// The same where one that names no environment has this one.
pub(crate) fn run_in(
    point: &str,
    hooks: &[Hook],
    state: &State,
    environment: Option<&[CString]>,
) -> Result<()> {
    for (number, hook) in hooks.iter().enumerate() {
        run_one(hook, state, environment)
            .map_err(|e| e.during(&format!("error running {point} hook #{number}")))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &State, environment: Option<&[CString]>) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let what = || hook.path.clone();
    if !hook.path.starts_with('/') {
        return Err(Error::invalid(format!(
            "{:?} is no absolute path",
            hook.path
        )));
    }
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    let given = environment.unwrap_or_default().iter();
    let given: Vec<&[u8]> = match hook.env.as_slice() {
        [] => given.map(|v| v.as_bytes()).collect(),
        own => own.iter().map(String::as_bytes).collect(),
    };
    if environment.is_some() || !given.is_empty() {
        command.env_clear();
    }
    for variable in given {
        let at = variable.iter().position(|byte| *byte == b'=');
        let (name, value) = variable.split_at(at.unwrap_or(variable.len()));
        let value = value.strip_prefix(b"=").unwrap_or_default();
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(what)?;
    let text = serde_json::to_vec(state).context(what)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read it. It fits into the pipe, so this does not wait.
        let _ = stdin.write_all(&text);
    }
    wait(&mut child, hook.timeout)?;
    let status = child.wait().context(what)?;
    if status.success() {
        return Ok(());
    }
    let mut complaint = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What it has written is there; a child of its own may hold the pipe open.
        let _ = rustix::io::ioctl_fionbio(&stderr, true);
        let _ = stderr.take(STDERR_MAX).read_to_end(&mut complaint);
    }
    let complaint = String::from_utf8_lossy(&complaint);
    Err(Error::invalid(format!(
        "{}: {status}, stderr: {}",
        hook.path,
        complaint.trim()
    )))
}

/// Waits for the end, or kills it once its time is over.
fn wait(child: &mut Child, timeout: Option<i64>) -> Result<()> {
    let Some(seconds) = timeout else {
        return Ok(());
    };
    let deadline = Instant::now() + Duration::from_secs(seconds.clamp(0, 86_400).unsigned_abs());
    let what = || "hook".to_owned();
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(what)?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = rustix::time::Timespec::try_from(left).context(what)?;
        let mut polls = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        match rustix::event::poll(&mut polls, Some(&left)) {
            Ok(0) => break,
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context(what),
        }
    }
    // It may have ended this moment.
    let _ = child.kill();
    let _ = child.wait();
    Err(Error::invalid("hook ran past specified timeout"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["A=b".into()],
            timeout: Some(30),
        }
    }

    #[test]
    fn hooks_get_the_state_and_their_environment() {
        let temp = tempfile::tempdir().unwrap();
        let out = temp.path().join("out");
        let script = format!("cat > {0}; echo $A >> {0}", out.display());
        let state = state(
            &Spec::default(),
            "c1",
            Status::Creating,
            Some(7),
            temp.path(),
        );
        run("prestart", &[hook(&script)], &state).unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        assert!(text.contains(r#""id":"c1""#), "{text}");
        assert!(text.contains(r#""status":"creating""#), "{text}");
        assert!(text.ends_with("b\n"), "{text}");
    }

    #[test]
    fn failures_and_timeouts_are_told() {
        let state = State::default();
        let error = run("poststop", &[hook("echo no >&2; exit 3")], &state).unwrap_err();
        assert!(error.to_string().contains("poststop hook #0"), "{error}");
        assert!(error.to_string().ends_with("stderr: no"), "{error}");
        let mut slow = hook("exec sleep 1000");
        slow.timeout = Some(0);
        let error = run("prestart", &[slow], &state).unwrap_err();
        assert!(error.to_string().contains("timeout"), "{error}");
    }
}
