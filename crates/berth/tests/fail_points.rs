//! The engine is killed between any two steps of every verb: what it had acknowledged is there afterwards, what it had
//! removed is gone, what it was about to do is done or not, and nothing is left over. `BERTH_TEST_VERB=remove` looks at
//! some verbs alone, `BERTH_SOAK=1` at every point of each.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use testkit::api::Api;
use testkit::engine::Engine;
use testkit::remains::{self, Remains};

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// One verb: how to come to the moment before it, the call, whether it has been done, and how to get rid of what it made.
struct Verb {
    name: &'static str,
    before: fn(&World),
    call: (&'static str, &'static str, Body),
    done: fn(&World) -> bool,
    after: fn(&World),
}

impl Verb {
    fn of_container(&self) -> bool {
        self.call.1.contains("container")
    }
}

/// What is sent along.
enum Body {
    Text(&'static str),
    File(&'static str),
}

/// An engine with things that are none of the verbs' business.
struct World {
    engine: Engine,
    api: Api,
    /// The bystander's process.
    pid: i64,
    base: Remains,
}

const NOTHING: Body = Body::Text("");
const CREATE: &str = r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"Binds":["named:/bin","/anonymous"]}}"#;
const PUBLISH: &str = r#"{"Image":"busybox","Cmd":["sleep","1000"],"Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},
    "HostConfig":{"NetworkMode":"inner","PublishAllPorts":true}}"#;
const DOOMED: &str =
    r#"{"Image":"busybox","Cmd":["true"],"Volumes":{"/data":{}},"HostConfig":{"AutoRemove":true}}"#;

fn created(w: &World) {
    w.api.post("/containers/create?name=subject", PUBLISH);
}

fn running(w: &World) {
    created(w);
    w.api.post("/containers/subject/start", "");
}

fn written(w: &World) {
    running(w);
    let exec = w.api.post(
        "/containers/subject/exec",
        r#"{"Cmd":["touch","/new"],"AttachStdout":true}"#,
    );
    let id = exec["Id"].as_str().expect("an id");
    w.api.post(&format!("/exec/{id}/start"), "{}");
}

fn doomed(w: &World) {
    w.api.post("/containers/create?name=subject", DOOMED);
}

/// Without a volume: those of a pruned container stay, as with Docker.
fn plain(w: &World) {
    let body = r#"{"Image":"busybox","Cmd":["true"]}"#;
    w.api.post("/containers/create?name=subject", body);
}

fn image(w: &World) {
    let tar = std::fs::read(w.engine.path("own.tar")).expect("own.tar");
    let loaded = w.api.call("POST", "/images/load", &tar).expect("an answer");
    assert!(loaded.ok(), "{}", loaded.text());
}

fn volume(w: &World) {
    w.api.post("/volumes/create", r#"{"Name":"vol"}"#);
}

fn network(w: &World) {
    w.api.post("/networks/create", r#"{"Name":"net"}"#);
}

fn nothing(_: &World) {}

fn there(w: &World, path: &str) -> bool {
    w.api.call("GET", path, b"").expect("an answer").ok()
}

fn is_running(w: &World) -> bool {
    let c = w
        .api
        .call("GET", "/containers/subject/json", b"")
        .expect("an answer");
    c.json()["State"]["Running"] == true
}

fn has_c(w: &World) -> bool {
    there(w, "/containers/subject/json")
}

/// Removes whatever there is of the verbs.
fn clean(w: &World) {
    for path in [
        "/containers/subject?force=1&v=1",
        "/volumes/named",
        "/volumes/vol",
        "/networks/net",
        "/images/own:1?force=1",
        "/images/made:1?force=1",
        "/images/built:1?force=1",
    ] {
        let gone = w.api.call("DELETE", path, b"").expect("an answer");
        assert!(
            gone.ok() || gone.status == 404,
            "{path}: {} {}",
            gone.status,
            gone.text()
        );
    }
    w.api.post("/build/prune?all=true", "");
    w.api.post("/images/prune", "");
}

fn verbs() -> Vec<Verb> {
    fn verb(
        name: &'static str,
        before: fn(&World),
        call: (&'static str, &'static str, Body),
        done: fn(&World) -> bool,
    ) -> Verb {
        Verb {
            name,
            before,
            call,
            done,
            after: clean,
        }
    }
    vec![
        verb(
            "create",
            nothing,
            (
                "POST",
                "/containers/create?name=subject",
                Body::Text(CREATE),
            ),
            has_c,
        ),
        verb(
            "start",
            created,
            ("POST", "/containers/subject/start", NOTHING),
            is_running,
        ),
        verb(
            "stop",
            running,
            ("POST", "/containers/subject/stop?t=1", NOTHING),
            |w| !is_running(w),
        ),
        verb(
            "kill",
            running,
            ("POST", "/containers/subject/kill", NOTHING),
            |w| !is_running(w),
        ),
        verb(
            "restart",
            running,
            ("POST", "/containers/subject/restart?t=1", NOTHING),
            is_running,
        ),
        verb(
            "remove",
            created,
            ("DELETE", "/containers/subject?v=1", NOTHING),
            |w| !has_c(w),
        ),
        verb(
            "remove by force",
            running,
            ("DELETE", "/containers/subject?force=1&v=1", NOTHING),
            |w| !has_c(w),
        ),
        // Its start is its removal.
        verb(
            "start of the doomed",
            doomed,
            ("POST", "/containers/subject/start", NOTHING),
            |_| true,
        ),
        verb(
            "commit",
            written,
            (
                "POST",
                "/commit?container=subject&repo=made&tag=1",
                Body::Text("{}"),
            ),
            |w| there(w, "/images/made:1/json"),
        ),
        verb(
            "prune containers",
            plain,
            ("POST", "/containers/prune", NOTHING),
            |w| !has_c(w),
        ),
        verb(
            "create volume",
            nothing,
            ("POST", "/volumes/create", Body::Text(r#"{"Name":"vol"}"#)),
            |w| there(w, "/volumes/vol"),
        ),
        verb(
            "remove volume",
            volume,
            ("DELETE", "/volumes/vol", NOTHING),
            |w| !there(w, "/volumes/vol"),
        ),
        verb(
            "prune volumes",
            volume,
            (
                "POST",
                r#"/volumes/prune?filters={"all":["true"]}"#,
                NOTHING,
            ),
            |w| !there(w, "/volumes/vol"),
        ),
        verb(
            "create network",
            nothing,
            ("POST", "/networks/create", Body::Text(r#"{"Name":"net"}"#)),
            |w| there(w, "/networks/net"),
        ),
        verb(
            "remove network",
            network,
            ("DELETE", "/networks/net", NOTHING),
            |w| !there(w, "/networks/net"),
        ),
        verb(
            "prune networks",
            network,
            ("POST", "/networks/prune", NOTHING),
            |w| !there(w, "/networks/net"),
        ),
        verb(
            "load",
            nothing,
            ("POST", "/images/load", Body::File("own.tar")),
            |w| there(w, "/images/own:1/json"),
        ),
        verb(
            "tag",
            image,
            ("POST", "/images/own:1/tag?repo=made&tag=1", NOTHING),
            |w| there(w, "/images/made:1/json"),
        ),
        verb(
            "remove image",
            image,
            ("DELETE", "/images/own:1", NOTHING),
            |w| !there(w, "/images/own:1/json"),
        ),
        verb(
            "prune images",
            image,
            (
                "POST",
                r#"/images/prune?filters={"dangling":["false"]}"#,
                NOTHING,
            ),
            |w| !there(w, "/images/own:1/json"),
        ),
        verb(
            "build",
            nothing,
            ("POST", "/build?t=built:1", Body::File("context.tar")),
            |w| there(w, "/images/built:1/json"),
        ),
    ]
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, text.as_bytes())
            .expect("a tar");
    }
    tar.into_inner().expect("a tar")
}

fn world() -> World {
    let engine = Engine::start(BERTH);
    let context = tar(&[
        (
            "Dockerfile",
            "FROM busybox\nCOPY a /a\nRUN echo b > /b\nVOLUME /c\n",
        ),
        ("a", "a"),
    ]);
    std::fs::write(engine.path("context.tar"), &context).expect("a file");
    let own = tar(&[("own", "an image's own file")]);
    std::fs::write(engine.path("layer.tar"), own).expect("a file");
    engine.ok(&[
        "import",
        &engine.path("layer.tar").display().to_string(),
        "own:1",
    ]);
    engine.ok(&[
        "save",
        "-o",
        &engine.path("own.tar").display().to_string(),
        "own:1",
    ]);
    engine.ok(&["rmi", "own:1"]);
    engine.ok(&["network", "create", "inner"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "bystander",
        "--network",
        "inner",
        "-v",
        "kept:/data",
        "busybox",
        "sleep",
        "1000",
    ]);
    // An image of the store that something else needs is not pruned.
    let api = engine.api();
    let pid = api.get("/containers/bystander/json")["State"]["Pid"]
        .as_i64()
        .expect("a pid");
    let mut world = World {
        engine,
        api,
        pid,
        base: Remains::new(),
    };
    world.base = remains::settled(&world.engine);
    world
}

fn call(w: &World, verb: &Verb) -> std::io::Result<testkit::api::Answer> {
    let (method, path, body) = &verb.call;
    let body = match body {
        Body::Text(text) => text.as_bytes().to_vec(),
        Body::File(name) => std::fs::read(w.engine.path(name)).expect("a body"),
    };
    w.api.call(method, path, &body)
}

/// Whether the answer says that the verb was done. A build says so in its last line.
fn acknowledged(answer: std::io::Result<testkit::api::Answer>) -> bool {
    answer.is_ok_and(|a| a.ok() && !a.text().contains("errorDetail"))
}

/// The points that a verb passes, also behind the scenes.
fn points_of(w: &World, verb: &Verb) -> Vec<String> {
    (verb.before)(w);
    w.engine.fail_at(None);
    let answer = call(w, verb).expect("an answer");
    assert!(
        acknowledged(Ok(answer.clone())),
        "{}: {}",
        verb.name,
        answer.text()
    );
    // What happens behind the scenes shows in the time after.
    remains::settled(&w.engine);
    let points = w.engine.passed();
    assert!((verb.done)(w), "{}", verb.name);
    (verb.after)(w);
    remains::until_as_before(&w.engine, &w.base, verb.name);
    points
}

/// Kills the engine at a point of a verb, and looks at what it finds when it starts again.
fn kill_at(w: &mut World, verb: &Verb, point: &str) {
    let what = format!("{} killed at {point}", verb.name);
    (verb.before)(w);
    w.engine.fail_at(Some(point));
    let acknowledged = acknowledged(call(w, verb));
    testkit::wait::until(&what, || w.engine.died().then_some(()));
    w.engine.fail_at(None);
    w.engine.launch();
    let done = (verb.done)(w);
    assert!(done || !acknowledged, "{what}: acknowledged and lost");
    let bystander = w.api.get("/containers/bystander/json");
    assert_eq!(
        bystander["State"]["Pid"].as_i64(),
        Some(w.pid),
        "{what}: the bystander"
    );
    assert_eq!(bystander["State"]["Running"], true, "{what}: the bystander");
    assert!(
        there(w, "/volumes/kept") && there(w, "/networks/inner"),
        "{what}: bystanders"
    );
    let info = w.api.get("/info");
    assert!(
        info["Warnings"]
            .as_array()
            .is_none_or(|w| w.iter().all(|w| !w.to_string().contains("broken"))),
        "{what}: {info}"
    );
    // Whatever there is can be used or removed.
    if has_c(w) && !is_running(w) && verb.name != "start of the doomed" {
        let started = w
            .api
            .call("POST", "/containers/subject/start", b"")
            .expect("an answer");
        assert!(started.ok(), "{what}: {}", started.text());
    }
    (verb.after)(w);
    remains::until_as_before(&w.engine, &w.base, &what);
}

/// What the two halves have passed together, and how many have ended.
static SEEN: Mutex<(BTreeSet<String>, usize)> = Mutex::new((BTreeSet::new(), 0));

/// Two halves, side by side: all verbs that speak of containers, and the others.
#[test]
fn killed_at_every_point_of_containers() {
    kill_everywhere(true);
}

#[test]
fn killed_at_every_point_of_images_volumes_and_networks() {
    kill_everywhere(false);
}

fn kill_everywhere(containers: bool) {
    let mut world = world();
    let began = Instant::now();
    let (mut seen, mut kills) = (BTreeSet::new(), 0);
    // All of them, unless somebody looks for something.
    let only = std::env::var("BERTH_TEST_VERB").unwrap_or_default();
    // In the short run every point once, in the long one by every verb that passes it.
    let long = std::env::var_os("BERTH_SOAK").is_some();
    let chosen = |v: &Verb| v.of_container() == containers && v.name.contains(&only);
    for verb in verbs().into_iter().filter(chosen) {
        for point in points_of(&world, &verb) {
            if seen.insert(point.clone()) || long {
                kill_at(&mut world, &verb, &point);
                kills += 1;
            }
        }
    }
    println!(
        "{kills} kills at {} points in {:.1} s",
        seen.len(),
        began.elapsed().as_secs_f64()
    );
    let mut all = SEEN.lock().expect("the other half");
    all.0.extend(seen);
    all.1 += 1;
    if all.1 == 2 && only.is_empty() {
        let missed = missed(&all.0);
        assert_eq!(
            missed,
            Vec::<String>::new(),
            "points that no verb here passes"
        );
    }
}

/// Points in the source that were not passed.
fn missed(seen: &BTreeSet<String>) -> Vec<String> {
    let mut missed = Vec::new();
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).expect("sources").flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "tests" && entry.file_name() != "berth-sys" {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                for part in text.split("fail_point(\"").skip(1) {
                    let point = part.split('"').next().unwrap_or_default();
                    if !seen.contains(point) {
                        missed.push(point.to_owned());
                    }
                }
            }
        }
    }
    missed
}
