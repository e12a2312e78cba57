//! events: what happens, as it happens.

use berth_spec::docker::Event;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{Engine, Filters, Result};

/// Events that a slow reader may be behind, beside those that all may be.
const QUEUE: usize = 64;

/// Which events [`events`] gives.
#[derive(Debug, Clone, Default)]
pub struct EventsOptions {
    /// Nanoseconds since the epoch: kept events from then on come first.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch: the stream ends then.
    pub until: Option<i64>,
    pub filters: Filters,
}

/// Events as they happen.
pub type EventStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Event> + Send>>;

const FILTERS: [&str; 17] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "label!",
    "network",
    "node",
    "plugin",
    "reference",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "action",
];

/// What happens, from now or from an earlier time on.
pub async fn events(engine: &Engine, options: EventsOptions) -> Result<EventStream> {
    options.filters.allow(&FILTERS)?;
    let (kept, mut live) = engine.0.events.listen();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let leaving = engine.0.leaving.clone();
    tokio::spawn(async move {
        let past = kept.into_iter().filter(|e| {
            options.since.is_some_and(|since| e.time_nano >= since)
                && options.until.is_none_or(|until| e.time_nano <= until)
        });
        for event in past.filter(|e| takes(&options.filters, e)) {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        let end = async {
            match options.until {
                Some(until) => tokio::time::sleep(left(until)).await,
                None => std::future::pending().await,
            }
        };
        let pass = async {
            loop {
                match live.recv().await {
                    Ok(event) if takes(&options.filters, &event) => {
                        if sender.send(event).await.is_err() {
                            return;
                        }
                    }
                    // One who is too far behind misses some; the next ones are there.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        };
        tokio::select! {
            () = end => {}
            () = pass => {}
            () = leaving.cancelled() => {}
            () = sender.closed() => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn left(until: i64) -> std::time::Duration {
    let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    std::time::Duration::from_nanos(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
}

/// Whether an event is asked for: kinds, actions, and objects by ID, beginning of it or name.
fn takes(filters: &Filters, event: &Event) -> bool {
    let attributes = &event.actor.attributes;
    let object = |kind: &str| {
        if !filters.has(kind) {
            return true;
        }
        event.kind == kind
            && filters.get(kind).iter().any(|wanted| {
                event.actor.id.starts_with(wanted.as_str())
                    || attributes.get("name").is_some_and(|n| {
                        n.trim_start_matches('/') == wanted.trim_start_matches('/')
                    })
                    || (kind == "image"
                        && attributes
                            .get("name")
                            .is_some_and(|n| n.split(':').next() == Some(wanted)))
            })
    };
    // `exec_create: sh` is asked for as `exec_create`.
    let action = event.action.split(':').next().unwrap_or_default();
    let acts = !filters.has("event")
        || filters
            .get("event")
            .iter()
            .any(|e| *e == event.action || e == action);
    // Objects of several kinds are alternatives.
    let kinds = ["container", "image", "network", "volume"];
    let objects =
        kinds.iter().all(|k| !filters.has(k)) || kinds.iter().any(|k| filters.has(k) && object(k));
    filters.exact("type", &event.kind)
        && filters.exact("scope", &event.scope)
        && acts
        && objects
        && filters.labels(attributes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::{Events, Subject};

    #[test]
    fn filters_choose() {
        let events = Events::new();
        let attributes = BTreeMap::from([
            ("name".to_owned(), "web".to_owned()),
            ("team".to_owned(), "a".to_owned()),
        ]);
        events.tell(
            Subject::Container,
            "exec_create: sh",
            "0123456789",
            attributes,
        );
        let (kept, _) = events.listen();
        for (filter, expected) in [
            ("{}", true),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["0123"]}"#, true),
            (r#"{"container":["other"]}"#, false),
            (r#"{"container":["other"],"image":["web"]}"#, false),
            (r#"{"event":["exec_create"]}"#, true),
            (r#"{"event":["start"]}"#, false),
            (r#"{"label":["team=a"]}"#, true),
        ] {
            let filters = Filters::parse(filter).unwrap();
            assert_eq!(takes(&filters, &kept[0]), expected, "{filter}");
        }
        assert_eq!(
            (&*kept[0].status, &*kept[0].id),
            ("exec_create: sh", "0123456789")
        );
    }
}
