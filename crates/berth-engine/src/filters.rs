//! Filters of lists, prunes and events: `{"label":["a=b"],"status":{"exited":true}}`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Error, Result};

/// Names with the values asked for. Values of one name are alternatives (labels: all must hold).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// Bytes of JSON that are read at most.
const MAX: usize = 64 << 10;

impl Filters {
    /// Reads the `filters` parameter: a map to lists, or (as clients of old write it) to maps of
    /// `true`. Empty text is no filter.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        if text.len() > MAX {
            return Err(Error::invalid("invalid filter: too long"));
        }
        let read: Option<BTreeMap<String, Values>> = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("invalid filter: {e}")))?;
        let filters = read
            .unwrap_or_default()
            .into_iter()
            .map(|(name, values)| {
                let values = match values {
                    Values::List(list) => list,
                    Values::Set(set) => set
                        .into_iter()
                        .filter_map(|(v, on)| on.then_some(v))
                        .collect(),
                };
                (name, values)
            })
            .filter(|(_, values): &(_, Vec<String>)| !values.is_empty())
            .collect();
        Ok(Self(filters))
    }

    /// One more value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0
            .entry(name.to_owned())
            .or_default()
            .push(value.into());
        self
    }

    /// The values of `name`; none where it was not asked for.
    pub fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `name` is asked for at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Refuses names that the verb does not know; Docker's words.
    pub fn allow(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Error::invalid(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }

    /// Whether `name` was not asked for or one of its values is `value`.
    pub fn exact(&self, name: &str, value: &str) -> bool {
        !self.has(name) || self.get(name).iter().any(|v| v == value)
    }

    /// As [`exact`](Self::exact), for values that need only be contained in `value`.
    pub fn contained(&self, name: &str, value: &str) -> bool {
        !self.has(name) || self.get(name).iter().any(|v| value.contains(v.as_str()))
    }

    /// A value that is a truth; Docker's words for others.
    pub fn truth(&self, name: &str) -> Result<Option<bool>> {
        let mut found = None;
        for value in self.get(name) {
            let truth = match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                other => {
                    return Err(Error::invalid(format!("invalid filter '{name}={other}'")));
                }
            };
            if found.is_some_and(|f| f != truth) {
                return Err(Error::invalid(format!("invalid filter '{name}'")));
            }
            found = Some(truth);
        }
        Ok(found)
    }

    /// Whether all of `label` (`key` or `key=value`) hold, and none of `label!`.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(holds) && !self.get("label!").iter().any(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let a = Filters::parse(r#"{"label":["a=b"],"status":["exited"]}"#).unwrap();
        let b = Filters::parse(r#"{"label":{"a=b":true,"c":false},"status":{"exited":true}}"#);
        assert_eq!(a, b.unwrap());
        assert!(Filters::parse("null").unwrap().is_empty());
        assert!(Filters::parse("{").is_err());
        assert!(Filters::parse(r#"{"a":"b"}"#).is_err());
        assert!(a.allow(&["label"]).is_err() && a.allow(&["label", "status"]).is_ok());
    }

    #[test]
    fn labels_all_hold() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for (filter, holds) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=b"]}"#, true),
            (r#"{"label":["a=c"]}"#, false),
            (r#"{"label":["a","x"]}"#, false),
            (r#"{"label!":["a"]}"#, false),
            (r#"{"label!":["x"]}"#, true),
        ] {
            assert_eq!(
                Filters::parse(filter).unwrap().labels(&labels),
                holds,
                "{filter}"
            );
        }
    }

    #[test]
    fn truths() {
        let parse = |text| Filters::parse(text).unwrap().truth("dangling");
        assert_eq!(parse(r#"{"dangling":["1"]}"#).unwrap(), Some(true));
        assert_eq!(
            parse(r#"{"dangling":{"false":true}}"#).unwrap(),
            Some(false)
        );
        assert_eq!(parse("{}").unwrap(), None);
        assert!(parse(r#"{"dangling":["maybe"]}"#).is_err());
    }
}
