//! What happens is told here, to whoever listens, and kept for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use berth_spec::docker::Event;
use berth_spec::docker::system::Actor;
use jiff::Timestamp;
use tokio::sync::broadcast;

/// Events that are kept for those who ask for earlier ones.
const KEPT: usize = 512;
/// Events that a listener may be behind.
const BEHIND: usize = 1024;

/// Which sort of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Container,
    Image,
    Network,
    Volume,
}

impl Subject {
    fn as_str(self) -> &'static str {
        match self {
            Subject::Container => "container",
            Subject::Image => "image",
            Subject::Network => "network",
            Subject::Volume => "volume",
        }
    }
}

/// The events of an engine.
pub(crate) struct Events {
    kept: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            sender: broadcast::channel(BEHIND).0,
        }
    }

    /// Something happened to `id`.
    pub(crate) fn tell(
        &self,
        subject: Subject,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let now = Timestamp::now();
        let old_form = matches!(subject, Subject::Container | Subject::Image);
        let text = |on: bool, text: &str| if on { text.to_owned() } else { String::new() };
        let image = attributes.get("image").map_or("", String::as_str);
        let event = Event {
            status: text(old_form, action),
            id: text(old_form, id),
            from: text(subject == Subject::Container, image),
            kind: subject.as_str().to_owned(),
            action: action.to_owned(),
            actor: Actor {
                id: id.to_owned(),
                attributes,
            },
            scope: "local".to_owned(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Sent under the lock, so that a listener misses none and sees none twice. Nobody may listen.
        let _ = self.sender.send(event);
    }

    /// What is kept (the oldest first), and everything from now on.
    pub(crate) fn listen(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.sender.subscribe())
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }
}
