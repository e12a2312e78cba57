//! Cgroups below a container's own, which a further process may be put into instead.

use rustix::io::Errno;

use super::dir::Dir;
use super::{Cgroup, Error, Join, Result};

/// Which cgroup below the container's: by controller, or everywhere where that is empty.
pub type SubCgroup = (String, String);

/// Reads `--cgroup` as runc does: `path`, or `controller[,controller]:path`, the latter repeatedly.
pub fn parse_sub_cgroups<'a>(asked: impl Iterator<Item = &'a str>) -> Result<Vec<SubCgroup>> {
    let asked: Vec<&str> = asked.collect();
    let invalid = |one: &str, why: &str| {
        Err(Error::Invalid(format!(
            "invalid --cgroup argument: {one} ({why})"
        )))
    };
    let mut found: Vec<SubCgroup> = Vec::new();
    for one in &asked {
        let Some((controllers, path)) = one.split_once(':') else {
            if asked.len() != 1 {
                return invalid(one, "missing <controller>: prefix");
            }
            found.push((String::new(), clean(one)?));
            continue;
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return invalid(one, "empty <controller> prefix");
            }
            if found.iter().any(|(c, _)| c == controller) {
                return invalid(one, "a controller is named twice");
            }
            found.push((controller.to_owned(), clean(path)?));
        }
    }
    Ok(found)
}

/// The path without detours; one that leads out is refused.
fn clean(path: &str) -> Result<String> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.pop().is_some() => {}
            ".." => return Err(Error::Invalid(format!("bad sub cgroup path: {path}"))),
            name => names.push(name),
        }
    }
    Ok(names.join("/"))
}

impl Cgroup {
    /// Descriptors to join by, where some trees are joined below this cgroup.
    pub fn join_below(&self, asked: &[SubCgroup]) -> Result<Join> {
        let known = |controller: &str| {
            let v1 = self.v1.as_ref().is_some_and(|v1| v1.has_tree(controller));
            controller.is_empty() || v1
        };
        if let Some((controller, _)) = asked.iter().find(|(c, _)| !known(c)) {
            let text = format!("unknown controller {controller} in --cgroup");
            return Err(Error::Invalid(text));
        }
        let path = |controllers: &[String]| {
            let wanted = |c: &String| c.is_empty() || controllers.contains(c);
            let found = asked.iter().find(|(c, _)| wanted(c));
            found.map_or("", |(_, path)| path.as_str())
        };
        let mut join = self.join()?;
        if let Some(v1) = &self.v1 {
            join.procs = v1.procs_files_below(path)?;
        }
        let unified = path(&[]);
        if let Some(v2) = self.v2.as_ref().filter(|_| !unified.is_empty()) {
            let dir = enter(v2.directory(), unified)?;
            join.unified_procs = Some(dir.open_write("cgroup.procs")?);
            join.into = Some(dir.into_fd());
        }
        Ok(join)
    }

    /// Where a process is that stands below this cgroup, by its `/proc/PID/cgroup`: only the v2 tree
    /// is looked at.
    pub fn below_of(&self, listed: &str) -> Option<SubCgroup> {
        let line = listed.lines().find_map(|line| line.strip_prefix("0::/"))?;
        // As seen from the root of our cgroup namespace.
        let path = line.strip_prefix(self.path.as_str())?.strip_prefix('/')?;
        Some((String::new(), clean(path).ok()?))
    }
}

/// A cgroup below one; the words are those of runc, which learns of it by its write.
pub(super) fn enter(dir: &Dir, path: &str) -> Result<Dir> {
    let missing = || Error::Join {
        path: format!("{}/{path}", dir.name()),
        source: Errno::NOENT.into(),
    };
    dir.open_dir(path)?.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Vec<SubCgroup>> {
        parse_sub_cgroups(words.split_whitespace())
    }

    #[test]
    fn arguments_are_read_as_runc_does() {
        let pair = |c: &str, p: &str| (c.to_owned(), p.to_owned());
        assert_eq!(parse("/a//b/./c").unwrap(), [pair("", "a/b/c")]);
        assert_eq!(parse("/").unwrap(), [pair("", "")]);
        assert_eq!(
            parse("memory:x cpu,cpuacct:/y").unwrap(),
            [pair("memory", "x"), pair("cpu", "y"), pair("cpuacct", "y")]
        );
        for bad in ["a b", "cpu:a cpu:b", ",:x", ":x", "..", "cpu:a/../../b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let error = parse("a/../..").unwrap_err();
        assert!(error.to_string().contains("bad sub cgroup path"), "{error}");
    }
}
