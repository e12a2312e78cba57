//! Which resource a path names. Pure: nothing here looks at what exists.

use berth_spec::Digest;
use percent::decode;

use super::fault::{Code, Fault, Reply};
use super::name;

/// The resources of the distribution API.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/v2/`
    Version,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(String),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(String, Target),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(String, Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(String),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(String, String),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(String, Digest),
}

impl Resource {
    /// The repository that it belongs to.
    pub(crate) fn repository(&self) -> Option<&str> {
        match self {
            Resource::Version | Resource::Catalog => None,
            Resource::Tags(name)
            | Resource::Manifest(name, _)
            | Resource::Blob(name, _)
            | Resource::Uploads(name)
            | Resource::Upload(name, _)
            | Resource::Referrers(name, _) => Some(name),
        }
    }

    /// The same in another repository.
    pub(crate) fn renamed(self, to: &str) -> Self {
        let to = to.to_owned();
        match self {
            Resource::Version | Resource::Catalog => self,
            Resource::Tags(_) => Resource::Tags(to),
            Resource::Manifest(_, target) => Resource::Manifest(to, target),
            Resource::Blob(_, digest) => Resource::Blob(to, digest),
            Resource::Uploads(_) => Resource::Uploads(to),
            Resource::Upload(_, id) => Resource::Upload(to, id),
            Resource::Referrers(_, digest) => Resource::Referrers(to, digest),
        }
    }
}

/// What names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Tag(String),
    Digest(Digest),
}

impl Target {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Target::Tag(tag) => tag,
            Target::Digest(digest) => digest.as_str(),
        }
    }
}

/// Reads `path`, which begins with `/v2`. `None` where no resource of the API looks like it.
pub(crate) fn parse(path: &str) -> Reply<Option<Resource>> {
    let Some(rest) = path.strip_prefix("/v2") else {
        return Ok(None);
    };
    if matches!(rest, "" | "/") {
        return Ok(Some(Resource::Version));
    }
    let Some(rest) = rest.strip_prefix('/') else {
        return Ok(None);
    };
    let rest = decode(rest)
        .ok_or_else(|| Fault::new(Code::NameInvalid, format!("invalid path: {path:?}")))?;
    if rest == "_catalog" {
        return Ok(Some(Resource::Catalog));
    }
    resource(&rest)
}

fn resource(rest: &str) -> Reply<Option<Resource>> {
    if let Some(repository) = rest
        .strip_suffix("/blobs/uploads/")
        .or_else(|| rest.strip_suffix("/blobs/uploads"))
    {
        return Ok(Some(Resource::Uploads(named(repository)?)));
    }
    let Some((front, last)) = rest.rsplit_once('/') else {
        return Ok(None);
    };
    if let Some(repository) = front.strip_suffix("/blobs/uploads") {
        return Ok(Some(Resource::Upload(named(repository)?, upload_id(last)?)));
    }
    let Some((repository, kind)) = front.rsplit_once('/') else {
        return Ok(None);
    };
    Ok(Some(match (kind, last) {
        ("tags", "list") => Resource::Tags(named(repository)?),
        ("manifests", target) => Resource::Manifest(named(repository)?, parse_target(target)?),
        ("blobs", digest) => Resource::Blob(named(repository)?, parse_digest(digest)?),
        ("referrers", digest) => Resource::Referrers(named(repository)?, parse_digest(digest)?),
        _ => return Ok(None),
    }))
}

fn named(repository: &str) -> Reply<String> {
    match name::is_repository(repository) {
        true => Ok(repository.to_owned()),
        false => Err(Fault::new(
            Code::NameInvalid,
            format!("invalid repository name: {:?}", shortened(repository)),
        )),
    }
}

/// Names from outside do not fill the log.
fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

pub(crate) fn parse_digest(text: &str) -> Reply<Digest> {
    text.parse()
        .map_err(|e| Fault::new(Code::DigestInvalid, format!("{e}")))
}

fn parse_target(text: &str) -> Reply<Target> {
    if text.contains(':') {
        return Ok(Target::Digest(parse_digest(text)?));
    }
    match name::is_tag(text) {
        true => Ok(Target::Tag(text.to_owned())),
        // What cannot be a tag names no manifest.
        false => Err(Fault::new(
            Code::TagInvalid,
            format!("invalid tag: {:?}", shortened(text)),
        )),
    }
}

fn upload_id(text: &str) -> Reply<String> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    match text.len() == 32 && text.bytes().all(hex) {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            Code::BlobUploadUnknown,
            "blob upload unknown to the registry",
        )),
    }
}

/// Percent-encoding (RFC 3986, section 2.1).
pub(crate) mod percent {
    /// Decodes `text`; nothing where it is broken or not UTF-8.
    pub(crate) fn decode(text: &str) -> Option<String> {
        if !text.contains('%') {
            return Some(text.to_owned());
        }
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let high = char::from(bytes.next()?).to_digit(16)?;
                    let low = char::from(bytes.next()?).to_digit(16)?;
                    out.push((high * 16 + low) as u8);
                }
                byte => out.push(byte),
            }
        }
        String::from_utf8(out).ok()
    }

    /// Encodes everything but unreserved characters, `/` and `:`.
    pub(crate) fn encode(text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z'
                | b'A'..=b'Z'
                | b'0'..=b'9'
                | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b'/'
                | b':' => {
                    out.push(char::from(byte));
                }
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Option<Resource> {
        parse(path).unwrap()
    }

    #[test]
    fn paths_are_resources() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let parsed: Digest = digest.parse().unwrap();
        assert_eq!(of("/v2/"), Some(Resource::Version));
        assert_eq!(of("/v2/_catalog"), Some(Resource::Catalog));
        assert_eq!(of("/v2/a/b/tags/list"), Some(Resource::Tags("a/b".into())));
        // A repository may be called what a resource is called.
        assert_eq!(
            of("/v2/a/blobs/manifests/latest"),
            Some(Resource::Manifest(
                "a/blobs".into(),
                Target::Tag("latest".into())
            ))
        );
        assert_eq!(
            of(&format!("/v2/a/blobs/{}", digest.replace(':', "%3A"))),
            Some(Resource::Blob("a".into(), parsed.clone()))
        );
        assert_eq!(
            of(&format!("/v2/a/referrers/{digest}")),
            Some(Resource::Referrers("a".into(), parsed))
        );
        assert_eq!(
            of("/v2/a/blobs/uploads/"),
            Some(Resource::Uploads("a".into()))
        );
        let id = "0".repeat(32);
        assert_eq!(
            of(&format!("/v2/a/blobs/uploads/{id}")),
            Some(Resource::Upload("a".into(), id))
        );
        assert_eq!(of("/v2/a"), None);
        assert_eq!(of("/v1/a"), None);
    }

    #[test]
    fn bad_names_get_the_specified_code() {
        for (path, code) in [
            ("/v2/UPPER/x/tags/list", Code::NameInvalid),
            ("/v2/a/../b/tags/list", Code::NameInvalid),
            ("/v2/a%2F..%2Fb/manifests/x", Code::NameInvalid),
            ("/v2/a/blobs/sha256:1", Code::DigestInvalid),
            ("/v2/a/blobs/latest", Code::DigestInvalid),
            ("/v2/a/manifests/.x", Code::TagInvalid),
            ("/v2/a/blobs/uploads/x", Code::BlobUploadUnknown),
        ] {
            match parse(path) {
                Err(fault) => assert_eq!(fault.code, code, "{path}"),
                Ok(found) => panic!("{path} is {found:?}"),
            }
        }
    }
}
