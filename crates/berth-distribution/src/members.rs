//! The names of the members of manifests and indexes. Clients in some languages take `Layers` for
//! `layers`, and readers differ in which of two equal members they see: what two of them could read
//! differently is refused, where it is pushed and where it is pulled.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

/// Members that have a meaning.
const NAMES: [&str; 10] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "blobs",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
];

/// The names of a document's members, each once, each in the case that the format has.
struct Names;

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        use serde::de::Error;
        let mut seen = HashSet::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if let Some(meant) = NAMES
                .iter()
                .find(|n| n.eq_ignore_ascii_case(&name) && **n != name)
            {
                return Err(A::Error::custom(format!(
                    "member {name:?} can be taken for {meant:?}"
                )));
            }
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("member {name:?} stands twice")));
            }
        }
        Ok(Names)
    }
}

/// Checks the names of a document's members.
pub(crate) fn check(document: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<Names>(document).map(|_| ())
}
