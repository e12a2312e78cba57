//! Signatures of images, as cosign makes them with keys.
//!
//! ```text
//! NAME:sha256-<hex>.sig        a manifest whose layers are payloads, each with its signature beside it
//! NAME referrers of <digest>   sigstore's bundles (and NAME:sha256-<hex>, where a registry lists none)
//! ```
//!
//! A signature is about the digest of an index or manifest. Begin with [`Client::verify_signature`] and
//! [`Policies`], which says whose signature a pull wants.

mod attach;
mod find;
mod key;
mod policy;
mod statement;

use berth_spec::{Digest, Reference};

pub use attach::NewSignature;
pub(crate) use attach::attach;
pub(crate) use find::{beside, referrers};
pub use key::{KEY_MAX, PrivateKey, PublicKey};
pub use policy::{Policies, Rule};
pub use statement::{make_bundle, simple_payload};

use crate::registry::Registry;
use crate::{Error, ErrorKind, Result};

/// How a signature is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Cosign's payload, under a tag.
    Simple,
    /// Sigstore's bundle, as a referrer.
    Bundle,
}

/// A signature that was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What is signed: an index or a manifest.
    pub digest: Digest,
    /// How it is kept.
    pub form: Form,
    /// Which key it is by: the digest of its bytes, base64.
    pub key: String,
}

/// Looks for a signature of `digest` by one of `keys`.
///
/// # Errors
/// `Invalid` where there is none; the text says what was found instead.
pub(crate) async fn verify(
    registry: &Registry,
    reference: &Reference,
    digest: &Digest,
    keys: &[PublicKey],
) -> Result<Signed> {
    let mut wrong = Vec::new();
    for found in find::simple(registry, reference, digest).await? {
        match statement::check_simple(&found.payload, &found.signature, digest, keys) {
            Ok(key) => return Ok(good(digest, Form::Simple, key)),
            Err(why) => wrong.push(why),
        }
    }
    for bundle in find::bundles(registry, reference, digest).await? {
        match statement::check_bundle(&bundle, digest, keys) {
            Ok(key) => return Ok(good(digest, Form::Bundle, key)),
            Err(why) => wrong.push(why),
        }
    }
    wrong.sort();
    wrong.dedup();
    let found = match wrong.is_empty() {
        true => "none was found".to_owned(),
        false => format!("what was found is not one: {}", wrong.join("; ")),
    };
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "{}@{digest} has no signature by a key that is wanted: {found}",
            reference.familiar_name()
        ),
    ))
}

fn good(digest: &Digest, form: Form, key: &PublicKey) -> Signed {
    Signed {
        digest: digest.clone(),
        form,
        key: key.hint(),
    }
}
