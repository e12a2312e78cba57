//! Image names as the command line shows and completes them.

use berth_spec::reference::Reference;

/// `busybox` as `busybox:latest`; names with a tag or digest, and what is no name, as it is.
pub fn with_default_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || name.contains('@') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// `repository` and what follows it: `("busybox", "latest")`.
pub fn split_tag(name: &str) -> (&str, &str) {
    if let Some((repository, digest)) = name.split_once('@') {
        return (repository, digest);
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

/// Checks a name, with Docker's words where it is none.
pub fn parse(name: &str) -> Result<Reference, String> {
    name.parse::<Reference>().map_err(|e| {
        // Docker tells the whole name of what is Docker Hub's own.
        let bare = format!("({})", split_tag(name).0);
        let whole = format!("(library/{})", split_tag(name).0);
        match name.contains('/') {
            true => e.to_string(),
            false => e.to_string().replace(&bare, &whole),
        }
    })
}

/// The registry that serves a name, as config.json writes it.
pub fn registry_of(name: &str) -> String {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => {
            if host == "docker.io" || host == "index.docker.io" {
                DEFAULT_REGISTRY.to_owned()
            } else {
                host.to_owned()
            }
        }
        _ => DEFAULT_REGISTRY.to_owned(),
    }
}

/// Docker Hub's key in config.json.
pub const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";

/// The first twelve characters of an ID, without its algorithm.
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_taken_apart() {
        assert_eq!(with_default_tag("a"), "a:latest");
        assert_eq!(with_default_tag("h:5000/a"), "h:5000/a:latest");
        assert_eq!(with_default_tag("a:b"), "a:b");
        assert_eq!(split_tag("h:5000/a"), ("h:5000/a", ""));
        assert_eq!(split_tag("h:5000/a:b"), ("h:5000/a", "b"));
        assert_eq!(registry_of("busybox"), DEFAULT_REGISTRY);
        assert_eq!(registry_of("a/b"), DEFAULT_REGISTRY);
        assert_eq!(registry_of("localhost/b"), "localhost");
        assert_eq!(registry_of("h:5000/b"), "h:5000");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
