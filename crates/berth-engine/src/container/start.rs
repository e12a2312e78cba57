//! start: a created or exited container runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::record::Container;
use super::state::{Happening, next};
use super::{exit, health, launch};
use crate::crossing::blocking;
use crate::event::Subject;
use crate::{Engine, Error, Result};

/// Docker's exit code of a container that could not be started, for a reason of its own.
const NOT_STARTED: i64 = 128;

/// Starts a created or exited container. [`crate::ErrorKind::NotModified`] when it runs already.
pub async fn start(engine: &Engine, id: &str) -> Result<()> {
    let container = engine.0.containers.find(id)?;
    let _key = container.key.lock().await;
    // A user's start is the end of waiting for one by policy.
    container
        .live(|live| live.restart.take())
        .inspect(|wait| wait.cancel());
    run(engine, &container, true).await
}

/// Starts a container whose key is held. `fresh` begins the count of restarts anew.
pub(super) async fn run(engine: &Engine, container: &Arc<Container>, fresh: bool) -> Result<()> {
    let (status, name) = container.read(|r| (r.life.status, r.name.clone()));
    next(status, Happening::Started, &name)?;
    let attaching = container.live(|live| std::mem::take(&mut live.attaching));
    let launched = {
        let (engine, container) = (engine.clone(), container.clone());
        blocking(move || launch::launch(&engine, &container, attaching)).await
    };
    match launched {
        Ok(started) => {
            begin(engine, container, started, fresh)?;
            Ok(())
        }
        Err(error) => {
            failed(engine, container, &error).await;
            Err(error)
        }
    }
}

/// It runs: recorded, told, watched.
fn begin(
    engine: &Engine,
    container: &Arc<Container>,
    started: launch::Launched,
    fresh: bool,
) -> Result<()> {
    let launch::Launched {
        task,
        sandbox,
        sandbox_key,
        ids,
        config,
    } = started;
    for warning in task.warnings() {
        tracing::warn!(container.id = %container.id, "{warning}");
    }
    let task = Arc::new(task);
    container.live(|live| {
        live.task = Some(task.clone());
        live.began = Some(Instant::now());
    });
    let networks: Vec<_> = sandbox
        .iter()
        .flat_map(|s| &s.endpoints)
        .map(|e| e.network_id.clone())
        .collect();
    berth_sys::fail_point("container.start.running");
    let kept = container.happen(&engine.0.db, Happening::Started, |record| {
        let life = &mut record.life;
        life.pid = task.pid();
        life.started = Some(Timestamp::now());
        life.exit_code = 0;
        life.error.clear();
        life.cause.clear();
        life.oom_killed = false;
        life.stopped_by_user = false;
        if fresh {
            life.restart_count = 0;
        }
        record.sandbox = sandbox;
        record.sandbox_key = sandbox_key;
        record.ids = ids;
        record.config.hostname = config.hostname;
        record.health = None;
    });
    if let Err(error) = kept {
        // It runs all the same; its shim is found again by its directory.
        tracing::warn!(container.id = %container.id, %error, "the start could not be recorded");
    }
    berth_sys::fail_point("container.start.recorded");
    for network in networks {
        super::tell_network(engine, &network, "connect", &container.id);
    }
    super::tell(engine, container, "start", BTreeMap::new());
    exit::watch(engine, container, task);
    health::begin(engine, container);
    Ok(())
}

/// It could not be started: Docker's exit codes, and the reason in its state.
async fn failed(engine: &Engine, container: &Arc<Container>, error: &Error) {
    let text = error.to_string();
    let code = if text.contains("executable file not found")
        || text.contains("no such file or directory")
    {
        127
    } else if text.contains("permission denied") || text.contains("is a directory") {
        126
    } else {
        NOT_STARTED
    };
    let kept = container.change(&engine.0.db, |record| {
        record.life.exit_code = code;
        record.life.error.clone_from(&text);
        record.life.cause.clear();
        record.life.pid = 0;
    });
    if let Err(error) = kept {
        tracing::warn!(container.id = %container.id, %error, "the failed start could not be recorded");
    }
    // Who waits for an end has the start's own error; a removal tells the code.
    container.pulse.send_modify(|pulse| pulse.exit_code = code);
    if container.read(|r| r.host.auto_remove) {
        let options = super::RemoveOptions {
            force: true,
            volumes: true,
            link: false,
        };
        let removed = super::remove::remove_held(engine, container, options).await;
        if let Err(error) = removed {
            tracing::warn!(container.id = %container.id, %error, "a container could not be removed");
        }
    }
}

/// An event of a network.
pub(crate) fn tell_network(engine: &Engine, network: &str, action: &str, container: &str) {
    let name = engine
        .0
        .networks
        .get(network)
        .map_or_else(|_| network.to_owned(), |n| n.name);
    let kind = engine
        .0
        .networks
        .get(network)
        .map_or("bridge", |n| n.driver.as_str());
    let attributes = BTreeMap::from([
        ("container".to_owned(), container.to_owned()),
        ("name".to_owned(), name),
        ("type".to_owned(), kind.to_owned()),
    ]);
    engine
        .0
        .events
        .tell(Subject::Network, action, network, attributes);
}
