//! What happened: told to the audit log and to webhooks.

pub(crate) mod audit;
pub(crate) mod webhook;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dispatch::Call;
use super::fault::Reply;
use super::metrics::Metrics;
use super::settings::Settings;
use super::storage::files::unique_name;
use audit::Audit;
use webhook::Hooks;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A blob or manifest came.
    Push,
    /// A manifest was read.
    Pull,
    /// A repository got a blob that another has.
    Mount,
    /// A tag, manifest or blob was removed.
    Delete,
    /// A request was refused.
    Deny,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) time: Timestamp,
    pub(crate) action: Action,
    pub(crate) repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// Who did it; empty for nobody in particular.
    pub(crate) actor: String,
    /// From where.
    pub(crate) address: String,
    /// What the request was.
    pub(crate) method: String,
    /// Why it was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// What a request knows of itself, to make an [`Event`] of when it is done.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    actor: String,
    address: String,
    method: String,
}

impl Origin {
    pub(crate) fn of(call: &Call) -> Self {
        Self {
            actor: call.caller.identity.name().to_owned(),
            address: call.peer.address.to_string(),
            method: call.method.to_string(),
        }
    }

    /// An event of this request, now.
    pub(crate) fn event(&self, action: Action, repository: &str) -> Event {
        Event {
            // Without random numbers the event is told all the same.
            id: unique_name().unwrap_or_default(),
            time: Timestamp::now(),
            action,
            repository: repository.to_owned(),
            tag: None,
            digest: None,
            media_type: None,
            size: None,
            actor: self.actor.clone(),
            address: self.address.clone(),
            method: self.method.clone(),
            reason: None,
        }
    }
}

/// Where events go.
pub(crate) struct Events {
    audit: Option<Audit>,
    hooks: Hooks,
}

impl Events {
    pub(crate) fn open(settings: &Settings, metrics: &Arc<Metrics>) -> Reply<Self> {
        Ok(Self {
            audit: settings.audit.as_ref().map(Audit::open).transpose()?,
            hooks: Hooks::open(&settings.webhooks, metrics)?,
        })
    }

    /// Whether anybody wants to hear of `action`: most registries tell nobody of pulls.
    pub(crate) fn wants(&self, action: Action) -> bool {
        self.hooks.wants(action) || self.audit.as_ref().is_some_and(|a| a.wants(action))
    }

    /// Tells everybody who wants to hear of it. Never waits.
    pub(crate) fn tell(&self, event: Event) {
        if let Some(audit) = &self.audit {
            audit.write(&event);
        }
        self.hooks.tell(event);
    }
}
