//! Several stages, bases, triggers.

use berth_build::BuildRequest;

use crate::bench::{Bench, File, request};

#[test]
fn stages_feed_one_another() {
    let Some(bench) = Bench::new() else { return };
    let dockerfile = "FROM busybox AS build\nARG WHO=world\nRUN echo hello $WHO > /out\n\
        FROM busybox AS unused\nRUN exit 1\n\
        FROM scratch AS final\nCOPY --from=build /out /a\nCOPY --from=0 /out /b\nCOPY --from=busybox /etc/passwd /c\n";
    let ended = bench.build(dockerfile, &[]);
    let id = ended.id();
    assert_eq!(bench.read(&id, "/a"), "hello world\n");
    assert_eq!(bench.read(&id, "/b"), "hello world\n");
    assert!(bench.read(&id, "/c").starts_with("root:"));
    assert!(!ended.text().contains("unused"));
    assert!(
        ended
            .text()
            .starts_with("Step 1/7 : FROM busybox AS build\n")
    );
    let target = BuildRequest {
        target: "build".into(),
        ..request()
    };
    let id = bench.build_with(dockerfile, &[], target).id();
    assert!(bench.has(&id, "/bin/sh"));
}

#[test]
fn a_stage_continues_another() {
    let Some(bench) = Bench::new() else { return };
    let id = bench.ok(
        "FROM busybox AS one\nARG A=1\nENV E=2\nWORKDIR /w\nCMD [\"c\"]\nFROM one\nRUN echo $A$E > f\nENTRYPOINT [\"e\"]\n",
        &[],
    );
    assert_eq!(bench.read(&id, "/w/f"), "12\n");
    let config = bench.config(&id).config;
    assert_eq!(config.entrypoint.unwrap(), ["e"]);
    assert_eq!(config.cmd, None);
}

#[test]
fn scratch_and_images_as_they_are() {
    let Some(bench) = Bench::new() else { return };
    let ended = bench.build("FROM scratch\nCOPY a /\n", &[File::Text("a", "x")]);
    assert!(
        ended
            .text()
            .starts_with("Step 1/2 : FROM scratch\n ---> \nStep 2/2 : COPY a /\n")
    );
    let config = bench.config(&ended.id());
    assert_eq!(config.os, "linux");
    assert_eq!(config.rootfs.kind, "layers");
    assert_eq!(bench.last_layer(&ended.id()), ["a"]);
    assert_eq!(
        bench.fails("FROM scratch\n", &[]),
        "No image was generated. Is your Dockerfile empty?"
    );
    // Nothing added: the base itself.
    let base = bench.store.images().resolve("busybox").unwrap().id;
    assert_eq!(bench.ok("FROM busybox\n", &[]), base);
}

#[test]
fn triggers_run_in_the_next_build() {
    let Some(bench) = Bench::new() else { return };
    let parent = bench.ok(
        "FROM busybox\nONBUILD COPY a /a\nONBUILD RUN cat /a > /b\n",
        &[],
    );
    assert_eq!(bench.config(&parent).config.on_build.unwrap().len(), 2);
    bench
        .store
        .images()
        .tag(&"parent:latest".parse().unwrap(), &parent)
        .unwrap();
    let ended = bench.build(
        "FROM parent\nRUN cat /b\n",
        &[File::Text("a", "triggered\n")],
    );
    assert_eq!(bench.read(&ended.id(), "/b"), "triggered\n");
    assert_eq!(bench.config(&ended.id()).config.on_build, None);
    let text = ended.text();
    assert!(
        text.contains("Step 1/2 : FROM parent\n# Executing 2 build triggers\n"),
        "{text}"
    );
    assert!(text.contains("\ntriggered\n"));
}

#[test]
fn images_that_are_nowhere() {
    let Some(bench) = Bench::new() else { return };
    let error = bench
        .build("FROM localhost:1/nope\n", &[])
        .result
        .unwrap_err();
    assert!(error.to_string().contains("localhost:1"), "{error}");
    assert_eq!(
        bench.fails("FROM $X\n", &[]),
        "base name ($X) should not be blank"
    );
    let other = BuildRequest {
        platform: "linux/s390x".into(),
        ..request()
    };
    let id = bench.build_with("FROM scratch\nENV A=1\n", &[], other).id();
    assert_eq!(bench.config(&id).architecture, "s390x");
    bench.assert_clean();
}
