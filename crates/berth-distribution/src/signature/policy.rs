//! Whose signature a pull wants, by what the image's name begins with.

use berth_spec::Reference;

use super::PublicKey;

/// What is asked of images whose names begin alike.
#[derive(Debug, Clone)]
pub enum Rule {
    /// A signature by one of these keys.
    Signed(Vec<PublicKey>),
    /// Nothing.
    Accept,
    /// They are not pulled at all.
    Reject,
}

/// Rules by prefix; the longest prefix decides, and where none fits nothing is asked.
#[derive(Debug, Clone, Default)]
pub struct Policies(Vec<(String, Rule)>);

impl Policies {
    /// Rules by what a name begins with (`registry.example/team`, `docker.io/library`); the empty
    /// prefix is that of all names.
    pub fn new(rules: Vec<(String, Rule)>) -> Policies {
        Policies(rules)
    }

    /// The rule for an image.
    pub fn of(&self, reference: &Reference) -> &Rule {
        let name = reference.name();
        let fits = |prefix: &str| {
            prefix.is_empty()
                || name
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0
            .iter()
            .filter(|(prefix, _)| fits(prefix))
            .max_by_key(|(prefix, _)| prefix.len())
            .map_or(&Rule::Accept, |(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let rules = |list: &[(&str, Rule)]| {
            Policies::new(
                list.iter()
                    .map(|(p, r)| ((*p).to_owned(), r.clone()))
                    .collect(),
            )
        };
        let policies = rules(&[
            ("", Rule::Reject),
            ("reg.example/team", Rule::Signed(Vec::new())),
            ("reg.example/team/open", Rule::Accept),
        ]);
        let of = |name: &str| match policies.of(&name.parse().unwrap()) {
            Rule::Signed(_) => "signed",
            Rule::Accept => "accept",
            Rule::Reject => "reject",
        };
        assert_eq!(of("busybox"), "reject");
        assert_eq!(of("reg.example/team/a:v1"), "signed");
        assert_eq!(of("reg.example/teams/a"), "reject");
        assert_eq!(of("reg.example/team/open"), "accept");
        assert!(matches!(
            Policies::default().of(&"busybox".parse().unwrap()),
            Rule::Accept
        ));
    }
}
