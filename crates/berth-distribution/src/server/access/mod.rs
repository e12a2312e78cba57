//! Who may do what: one function, [`Access::allows`], asked for every request.

pub(crate) mod htpasswd;
pub(crate) mod rules;
pub(crate) mod scope;
pub(crate) mod settings;
pub(crate) mod token;
pub(crate) mod verified;

use std::path::Path;

use data_encoding::BASE64;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::fault::{Code, Fault, Reply};
use super::storage::Storage;
use htpasswd::Htpasswd;
use rules::Rules;
use scope::Scope;
use settings::{AuthSettings, Method};
use token::{Grants, Signer};
use verified::Verified;

/// What can be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Store blobs and manifests, move tags.
    Push,
    /// Remove tags, manifests and blobs.
    Delete,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Verb::Pull => "pull",
            Verb::Push => "push",
            Verb::Delete => "delete",
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Somebody who has not said.
    Anonymous,
    /// A user of the htpasswd file, or `robot+NAME`.
    Known(String),
}

impl Identity {
    /// The name, for the audit log; empty for nobody in particular.
    pub(crate) fn name(&self) -> &str {
        match self {
            Identity::Anonymous => "",
            Identity::Known(name) => name,
        }
    }
}

/// Who asks, and what the token they show is good for. Without a token, it is what the rules say.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    grants: Option<Grants>,
}

impl Caller {
    /// Whether a token was shown, if only nobody's in particular.
    pub(crate) fn has_token(&self) -> bool {
        self.grants.is_some()
    }

    /// Somebody who showed nothing.
    pub(crate) fn anonymous() -> Self {
        Self {
            identity: Identity::Anonymous,
            grants: None,
        }
    }
}

/// Users, robots and rules. Without any, everybody may do everything.
pub(crate) struct Access(Option<Guard>);

pub(crate) struct Guard {
    pub(crate) settings: AuthSettings,
    users: Option<Htpasswd>,
    rules: Rules,
    verified: Verified,
    pub(crate) signer: Signer,
}

impl Access {
    pub(crate) fn open(
        settings: Option<&AuthSettings>,
        root: &Path,
        storage: &Storage,
    ) -> Reply<Self> {
        let Some(settings) = settings else {
            return Ok(Self(None));
        };
        let users = settings
            .htpasswd
            .as_deref()
            .map(Htpasswd::open)
            .transpose()?;
        Ok(Self(Some(Guard {
            users,
            rules: Rules::new(settings)?,
            verified: Verified::default(),
            signer: Signer::open(root, settings, |fresh| {
                storage.shared_secret("token", fresh)
            })?,
            settings: settings.clone(),
        })))
    }

    /// What there is to check with, if anything.
    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.0.as_ref()
    }

    /// Whether `caller` may do `verb` with `repository`: the one place that says so.
    pub(crate) fn allows(&self, caller: &Caller, repository: &str, verb: Verb) -> bool {
        let Some(guard) = &self.0 else {
            return true;
        };
        let granted = caller
            .grants
            .as_ref()
            .is_none_or(|grants| grants.include(repository, verb));
        granted && guard.rules.allow(&caller.identity, repository, verb)
    }

    /// Whether `caller` may, or could with another token.
    pub(crate) fn may_allow(&self, caller: &Caller, repository: &str, verb: Verb) -> bool {
        self.0
            .as_ref()
            .is_none_or(|guard| guard.rules.allow(&caller.identity, repository, verb))
    }

    /// The refusal that makes a client come back with a token for a mount.
    pub(crate) fn ask_for_mount(&self, from: &str, to: &str, base: &str) -> Fault {
        let scopes = [
            Scope::needed(to, Verb::Push),
            Scope::needed(from, Verb::Pull),
        ];
        match &self.0 {
            Some(guard) => guard.challenge(base, &scopes, Some("insufficient_scope")),
            None => Fault::new(Code::Unauthorized, "authentication required"),
        }
    }

    /// [`allows`](Self::allows), or the refusal that tells the client what to do about it.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        repository: &str,
        verb: Verb,
        base: impl FnOnce() -> String,
    ) -> Reply<()> {
        let Some(guard) = self
            .0
            .as_ref()
            .filter(|_| !self.allows(caller, repository, verb))
        else {
            return Ok(());
        };
        let known = matches!(caller.identity, Identity::Known(_));
        if known && !guard.rules.allow(&caller.identity, repository, verb) {
            return Err(Fault::new(
                Code::Denied,
                format!(
                    "requested access to the resource is denied: {} may not {} {repository}",
                    caller.identity.name(),
                    verb.as_str()
                ),
            ));
        }
        let scope = Scope::needed(repository, verb);
        let error = caller.grants.is_some().then_some("insufficient_scope");
        Err(guard.challenge(&base(), &[scope], error))
    }
}

impl Guard {
    /// Who shows these headers.
    pub(crate) fn identify(&self, headers: &HeaderMap, base: &str) -> Reply<Caller> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Ok(Caller::anonymous());
        };
        let refused = || self.challenge(base, &[], Some("invalid_token"));
        let text = value.to_str().map_err(|_| refused())?;
        let (scheme, rest) = text.split_once(' ').ok_or_else(refused)?;
        if scheme.eq_ignore_ascii_case("basic") {
            let (name, password) = basic(rest).ok_or_else(refused)?;
            return match self.password(&name, &password)? {
                true => Ok(Caller {
                    identity: Identity::Known(name),
                    grants: None,
                }),
                false => Err(self.challenge(base, &[], None)),
            };
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused());
        }
        let (subject, grants) = self.signer.access(rest.trim()).ok_or_else(refused)?;
        let identity = match subject {
            None => Identity::Anonymous,
            // A token does not outlive its user.
            Some(name) if self.fingerprint(&name).is_some() => Identity::Known(name),
            Some(_) => return Err(refused()),
        };
        Ok(Caller {
            identity,
            grants: Some(grants),
        })
    }

    /// Whether `password` is `name`'s. Slow on purpose where it has not been seen before.
    pub(crate) fn password(&self, name: &str, password: &str) -> Reply<bool> {
        if let Some(robot) = self.settings.robot(name) {
            return Ok(robot.accepts(password));
        }
        match &self.users {
            Some(users) => users.accepts(name, password, &self.verified),
            None => Ok(false),
        }
    }

    /// Something that changes when the user's password does; nothing for who is not known.
    pub(crate) fn fingerprint(&self, name: &str) -> Option<String> {
        if let Some(robot) = self.settings.robot(name) {
            return robot.is_valid().then(|| robot.fingerprint());
        }
        self.users.as_ref()?.fingerprint(name)
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// 401 with what the client should do: `scopes` are what it would need, `error` why what it showed
    /// is no good. `base` is where the client reached us.
    pub(crate) fn challenge(&self, base: &str, scopes: &[Scope], error: Option<&str>) -> Fault {
        let service = &self.settings.service;
        let value = match self.settings.method {
            Method::Basic => format!("Basic realm=\"{service}\""),
            Method::Token => {
                let realm = match &self.settings.realm {
                    Some(realm) => realm.clone(),
                    None => format!("{base}/token"),
                };
                let mut value = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
                if !scopes.is_empty() {
                    let scopes: Vec<_> = scopes.iter().map(Scope::to_string).collect();
                    value.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
                }
                if let Some(error) = error {
                    value.push_str(&format!(",error=\"{error}\""));
                }
                value
            }
        };
        Fault::new(Code::Unauthorized, "authentication required")
            .with_header(http::header::WWW_AUTHENTICATE, value)
    }
}

/// Reads `Basic` credentials.
pub(crate) fn basic(text: &str) -> Option<(String, String)> {
    let bytes = BASE64.decode(text.trim().as_bytes()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
