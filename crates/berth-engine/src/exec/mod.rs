//! Further processes in a running container.

pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_spec::docker::exec::{ExecCreateResponse, ProcessConfig};
use berth_spec::docker::{ExecCreateBody, ExecInspect, ExecStartBody, Frame, StreamKind};
use tokio::sync::watch;

use crate::container::plan::check_console_size;
use crate::container::record::Container;
use crate::container::state::Status;
use crate::crossing::blocking;
use crate::db::Kind;
use crate::session::parse_detach_keys;
use crate::{Engine, Error, Result, Session, container, random};
use registry::{Exec, ExecState};

fn find(engine: &Engine, id: &str) -> Result<(Arc<Exec>, Arc<Container>)> {
    let absent = || Error::not_found(format!("No such exec instance: {id}"));
    let exec = engine.0.execs.get(id).ok_or_else(absent)?;
    let container = engine
        .0
        .containers
        .get(&exec.container)
        .ok_or_else(absent)?;
    Ok((exec, container))
}

fn check_running(container: &Container) -> Result<()> {
    match container.status() {
        Status::Running => Ok(()),
        Status::Paused => Err(Error::conflict(format!(
            "container {} is paused, unpause the container before exec",
            container.id
        ))),
        Status::Restarting => Err(Error::conflict(format!(
            "container {} is restarting, wait until the container is running",
            container.id
        ))),
        _ => Err(Error::conflict(format!(
            "container {} is not running",
            container.id
        ))),
    }
}

/// Prepares a process; nothing runs yet.
pub async fn create(
    engine: &Engine,
    container: &str,
    body: ExecCreateBody,
) -> Result<ExecCreateResponse> {
    let container = engine.0.containers.find(container)?;
    check_running(&container)?;
    let command = body.cmd.as_ref().map_or(&[][..], |c| &c.0);
    if command.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    let texts = command.iter().chain(body.env.iter().flatten());
    if texts
        .chain([&body.user, &body.working_dir])
        .any(|t| t.contains('\0'))
    {
        return Err(Error::invalid("invalid exec: contains a NUL byte"));
    }
    check_console_size(body.console_size.unwrap_or_default())?;
    parse_detach_keys(&body.detach_keys)?;
    let id = random::id();
    let exec = Arc::new(Exec {
        id: id.clone(),
        container: container.id.clone(),
        body,
        state: watch::channel(ExecState::Created).0,
    });
    record::keep(&engine.0.db, &exec, ExecState::Created)?;
    tell(engine, &container, &exec, "exec_create", true, None);
    if let Some(old) = engine.0.execs.insert(exec) {
        engine.0.db.remove(Kind::Exec, &old)?;
    }
    container.live(|live| live.execs.insert(id.clone()));
    Ok(ExecCreateResponse { id })
}

/// Runs it. A session comes back unless it was asked to run detached.
pub async fn start(engine: &Engine, id: &str, body: ExecStartBody) -> Result<Option<Session>> {
    let (exec, container) = find(engine, id)?;
    check_running(&container)?;
    check_console_size(body.console_size.unwrap_or_default())?;
    let began = exec.state.send_if_modified(|state| {
        let fresh = *state == ExecState::Created;
        if fresh {
            *state = ExecState::Starting;
        }
        fresh
    });
    if !began {
        return Err(Error::conflict(match exec.state() {
            ExecState::Ended { .. } => format!("exec command {id} has already run"),
            _ => format!("exec command {id} is already running"),
        }));
    }
    tell(engine, &container, &exec, "exec_start", true, None);
    let size = body
        .console_size
        .or(exec.body.console_size)
        .unwrap_or_default();
    let detach = body.detach;
    let started = {
        let (engine, exec, container) = (engine.clone(), exec.clone(), container.clone());
        blocking(move || run::run(&engine, &container, &exec, size, detach)).await
    };
    let (pid, stream) = match started {
        Ok(started) => started,
        Err(error) => {
            let ended = ExecState::Ended {
                code: run::failed_code(&error),
            };
            exec.state.send_replace(ended);
            record::remember(engine, &exec, ended);
            container.live(|live| live.execs.remove(&exec.id));
            return match detach {
                true => Err(error),
                false => Ok(Some(refused(&exec, &error))),
            };
        }
    };
    watch_end(engine, &container, &exec);
    engine.0.execs.started(&exec, pid);
    match stream {
        Some(stream) if !detach => Ok(Some(Session {
            tty: exec.body.tty,
            replay: None,
            stream: Some(container::stream_of(stream)?),
            stdin: exec.body.attach_stdin,
            detach_keys: match exec.body.tty {
                true => parse_detach_keys(&exec.body.detach_keys)?,
                false => Vec::new(),
            },
            detached: None,
            ended: Some(Box::pin(ended(exec))),
        })),
        _ => Ok(None),
    }
}

/// A session that says why the process could not be run: clients read it as the process's output,
/// and ask for the exit code then.
fn refused(exec: &Exec, error: &Error) -> Session {
    let text = format!("{error}\r\n");
    let mut bytes = Vec::new();
    if !exec.body.tty {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let kind = StreamKind::Stdout;
        bytes.extend_from_slice(&Frame { kind, length }.encode());
    }
    bytes.extend_from_slice(text.as_bytes());
    Session {
        tty: exec.body.tty,
        replay: Some(Box::pin(futures_util::stream::once(async {
            Ok(bytes.into())
        }))),
        stream: None,
        stdin: false,
        detach_keys: Vec::new(),
        detached: None,
        ended: None,
    }
}

/// Waits until an exec has ended.
async fn ended(exec: Arc<Exec>) {
    let mut state = exec.state.subscribe();
    // The sender lives as long as the exec that is held here.
    let _ = state
        .wait_for(|s| matches!(s, ExecState::Ended { .. }))
        .await;
}

/// Tells of the end, and lets the container forget the exec.
fn watch_end(engine: &Engine, container: &Arc<Container>, exec: &Arc<Exec>) {
    let (engine, container, exec) = (engine.clone(), container.clone(), exec.clone());
    tokio::spawn(async move {
        let mut state = exec.state.subscribe();
        let mut pulse = container.pulse.subscribe();
        let code = tokio::select! {
            ended = state.wait_for(|s| matches!(s, ExecState::Ended { .. })) => match ended.as_deref() {
                Ok(ExecState::Ended { code }) => *code,
                _ => return,
            },
            // Its processes go with the container.
            _ = pulse.wait_for(|p| !p.running || p.removed) => 137,
            () = engine.0.closing.cancelled() => return,
        };
        let ended = ExecState::Ended { code };
        exec.state.send_replace(ended);
        record::remember(&engine, &exec, ended);
        container.live(|live| live.execs.remove(&exec.id));
        tell(&engine, &container, &exec, "exec_die", false, Some(code));
    });
}

/// Describes it.
pub async fn inspect(engine: &Engine, id: &str) -> Result<ExecInspect> {
    let (exec, container) = find(engine, id)?;
    let command = exec.body.cmd.as_ref().map_or(&[][..], |c| &c.0);
    let state = exec.state();
    Ok(ExecInspect {
        id: exec.id.clone(),
        running: matches!(state, ExecState::Running { .. } | ExecState::Starting),
        exit_code: match state {
            ExecState::Ended { code } => Some(code),
            _ => None,
        },
        process_config: ProcessConfig {
            tty: exec.body.tty,
            entrypoint: command.first().cloned().unwrap_or_default(),
            arguments: command.iter().skip(1).cloned().collect(),
            privileged: Some(exec.body.privileged),
            user: exec.body.user.clone(),
        },
        open_stdin: exec.body.attach_stdin,
        open_stderr: exec.body.attach_stderr,
        open_stdout: exec.body.attach_stdout,
        can_remove: false,
        container_id: container.id.clone(),
        detach_keys: exec.body.detach_keys.clone(),
        pid: match state {
            ExecState::Running { pid } => i64::from(pid),
            _ => 0,
        },
    })
}

/// Sets the size of its terminal, in characters.
pub async fn resize(engine: &Engine, id: &str, height: u16, width: u16) -> Result<()> {
    let (exec, container) = find(engine, id)?;
    // A client may ask as soon as it has the stream.
    let mut state = exec.state.subscribe();
    let starting = state.wait_for(|s| *s != ExecState::Starting);
    let state = match tokio::time::timeout(std::time::Duration::from_secs(10), starting).await {
        Ok(Ok(state)) => *state,
        _ => exec.state(),
    };
    if !matches!(state, ExecState::Running { .. }) {
        return Err(Error::conflict(format!("exec {id} is not running")));
    }
    let task = container.task()?;
    let id = exec.id.clone();
    blocking(move || task.resize_exec(&id, height, width)).await
}

fn tell(
    engine: &Engine,
    container: &Container,
    exec: &Exec,
    action: &str,
    command: bool,
    code: Option<i64>,
) {
    let mut more = BTreeMap::from([("execID".to_owned(), exec.id.clone())]);
    if let Some(code) = code {
        more.insert("exitCode".to_owned(), code.to_string());
    }
    let words = exec.body.cmd.as_ref().map_or(&[][..], |c| &c.0).join(" ");
    let action = match command {
        true => format!("{action}: {words}"),
        false => action.to_owned(),
    };
    container::tell(engine, container, &action, more);
}
