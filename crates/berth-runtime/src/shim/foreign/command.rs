//! One command of another runtime, and what it says when it fails.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Piped};

use rustix::process::Pid;
use serde::Deserialize;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::init::Stdio;
use crate::task::RuntimeProgram;

/// Bytes of a runtime's log that are looked at.
const LOG_MAX: u64 = 64 << 10;

/// A runtime, and where it keeps what it knows of one container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runtime<'t> {
    pub program: &'t RuntimeProgram,
    pub dir: &'t Path,
}

impl Runtime<'_> {
    fn log(&self) -> PathBuf {
        self.dir.join("oci.log")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("oci.pid")
    }

    /// A command with what stands before every verb.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program.path);
        command
            .env_clear()
            .env("PATH", crate::defaults::PATH)
            .current_dir("/")
            .args(&self.program.args)
            .arg("--root")
            .arg(self.dir.join("oci"))
            .arg("--log")
            .arg(self.log())
            .args(["--log-format", "json", verb]);
        command
    }

    /// Runs a command to its end; `stdio` becomes the container's.
    pub fn run(&self, mut command: Command, stdio: Stdio) -> Result<()> {
        // Of an earlier command; there may be none.
        let _ = std::fs::remove_file(self.log());
        match stdio {
            Stdio::Files(Some([stdin, stdout, stderr])) => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
            }
            Stdio::Files(None) | Stdio::Terminal => {
                command
                    .stdin(Piped::null())
                    .stdout(Piped::null())
                    .stderr(Piped::null());
            }
        }
        let name = || format!("running {}", self.program.path.display());
        let status = command.status().context(name)?;
        drop(command);
        match status.success() {
            true => Ok(()),
            false => Err(self.failure(&status.to_string())),
        }
    }

    /// The process that the last command started.
    pub fn started(&self) -> Result<Pid> {
        let text = std::fs::read_to_string(self.pid_file()).context(|| "pid file".to_owned())?;
        super::parse_pid(&text).ok_or_else(|| Error::internal("the runtime told no process"))
    }

    /// What the runtime has to say.
    fn failure(&self, status: &str) -> Error {
        let name = self.program.path.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let mut log = String::new();
        let read = std::fs::File::open(self.log())
            .and_then(|file| file.take(LOG_MAX).read_to_string(&mut log));
        match read.ok().and_then(|_| last_error(&log)) {
            Some(text) => {
                program_error(&text).unwrap_or_else(|| Error::internal(format!("{name}: {text}")))
            }
            None => Error::internal(format!("{name} ended with {status}")),
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The last error in a log of JSON lines; the last line of anything else.
fn last_error(log: &str) -> Option<String> {
    let entries = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    let errors = entries.filter(|e| matches!(e.level.as_str(), "error" | "fatal" | ""));
    let last = errors.map(|e| e.msg).rfind(|m| !m.is_empty());
    last.or_else(|| log.lines().last().map(str::to_owned))
}

/// Docker's two errors of programs, from the words of runc and of crun.
fn program_error(text: &str) -> Option<Error> {
    let quoted = |open: char, close: char| {
        let rest = text.split_once(open)?.1;
        rest.split_once(close).map(|(name, _)| name)
    };
    let program = quoted('`', '`').or_else(|| {
        let after = text.split_once("exec: ")?.1;
        after.split('"').nth(1)
    })?;
    let lower = text.to_lowercase();
    if lower.contains("executable file") && lower.contains("not found")
        || lower.contains("no such file or directory")
    {
        let why = match program.contains('/') {
            true => format!("exec: \"{program}\": stat {program}: no such file or directory"),
            false => format!("exec: \"{program}\": executable file not found in $PATH"),
        };
        return Some(Error::new(ErrorKind::ProgramNotFound, why));
    }
    lower.contains("permission denied").then(|| {
        Error::new(
            ErrorKind::ProgramNotExecutable,
            format!("exec: \"{program}\": permission denied"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_say_is_understood() {
        let runc = r#"{"level":"info","msg":"x","time":"t"}
{"level":"error","msg":"runc create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH","time":"t"}
"#;
        let error = program_error(&last_error(runc).unwrap()).unwrap();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (
                ErrorKind::ProgramNotFound,
                "exec: \"nope\": executable file not found in $PATH"
            )
        );
        let crun = r#"{"msg":"executable file `nope` not found in $PATH: No such file or directory","level":"error","time":"t"}"#;
        let error = program_error(&last_error(crun).unwrap()).unwrap();
        assert_eq!(
            error.to_string(),
            "exec: \"nope\": executable file not found in $PATH"
        );
        let crun = "open executable `/etc/passwd`: Permission denied";
        assert_eq!(
            program_error(&last_error(crun).unwrap()).unwrap().kind(),
            ErrorKind::ProgramNotExecutable
        );
        assert!(program_error("cgroups: nothing works").is_none());
        assert_eq!(last_error(""), None);
    }
}
