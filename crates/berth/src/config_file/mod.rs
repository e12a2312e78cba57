//! Docker's `config.json`: what this program reads of it, and the logins it writes to it.

mod credential_program;
pub mod credentials;
mod proxy;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Largest file read, in bytes.
const MAX_SIZE: u64 = 8 << 20;

/// The file, with everything in it that this program does not know.
#[derive(Debug, Clone, Default)]
pub struct ConfigFile {
    dir: PathBuf,
    content: Map<String, Value>,
}

impl ConfigFile {
    /// Reads `config.json` of a directory; a file that is not there is empty.
    pub fn load(dir: &Path) -> Result<Self, String> {
        let path = dir.join("config.json");
        let mut file = ConfigFile {
            dir: dir.to_owned(),
            content: Map::new(),
        };
        match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(file),
            Err(e) => return Err(format!("{}: {e}", path.display())),
            Ok(meta) if meta.len() > MAX_SIZE => {
                return Err(format!("{}: larger than {MAX_SIZE} bytes", path.display()));
            }
            Ok(_) => {}
        }
        let text = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if !text.trim_ascii().is_empty() {
            file.content =
                serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(file)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file's own path.
    pub fn path(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.content
            .get(key)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// `currentContext`.
    pub fn current_context(&self) -> Option<&str> {
        self.text("currentContext")
    }

    /// Sets `currentContext`, or takes it away, and writes the file.
    pub fn set_current_context(&mut self, name: Option<&str>) -> io::Result<()> {
        match name {
            Some(name) => self
                .content
                .insert("currentContext".to_owned(), name.into()),
            None => self.content.remove("currentContext"),
        };
        self.save()
    }

    /// `detachKeys`.
    pub fn detach_keys(&self) -> Option<&str> {
        self.text("detachKeys")
    }

    /// A default `--format`: `psFormat`, `imagesFormat`, `statsFormat` …
    pub fn format(&self, key: &str) -> Option<&str> {
        self.text(key)
    }

    /// `HttpHeaders`, without the one that is ours to say.
    pub fn http_headers(&self) -> Vec<(String, String)> {
        self.map("HttpHeaders")
            .into_iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"))
            .collect()
    }

    fn map(&self, key: &str) -> BTreeMap<String, String> {
        let object = self.content.get(key).and_then(Value::as_object);
        object
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// Writes the file aside and puts it in place.
    fn save(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(format::indented(&self.content).as_bytes())?;
        file.as_file().sync_all()?;
        // A link to a file elsewhere stays a link.
        let path = fs::canonicalize(self.path()).unwrap_or_else(|_| self.path());
        file.persist(path)?;
        Ok(())
    }
}

mod format {
    use serde::Serialize;
    use serde_json::{Map, Value};

    /// JSON as Docker writes this file: indented with a tab.
    pub(super) fn indented(content: &Map<String, Value>) -> String {
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut out = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
        // Strings, numbers and maps with text keys: writing cannot fail.
        let _ = content.serialize(&mut serializer);
        String::from_utf8(out).unwrap_or_default()
    }
}
