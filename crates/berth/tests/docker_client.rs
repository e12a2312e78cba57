//! The official docker client against berth's socket.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn the_official_client_is_at_home() {
    let engine = Engine::start(BERTH);
    let Some(version) = engine.docker_ok(&[
        "version",
        "--format",
        "{{.Server.APIVersion}} {{.Server.Os}}",
    ]) else {
        return;
    };
    assert!(
        version.starts_with("1.") && version.ends_with("linux"),
        "{version}"
    );
    let docker = |args: &[&str]| engine.docker_ok(args).expect("the client is here");
    let dir = engine.dir_with("ctx", &[("Dockerfile", "FROM busybox\nCOPY page /www/index.html\nCMD [\"httpd\",\"-f\",\"-p\",\"80\",\"-h\",\"/www\"]\n"), ("page", "Hello, World!\n")]);
    let built = docker(&["build", "-t", "web", dir.to_str().expect("a path")]);
    assert!(built.contains("Successfully tagged web:latest"), "{built}");
    let port = testkit::http::free_port();
    let id = docker(&[
        "run",
        "-d",
        "--name",
        "web1",
        "-p",
        &format!("{port}:80"),
        "web",
    ]);
    assert_eq!(
        testkit::http::get_when_up(([127, 0, 0, 1], port).into(), "/"),
        "Hello, World!\n"
    );
    assert_eq!(docker(&["ps", "--no-trunc", "-q"]), id);
    assert_eq!(
        docker(&["exec", "web1", "cat", "/www/index.html"]),
        "Hello, World!"
    );
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.Running}}", "web1"]),
        "true"
    );
    assert_eq!(docker(&["run", "--rm", "busybox", "echo", "hi"]), "hi");
    assert!(docker(&["images", "--format", "{{.Repository}}"]).contains("web"));
    assert!(docker(&["info", "--format", "{{.ContainersRunning}} {{.Images}}"]).starts_with("1 "));
    assert_eq!(docker(&["logs", "web1"]), "");
    docker(&["stop", "web1"]);
    docker(&["rm", "web1"]);
    assert_eq!(docker(&["ps", "-aq"]), "");
}
