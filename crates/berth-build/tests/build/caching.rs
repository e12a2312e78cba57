//! What is found again, and what is not.

use berth_build::BuildRequest;

use crate::bench::{Bench, File, request};

const DOCKERFILE: &str = "FROM busybox\nWORKDIR /app\nCOPY requirements .\nRUN echo install > log\nCOPY . .\nCMD [\"x\"]\n";

fn files<'a>(requirements: &'a str, app: &'a str) -> Vec<File<'a>> {
    vec![
        File::Text("requirements", requirements),
        File::Text("app", app),
    ]
}

#[test]
fn an_unchanged_build_does_nothing_and_gives_the_same_image() {
    let Some(bench) = Bench::new() else { return };
    let first = bench.build(DOCKERFILE, &files("r", "a"));
    assert_eq!((first.hits(), bench.executor.count()), (0, 1));
    let second = bench.build(DOCKERFILE, &files("r", "a"));
    assert_eq!((second.hits(), bench.executor.count()), (5, 1));
    assert_eq!(first.id(), second.id());
}

#[test]
fn a_change_reaches_as_far_as_it_must() {
    let Some(bench) = Bench::new() else { return };
    bench.ok(DOCKERFILE, &files("r", "a"));
    let app = bench.build(DOCKERFILE, &files("r", "b"));
    assert_eq!((app.hits(), bench.executor.count()), (3, 1));
    let requirements = bench.build(DOCKERFILE, &files("s", "a"));
    assert_eq!((requirements.hits(), bench.executor.count()), (1, 2));
    // Content counts, not time; what was known once is known again.
    let back = bench.build(DOCKERFILE, &files("r", "a"));
    assert_eq!((back.hits(), bench.executor.count()), (5, 2));
}

#[test]
fn what_a_run_depends_on() {
    let Some(bench) = Bench::new() else { return };
    let runs = |dockerfile: &str, request: BuildRequest| {
        let before = bench.executor.count();
        bench
            .build_with(dockerfile, &[File::Text("f", "x")], request)
            .id();
        bench.executor.count() - before
    };
    let arg = |value: &str| {
        let mut request = request();
        request.build_args = [("A".to_owned(), Some(value.to_owned()))].into();
        request
    };
    assert_eq!(runs("FROM busybox\nRUN echo 1\n", request()), 1);
    // Labels and the like before it change nothing for it.
    assert_eq!(
        runs(
            "FROM busybox\nLABEL a=b\nEXPOSE 80\nRUN echo 1\n",
            request()
        ),
        0
    );
    assert_eq!(runs("FROM busybox\nENV E=1\nRUN echo 1\n", request()), 1);
    assert_eq!(runs("FROM busybox\nUSER 5\nRUN echo 1\n", request()), 1);
    assert_eq!(runs("FROM busybox\nRUN echo  1\n", request()), 1);
    assert_eq!(runs("FROM busybox\nARG A\nRUN echo 1\n", request()), 0);
    assert_eq!(runs("FROM busybox\nARG A\nRUN echo 1\n", arg("1")), 1);
    assert_eq!(runs("FROM busybox\nARG A\nRUN echo 1\n", arg("2")), 1);
    assert_eq!(runs("FROM busybox\nARG A\nRUN echo 1\n", arg("1")), 0);
    assert_eq!(
        runs("FROM busybox\nRUN --mount=target=/m echo 1\n", request()),
        1
    );
    let none = BuildRequest {
        network: "none".into(),
        ..request()
    };
    assert_eq!(runs("FROM busybox\nRUN echo 1\n", none), 1);
    let mut proxied = request();
    proxied.build_args = [("http_proxy".to_owned(), Some("http://p".to_owned()))].into();
    assert_eq!(runs("FROM busybox\nRUN echo 1\n", proxied), 0);
    let anew = BuildRequest {
        no_cache: true,
        ..request()
    };
    assert_eq!(runs("FROM busybox\nRUN echo 1\n", anew), 1);
}

#[test]
fn stages_are_known_by_what_they_hold() {
    let Some(bench) = Bench::new() else { return };
    let dockerfile = |command: &str| {
        format!(
            "FROM busybox AS one\nRUN {command}\nFROM busybox\nCOPY --from=one /out /out\nRUN cat /out\n"
        )
    };
    bench.ok(&dockerfile("echo same > /out"), &[]);
    // Another command, another time, the same file: the copy and what follows are found.
    let again = bench.build(&dockerfile("printf 'same\\n' > /out"), &[]);
    assert_eq!((again.hits(), bench.executor.count()), (2, 3));
}

#[test]
fn what_is_forgotten_is_built_again() {
    let Some(bench) = Bench::new() else { return };
    let id = bench.ok(DOCKERFILE, &files("r", "a"));
    let prune = |all| bench.runtime().block_on(bench.builder.prune(all)).unwrap();
    // All of it is part of an image.
    assert_eq!(prune(false).ids, Vec::<String>::new());
    bench.store.images().remove(&id).unwrap();
    // The cache keeps its layers from the collector.
    bench.store.collect().unwrap();
    assert_eq!(bench.build(DOCKERFILE, &files("r", "a")).id(), id);
    assert_eq!(bench.executor.count(), 1);
    assert!(!prune(true).ids.is_empty());
    bench.store.images().remove(&id).unwrap();
    bench.store.collect().unwrap();
    let anew = bench.build(DOCKERFILE, &files("r", "a"));
    assert_eq!((anew.hits(), bench.executor.count()), (0, 2));
    assert_ne!(anew.id(), id);
}

#[test]
fn a_fixed_time_gives_a_fixed_image() {
    let Some(bench) = Bench::new() else { return };
    let build = || {
        let mut fixed = request();
        fixed.no_cache = true;
        fixed.build_args = [(
            "SOURCE_DATE_EPOCH".to_owned(),
            Some("1000000000".to_owned()),
        )]
        .into();
        bench
            .build_with(
                "FROM busybox\nWORKDIR /x\nCOPY a .\nCMD y\n",
                &[File::Text("a", "1")],
                fixed,
            )
            .id()
    };
    let id = build();
    assert_eq!(id, build());
    assert_eq!(
        bench.config(&id).created.as_deref(),
        Some("2001-09-09T01:46:40Z")
    );
}
