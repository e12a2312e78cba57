//! A container's labels and variables that go along with its output.

use std::collections::BTreeMap;

use regex::Regex;

use super::option;
use crate::container::record::Record;
use crate::{Error, Result};

/// Those that `labels`, `labels-regex`, `env` and `env-regex` name, under names that `rename` makes.
pub(super) fn of(record: &Record, rename: fn(&str) -> String) -> Result<BTreeMap<String, String>> {
    let log = &record.host.log_config;
    let no_labels = BTreeMap::new();
    let labels = record.config.labels.as_ref().unwrap_or(&no_labels);
    let variables = record.config.env.iter().flatten();
    let variables: BTreeMap<&str, &str> = variables.filter_map(|v| v.split_once('=')).collect();
    let labels = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let mut chosen = BTreeMap::new();
    for (all, list, pattern) in [
        (labels.collect(), "labels", "labels-regex"),
        (variables, "env", "env-regex"),
    ] {
        let named: Vec<&str> = option(log, list).unwrap_or_default().split(',').collect();
        let pattern = option(log, pattern)
            .filter(|p| !p.is_empty())
            .map(Regex::new)
            .transpose()
            .map_err(|e| Error::invalid(e.to_string()))?;
        for (name, value) in all {
            if named.contains(&name) || pattern.as_ref().is_some_and(|p| p.is_match(name)) {
                chosen.insert(rename(name), value.to_owned());
            }
        }
    }
    Ok(chosen)
}

/// A name as the journal takes it: capitals, digits and underscores, none of them first.
pub(super) fn journal_name(name: &str) -> String {
    let fit = |c: char| match c {
        'a'..='z' => c.to_ascii_uppercase(),
        'A'..='Z' | '0'..='9' => c,
        _ => '_',
    };
    let name: String = name.chars().map(fit).collect();
    name.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_and_matching_ones_go_along() {
        let mut record = Record::default();
        record.config.labels = Some(BTreeMap::from([
            ("app.name".to_owned(), "web".to_owned()),
            ("other".to_owned(), "x".to_owned()),
        ]));
        record.config.env = Some(vec!["A=1".to_owned(), "AB=2".to_owned(), "C".to_owned()]);
        let log = &mut record.host.log_config.config;
        log.insert("labels".to_owned(), "app.name,none".to_owned());
        log.insert("env-regex".to_owned(), "^AB".to_owned());
        let found = of(&record, journal_name).unwrap();
        let expected = [("AB", "2"), ("APP_NAME", "web")];
        assert_eq!(
            found,
            expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
        assert_eq!(journal_name("__x-y9"), "X_Y9");
    }
}
