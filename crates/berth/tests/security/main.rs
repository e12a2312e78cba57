//! Flaws that container engines have had, replayed against a running one. Each test names its class by the
//! rule of docs/security.md and by what became known of it; none is ever removed. What a lower crate can
//! show is shown there: that page has the whole list.

mod api;
mod identity;
mod limits;
mod network;
mod paths;
mod root;
mod secrets;

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// Runs `sh -c SCRIPT` in a new container of `image`, which must go well.
fn sh(engine: &Engine, flags: &[&str], image: &str, script: &str) -> String {
    let args = [&["run", "--rm"], flags, &[image, "sh", "-c", script]].concat();
    engine.ok(&args)
}

/// A container called `box` that stays.
fn stays(engine: &Engine, flags: &[&str], image: &str) {
    let args = [
        &["run", "-d", "--name", "box"],
        flags,
        &[image, "sleep", "1000"],
    ];
    engine.ok(&args.concat());
}
