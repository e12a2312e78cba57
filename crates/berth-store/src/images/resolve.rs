//! What a user's text names: a tag, a digest, an ID, the beginning of an ID.
//!
//! Docker's order: the text as a reference first (so that an image called `abc` wins over an ID that
//! begins with it), then as the beginning of an ID.

use berth_spec::digest::Algorithm;
use berth_spec::{Digest, Reference};
use rusqlite::{OptionalExtension, params};

use super::{Image, Images, no_such_image};
use crate::{Error, ErrorKind, Result};

impl Images {
    /// The image that `text` names: `name[:tag]`, `name[:tag]@digest`, an ID or a beginning of one,
    /// with or without `sha256:`.
    pub fn resolve(&self, text: &str) -> Result<Image> {
        self.get(&self.resolve_id(text)?)
    }

    /// The same, for an image of which nothing else may be readable.
    pub fn resolve_id(&self, text: &str) -> Result<Digest> {
        if let Some(id) = whole_id(text) {
            if !self.is_known(&id)? {
                return Err(no_such_image(text));
            }
            return Ok(id);
        }
        let reference = text.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(id) = self.find_name(reference)?
        {
            return Ok(id);
        }
        if let Some(prefix) = id_prefix(text)
            && let Some(id) = self.find_prefix(text, prefix)?
        {
            return Ok(id);
        }
        match reference {
            Ok(reference) => Err(no_such_image(&reference.or_latest().familiar())),
            Err(_) if text.starts_with("sha256:") => Err(no_such_image(text)),
            Err(e) => Err(Error::invalid(e.to_string())),
        }
    }

    /// The image that this very name points at.
    pub fn find_name(&self, reference: &Reference) -> Result<Option<Digest>> {
        let reference = reference.clone().or_latest();
        // A digest says all; a tag beside it says nothing more.
        let name = if reference.digest().is_some() {
            reference.without_tag()
        } else {
            reference
        };
        let id: Option<String> = self.db.read(|c| {
            c.prepare_cached("SELECT image FROM image_name WHERE name = ?1")?
                .query_row(params![name.to_string()], |row| row.get(0))
                .optional()
        })?;
        match (id, name.digest()) {
            (Some(id), _) => super::parse_digest(&id).map(Some),
            (None, Some(digest)) => self.find_named_id(&name, digest),
            (None, None) => Ok(None),
        }
    }

    fn is_known(&self, id: &Digest) -> Result<bool> {
        self.db.read(|c| {
            c.prepare_cached("SELECT 1 FROM image WHERE id = ?1")?
                .exists([id.as_str()])
        })
    }

    /// `name@ID`: the image `ID`, if it has a name in that repository.
    fn find_named_id(&self, name: &Reference, id: &Digest) -> Result<Option<Digest>> {
        match self.get(id) {
            Ok(image) => {
                let of_repository = |r: &Reference| r.name() == name.name();
                let named = image.tags.iter().chain(&image.digests).any(of_repository);
                Ok(named.then_some(image.id))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn find_prefix(&self, text: &str, prefix: &str) -> Result<Option<Digest>> {
        let low = format!("sha256:{prefix}");
        // `g` follows every hexadecimal digit.
        let high = format!("sha256:{prefix}g");
        let ids: Vec<String> = self.db.read(|c| {
            c.prepare_cached("SELECT id FROM image WHERE id >= ?1 AND id < ?2 LIMIT 2")?
                .query_map(params![low, high], |row| row.get(0))?
                .collect()
        })?;
        match &ids[..] {
            [] => Ok(None),
            [id] => super::parse_digest(id).map(Some),
            _ => Err(Error::new(
                ErrorKind::Ambiguous,
                format!("image ID {text} is ambiguous: it begins the ID of several images"),
            )),
        }
    }
}

/// 64 hexadecimal digits, or the same behind `sha256:`.
fn whole_id(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (hex.len() == Algorithm::Sha256.hex_len())
        .then(|| format!("sha256:{hex}").parse().ok())
        .flatten()
}

/// The hexadecimal digits of a shortened ID.
fn id_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let fits = !hex.is_empty() && hex.len() < Algorithm::Sha256.hex_len();
    let digits = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (fits && digits).then_some(hex)
}
