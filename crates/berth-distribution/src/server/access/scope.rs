//! `repository:NAME:pull,push`: what a token is asked for (distribution's token specification).

use std::fmt;

use super::Verb;
use crate::server::name;

/// Scopes that one request may name.
const SCOPES_MAX: usize = 64;

/// A resource and what is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) repository: String,
    pub(crate) verbs: Vec<Verb>,
}

impl Scope {
    /// What a client should ask for that wants to do `verb`. Whoever pushes also looks.
    pub(crate) fn needed(repository: &str, verb: Verb) -> Self {
        let verbs = match verb {
            Verb::Push => vec![Verb::Pull, Verb::Push],
            verb => vec![verb],
        };
        Self {
            repository: repository.to_owned(),
            verbs,
        }
    }

    /// Reads the scopes of `texts`, each of which may hold several. What is not about a repository is
    /// left out: the answer tells what was granted.
    pub(crate) fn parse_all<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Self> {
        texts
            .flat_map(|text| text.split(' '))
            .filter_map(Self::parse)
            .take(SCOPES_MAX)
            .collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (repository, actions) = rest.rsplit_once(':')?;
        if kind != "repository" || !name::is_repository(repository) {
            return None;
        }
        let mut verbs = Vec::new();
        for action in actions.split(',') {
            match action {
                "pull" => verbs.push(Verb::Pull),
                "push" => verbs.push(Verb::Push),
                "delete" => verbs.push(Verb::Delete),
                "*" => verbs.extend([Verb::Pull, Verb::Push, Verb::Delete]),
                _ => {}
            }
        }
        verbs.dedup();
        Some(Self {
            repository: repository.to_owned(),
            verbs,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verbs: Vec<_> = self.verbs.iter().map(|v| v.as_str()).collect();
        write!(f, "repository:{}:{}", self.repository, verbs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_said() {
        let all = Scope::parse_all(
            [
                "repository:a/b:pull,push repository:c:*",
                "registry:catalog:*",
                "repository:UP:pull",
            ]
            .into_iter(),
        );
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].to_string(), "repository:a/b:pull,push");
        assert_eq!(all[1].to_string(), "repository:c:pull,push,delete");
        assert_eq!(
            Scope::needed("a", Verb::Push).to_string(),
            "repository:a:pull,push"
        );
    }
}
