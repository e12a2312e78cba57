//! Who has to be up before whom, when containers are started by policy: at the engine's start, after
//! the machine's, and after a crash.
//!
//! Edges come from what a container shares with another (`container:` modes, links), from what compose
//! writes down (`com.docker.compose.depends_on`), and from the label `berth.depends-on`
//! (`name[:healthy|:completed],…`). Only who will come up by itself is waited for, and not for ever: a
//! circle starts late, but it starts.

use std::sync::Arc;
use std::time::Duration;

use super::exit;
use super::plan::JoinedMode;
use super::record::{Container, Record};
use super::state::Status;
use crate::Engine;

/// How long one container waits for all it depends on.
const PATIENCE: Duration = Duration::from_secs(60);

const OWN_LABEL: &str = "berth.depends-on";
const COMPOSE_LABEL: &str = "com.docker.compose.depends_on";
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Started,
    Healthy,
    /// It has ended well.
    Completed,
}

/// Whom.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// An ID or a name.
    One(String),
    /// All containers of a service of compose's.
    Service { project: String, service: String },
}

/// What a record depends on.
fn wanted(record: &Record) -> Vec<(Who, Until)> {
    let host = &record.host;
    let mut wanted = Vec::new();
    let shared = [
        JoinedMode::pid(&host.pid_mode),
        JoinedMode::ipc(&host.ipc_mode),
    ];
    for mode in shared.into_iter().flatten() {
        if let JoinedMode::Container(id) = mode {
            wanted.push((Who::One(id), Until::Started));
        }
    }
    if let Some(id) = host.network_mode.strip_prefix("container:") {
        wanted.push((Who::One(id.to_owned()), Until::Started));
    }
    for link in host.links.iter().flatten() {
        let name = link.split(':').next().unwrap_or_default();
        wanted.push((Who::One(name.to_owned()), Until::Started));
    }
    let label = |name: &str| record.config.labels.as_ref().and_then(|l| l.get(name));
    for edge in label(OWN_LABEL).into_iter().flat_map(|l| l.split(',')) {
        let (name, until) = edge.trim().split_once(':').unwrap_or((edge.trim(), ""));
        if !name.is_empty() {
            wanted.push((Who::One(name.to_owned()), until_of(until)));
        }
    }
    let Some(project) = label(PROJECT) else {
        return wanted;
    };
    for edge in label(COMPOSE_LABEL).into_iter().flat_map(|l| l.split(',')) {
        let mut parts = edge.trim().split(':');
        let service = parts.next().unwrap_or_default();
        if !service.is_empty() {
            let who = Who::Service {
                project: project.clone(),
                service: service.to_owned(),
            };
            wanted.push((who, until_of(parts.next().unwrap_or_default())));
        }
    }
    wanted
}

fn until_of(text: &str) -> Until {
    match text {
        "healthy" | "service_healthy" => Until::Healthy,
        "completed" | "service_completed_successfully" => Until::Completed,
        _ => Until::Started,
    }
}

/// Waits until what a container depends on is up, as far as it will be.
pub(crate) async fn ready(engine: &Engine, container: &Arc<Container>) {
    // Before, not everybody is known.
    engine.0.taken_up.cancelled().await;
    let wait = async {
        for (who, until) in container.read(wanted) {
            for other in find(engine, &who) {
                if other.id != container.id && comes(&other, until) {
                    reached(&other, until).await;
                }
            }
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        tracing::warn!(container.id = %container.id, "started without all that it depends on");
    }
}

fn find(engine: &Engine, who: &Who) -> Vec<Arc<Container>> {
    match who {
        Who::One(name) => engine.0.containers.find(name).into_iter().collect(),
        Who::Service { project, service } => {
            let mut all = engine.0.containers.all();
            all.retain(|c| {
                c.read(|r| {
                    let label = |name: &str| r.config.labels.as_ref().and_then(|l| l.get(name));
                    label(PROJECT) == Some(project) && label(SERVICE) == Some(service)
                })
            });
            all
        }
    }
}

/// Whether it is up, or will be by itself.
fn comes(other: &Container, until: Until) -> bool {
    let has_probe = other.read(|r| r.config.healthcheck.is_some());
    let up = other.status().running() || exit::starts_with_engine(other);
    up && (until != Until::Healthy || has_probe || !other.status().alive())
}

async fn reached(other: &Container, until: Until) {
    let mut pulse = other.pulse.subscribe();
    let there = |removed: bool| {
        let (status, code, health, probed) = other.read(|r| {
            let health = r.health.as_ref().is_some_and(|h| h.status == "healthy");
            let probed = r.config.healthcheck.is_some();
            (r.life.status, r.life.exit_code, health, probed)
        });
        removed
            || match until {
                Until::Started => status.alive(),
                Until::Healthy => status.alive() && (health || !probed),
                Until::Completed => status == Status::Exited && code == 0,
            }
    };
    // The sender lives as long as the container, which is borrowed here.
    let _ = pulse.wait_for(|p| there(p.removed)).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn edges_are_read() {
        let mut record = Record::default();
        record.host.network_mode = "container:aa".to_owned();
        record.host.links = Some(vec!["db:database".to_owned()]);
        record.config.labels = Some(BTreeMap::from([
            (OWN_LABEL.to_owned(), "one, two:healthy".to_owned()),
            (
                COMPOSE_LABEL.to_owned(),
                "web:service_started:false,migrate:service_completed_successfully:true".to_owned(),
            ),
            (PROJECT.to_owned(), "p".to_owned()),
        ]));
        let one = |name: &str| Who::One(name.to_owned());
        let service = |name: &str| Who::Service {
            project: "p".to_owned(),
            service: name.to_owned(),
        };
        assert_eq!(
            wanted(&record),
            [
                (one("aa"), Until::Started),
                (one("db"), Until::Started),
                (one("one"), Until::Started),
                (one("two"), Until::Healthy),
                (service("web"), Until::Started),
                (service("migrate"), Until::Completed),
            ]
        );
        assert!(wanted(&Record::default()).is_empty());
    }
}
