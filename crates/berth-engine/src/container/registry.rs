//! All containers of an engine, by ID and by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::Container;
use crate::{Error, Result};

/// The containers of an engine.
#[derive(Default)]
pub(crate) struct Containers(Mutex<Index>);

#[derive(Default)]
struct Index {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Name without a slash to ID. A name is here before its container is: it is reserved then.
    by_name: HashMap<String, String>,
}

impl Containers {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All, in the order of their IDs.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.index().by_id.values().cloned().collect()
    }

    /// The container of this very ID.
    pub fn get(&self, id: &str) -> Option<Arc<Container>> {
        self.index().by_id.get(id).cloned()
    }

    /// What a user's text names: an ID, a name, the beginning of an ID; Docker's order and words.
    pub fn find(&self, text: &str) -> Result<Arc<Container>> {
        let index = self.index();
        if let Some(container) = index.by_id.get(text) {
            return Ok(container.clone());
        }
        let name = text.strip_prefix('/').unwrap_or(text);
        if let Some(container) = index.by_name.get(name).and_then(|id| index.by_id.get(id)) {
            return Ok(container.clone());
        }
        if text.is_empty() {
            return Err(Error::not_found(format!("No such container: {text}")));
        }
        let mut found = index
            .by_id
            .range(text.to_owned()..)
            .take_while(|(id, _)| id.starts_with(text));
        match (found.next(), found.next()) {
            (Some((_, container)), None) => Ok(container.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {text}"
            ))),
            (None, _) => Err(Error::not_found(format!("No such container: {text}"))),
        }
    }

    /// Takes `name` for `id`; Docker's words where it is taken.
    pub fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut index = self.index();
        match index.by_name.get(name) {
            Some(holder) if holder != id => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
                 You have to remove (or rename) that container to be able to reuse that name."
            ))),
            _ => {
                index.by_name.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    /// Frees a name, if it is that of `id`.
    pub fn free(&self, name: &str, id: &str) {
        let mut index = self.index();
        if index.by_name.get(name).is_some_and(|holder| holder == id) {
            index.by_name.remove(name);
        }
    }

    /// Whether a name is taken.
    pub fn taken(&self, name: &str) -> bool {
        self.index().by_name.contains_key(name)
    }

    /// Makes a container visible, under its name.
    pub fn insert(&self, container: Arc<Container>) {
        let name = container.name();
        let mut index = self.index();
        index.by_name.insert(name, container.id.clone());
        index.by_id.insert(container.id.clone(), container);
    }

    /// Takes a container out, with its name.
    pub fn remove(&self, container: &Container) {
        let name = container.name();
        self.index().by_id.remove(&container.id);
        self.free(&name, &container.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::Record;

    #[test]
    fn found_by_id_name_and_beginning() {
        let containers = Containers::default();
        for (id, name) in [("aa11", "one"), ("aa22", "aa1"), ("bb33", "three")] {
            containers.reserve(name, id).unwrap();
            containers.insert(Arc::new(Container::new(Record {
                id: id.to_owned(),
                name: name.to_owned(),
                ..Record::default()
            })));
        }
        let find = |text| containers.find(text).map(|c| c.id.clone());
        for (text, id) in [
            ("aa11", "aa11"),
            ("one", "aa11"),
            ("/one", "aa11"),
            ("b", "bb33"),
            // A name goes before the beginning of an ID.
            ("aa1", "aa22"),
        ] {
            assert_eq!(find(text).unwrap(), id, "{text}");
        }
        assert_eq!(
            find("aa").unwrap_err().to_string(),
            "multiple IDs found with provided prefix: aa"
        );
        for absent in ["", "c", "on", "aa111"] {
            let error = find(absent).unwrap_err();
            assert_eq!(error.to_string(), format!("No such container: {absent}"));
        }
        let taken = containers.reserve("one", "cc44").unwrap_err();
        assert!(taken.to_string().starts_with(
            "Conflict. The container name \"/one\" is already in use by container \"aa11\". You have"
        ));
        containers.remove(&containers.find("one").unwrap());
        containers.reserve("one", "cc44").unwrap();
    }
}
