//! Registries are killed at random moments while clients push, pull and delete, and while they collect: what
//! was answered with 201 stays readable, byte for byte. 30 kills; 1,000 with `BERTH_SOAK=1`. `BERTH_TEST_SEED=N`
//! makes the same choices again.

mod client;
mod replica;

use std::sync::Arc;

use serde_json::json;
use testkit::postgres::Postgres;
use testkit::s3::{BUCKET, KEY, S3};
use testkit::wait::DEADLINE;
use tokio::sync::watch;

use client::{Client, Dice};
use replica::Replica;

const CLIENTS: u64 = 4;

/// Not a test of its own: what the others start in a process that can be killed.
#[test]
fn a_registry_of_its_own_where_one_is_asked_for() {
    replica::serve_if_asked();
}

fn kills() -> usize {
    match std::env::var_os("BERTH_SOAK") {
        Some(_) => 1_000,
        None => 30,
    }
}

fn seed() -> u64 {
    let given = std::env::var("BERTH_TEST_SEED").ok();
    given.map_or(20_261_125, |text| text.parse().expect("a number"))
}

/// Kills replicas with these `settings`, `count` times in all, under clients that know all of them.
async fn kill_under_load(settings: &serde_json::Value, replicas: usize, count: usize) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let seed = seed();
    eprintln!("seed {seed}");
    let mut running: Vec<_> = (0..replicas).map(|_| Replica::start(settings)).collect();
    let bases: Arc<Vec<String>> = Arc::new(running.iter().map(Replica::base).collect());
    let (end, ending) = watch::channel(false);
    let answers = Arc::new(watch::Sender::new(0));
    let launches = watch::Sender::new(0);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = Client::new(
                number,
                seed,
                bases.clone(),
                answers.clone(),
                launches.subscribe(),
            );
            tokio::spawn(client.work(ending.clone()))
        })
        .collect();
    let mut dice = Dice::new(seed);
    for _ in 0..count {
        // After so many more answers, in the middle of whatever the others do then.
        let moment = *answers.borrow() + dice.roll(60);
        let mut heard = answers.subscribe();
        tokio::time::timeout(DEADLINE, heard.wait_for(|n| *n >= moment))
            .await
            .expect("answers")
            .expect("clients");
        let which = dice.roll(replicas as u64) as usize;
        let mut replica = running.swap_remove(which);
        let again = tokio::task::spawn_blocking(move || {
            replica.kill();
            replica.launch();
            replica
        });
        running.insert(which.min(running.len()), again.await.expect("a registry"));
        launches.send_modify(|n| *n += 1);
    }
    end.send(true).expect("clients");
    let (mut made, mut read) = (0, 0);
    for client in clients {
        let mut client = client.await.expect("a client without a complaint");
        client.check_all().await;
        made += client.made;
        read += client.read;
    }
    eprintln!("{count} kills, {made} images pushed, {read} read");
    assert!(made > 0 && read > 0, "the clients came to nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_with_201_survives_on_disk() {
    let settings = json!({"collection": {"interval": "1s", "grace": "10s", "uploads": "5s"}});
    kill_under_load(&settings, 1, kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_with_201_survives_among_replicas() {
    let (Some(postgres), Some(s3)) = (Postgres::start(), S3::start()) else {
        return;
    };
    let settings = json!({
        "collection": {"interval": "1s", "grace": "10s", "uploads": "5s"},
        "postgres": {"url": postgres.database("registry")},
        "s3": {
            "endpoint": s3.endpoint(), "bucket": BUCKET,
            "access-key": KEY, "secret-key": KEY, "part-size": "5MiB",
        },
    });
    kill_under_load(&settings, 2, kills()).await;
}
