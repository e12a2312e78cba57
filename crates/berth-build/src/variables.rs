//! Build arguments: which are known where, and what they are worth.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::Variables;

/// Arguments that need no `ARG` and leave no trace unless one declares them.
const TRANSPARENT: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The arguments of one stage, with what all stages share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    /// `--build-arg`.
    given: BTreeMap<String, Option<String>>,
    /// Declared before the first `FROM`, and the platform's, with their defaults.
    global: BTreeMap<String, Option<String>>,
    /// Declared in this stage, with their defaults.
    declared: BTreeMap<String, Option<String>>,
    /// Declared anywhere so far.
    seen: BTreeSet<String>,
}

impl Arguments {
    /// `given` is what the user said, `platform` the predefined ones (`TARGETARCH` …).
    pub(crate) fn new(
        given: BTreeMap<String, Option<String>>,
        platform: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        Arguments {
            given,
            global: platform
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Some(value)))
                .collect(),
            ..Self::default()
        }
    }

    /// `ARG` before the first `FROM`.
    pub(crate) fn declare_global(&mut self, name: &str, default: Option<String>) {
        self.seen.insert(name.to_owned());
        let known = self.global.get(name).cloned().flatten();
        self.global.insert(name.to_owned(), default.or(known));
    }

    /// `ARG` in a stage.
    pub(crate) fn declare(&mut self, name: &str, default: Option<String>) {
        self.seen.insert(name.to_owned());
        self.declared.insert(name.to_owned(), default);
    }

    /// The same arguments at the start of a new stage; `inherited` is the stage it continues.
    pub(crate) fn for_stage(&self, inherited: Option<&Arguments>) -> Arguments {
        Arguments {
            declared: inherited.map(|a| a.declared.clone()).unwrap_or_default(),
            ..self.clone()
        }
    }

    /// Takes over which arguments a stage has declared.
    pub(crate) fn remember(&mut self, stage: &Arguments) {
        self.seen.extend(stage.seen.iter().cloned());
    }

    fn value(&self, name: &str, declared: &BTreeMap<String, Option<String>>) -> Option<String> {
        let given = self.given.get(name).cloned().flatten();
        given
            .or_else(|| declared.get(name).cloned().flatten())
            .or_else(|| self.global.get(name).cloned().flatten())
    }

    /// What `FROM` and `ARG`s before it may use.
    pub(crate) fn globals(&self) -> Variables {
        self.global
            .keys()
            .filter_map(|name| Some((name.clone(), self.value(name, &self.global)?)))
            .collect()
    }

    /// Everything that steps of the stage get, unless the image's environment sets it.
    pub(crate) fn values(&self, environment: &[String]) -> Variables {
        let set: BTreeSet<&str> = environment.iter().map(|e| name_of(e)).collect();
        let declared = self.declared.keys().map(String::as_str);
        let given = TRANSPARENT
            .into_iter()
            .filter(|name| matches!(self.given.get(*name), Some(Some(_))));
        declared
            .chain(given)
            .filter(|name| !set.contains(name))
            .filter_map(|name| Some((name.to_owned(), self.value(name, &self.declared)?)))
            .collect()
    }

    /// Of [`values`](Self::values), those that are part of the image's history and of cache keys.
    pub(crate) fn lasting(&self, environment: &[String]) -> Variables {
        let mut values = self.values(environment);
        values.retain(|name, _| {
            self.declared.contains_key(name) || !TRANSPARENT.contains(&name.as_str())
        });
        values
    }

    /// The given arguments that nothing declared, in Docker's words.
    pub(crate) fn unused_warning(&self) -> Option<String> {
        let unused: Vec<&str> = self
            .given
            .keys()
            .map(String::as_str)
            .filter(|name| !self.seen.contains(*name) && !TRANSPARENT.contains(name))
            .filter(|name| !is_builder_switch(name))
            .collect();
        (!unused.is_empty()).then(|| {
            format!(
                "[Warning] One or more build-args [{}] were not consumed\n",
                unused.join(" ")
            )
        })
    }

    /// An argument that speaks to the builder rather than to the Dockerfile.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name)?.as_deref()
    }
}

fn is_builder_switch(name: &str) -> bool {
    name.starts_with("BUILDKIT_") || name == "SOURCE_DATE_EPOCH"
}

/// The name of `NAME=value`.
pub(crate) fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// What an instruction's words may use: the environment, then the arguments it does not set.
pub(crate) fn in_scope(environment: &[String], arguments: &Arguments) -> Variables {
    let mut variables = arguments.values(environment);
    for variable in environment {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn scopes() {
        let mut args = Arguments::new(
            given(&[
                ("A", Some("given")),
                ("N", None),
                ("HTTP_PROXY", Some("p")),
                ("X", Some("x")),
            ]),
            [("TARGETARCH", "amd64".to_owned())],
        );
        args.declare_global("A", Some("default".into()));
        args.declare_global("G", Some("global".into()));
        assert_eq!(args.globals()["A"], "given");
        assert_eq!(args.globals()["G"], "global");
        let mut stage = args.for_stage(None);
        assert!(!stage.values(&[]).contains_key("A"));
        for (name, default) in [
            ("A", None),
            ("G", None),
            ("N", Some("n")),
            ("E", Some("e")),
            ("TARGETARCH", None),
            ("U", None),
        ] {
            stage.declare(name, default.map(str::to_owned));
        }
        let env = ["E=env".to_owned()];
        let values = stage.values(&env);
        assert_eq!(values["A"], "given");
        assert_eq!(values["G"], "global");
        assert_eq!(values["N"], "n");
        assert_eq!(values["TARGETARCH"], "amd64");
        assert_eq!(values["HTTP_PROXY"], "p");
        assert!(!values.contains_key("E") && !values.contains_key("U"));
        assert!(!stage.lasting(&env).contains_key("HTTP_PROXY"));
        assert_eq!(in_scope(&env, &stage)["E"], "env");
        stage.declare("HTTP_PROXY", None);
        assert!(stage.lasting(&env).contains_key("HTTP_PROXY"));
        args.remember(&stage);
        assert_eq!(
            args.unused_warning().unwrap(),
            "[Warning] One or more build-args [X] were not consumed\n"
        );
    }
}
