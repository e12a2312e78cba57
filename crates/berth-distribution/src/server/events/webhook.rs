//! Webhooks: events as other programs are told of them, in the reference registry's envelope
//! (`application/vnd.docker.distribution.events.v1+json`).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Action, Event};
use crate::Secret;
use crate::server::fault::{Code, Fault, Reply};
use crate::server::metrics::{Metrics, add};
use crate::server::pattern::Pattern;

/// Events that wait for one receiver; more are lost.
const QUEUE: usize = 1024;
/// A receiver has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Times that an event is sent before it is given up.
const TRIES: u32 = 5;
/// The pause after the first failure; it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);
const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v1+json";

/// Somebody to tell.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Webhook {
    /// Where to post.
    pub url: String,
    /// Signs what is posted: `X-Berth-Signature: sha256=HMAC`.
    #[serde(default)]
    pub secret: Secret,
    /// What to tell of.
    #[serde(default = "changes")]
    pub actions: Vec<Action>,
    /// Which repositories it is about.
    #[serde(default = "every")]
    pub repositories: Vec<Pattern>,
}

fn changes() -> Vec<Action> {
    vec![Action::Push, Action::Delete]
}

fn every() -> Vec<Pattern> {
    vec![Pattern::new("**")]
}

/// All receivers.
pub(crate) struct Hooks {
    hooks: Vec<(Webhook, mpsc::Sender<Event>)>,
    metrics: Arc<Metrics>,
}

impl Hooks {
    /// Starts a task per receiver; an executor must be there.
    pub(crate) fn open(webhooks: &[Webhook], metrics: &Arc<Metrics>) -> Reply<Self> {
        let mut hooks = Vec::new();
        for webhook in webhooks {
            let unusable = |why: String| {
                Fault::new(Code::Unknown, format!("webhook {:?}: {why}", webhook.url))
            };
            reqwest::Url::parse(&webhook.url).map_err(|e| unusable(e.to_string()))?;
            let http = reqwest::Client::builder()
                .timeout(TIMEOUT)
                .redirect(Policy::none())
                .no_proxy()
                .build()
                .map_err(|e| unusable(e.to_string()))?;
            let (sender, queue) = mpsc::channel(QUEUE);
            tokio::spawn(deliver(webhook.clone(), http, queue, metrics.clone()));
            hooks.push((webhook.clone(), sender));
        }
        Ok(Self {
            hooks,
            metrics: metrics.clone(),
        })
    }

    pub(crate) fn wants(&self, action: Action) -> bool {
        self.hooks.iter().any(|(h, _)| h.actions.contains(&action))
    }

    pub(crate) fn tell(&self, event: Event) {
        for (hook, queue) in &self.hooks {
            let wanted = hook.actions.contains(&event.action)
                && hook
                    .repositories
                    .iter()
                    .any(|p| p.matches(&event.repository));
            if wanted && queue.try_send(event.clone()).is_err() {
                tracing::warn!(url = hook.url, "too many events wait: one is lost");
                add(&self.metrics.hooks_lost, 1);
            }
        }
    }
}

async fn deliver(
    hook: Webhook,
    http: reqwest::Client,
    mut queue: mpsc::Receiver<Event>,
    metrics: Arc<Metrics>,
) {
    while let Some(event) = queue.recv().await {
        let body = json!({ "events": [envelope(&event)] }).to_string();
        let mut pause = PAUSE;
        for attempt in 1..=TRIES {
            match post(&hook, &http, &body).await {
                Ok(()) => {
                    add(&metrics.hooks_sent, 1);
                    break;
                }
                Err(why) if attempt == TRIES => {
                    tracing::error!(url = hook.url, why, "an event is given up");
                    add(&metrics.hooks_lost, 1);
                }
                Err(why) => {
                    tracing::warn!(url = hook.url, why, "an event is sent again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}

async fn post(hook: &Webhook, http: &reqwest::Client, body: &str) -> Result<(), String> {
    let mut request = http.post(&hook.url).header("content-type", MEDIA_TYPE);
    if !hook.secret.is_empty() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, hook.secret.expose().as_bytes());
        let tag = hmac::sign(&key, body.as_bytes());
        let signature = format!("sha256={}", HEXLOWER.encode(tag.as_ref()));
        request = request.header("x-berth-signature", signature);
    }
    let answer = request
        .body(body.to_owned())
        .send()
        .await
        .map_err(|e| e.to_string())?;
    match answer.status() {
        s if s.is_success() => Ok(()),
        s => Err(format!("the receiver answered {s}")),
    }
}

fn envelope(event: &Event) -> Value {
    let mut target = json!({ "repository": event.repository });
    let fields = [
        ("tag", event.tag.clone().map(Value::from)),
        ("digest", event.digest.clone().map(Value::from)),
        ("mediaType", event.media_type.clone().map(Value::from)),
        ("size", event.size.map(Value::from)),
        ("length", event.size.map(Value::from)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            target[name] = value;
        }
    }
    json!({
        "id": event.id,
        "timestamp": event.time,
        "action": event.action,
        "target": target,
        "request": { "addr": event.address, "method": event.method },
        "actor": { "name": event.actor },
        "source": {},
    })
}
