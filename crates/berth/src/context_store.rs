//! Docker's contexts: named places where engines are.
//!
//! ```text
//! <config>/contexts/meta/<sha256 of the name>/meta.json
//! <config>/contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_store::hash;
use serde::{Deserialize, Serialize};

use crate::failure::why;

/// The context that is always there and stands in no file.
pub const DEFAULT: &str = "default";
/// What a context's TLS files are called.
pub const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// The endpoint that is an engine's.
const DOCKER: &str = "docker";
/// Largest description read, in bytes.
const MAX_META: u64 = 1 << 20;
/// Largest TLS file taken, in bytes.
const MAX_TLS: u64 = 1 << 20;

/// A context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Context {
    /// Its name.
    pub name: String,
    /// What is known of it.
    #[serde(default)]
    pub metadata: Metadata,
    /// Where it leads, by what listens there.
    #[serde(default)]
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// What is known of a context. Members that other programs wrote are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The user's words about it.
    #[serde(
        rename = "Description",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub description: String,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

/// Where an engine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `unix://…`, `tcp://…`, `ssh://…`; empty for the default.
    #[serde(rename = "Host", default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Whether its certificate is taken unseen.
    #[serde(rename = "SkipTLSVerify", default)]
    pub skip_tls_verify: bool,
}

impl Metadata {
    /// With these words about it.
    pub fn described(text: &str) -> Self {
        Metadata {
            description: text.to_owned(),
            ..Metadata::default()
        }
    }
}

impl Context {
    /// The engine's endpoint.
    pub fn docker(&self) -> Option<&Endpoint> {
        self.endpoints.get(DOCKER)
    }

    /// Sets the engine's endpoint.
    pub fn set_docker(&mut self, endpoint: Endpoint) {
        self.endpoints.insert(DOCKER.to_owned(), endpoint);
    }
}

/// The contexts of a configuration directory.
#[derive(Debug, Clone)]
pub struct ContextStore {
    root: PathBuf,
}

impl ContextStore {
    /// Of this configuration directory.
    pub fn new(config_dir: &Path) -> Self {
        ContextStore {
            root: config_dir.join("contexts"),
        }
    }

    /// Where the description of a context is.
    pub fn meta_dir(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(id(name))
    }

    /// Where the TLS files of a context are.
    pub fn tls_dir(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(id(name))
    }

    /// The context with this name; where there is none, Docker's words for that.
    pub fn get(&self, name: &str) -> Result<Context, String> {
        let path = self.meta_dir(name).join("meta.json");
        read(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => format!(
                "context {name:?}: context not found: open {}: {}",
                path.display(),
                why(&e)
            ),
            _ => format!("context {name:?}: {}: {e}", path.display()),
        })
    }

    /// Whether there is a context with this name.
    pub fn has(&self, name: &str) -> bool {
        self.meta_dir(name).join("meta.json").is_file()
    }

    /// All contexts, by name. What cannot be read as one is left out.
    pub fn list(&self) -> Vec<Context> {
        let entries = fs::read_dir(self.root.join("meta")).ok();
        let mut found: Vec<Context> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| read(&entry.path().join("meta.json")).ok())
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The names of the TLS files that a context has.
    pub fn tls_files(&self, name: &str) -> Vec<&'static str> {
        let dir = self.tls_dir(name).join(DOCKER);
        let there = |file: &&str| dir.join(file).is_file();
        TLS_FILES.into_iter().filter(there).collect()
    }

    /// One TLS file of a context, if it has that.
    pub fn tls_file(&self, name: &str, file: &str) -> Option<PathBuf> {
        let path = self.tls_dir(name).join(DOCKER).join(file);
        path.is_file().then_some(path)
    }

    /// Writes a context's description.
    pub fn save(&self, context: &Context) -> io::Result<()> {
        let dir = self.meta_dir(&context.name);
        fs::create_dir_all(&dir)?;
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(&dir)?;
        file.write_all(&serde_json::to_vec(context)?)?;
        file.as_file().sync_all()?;
        file.persist(dir.join("meta.json"))?;
        Ok(())
    }

    /// Makes these the TLS files of a context, and no others.
    pub fn save_tls(&self, name: &str, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
        self.remove_tls(name)?;
        if files.is_empty() {
            return Ok(());
        }
        let dir = self.tls_dir(name).join(DOCKER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)?;
        for (file, content) in files {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(dir.join(file))?
                .write_all(content)?;
        }
        Ok(())
    }

    /// Removes a context with its TLS files.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_dir_all(self.meta_dir(name))?;
        self.remove_tls(name)
    }

    fn remove_tls(&self, name: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.tls_dir(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Reads a TLS file that a user names, or of another context.
pub fn read_tls(path: &Path) -> Result<Vec<u8>, String> {
    let named = |e: io::Error| format!("open {}: {}", path.display(), why(&e));
    let file = fs::File::open(path).map_err(named)?;
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_TLS), &mut content).map_err(named)?;
    Ok(content)
}

/// The name of a context's directories.
fn id(name: &str) -> String {
    hash::sha256(name.as_bytes()).hex().to_owned()
}

fn read(path: &Path) -> io::Result<Context> {
    if fs::metadata(path)?.len() > MAX_META {
        return Err(io::Error::other("it is too large"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_read_and_removed_as_docker_has_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = ContextStore::new(dir.path());
        let missing = store.get("cc").expect_err("there is none");
        assert_eq!(
            missing,
            format!(
                "context \"cc\": context not found: open {}/contexts/meta/355b1bbfc96725cdce8f4a2708fda310a80e6d13315aec4e5eed2a75fe8032ce/meta.json: no such file or directory",
                dir.path().display()
            )
        );
        let text = r#"{"Name":"cc","Metadata":{"Description":"d","Else":[1]},"Endpoints":{"docker":{"Host":"tcp://z:1","SkipTLSVerify":false}}}"#;
        let context: Context = serde_json::from_str(text).expect("a context");
        store.save(&context).expect("a file");
        let kept = fs::read_to_string(store.meta_dir("cc").join("meta.json"));
        assert_eq!(kept.expect("a file"), text);
        store
            .save_tls("cc", &[("ca.pem", b"ca".to_vec())])
            .expect("a file");
        assert_eq!(store.tls_files("cc"), ["ca.pem"]);
        store.save_tls("cc", &[]).expect("none");
        assert!(store.tls_files("cc").is_empty());
        assert_eq!(store.list(), [context]);
        store.remove("cc").expect("it was there");
        assert!(store.list().is_empty() && !store.has("cc"));
    }
}
