//! `berth runtime`: an OCI runtime with runc's command line, for those who start containers with one.
//!
//! Every command is a process of its own; what they share is kept below the root (`state`). The
//! container's processes are made by the same code as a shim's (`init`), without a shim: whoever
//! calls looks after them.

mod create;
mod exec;
mod flags;
mod foreground;
mod kill;
mod show;
mod state;
mod update;

use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use berth_sys::executable;
use jiff::Timestamp;
use serde_json::json;

use crate::error::{Context, Error, Result};
use flags::{Flag, Given};

const GLOBAL: &[Flag] = &[
    (&["root"], true),
    (&["log"], true),
    (&["log-format"], true),
    (&["debug"], false),
    (&["systemd-cgroup"], false),
    (&["rootless"], true),
    (&["version", "v"], false),
    (&["help", "h"], false),
];

const USAGE: &str = "\
Usage: berth runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND [ARGS]

Commands:
  create [--bundle DIR] [--console-socket PATH] [--pid-file FILE] [--preserve-fds N] ID
  start ID
  run [--bundle DIR] [--detach] [--keep] [--console-socket PATH] [--pid-file FILE] ID
  state ID
  kill [--all] ID [SIGNAL]
  delete [--force] ID
  exec [--cwd DIR] [--env NAME=VALUE] [--tty] [--user UID[:GID]] [--process FILE] [--detach] ID COMMAND [ARGS]
  list [--format table|json] [--quiet]
  ps [--format table|json] ID [PS OPTIONS]
  pause ID
  resume ID
  update [--resources FILE] [--memory BYTES] [--cpu-quota N] [--cpu-period N] [--pids-limit N] … ID
  spec [--bundle DIR]
  features
";

/// What stands before the command.
#[derive(Debug)]
struct Global {
    root: PathBuf,
}

/// Where messages go beside standard error: the file, and whether as JSON.
static LOG: OnceLock<(PathBuf, bool)> = OnceLock::new();

/// Runs one command; `arguments` are what follows `berth runtime`.
///
/// Must be called before the process has threads, for it forks.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let _guard = berth_sys::process::EndOnPanic;
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) => {
            note("error", &error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Vec<OsString>) -> Result<ExitCode> {
    // Everything after the command is the command's.
    let given = Given::parse(arguments.into_iter(), GLOBAL, true)?;
    if let Some(path) = given.value("log") {
        let json = given.value("log-format") == Some("json");
        // It is set once, here.
        let _ = LOG.set((PathBuf::from(path), json));
    }
    if given.on("version") {
        println!("berth runtime {}", env!("CARGO_PKG_VERSION"));
        println!("spec: {}", berth_spec::oci::runtime::OCI_VERSION);
        return Ok(ExitCode::SUCCESS);
    }
    let global = Global {
        root: given.value("root").unwrap_or("/run/berth/runtime").into(),
    };
    let Some((command, rest)) = given.words.split_first().filter(|_| !given.on("help")) else {
        print!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    let rest = rest.iter().map(OsString::from);
    match command.as_str() {
        "create" => protect().and_then(|()| create::create(&global, rest)),
        "run" => protect().and_then(|()| create::run(&global, rest)),
        "exec" => protect().and_then(|()| exec::exec(&global, rest)),
        "start" => create::start(&global, rest),
        "state" => show::state(&global, rest),
        "kill" => kill::kill(&global, rest),
        "delete" => kill::delete(&global, rest),
        "list" => show::list(&global, rest),
        "ps" => show::ps(&global, rest),
        "pause" => kill::freeze(&global, rest, true),
        "resume" => kill::freeze(&global, rest, false),
        "update" => update::update(&global, rest),
        "spec" => show::spec(rest),
        "features" => show::features(),
        other => Err(Error::invalid(format!(
            "{other:?} is no command of berth runtime"
        ))),
    }
}

/// Goes on from a read-only mount of this program, for it will be seen from inside a container.
fn protect() -> Result<()> {
    let what = || "protecting the program".to_owned();
    if executable::is_protected().context(what)? {
        return Ok(());
    }
    let string = |text: OsString| CString::new(text.into_vec());
    let args: std::result::Result<Vec<CString>, _> = std::env::args_os().map(string).collect();
    let env: std::result::Result<Vec<CString>, _> = std::env::vars_os()
        .map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            string(variable)
        })
        .collect();
    let Err(error) = executable::protect(&args.context(what)?, &env.context(what)?);
    Err(error).context(what)
}

/// Tells something on standard error, and in the log if there is one.
fn note(level: &str, message: &str) {
    eprintln!("{level}: {message}");
    let Some((path, json)) = LOG.get() else {
        return;
    };
    let line = if *json {
        json!({ "level": level, "msg": message, "time": Timestamp::now() }).to_string()
    } else {
        format!(
            "time={:?} level={level} msg={message:?}",
            Timestamp::now().to_string()
        )
    };
    // Whoever cannot be told by the log has been told on standard error.
    if let Ok(mut file) = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
    {
        let _ = writeln!(file, "{line}");
    }
}
