//! `--security-opt`: a seccomp profile is a file here, and its text for the engine.

use std::fs;

/// Largest profile read, in bytes.
const MAX_PROFILE: u64 = 8 << 20;

/// The options for the engine, and whether the system paths are left unmasked.
#[derive(Debug, PartialEq, Eq)]
pub struct SecurityOptions {
    /// For `HostConfig.SecurityOpt`.
    pub options: Vec<String>,
    /// `systempaths=unconfined`.
    pub unmasked: bool,
}

/// Reads all of a command line.
pub fn parse(given: &[String]) -> Result<SecurityOptions, String> {
    let mut found = SecurityOptions {
        options: Vec::new(),
        unmasked: false,
    };
    for option in given {
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        match pair {
            _ if option == "no-new-privileges" => found.options.push(option.clone()),
            Some((_, "")) | None => return Err(format!("Invalid --security-opt: {option:?}")),
            Some(("systempaths", "unconfined")) => found.unmasked = true,
            Some(("seccomp", path)) if !["builtin", "unconfined"].contains(&path) => {
                found.options.push(format!("seccomp={}", profile(path)?));
            }
            Some(_) => found.options.push(option.clone()),
        }
    }
    Ok(found)
}

fn profile(path: &str) -> Result<String, String> {
    let failed = |e: std::io::Error| {
        let why = match e.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => e.to_string(),
        };
        format!("opening seccomp profile ({path}) failed: open {path}: {why}")
    };
    if fs::metadata(path).map_err(failed)?.len() > MAX_PROFILE {
        return Err(format!(
            "opening seccomp profile ({path}) failed: larger than {MAX_PROFILE} bytes"
        ));
    }
    let text = fs::read(path).map_err(failed)?;
    let tree: crate::format::tree::Tree = serde_json::from_slice(&text)
        .map_err(|e| format!("compacting json for seccomp profile ({path}) failed: {e}"))?;
    serde_json::to_string(&tree)
        .map_err(|e| format!("compacting json for seccomp profile ({path}) failed: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        fs::write(&path, "{ \"b\": 1,\n\"a\": [ ] }").unwrap();
        let given = [
            "no-new-privileges".to_owned(),
            format!("seccomp={}", path.display()),
            "systempaths=unconfined".to_owned(),
            "label:disable".to_owned(),
        ];
        let found = parse(&given).unwrap();
        assert!(found.unmasked);
        assert_eq!(
            found.options,
            [
                "no-new-privileges",
                r#"seccomp={"b":1,"a":[]}"#,
                "label:disable"
            ]
        );
        assert_eq!(
            parse(&["x".into()]).unwrap_err(),
            "Invalid --security-opt: \"x\""
        );
        assert!(parse(&["seccomp=/nope".into()]).is_err());
    }
}
