//! Real containers under real shims.
//!
//! The launcher is forked before there are threads, which the usual test runner has from the start;
//! hence the runner at the end of this file. It takes the usual filters and prints the usual lines.

mod bundle;
mod life;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use berth_runtime::launcher::Launcher;

/// A test by its name.
type Test = (&'static str, fn(&Launcher));

/// Makes a list of tests out of functions.
macro_rules! tests {
    ($($module:ident::{$($test:ident),* $(,)?}),* $(,)?) => {
        &[$($((concat!(stringify!($module), "::", stringify!($test)), $module::$test)),*),*]
    };
}

const TESTS: &[Test] = tests! {
    life::{
        output_and_exit_code,
        a_signal_ends_it,
        standard_input_reaches_it,
        programs_that_cannot_run,
        a_start_can_wait,
        the_exit_is_found_after_the_shim,
        a_killed_shim_takes_its_container_along,
        a_restart_in_the_same_directory,
        events_are_told_to_everybody,
        many_at_once,
        nothing_is_left_over,
        hooks_run_at_their_points,
    },
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let list = arguments.iter().any(|a| a == "--list");
    let exact = arguments.iter().any(|a| a == "--exact");
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen = |name: &str| {
        filters.is_empty()
            || filters
                .iter()
                .any(|f| if exact { name == *f } else { name.contains(*f) })
    };
    if list {
        for (name, _) in TESTS.iter().filter(|(name, _)| chosen(name)) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    bundle::protect();
    let launcher = match Launcher::fork() {
        Ok(launcher) => launcher,
        Err(error) => {
            testkit::skipped(&format!("no launcher here: {error}"));
            println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored\n");
            return ExitCode::SUCCESS;
        }
    };
    let (mut passed, mut failed) = (0, Vec::new());
    println!(
        "\nrunning {} tests",
        TESTS.iter().filter(|(n, _)| chosen(n)).count()
    );
    for (name, test) in TESTS.iter().filter(|(name, _)| chosen(name)) {
        match catch_unwind(AssertUnwindSafe(|| test(&launcher))) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(_) => {
                println!("test {name} ... FAILED");
                failed.push(name);
            }
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored\n",
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
