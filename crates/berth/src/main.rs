//! `berth`: one file with several personalities.
#![forbid(unsafe_code)]

mod daemon;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().collect();
    let name = args.first().map(std::path::PathBuf::from).unwrap_or_default();
    if name.file_name().is_some_and(|name| name == "dockerd") {
        return daemon::main_as_dockerd(args.split_off(1));
    }
    daemon::main(args.split_off(2.min(args.len())))
}
