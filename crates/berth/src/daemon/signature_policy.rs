//! `signature-policy` of daemon.json: whose signature a pull wants, by what a name begins with.
//!
//! ```json
//! { "signature-policy": { "registry.example/team": { "keys": ["/etc/berth/keys/team.pub"] },
//!                         "docker.io/library": "accept", "": "reject" } }
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use berth_distribution::signature::{KEY_MAX, Policies, PublicKey, Rule};
use serde::Deserialize;

/// What is written for one prefix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Asked {
    /// `"accept"` or `"reject"`.
    Word(Word),
    /// A signature by one of these.
    Signed(Keys),
}

/// A rule of one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Nothing is asked.
    Accept,
    /// Nothing is pulled.
    Reject,
}

/// Whose signature will do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Files of public keys.
    pub keys: Vec<PathBuf>,
}

/// Reads the keys. One that cannot be read stops the engine: nothing must be pulled for want of it.
pub fn policies(asked: &BTreeMap<String, Asked>) -> anyhow::Result<Policies> {
    let mut rules = Vec::new();
    for (prefix, asked) in asked {
        let rule = match asked {
            Asked::Word(Word::Accept) => Rule::Accept,
            Asked::Word(Word::Reject) => Rule::Reject,
            Asked::Signed(Keys { keys }) => {
                ensure!(
                    !keys.is_empty(),
                    "signature-policy of {prefix:?} names no keys"
                );
                let keys = keys.iter().map(|path| {
                    key(path).with_context(|| format!("signature-policy: key {}", path.display()))
                });
                Rule::Signed(keys.collect::<anyhow::Result<_>>()?)
            }
        };
        rules.push((prefix.trim_end_matches('/').to_owned(), rule));
    }
    Ok(Policies::new(rules))
}

fn key(path: &Path) -> anyhow::Result<PublicKey> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(KEY_MAX as u64)
        .read_to_string(&mut text)?;
    Ok(PublicKey::parse(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_words_or_keys() {
        let read = |text: &str| serde_json::from_str::<BTreeMap<String, Asked>>(text);
        let good = read(r#"{"a": "accept", "": "reject"}"#).unwrap();
        assert!(policies(&good).is_ok());
        assert!(read(r#"{"a": "maybe"}"#).is_err());
        assert!(read(r#"{"a": {"key": "x"}}"#).is_err());
        let none = read(r#"{"a": {"keys": []}}"#).unwrap();
        assert!(policies(&none).is_err());
        let lost = read(r#"{"a": {"keys": ["/nowhere/x.pub"]}}"#).unwrap();
        let error = format!("{:#}", policies(&lost).unwrap_err());
        assert!(error.contains("/nowhere/x.pub"), "{error}");
    }
}
