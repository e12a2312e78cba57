//! `berth`: one file with several personalities. The name it is called by and its first word
//! say which, before a thread, an executor or a log exists: the engine's launcher and the
//! runtime fork, and must do so single-threaded.
#![forbid(unsafe_code)]

mod archive;
mod autostart;
mod build_context;
mod cli;
mod command;
mod config_file;
mod context_store;
mod daemon;
mod endpoint;
mod environment;
mod failure;
mod format;
mod option;
mod personality;
mod progress;
mod reference;
mod registry;
mod terminal;
mod usage;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    personality::dispatch(std::env::args_os().collect())
}
