//! The `auth` part of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::Deserialize;

use super::Verb;
use crate::server::pattern::Pattern;
use crate::server::units::Span;

/// What stands before a robot's name when it logs in.
pub(crate) const ROBOT: &str = "robot+";

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Name and password with every request.
    Basic,
    /// A token for name and password, good for some minutes and some repositories.
    #[default]
    Token,
}

/// Users and what they may do.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuthSettings {
    /// How clients prove who they are.
    pub method: Method,
    /// Users with their bcrypt hashes, as `htpasswd -B` writes them.
    pub htpasswd: Option<PathBuf>,
    /// Accounts of programs.
    pub robots: Vec<Robot>,
    /// Names for several users, used in rules as `@NAME`.
    pub groups: BTreeMap<String, Vec<String>>,
    /// What is allowed; without any, every known user may do everything.
    pub rules: Option<Vec<Rule>>,
    /// What tokens are for: the name of this registry.
    pub service: String,
    /// URL of the token service, where it is not found at `/token` of this registry.
    pub realm: Option<String>,
    /// How long a token is good for.
    pub token_lifetime: Span,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            method: Method::default(),
            htpasswd: None,
            robots: Vec::new(),
            groups: BTreeMap::new(),
            rules: None,
            service: "berth registry".into(),
            realm: None,
            token_lifetime: Span::from_secs(300),
        }
    }
}

/// One rule: it allows, nothing forbids.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// User names, `robot+NAME`, `@GROUP`, `*` (everybody who logs in) or `anonymous` (everybody).
    pub who: Vec<String>,
    /// The repositories it is about.
    pub repositories: Vec<Pattern>,
    /// What it allows.
    pub allow: Vec<Verb>,
}

/// An account of a program: it logs in as `robot+NAME` with its secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Robot {
    /// Its name, without `robot+`.
    pub name: String,
    /// The SHA-256 of its secret, in hexadecimal. Secrets are long and random, so a fast hash will do.
    pub secret_sha256: String,
    /// When it ends to be valid.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

impl AuthSettings {
    /// The robot that logs in as `name`.
    pub(crate) fn robot(&self, name: &str) -> Option<&Robot> {
        let name = name.strip_prefix(ROBOT)?;
        self.robots.iter().find(|robot| robot.name == name)
    }
}

impl Robot {
    pub(crate) fn is_valid(&self) -> bool {
        self.expires.is_none_or(|end| Timestamp::now() < end)
    }

    pub(crate) fn accepts(&self, secret: &str) -> bool {
        let hash = HEXLOWER.encode(digest(&SHA256, secret.as_bytes()).as_ref());
        let wanted = self.secret_sha256.to_ascii_lowercase();
        self.is_valid() && verify_slices_are_equal(hash.as_bytes(), wanted.as_bytes()).is_ok()
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.secret_sha256.chars().take(16).collect()
    }
}
