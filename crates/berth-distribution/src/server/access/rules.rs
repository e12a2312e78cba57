//! The rules, ready to be asked.

use super::settings::{AuthSettings, ROBOT, Rule};
use super::{Identity, Verb};
use crate::server::fault::{Code, Fault, Reply};
use crate::server::pattern::Pattern;

const ANONYMOUS: &str = "anonymous";
const EVERYBODY: &str = "*";

pub(crate) struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// Puts groups' members in their place. A rule about a group or robot that does not exist is a
    /// mistake.
    pub(crate) fn new(settings: &AuthSettings) -> Reply<Self> {
        let everything = || Rule {
            who: vec![EVERYBODY.into()],
            repositories: vec![Pattern::new("**")],
            allow: vec![Verb::Pull, Verb::Push, Verb::Delete],
        };
        let given = settings.rules.clone().unwrap_or_else(|| vec![everything()]);
        let rules = given
            .into_iter()
            .map(|rule| {
                let mut who = Vec::new();
                for name in rule.who {
                    match name.strip_prefix('@') {
                        Some(group) => who.extend(members(settings, group)?),
                        None => who.push(known(settings, name)?),
                    }
                }
                Ok(Rule { who, ..rule })
            })
            .collect::<Reply<_>>()?;
        Ok(Self { rules })
    }

    /// Whether a rule lets `identity` do `verb` with `repository`.
    pub(crate) fn allow(&self, identity: &Identity, repository: &str, verb: Verb) -> bool {
        self.rules.iter().any(|rule| {
            rule.allow.contains(&verb)
                && rule.who.iter().any(|who| is(identity, who))
                && rule.repositories.iter().any(|p| p.matches(repository))
        })
    }
}

fn is(identity: &Identity, who: &str) -> bool {
    match identity {
        _ if who == ANONYMOUS => true,
        Identity::Anonymous => false,
        Identity::Known(name) => who == EVERYBODY || who == name,
    }
}

fn members(settings: &AuthSettings, group: &str) -> Reply<Vec<String>> {
    settings.groups.get(group).cloned().ok_or_else(|| {
        Fault::new(
            Code::Unknown,
            format!("auth.rules: there is no group {group:?} in auth.groups"),
        )
    })
}

fn known(settings: &AuthSettings, name: String) -> Reply<String> {
    if name.starts_with(ROBOT) && settings.robot(&name).is_none() {
        return Err(Fault::new(
            Code::Unknown,
            format!("auth.rules: {name:?} is not in auth.robots"),
        ));
    }
    Ok(name)
}
