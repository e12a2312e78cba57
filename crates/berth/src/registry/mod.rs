//! `berth registry …`: the registry as a process.
//!
//! [`main`] reads flags and file ([`flags`]), starts the executor, opens the storage and serves until
//! SIGTERM or SIGINT.

mod flags;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use berth_distribution::server::{Registry, Settings};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::daemon::environment::Environment;
use crate::daemon::notify::Notify;
use flags::{Command, Flags};

/// The exit code for mistakes in the arguments.
const USAGE: u8 = 125;

/// `berth registry ARGS`.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let program = OsString::from("berth registry");
    let flags = match Flags::try_parse_from(std::iter::once(program).chain(args)) {
        Ok(flags) => flags,
        Err(e) => {
            // Help goes to standard output, complaints to standard error; a closed one changes nothing.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { USAGE } else { 0 });
        }
    };
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("berth registry: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    match flags.command {
        Command::Serve(serve) => {
            let environment = Environment::read();
            let notify = Notify::new(environment.notify_socket.clone());
            let served = start(&serve, &environment, &notify);
            if let Err(e) = &served {
                notify.failed(&format!("{e:#}"));
            }
            served
        }
    }
}

fn start(flags: &flags::Serve, environment: &Environment, notify: &Notify) -> anyhow::Result<()> {
    let settings = flags.settings(environment)?;
    start_log(&flags.log_level);
    crate::daemon::raise_descriptor_limit();
    // The process's only provider; a second installation would be a mistake in this file.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let executor = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the executor")?;
    let served = executor.block_on(serve(settings, notify));
    executor.shutdown_timeout(Duration::from_secs(2));
    served
}

async fn serve(settings: Settings, notify: &Notify) -> anyhow::Result<()> {
    let root = settings.root.display().to_string();
    let registry = Registry::open(settings).await?;
    let address = registry.address()?;
    let (end, ending) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let serving = tokio::spawn(registry.serve(ending));
    // Scripts read this line to learn the port; that nobody reads it is no reason to stop.
    let _ = writeln!(
        std::io::stdout(),
        "listening on {address}, storing in {root}"
    );
    notify.ready("Serving the registry");
    // Opening the storage needs code that serving does not. Failing costs memory only.
    let _ = berth_sys::memory::forget_code();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify.stopping();
    // The receiver lives in the task that is awaited next.
    let _ = end.send(true);
    serving.await.context("the server failed")
}

fn start_log(level: &str) {
    let filter = tracing_subscriber::EnvFilter::new(format!(
        "warn,berth={level},berth_distribution={level}"
    ));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(rustix::termios::isatty(rustix::stdio::stderr()))
        .init();
}
