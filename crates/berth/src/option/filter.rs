//! `--filter name=value`, as the API's `filters`: a map of names to sets of values.

use std::collections::BTreeMap;

/// All filters of a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeMap<String, bool>>);

/// Checks one filter's notation.
pub fn check(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('=') {
        Ok(text.to_owned())
    } else {
        Err("bad format of filter (expected name=value)".to_owned())
    }
}

impl Filters {
    /// From the command line.
    pub fn new(given: &[String]) -> Result<Self, String> {
        let mut filters = Filters::default();
        for text in given.iter().filter(|text| !text.is_empty()) {
            let (name, value) = text
                .split_once('=')
                .ok_or("invalid argument: bad format of filter (expected name=value)")?;
            filters.add(name.trim().to_lowercase().as_str(), value.trim());
        }
        Ok(filters)
    }

    /// Adds one.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0
            .entry(name.to_owned())
            .or_default()
            .insert(value.to_owned(), true);
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// For the query; empty where there are none.
    pub fn to_query(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        // Text and booleans only: writing cannot fail.
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_sets() {
        let filters = Filters::new(&["Name=a".into(), "name=b=c".into()]).unwrap();
        assert_eq!(filters.to_query(), r#"{"name":{"a":true,"b=c":true}}"#);
        assert!(Filters::new(&["x".into()]).is_err());
        assert_eq!(Filters::default().to_query(), "");
    }
}
