//! The end of a container's process, and what follows: release, events, restart policy, auto-remove.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_spec::docker::config::RestartPolicy;
use tokio_util::sync::CancellationToken;

use super::record::{Container, Record};
use super::state::{Happening, Status};
use super::{RemoveOptions, cause, order, start};
use crate::crossing::blocking;
use crate::task::{Exit, Task};
use crate::{Engine, ErrorKind, Result};

/// The first wait before a restart; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LAST_WAIT: Duration = Duration::from_secs(60);
/// A run that lasted so long begins the waits anew.
const LONG_RUN: i64 = 10;

/// Watches a task until it ends, in the background.
pub(crate) fn watch(engine: &Engine, container: &Arc<Container>, task: Arc<Task>) {
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        let exit = tokio::select! {
            exit = task.exited(&engine.0.execs) => exit,
            () = engine.0.closing.cancelled() => return,
        };
        ended(&engine, &container, exit).await;
    });
}

/// A container's process has ended: everything it had is given back, then those who wait are told.
pub(crate) async fn ended(engine: &Engine, container: &Arc<Container>, exit: Exit) {
    let age = container.live(|live| {
        live.probes.take().inspect(CancellationToken::cancel);
        live.task = None;
        live.began.take().map(|began| began.elapsed())
    });
    berth_sys::fail_point("container.exit.seen");
    release(engine, container).await;
    berth_sys::fail_point("container.exit.released");
    let before = container.snapshot();
    let again = restarts(&before, exit, engine.0.closing.is_cancelled());
    let happening = match again {
        true => Happening::WillRestart,
        false => Happening::Exited,
    };
    let cause = match exit.unseen {
        true => cause::UNSEEN.to_owned(),
        false => cause::of(&before, exit),
    };
    let kept = container.happen(&engine.0.db, happening, |record| {
        let life = &mut record.life;
        life.pid = 0;
        life.cause = cause;
        life.exit_code = exit.code;
        life.oom_killed = exit.oom;
        life.finished = Some(exit.at);
        record.sandbox = None;
        record.sandbox_key.clear();
    });
    if let Err(error) = kept {
        tracing::warn!(container.id = %container.id, %error, "its end could not be recorded");
    }
    berth_sys::fail_point("container.exit.recorded");
    if exit.oom {
        super::tell(engine, container, "oom", BTreeMap::new());
    }
    let seconds = match age {
        Some(age) => i64::try_from(age.as_secs()).unwrap_or(i64::MAX),
        None => ran_for(&before, exit),
    };
    let attributes = BTreeMap::from([
        ("exitCode".to_owned(), exit.code.to_string()),
        ("execDuration".to_owned(), seconds.to_string()),
    ]);
    super::tell(engine, container, "die", attributes);
    if again {
        let wait = wait_before(&before, seconds);
        schedule(engine, container, wait);
    } else if before.host.auto_remove {
        let options = RemoveOptions {
            force: false,
            volumes: true,
            link: false,
        };
        match super::remove(engine, &container.id, options).await {
            Ok(()) => {}
            // Somebody else removes it, or starts it again.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {
                tracing::debug!(container.id = %container.id, %error, "not removed by its end");
            }
            Err(error) => {
                tracing::warn!(container.id = %container.id, %error, "a container could not be removed");
            }
        }
    }
}

/// Gives a container's sandbox back, and its directory of the run.
async fn release(engine: &Engine, container: &Arc<Container>) {
    let (engine, container) = (engine.clone(), container.clone());
    let released = blocking(move || {
        let sandbox = container.read(|r| r.sandbox.clone());
        if let Some(sandbox) = sandbox {
            engine.0.networks.release(&sandbox.id)?;
            for endpoint in &sandbox.endpoints {
                start::tell_network(&engine, &endpoint.network_id, "disconnect", &container.id);
            }
        }
        Ok::<_, crate::Error>(())
    })
    .await;
    if let Err(error) = released {
        tracing::warn!(%error, "a network sandbox could not be released");
    }
}

/// Seconds from its start to its end, by the wall clock: nobody was there.
fn ran_for(record: &Record, exit: Exit) -> i64 {
    record.life.started.map_or(0, |started| {
        (exit.at.as_second() - started.as_second()).max(0)
    })
}

/// Whether the policy starts it again.
fn restarts(record: &Record, exit: Exit, closing: bool) -> bool {
    !closing
        && !record.life.stopped_by_user
        && policy_restarts(
            &record.host.restart_policy,
            exit.code,
            record.life.restart_count,
        )
}

fn policy_restarts(policy: &RestartPolicy, code: i64, count: i64) -> bool {
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            code != 0 && (policy.maximum_retry_count == 0 || count < policy.maximum_retry_count)
        }
        _ => false,
    }
}

/// Whether a container that does not run is started when the engine is.
pub(crate) fn starts_with_engine(container: &Container) -> bool {
    container.read(|record| {
        let life = &record.life;
        let idle = matches!(life.status, Status::Exited);
        let by_policy = match record.host.restart_policy.name.as_str() {
            "always" => true,
            "unless-stopped" => !life.stopped_by_user,
            "on-failure" => {
                !life.stopped_by_user
                    && policy_restarts(
                        &record.host.restart_policy,
                        life.exit_code,
                        life.restart_count,
                    )
            }
            _ => false,
        };
        idle && life.started.is_some() && by_policy
    })
}

fn wait_before(record: &Record, ran: i64) -> Duration {
    if ran >= LONG_RUN {
        return FIRST_WAIT;
    }
    let doublings = u32::try_from(record.life.restart_count)
        .unwrap_or(u32::MAX)
        .min(16);
    (FIRST_WAIT * 2_u32.pow(doublings)).min(LAST_WAIT)
}

/// A container that waited for its restart when the engine ended.
pub(crate) fn schedule_restart(engine: &Engine, container: &Arc<Container>, seconds: u64) {
    schedule(engine, container, Duration::from_secs(seconds));
}

fn schedule(engine: &Engine, container: &Arc<Container>, wait: Duration) {
    let cancel = CancellationToken::new();
    container.live(|live| live.restart = Some(cancel.clone()));
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = cancel.cancelled() => return,
            () = engine.0.closing.cancelled() => return,
        }
        tokio::select! {
            () = order::ready(&engine, &container) => {}
            () = cancel.cancelled() => return,
            () = engine.0.closing.cancelled() => return,
        }
        if let Err(error) = restart(&engine, &container, &cancel).await {
            tracing::warn!(container.id = %container.id, %error, "a restart by policy failed");
        }
    });
}

async fn restart(
    engine: &Engine,
    container: &Arc<Container>,
    cancel: &CancellationToken,
) -> Result<()> {
    let _key = container.key.lock().await;
    if cancel.is_cancelled() || container.status() != Status::Restarting {
        return Ok(());
    }
    container.change(&engine.0.db, |record| record.life.restart_count += 1)?;
    let started = start::run(engine, container, false).await;
    if started.is_err() && container.status() == Status::Restarting {
        give_up(engine, container)?;
    }
    started
}

/// Ends the wait for a restart by policy, where there is one. A start that is under way is waited for:
/// then the container runs. The caller does not hold the key.
pub(super) async fn call_off(engine: &Engine, container: &Arc<Container>) -> Result<()> {
    if container.status() != Status::Restarting {
        return Ok(());
    }
    container.live(|live| live.restart.take().inspect(CancellationToken::cancel));
    let _key = container.key.lock().await;
    match container.status() {
        Status::Restarting => give_up(engine, container),
        _ => Ok(()),
    }
}

/// A container that waits for a restart which will not come.
pub(super) fn give_up(engine: &Engine, container: &Arc<Container>) -> Result<()> {
    container.live(|live| live.restart.take().inspect(CancellationToken::cancel));
    container.happen(&engine.0.db, Happening::Exited, |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let policy = |name: &str, max| RestartPolicy {
            name: name.to_owned(),
            maximum_retry_count: max,
        };
        for (name, max, code, count, expected) in [
            ("no", 0, 1, 0, false),
            ("always", 0, 0, 99, true),
            ("unless-stopped", 0, 1, 0, true),
            ("on-failure", 0, 0, 0, false),
            ("on-failure", 0, 1, 50, true),
            ("on-failure", 3, 1, 2, true),
            ("on-failure", 3, 1, 3, false),
        ] {
            assert_eq!(
                policy_restarts(&policy(name, max), code, count),
                expected,
                "{name} {max} {code} {count}"
            );
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits = |count| {
            let mut record = Record::default();
            record.life.restart_count = count;
            wait_before(&record, 0).as_millis()
        };
        assert_eq!(
            [waits(0), waits(1), waits(5), waits(50)],
            [100, 200, 3200, 60_000]
        );
        assert_eq!(wait_before(&Record::default(), 10), FIRST_WAIT);
    }
}
