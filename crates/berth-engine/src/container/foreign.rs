//! Which OCI runtime runs a container: berth's own, or another by its command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use berth_runtime::task::RuntimeProgram;

use crate::{Error, Result};

/// Names of berth's own: what clients send for "the default one" is among them.
const OWN: [&str; 4] = ["", "berth", "runc", "io.containerd.runc.v2"];

/// Runtimes that need no setting up where they are installed. All take runc's command line.
const KNOWN: [&str; 5] = ["crun", "youki", "runsc", "kata-runtime", "krun"];

/// Where they are looked for: what only root may write.
const DIRECTORIES: [&str; 4] = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"];

/// The program of a runtime; none for berth's own. `set` are those of `--add-runtime`.
pub(super) fn find(
    name: &str,
    set: &BTreeMap<String, RuntimeProgram>,
) -> Result<Option<RuntimeProgram>> {
    let Some(asked) = set.get(name) else {
        if OWN.contains(&name) {
            return Ok(None);
        }
        let program = Path::new(name);
        return installed(program)
            .filter(|_| KNOWN.contains(&name))
            .map(|path| {
                Some(RuntimeProgram {
                    path,
                    args: Vec::new(),
                })
            })
            .ok_or_else(|| Error::invalid(format!("unknown or invalid runtime name: {name}")));
    };
    // A bare name is looked for as the known ones are.
    let path = installed(&asked.path).ok_or_else(|| {
        Error::invalid(format!(
            "the runtime {name} is not there: {}",
            asked.path.display()
        ))
    })?;
    Ok(Some(RuntimeProgram {
        path,
        args: asked.args.clone(),
    }))
}

fn installed(program: &Path) -> Option<PathBuf> {
    // An absolute path stays what it is, whichever directory it is joined to.
    let mut paths = DIRECTORIES.iter().map(|dir| Path::new(dir).join(program));
    paths.find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_programs() {
        let program = |path: &str| RuntimeProgram {
            path: path.into(),
            args: Vec::new(),
        };
        let set = BTreeMap::from([
            ("mine".to_owned(), program("/usr/bin/env")),
            ("bare".to_owned(), program("env")),
            ("gone".to_owned(), program("no-such-program")),
        ]);
        let find = |name| {
            let found = find(name, &set).map_err(|e| e.to_string())?;
            Ok::<_, String>(found.map(|r| r.path.display().to_string()))
        };
        assert_eq!(find("runc"), Ok(None));
        assert_eq!(find("mine"), Ok(Some("/usr/bin/env".to_owned())));
        assert_eq!(find("bare"), Ok(Some("/usr/bin/env".to_owned())));
        assert!(find("gone").unwrap_err().contains("no-such-program"));
        assert_eq!(
            find("bogus").unwrap_err(),
            "unknown or invalid runtime name: bogus"
        );
    }
}
