//! `berth runtime`: an OCI runtime with runc's command line, for those who start containers with one.
//!
//! Every command is a process of its own; what they share is kept below the root (`state`). The
//! container's processes are made by the same code as a shim's (`init`), without a shim: whoever
//! calls looks after them.

mod create;
mod criu;
mod events;
mod exec;
mod flags;
mod foreground;
mod help;
mod home;
mod kill;
mod show;
mod state;
mod terminal;
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

/// What stands before the command.
#[derive(Debug)]
struct Global {
    root: PathBuf,
    /// Cgroups are made by systemd.
    systemd: bool,
}

/// Where messages go beside standard error: the file, and whether as JSON.
static LOG: OnceLock<(PathBuf, bool)> = OnceLock::new();
/// Whether steps are told too.
static DEBUG: OnceLock<bool> = OnceLock::new();

/// Runs one command; `arguments` are what follows `berth runtime`.
///
/// Must be called before the process has threads, for it forks.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let _guard = berth_sys::process::EndOnPanic;
    let mut command = None;
    match dispatch(arguments, &mut command) {
        Ok(code) => code,
        Err(error) => {
            note("error", &error.to_string());
            // Whoever asked for a process must tell its code from a failure to make it.
            match command.as_deref() {
                Some("exec") => ExitCode::from(255),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Tells the `asked` command as soon as it is known.
fn dispatch(arguments: Vec<OsString>, asked: &mut Option<String>) -> Result<ExitCode> {
    // Everything after the command is the command's.
    let given = Given::parse(arguments.into_iter(), GLOBAL, true)?;
    if let Some(path) = given.value("log") {
        let json = given.value("log-format") == Some("json");
        // It is set once, here; the working directory may be another when it is written.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let _ = LOG.set((path, json));
    }
    // As is this.
    let _ = DEBUG.set(given.on("debug"));
    if given.on("version") {
        println!("berth runtime {}", env!("CARGO_PKG_VERSION"));
        println!("spec: {}", berth_spec::oci::runtime::OCI_VERSION);
        return Ok(ExitCode::SUCCESS);
    }
    let global = Global {
        root: given.value("root").unwrap_or("/run/berth/runtime").into(),
        systemd: given.on("systemd-cgroup"),
    };
    let Some((command, rest)) = given.words.split_first().filter(|_| !given.on("help")) else {
        print!("{}", help::all());
        return Ok(ExitCode::SUCCESS);
    };
    *asked = Some(command.clone());
    let page = match rest.first().map(String::as_str) {
        Some("-h" | "--help") => Some(command.as_str()),
        Some(topic) if command == "help" => Some(topic),
        _ => None,
    };
    if let Some(topic) = page {
        let page = help::of(topic)
            .ok_or_else(|| Error::invalid(format!("No help topic for '{topic}'")))?;
        print!("{page}");
        return Ok(ExitCode::SUCCESS);
    }
    let rest = rest.iter().map(OsString::from);
    match command.as_str() {
        "create" => protect().and_then(|()| create::create(&global, rest)),
        "run" => protect().and_then(|()| create::run(&global, rest)),
        "exec" => protect().and_then(|()| exec::exec(&global, rest)),
        "start" => create::start(&global, rest),
        "state" => show::state(&global, rest),
        "kill" => kill::kill(&global, rest),
        "delete" => kill::delete(&global, rest),
        "events" => events::events(&global, rest),
        "list" => show::list(&global, rest),
        "ps" => show::ps(&global, rest),
        "pause" => kill::freeze(&global, rest, true),
        "resume" => kill::freeze(&global, rest, false),
        "update" => update::update(&global, rest),
        "spec" => show::spec(rest),
        "features" => show::features(),
        "help" => {
            print!("{}", help::all());
            Ok(ExitCode::SUCCESS)
        }
        "checkpoint" => criu::checkpoint(&global, rest),
        "restore" => criu::restore(&global, rest),
        other => Err(Error::invalid(format!(
            "No help topic for '{other}': it is no command of berth runtime"
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

/// Tells a step, if that is wanted: in the log, else on standard error. Words are runc's where it has
/// the same step.
fn debug(message: &str) {
    if !DEBUG.get().is_some_and(|wanted| *wanted) {
        return;
    }
    match LOG.get() {
        Some(_) => log("debug", message),
        None => eprintln!("{}", line("debug", message)),
    }
}

/// Tells something on standard error, and in the log if there is one.
fn note(level: &str, message: &str) {
    eprintln!("{level}: {message}");
    log(level, message);
}

fn line(level: &str, message: &str) -> String {
    let time = Timestamp::now().to_string();
    format!("time={time:?} level={level} msg={message:?}")
}

fn log(level: &str, message: &str) {
    let Some((path, json)) = LOG.get() else {
        return;
    };
    let line = if *json {
        json!({ "level": level, "msg": message, "time": Timestamp::now() }).to_string()
    } else {
        line(level, message)
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
