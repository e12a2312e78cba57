//! An engine on real namespaces, cgroups and networks, verb by verb.

mod cases;
mod member_cases;
mod more_cases;
mod storage_cases;
mod world;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt;
use world::World;

type Case = for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! table {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((stringify!($name), (|w| Box::pin($module::$name(w))) as Case)),*]
    };
}

fn main() {
    if !rustix::process::geteuid().is_root() {
        testkit::skipped("containers are made by root");
        return;
    }
    // One for each engine that is opened on the same directories, one after the other.
    let forked = [(); 2].map(|()| world::Forked::new());
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let cases: Vec<(&str, Case)> = table![
        cases::output_and_exit_code,
        cases::programs_that_cannot_run,
        cases::names_and_refusals,
        cases::a_deaf_process_is_killed_at_once,
        cases::exec_in_a_running_container,
        cases::input_reaches_the_process,
        cases::mounts_and_users,
        cases::logs_are_followed,
        cases::restart_on_failure,
        cases::auto_remove,
        cases::a_failed_start_leaves_nothing,
        more_cases::pause_update_stats_top,
        more_cases::copy_changes_commit_export,
        more_cases::networks_and_ports,
        more_cases::health,
        more_cases::steps,
        more_cases::images,
        more_cases::events_are_told,
        more_cases::shared_namespaces,
        storage_cases::volumes_live_and_go,
        storage_cases::a_volume_is_not_pruned_from_under_a_container,
        storage_cases::volumes_are_filled_from_the_image,
        storage_cases::volumes_of_the_local_drivers_kinds,
        storage_cases::files_are_copied_as_docker_names_them,
        storage_cases::copies_belong_to_the_containers_user_if_asked,
        storage_cases::commit_of_nothing_has_no_layer_more,
        storage_cases::prune_takes_what_nobody_uses,
        member_cases::networks_are_made_as_asked,
        member_cases::a_container_moves_between_networks,
        member_cases::an_internal_network_does_not_take_the_default_route,
        member_cases::containers_that_cannot_join,
        member_cases::limits_are_given_and_taken,
        member_cases::top_shows_the_columns_of_ps,
    ]
    .to_vec();
    let executor = tokio::runtime::Runtime::new().expect("an executor");
    executor.block_on(async {
        let [first, second] = forked;
        let mut world = World::open(first).await;
        let mut failed = 0;
        for (name, case) in &cases {
            if wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())) {
                let began = std::time::Instant::now();
                // What a failed case leaves is removed too.
                let passed = AssertUnwindSafe(case(&world)).catch_unwind().await.is_ok();
                world.remove_all().await;
                failed += usize::from(!passed);
                let word = if passed { "ok" } else { "FAILED" };
                println!("test {name} ... {word} ({:?})", began.elapsed());
            }
        }
        if wanted.is_empty() || wanted.iter().any(|w| "survives".contains(w.as_str())) {
            world = more_cases::containers_survive_the_engine(world, second).await;
            println!("test containers_survive_the_engine ... ok");
        }
        world.close().await;
        assert_eq!(failed, 0, "cases failed");
    });
    println!("test result: ok");
}
