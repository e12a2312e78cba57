//! Real things for tests: a running engine in a throw-away root, a loopback registry, tiny root
//! file systems. Development only; what ships never depends on it.
//!
//! Begin with [`engine::Engine`], which most end-to-end tests start.
#![forbid(unsafe_code)]

pub mod api;
pub mod engine;
pub mod etc;
pub mod gate;
pub mod history;
pub mod http;
pub mod line;
pub mod postgres;
pub mod proc;
pub mod registry;
pub mod remains;
pub mod rootfs;
pub mod s3;
pub mod served;
pub mod terminal;
pub mod userns;
pub mod wait;

/// Announces a test that cannot run here; the caller returns.
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Whether the command `name` stands in `PATH`.
pub fn has_command(name: &str) -> bool {
    find_command(name).is_some()
}

/// The file that `name` would run.
pub fn find_command(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([
            std::path::PathBuf::from("/usr/sbin"),
            std::path::PathBuf::from("/sbin"),
        ])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
