//! Health probes: a command run in the container now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_spec::docker::config::HealthConfig;
use berth_spec::docker::container::{Health, HealthResult};
use berth_spec::docker::{ExecCreateBody, Words};
use jiff::Timestamp;
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::record::Container;
use super::restart;
use super::state::Status;
use crate::crossing::blocking;
use crate::exec::registry::{Exec, ExecState};
use crate::exec::run;
use crate::task::ExecRequest;
use crate::{Engine, Error, Result, random, time};

/// Probes whose results are kept.
const KEPT: usize = 5;
/// Bytes of a probe's output that are kept.
const OUTPUT_MAX: usize = 4096;

/// What Docker does where an image says nothing.
const INTERVAL: i64 = 30_000_000_000;
const TIMEOUT: i64 = 30_000_000_000;
const START_INTERVAL: i64 = 5_000_000_000;
const RETRIES: i64 = 3;

/// The label by which an unhealthy container is restarted (`--health-restart`).
const RESTART_LABEL: &str = "berth.health.restart";

/// A probe as it will be run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

fn plan(health: &HealthConfig, shell: Option<&Words>) -> Option<Plan> {
    let command = match health.test.split_first() {
        None => return None,
        Some((kind, _)) if kind == "NONE" => return None,
        Some((kind, rest)) if kind == "CMD" => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            let shell = shell.map_or_else(
                || vec!["/bin/sh".to_owned(), "-c".to_owned()],
                |s| s.0.clone(),
            );
            shell.into_iter().chain(rest.iter().cloned()).collect()
        }
        Some(_) => return None,
    };
    let time = |nanos: i64, default: i64| {
        let nanos = if nanos > 0 { nanos } else { default };
        Duration::from_nanos(nanos.unsigned_abs())
    };
    (!command.is_empty()).then(|| Plan {
        command,
        interval: time(health.interval, INTERVAL),
        timeout: time(health.timeout, TIMEOUT),
        start_period: Duration::from_nanos(health.start_period.max(0).unsigned_abs()),
        start_interval: time(health.start_interval, START_INTERVAL),
        retries: if health.retries > 0 {
            health.retries
        } else {
            RETRIES
        },
    })
}

/// Begins to probe a container that has a probe, until it ends.
pub(crate) fn begin(engine: &Engine, container: &Arc<Container>) {
    let planned = container.read(|r| {
        let health = r.config.healthcheck.as_ref()?;
        plan(health, r.config.shell.as_ref())
    });
    let Some(plan) = planned else { return };
    let cancel = CancellationToken::new();
    container.live(|live| live.probes = Some(cancel.clone()));
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        let probing = probe_on(&engine, &container, &plan);
        tokio::select! {
            () = probing => {}
            () = cancel.cancelled() => {}
            () = engine.0.closing.cancelled() => {}
        }
    });
}

async fn probe_on(engine: &Engine, container: &Arc<Container>, plan: &Plan) {
    let known = container.read(|r| r.health.is_some());
    if !known {
        keep(engine, container, |health| {
            "starting".clone_into(&mut health.status)
        });
    }
    loop {
        let starting = in_start_period(container, plan) && status(container) == "starting";
        let wait = if starting {
            plan.start_interval.min(plan.interval)
        } else {
            plan.interval
        };
        tokio::time::sleep(wait).await;
        if container.status() != Status::Running {
            continue;
        }
        let start = Timestamp::now();
        let (code, output) = match probe(engine, container, plan).await {
            Ok(result) => result,
            Err(error) => (-1, error.to_string()),
        };
        judge(
            engine,
            container,
            plan,
            HealthResult {
                start: time::text(Some(start)),
                end: time::text(Some(Timestamp::now())),
                exit_code: code,
                output,
            },
        );
    }
}

fn status(container: &Container) -> String {
    container.read(|r| {
        r.health
            .as_ref()
            .map(|h| h.status.clone())
            .unwrap_or_default()
    })
}

fn in_start_period(container: &Container, plan: &Plan) -> bool {
    container.age().unwrap_or_default() < plan.start_period
}

fn keep(engine: &Engine, container: &Container, change: impl FnOnce(&mut Health)) {
    let kept = container.change(&engine.0.db, |r| {
        let health = r.health.get_or_insert_default();
        change(health);
        health.status.clone()
    });
    match kept {
        Ok(status) => container.pulse.send_modify(|p| p.health = status),
        Err(error) => {
            tracing::warn!(container.id = %container.id, %error, "its health could not be recorded")
        }
    }
}

/// Takes a result into account; tells of a change.
fn judge(engine: &Engine, container: &Arc<Container>, plan: &Plan, result: HealthResult) {
    let before = status(container);
    let lenient = before == "starting" && in_start_period(container, plan);
    keep(engine, container, |health| {
        next(health, &result, lenient, plan.retries);
        let log = health.log.get_or_insert_default();
        log.push(result);
        if log.len() > KEPT {
            log.remove(0);
        }
    });
    let after = status(container);
    if after != before {
        super::tell(
            engine,
            container,
            &format!("health_status: {after}"),
            BTreeMap::new(),
        );
        if after == "unhealthy" && asks_for_restart(container) {
            // Not here: the probes end with the run that they belong to.
            tokio::spawn(heal(engine.clone(), container.clone()));
        }
    }
}

/// Whether an ill container is to be restarted; a policy with a number of tries bounds it.
fn asks_for_restart(container: &Container) -> bool {
    container.read(|r| {
        let label = r.config.labels.as_ref().and_then(|l| l.get(RESTART_LABEL));
        let tries = r.host.restart_policy.maximum_retry_count;
        label.is_some_and(|value| value == "true") && (tries == 0 || r.life.restart_count < tries)
    })
}

/// Restarts a container that is ill.
async fn heal(engine: Engine, container: Arc<Container>) {
    let _key = container.key.lock().await;
    if container.status() != Status::Running || status(&container) != "unhealthy" {
        return;
    }
    tracing::info!(container.id = %container.id, "restarting an unhealthy container");
    let restarted = match container.change(&engine.0.db, |r| r.life.restart_count += 1) {
        Ok(()) => restart::again(&engine, &container, None, None, false).await,
        Err(error) => Err(error),
    };
    if let Err(error) = restarted {
        tracing::warn!(container.id = %container.id, %error, "an unhealthy container could not be restarted");
    }
}

/// Docker's rule: one success is health; so many failures in a row are illness, unless the
/// container is still starting.
fn next(health: &mut Health, result: &HealthResult, lenient: bool, retries: i64) {
    if result.exit_code == 0 {
        health.failing_streak = 0;
        "healthy".clone_into(&mut health.status);
    } else if !lenient {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            "unhealthy".clone_into(&mut health.status);
        }
    }
}

/// Runs the probe once: its exit code and what it said.
async fn probe(engine: &Engine, container: &Arc<Container>, plan: &Plan) -> Result<(i64, String)> {
    let body = ExecCreateBody {
        cmd: Some(Words(plan.command.clone())),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecCreateBody::default()
    };
    let exec = Arc::new(Exec {
        id: random::id(),
        container: container.id.clone(),
        body,
        state: watch::channel(ExecState::Starting).0,
    });
    engine.0.execs.insert(exec.clone());
    let (pid, stream) = {
        let (engine, container, exec) = (engine.clone(), container.clone(), exec.clone());
        blocking(move || {
            let task = container.task()?;
            let record = container.snapshot();
            let process = run::process(&engine, &record, task.pid(), &exec.body)?;
            task.exec(ExecRequest {
                id: exec.id.clone(),
                process,
                stdin: false,
                stdout: true,
                stderr: true,
            })
        })
        .await?
    };
    engine.0.execs.started(&exec, pid);
    let reading = async {
        match stream {
            Some(stream) => read_output(super::stream_of(stream)?).await,
            None => Ok(String::new()),
        }
    };
    let finished = async {
        let output = reading.await?;
        let mut state = exec.state.subscribe();
        let ended = state
            .wait_for(|s| matches!(s, ExecState::Ended { .. }))
            .await;
        match ended.as_deref() {
            Ok(ExecState::Ended { code }) => Ok::<_, Error>((*code, output)),
            _ => Ok((-1, output)),
        }
    };
    match tokio::time::timeout(plan.timeout, finished).await {
        Ok(result) => result,
        Err(_) => {
            kill(pid);
            Ok((
                -1,
                format!("Health check exceeded timeout ({:?})", plan.timeout),
            ))
        }
    }
}

/// Ends a probe that takes too long.
fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Takes the frames apart; what is beyond the bound is read and dropped.
async fn read_output(mut stream: tokio::net::UnixStream) -> Result<String> {
    use berth_spec::docker::Frame;
    let (mut kept, mut whole) = (Vec::new(), true);
    let mut header = [0; 8];
    while stream.read_exact(&mut header).await.is_ok() {
        let Some(frame) = Frame::decode(header) else {
            break;
        };
        let mut content = (&mut stream).take(u64::from(frame.length));
        let mut buffer = [0; 1024];
        loop {
            match content.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    let room = OUTPUT_MAX.saturating_sub(kept.len()).min(n);
                    whole &= room == n;
                    kept.extend_from_slice(&buffer[..room]);
                }
            }
        }
    }
    let end = if whole { "" } else { "..." };
    Ok(format!("{}{end}", String::from_utf8_lossy(&kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_planned() {
        let health = |test: &[&str]| HealthConfig {
            test: test.iter().map(|t| (*t).to_owned()).collect(),
            ..HealthConfig::default()
        };
        let command = |test: &[&str]| plan(&health(test), None).map(|p| p.command.join(" "));
        assert_eq!(command(&[]), None);
        assert_eq!(command(&["NONE"]), None);
        assert_eq!(command(&["CMD", "a", "b"]).as_deref(), Some("a b"));
        assert_eq!(
            command(&["CMD-SHELL", "a b"]).as_deref(),
            Some("/bin/sh -c a b")
        );
        let planned = plan(&health(&["CMD", "a"]), None).unwrap();
        assert_eq!((planned.interval.as_secs(), planned.retries), (30, 3));
    }

    #[test]
    fn health_follows_the_results() {
        let mut health = Health {
            status: "starting".to_owned(),
            ..Health::default()
        };
        let result = |exit_code| HealthResult {
            exit_code,
            ..HealthResult::default()
        };
        next(&mut health, &result(1), true, 2);
        assert_eq!((&*health.status, health.failing_streak), ("starting", 0));
        next(&mut health, &result(1), false, 2);
        assert_eq!((&*health.status, health.failing_streak), ("starting", 1));
        next(&mut health, &result(1), false, 2);
        assert_eq!(health.status, "unhealthy");
        next(&mut health, &result(0), false, 2);
        assert_eq!((&*health.status, health.failing_streak), ("healthy", 0));
    }

    #[tokio::test]
    async fn output_has_a_bound() {
        use berth_spec::docker::{Frame, StreamKind};
        use tokio::io::AsyncWriteExt;
        for (length, expected) in [(4096, 4096), (5000, 4096 + "...".len())] {
            let (near, mut far) = tokio::net::UnixStream::pair().unwrap();
            let writing = tokio::spawn(async move {
                let frame = Frame {
                    kind: StreamKind::Stdout,
                    length,
                };
                far.write_all(&frame.encode()).await.unwrap();
                far.write_all(&vec![b'x'; length as usize]).await.unwrap();
            });
            let output = read_output(near).await.unwrap();
            writing.await.unwrap();
            assert_eq!(
                (output.len(), output.ends_with("...")),
                (expected, length > 4096)
            );
        }
    }
}
