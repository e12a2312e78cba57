//! Tokens: JSON Web Tokens (RFC 7519) with HMAC-SHA256, made and read by this registry alone.
//!
//! The key lies in the registry's root, or in the record that replicas share. There is one algorithm: what a token's header says is compared,
//! never obeyed.

use std::fs;
use std::io::Write;
use std::path::Path;

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::Verb;
use super::scope::Scope;
use super::settings::AuthSettings;
use crate::server::fault::{Code, Fault, Reply};
use crate::server::record::now;
use crate::server::storage::files;

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
const KEY_BYTES: usize = 32;
/// The longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 32 << 10;
/// How long a refresh token is good for, in seconds: three months.
const REFRESH_LIFETIME: i64 = 90 * 24 * 3600;

/// What a token is for.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Use {
    Access,
    Refresh,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(rename = "use")]
    purpose: Use,
    aud: String,
    /// Empty for nobody in particular.
    sub: String,
    iat: i64,
    exp: i64,
    /// Of the user's password, in refresh tokens.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    fingerprint: String,
    #[serde(default)]
    access: Vec<Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<Verb>,
}

/// What a token allows.
#[derive(Debug, Clone)]
pub(crate) struct Grants(Vec<Entry>);

impl Grants {
    pub(crate) fn include(&self, repository: &str, verb: Verb) -> bool {
        self.0
            .iter()
            .any(|entry| entry.name == repository && entry.actions.contains(&verb))
    }
}

/// Makes and reads tokens.
pub(crate) struct Signer {
    key: hmac::Key,
    service: String,
    lifetime: i64,
}

impl Signer {
    /// Takes the key from `root`, or makes one there; `shared` turns it into the one that all replicas
    /// have, where there are others.
    pub(crate) fn open(
        root: &Path,
        settings: &AuthSettings,
        shared: impl FnOnce(&[u8]) -> Reply<Option<Vec<u8>>>,
    ) -> Reply<Self> {
        let path = root.join("token.key");
        let own = match fs::read(&path) {
            Ok(bytes) if bytes.len() == KEY_BYTES => bytes,
            Ok(_) => {
                return Err(Fault::new(
                    Code::Unknown,
                    format!("{} is not {KEY_BYTES} bytes long", path.display()),
                ));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => make_key(root, &path)?,
            Err(e) => return Err(Fault::io(format_args!("cannot read {}", path.display()), e)),
        };
        let bytes = shared(&own)?.unwrap_or(own);
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
            service: settings.service.clone(),
            lifetime: settings.token_lifetime.as_secs(),
        })
    }

    /// Seconds that an access token is good for.
    pub(crate) fn lifetime(&self) -> i64 {
        self.lifetime
    }

    /// A token for what was granted to `subject`.
    pub(crate) fn issue(&self, subject: &str, granted: &[Scope]) -> String {
        let access = granted
            .iter()
            .map(|scope| Entry {
                kind: "repository".into(),
                name: scope.repository.clone(),
                actions: scope.verbs.clone(),
            })
            .collect();
        self.sign(Use::Access, subject, self.lifetime, String::new(), access)
    }

    /// A token to ask for tokens with.
    pub(crate) fn issue_refresh(&self, subject: &str, fingerprint: String) -> String {
        let none = Vec::new();
        self.sign(Use::Refresh, subject, REFRESH_LIFETIME, fingerprint, none)
    }

    fn sign(
        &self,
        purpose: Use,
        subject: &str,
        lifetime: i64,
        fingerprint: String,
        access: Vec<Entry>,
    ) -> String {
        let claims = Claims {
            purpose,
            aud: self.service.clone(),
            sub: subject.to_owned(),
            iat: now(),
            exp: now().saturating_add(lifetime),
            fingerprint,
            access,
        };
        let body = serde_json::to_vec(&claims).unwrap_or_default();
        let signed = format!("{HEADER}.{}", BASE64URL_NOPAD.encode(&body));
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
    }

    fn read(&self, token: &str, purpose: Use) -> Option<Claims> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (signed, tag) = token.rsplit_once('.')?;
        let (header, body) = signed.split_once('.')?;
        let tag = BASE64URL_NOPAD.decode(tag.as_bytes()).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &tag).ok()?;
        let body = BASE64URL_NOPAD.decode(body.as_bytes()).ok()?;
        let claims: Claims = serde_json::from_slice(&body).ok()?;
        let valid = header == HEADER
            && claims.purpose == purpose
            && claims.aud == self.service
            && claims.exp > now();
        valid.then_some(claims)
    }

    /// Whose access token this is (nobody's in particular: `None` inside) and what it allows.
    pub(crate) fn access(&self, token: &str) -> Option<(Option<String>, Grants)> {
        let claims = self.read(token, Use::Access)?;
        let subject = Some(claims.sub).filter(|sub| !sub.is_empty());
        Some((subject, Grants(claims.access)))
    }

    /// Whose refresh token this is, and the fingerprint of the password it was given for.
    pub(crate) fn refresh(&self, token: &str) -> Option<(String, String)> {
        let claims = self.read(token, Use::Refresh)?;
        Some((claims.sub, claims.fingerprint))
    }
}

fn make_key(root: &Path, path: &Path) -> Reply<Vec<u8>> {
    let mut bytes = vec![0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|e| Fault::internal("the random number generator failed", e))?;
    let aside = root.join("token.key.new");
    // Left by a crash, if anything.
    let _ = fs::remove_file(&aside);
    files::private()
        .create_new(true)
        .write(true)
        .open(&aside)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&aside, path))
        .map_err(|e| Fault::io(format_args!("cannot write {}", path.display()), e))?;
    files::sync_dir(root)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(root: &Path) -> Signer {
        Signer::open(root, &AuthSettings::default(), |_| Ok(None)).unwrap()
    }

    #[test]
    fn a_token_is_good_for_what_was_granted_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let one = signer(dir.path());
        let token = one.issue("alice", &[Scope::needed("a/b", Verb::Push)]);
        let (subject, grants) = signer(dir.path()).access(&token).unwrap();
        assert_eq!(subject.as_deref(), Some("alice"));
        assert!(grants.include("a/b", Verb::Push) && !grants.include("a/b", Verb::Delete));
        assert!(!grants.include("a", Verb::Pull));
        // Not as another kind, not with another key, not changed, not without a signature.
        assert!(one.refresh(&token).is_none());
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(signer(elsewhere.path()).access(&token).is_none());
        let (front, tag) = token.rsplit_once('.').unwrap();
        assert!(one.access(&format!("{front}A.{tag}")).is_none());
        assert!(one.access(&format!("{front}.")).is_none());
        let none = BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
        let body = front.split_once('.').unwrap().1;
        assert!(one.access(&format!("{none}.{body}.{tag}")).is_none());
    }
}
