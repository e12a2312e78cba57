//! Which program this is: the engine, the registry, the OCI runtime, or the command line.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::{cli, daemon, registry};

/// Runs what the name or the first word asks for.
pub fn dispatch(args: Vec<OsString>) -> ExitCode {
    let name = args.first().map(program_name).unwrap_or_default();
    let word = args.get(1).and_then(|word| word.to_str());
    match (name.as_str(), word) {
        ("dockerd", _) => daemon::main_as_dockerd(rest(args, 1)),
        ("runc", _) => berth_runtime::cli::main(rest(args, 1)),
        ("docker", _) => cli::main("docker", rest(args, 1)),
        (_, Some("engine")) => daemon::main(rest(args, 2)),
        (_, Some("registry")) => registry::main(rest(args, 2)),
        (_, Some("runtime")) => berth_runtime::cli::main(rest(args, 2)),
        _ => cli::main("berth", rest(args, 1)),
    }
}

fn program_name(path: &OsString) -> String {
    Path::new(path)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn rest(mut args: Vec<OsString>, skip: usize) -> Vec<OsString> {
    args.drain(..skip.min(args.len()));
    args
}
