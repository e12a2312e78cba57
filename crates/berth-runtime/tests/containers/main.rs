//! Real containers under real shims.
//!
//! The launcher is forked before there are threads, which the usual test runner has from the start;
//! hence the runner at the end of this file. It takes the usual filters and prints the usual lines.

mod agent;
mod attach;
mod bundle;
mod command;
mod criu;
mod exec;
mod hostile;
mod isolation;
mod life;
mod logs;
mod mounting;
mod reaper;
mod users;

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
        a_shim_is_small,
        hooks_run_at_their_points,
        it_outlives_its_launcher,
        want_of_memory_is_told,
    },
    reaper::{
        it_ends_as_its_program_does,
        it_hands_signals_on,
        it_takes_in_orphans,
        it_has_given_up_what_its_program_has,
        the_hosts_binary_is_out_of_reach,
        with_a_terminal,
    },
    attach::{
        two_clients_get_the_same,
        a_late_client_gets_what_follows,
        a_terminal_is_raw_and_has_a_size,
        a_terminal_is_there_for_the_next_client,
        a_slow_client_loses_nothing,
        a_client_that_goes_does_not_end_it,
    },
    exec::{
        output_input_and_exit_code,
        it_joins_the_container,
        a_terminal_of_its_own,
        failures_are_precise,
        many_execs_leave_nothing_open,
        an_exec_may_meet_the_end,
    },
    logs::{
        lines_are_kept,
        files_are_rotated,
    },
    isolation::{
        identity_and_capabilities,
        no_new_privileges_and_ambient,
        calls_are_filtered,
        paths_are_hidden_and_protected,
        descriptors_do_not_leak,
        devices_are_what_they_seem,
        limits_and_names,
        mounts_of_all_kinds,
        the_root_can_be_read_only,
        a_user_namespace_can_be_made_inside,
        a_user_namespace_of_its_own,
        sysctls_are_of_the_container,
        namespaces_of_others_are_joined,
        the_hosts_namespaces_are_shared,
        keyrings_are_its_own,
        devices_may_stand_elsewhere,
        scheduling_is_as_asked,
    },
    users::{
        a_given_one_is_joined,
        execs_are_in_it,
        one_of_another_is_joined_by_its_path,
        owners_of_mounts_are_mapped,
        clocks_are_set_off,
        ranges_are_refused,
    },
    command::{
        run_is_all_in_one,
        a_life_in_steps,
        failures_leave_nothing,
        a_created_one_can_be_deleted,
        a_terminal_goes_to_the_console_socket,
        it_tells_of_itself,
        podman_can_use_it,
        without_a_console_socket_ours_shows_its_terminal,
        events_are_told,
        nothing_of_the_host_is_open_while_it_waits,
        hooks_and_programs_have_their_environment,
        codes_and_texts_are_runcs,
        without_pids_of_its_own_all_are_killed,
        one_in_a_user_namespace_waits_for_its_start,
        execs_join_cgroups_below,
        without_systemd_it_makes_no_cgroup,
        limits_change_by_flags,
        execs_follow_where_their_cgroup_is_closed,
        it_runs_where_its_cgroup_lets_it,
        a_failed_hook_after_the_start_ends_it,
        a_frozen_cgroup_is_refused,
    },
    mounting::{
        a_tmpfs_has_the_mode_of_what_it_covers,
        a_read_only_tmpfs_is_filled_first,
        sources_may_be_earlier_mounts,
        a_source_inside_does_not_lead_outside,
        hooks_find_the_root_where_the_host_has_it,
        nothing_of_it_is_mounted_on_the_host,
        a_root_on_a_shared_mount_can_be_entered_with_hooks,
    },
    agent::{
        its_descriptor_goes_to_the_agent,
        execs_have_an_agent_too,
        without_an_agent_nothing_starts,
    },
    criu::{
        what_cannot_be_dumped_is_refused,
        a_container_goes_on_where_it_was,
    },
    hostile::{
        links_instead_of_mount_points,
        a_false_working_directory,
        mounts_inside_proc_are_refused,
        links_lead_nowhere_outside,
        the_own_binary_is_out_of_reach,
        documents_that_reach_too_far,
    },
};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "berth-runtime") {
        return berth_runtime::cli::main(words.collect());
    }
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
    bundle::clean_up();
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
