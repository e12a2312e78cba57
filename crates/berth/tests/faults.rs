//! What else can go wrong around an engine: shims that are killed, descriptors that run out, crowds, and clients that are
//! slow or go away. Afterwards there is what there was before. The long run (`BERTH_SOAK=1`) does more of each.

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use testkit::api::Api;
use testkit::engine::Engine;
use testkit::{remains, wait};

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

fn many(short: usize, long: usize) -> usize {
    match std::env::var_os("BERTH_SOAK") {
        Some(_) => long,
        None => short,
    }
}

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(field))?;
    line.trim_start_matches(':')
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn descriptors(engine: &Engine) -> usize {
    remains::entries(std::path::Path::new(&format!("/proc/{}/fd", engine.pid()))).len()
}

/// What a process has open, for a test that fails.
fn open_files(pid: u32) -> String {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let targets = entries.filter_map(|e| fs::read_link(e.path()).ok());
    let mut names: Vec<_> = targets.map(|t| t.display().to_string()).collect();
    names.sort();
    names.join(" ")
}

/// Processor time of the engine, in hundredths of a second.
fn cpu(engine: &Engine) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", engine.pid())).expect("its stat");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    fields[11..13]
        .iter()
        .map(|f| f.parse::<u64>().expect("ticks"))
        .sum()
}

#[test]
fn killed_shims_take_their_containers_and_nothing_else() {
    let engine = Engine::start(BERTH);
    let api = engine.api();
    let base = remains::settled(&engine);
    let mut waits = Vec::new();
    for _ in 0..many(10, 200) {
        let script = "while :; do echo line; sleep 0.001; done";
        engine.ok(&[
            "run", "-d", "--name", "cc", "-P", "--expose", "80", "busybox", "sh", "-c", script,
        ]);
        engine.ok(&["exec", "-d", "cc", "sleep", "1000"]);
        let pid = api.get("/containers/cc/json")["State"]["Pid"]
            .as_u64()
            .expect("a pid") as u32;
        let shim = status(pid, "PPid").expect("its parent") as u32;
        let logged = |engine: &Engine| engine.ok(&["logs", "cc"]).lines().count();
        let before = wait::until("lines", || Some(logged(&engine)).filter(|n| *n > 3));
        let waiting = api
            .send("POST", "/containers/cc/wait", b"")
            .expect("a wait");
        let killed = Instant::now();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(shim as i32).expect("a pid"),
            rustix::process::Signal::KILL,
        )
        .expect("a kill");
        let mut answer = String::new();
        { waiting }.read_to_string(&mut answer).expect("an answer");
        waits.push(killed.elapsed());
        assert!(answer.contains("\"StatusCode\":137"), "{answer}");
        let state = api.get("/containers/cc/json")["State"].clone();
        assert_eq!(
            (&state["Status"], &state["ExitCode"]),
            (&"exited".into(), &137.into())
        );
        let process = format!("/proc/{pid}");
        wait::until("its process's end", || {
            (!std::path::Path::new(&process).exists()).then_some(())
        });
        assert!(logged(&engine) >= before, "lines are lost");
        // It can be started again.
        engine.ok(&["start", "cc"]);
        engine.ok(&["rm", "-f", "cc"]);
    }
    waits.sort();
    println!(
        "{} shims killed; told after {:?} (median), {:?} (worst)",
        waits.len(),
        waits[waits.len() / 2],
        waits[waits.len() - 1]
    );
    remains::until_as_before(&engine, &base, "killed shims");
}

#[test]
fn without_descriptors_callers_fail_and_the_engine_does_not() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let engine = Engine::start(BERTH);
    engine.ok(&["run", "-d", "--name", "cc", "busybox", "sleep", "1000"]);
    let api = engine.api();
    let pid = Pid::from_raw(engine.pid() as i32).expect("a pid");
    let full = getrlimit(Resource::Nofile);
    let limit = |current| Rlimit {
        current,
        maximum: full.maximum,
    };
    let before = descriptors(&engine);
    prlimit(Some(pid), Resource::Nofile, limit(Some(before as u64 + 8))).expect("a limit");
    let crowd: Vec<_> = (0..64)
        .map(|_| api.connect().expect("a connection"))
        .collect();
    // All that can be accepted are.
    wait::until("a full table", || {
        (descriptors(&engine) >= before + 7).then_some(())
    });
    let (used, began) = (cpu(&engine), Instant::now());
    wait::until("some time", || {
        (began.elapsed().as_millis() > 500).then_some(())
    });
    let used = cpu(&engine) - used;
    assert!(
        used < 25,
        "it spins: {used} hundredths of a second in half a second"
    );
    drop(crowd);
    wait::until("service", || {
        api.call("GET", "/_ping", b"").ok().filter(|a| a.ok())
    });
    prlimit(Some(pid), Resource::Nofile, limit(Some(before as u64 + 3))).expect("a limit");
    let refused = api.call(
        "POST",
        "/containers/create?name=dd",
        br#"{"Image":"busybox","Cmd":["true"]}"#,
    );
    let started = api.call("POST", "/containers/dd/start", b"");
    for answer in [refused, started].into_iter().flatten().filter(|a| !a.ok()) {
        assert!(answer.text().contains("message"), "{answer:?}");
    }
    prlimit(Some(pid), Resource::Nofile, limit(full.maximum)).expect("a limit");
    wait::until("service", || {
        api.call("GET", "/_ping", b"").ok().filter(|a| a.ok())
    });
    engine.run(&["rm", "-f", "dd"]);
    assert_eq!(
        engine.ok(&["run", "--rm", "busybox", "echo", "well"]),
        "well"
    );
    assert_eq!(engine.ok(&["exec", "cc", "echo", "well"]), "well");
    engine.ok(&["rm", "-f", "cc"]);
    wait::until("its descriptors", || {
        (descriptors(&engine) <= before).then_some(())
    });
}

/// What a crowd of clients does over and over leaves nothing in the kernel and nothing in the engine.
#[test]
fn crowds_leave_nothing() {
    let engine = Engine::start(BERTH);
    let api = engine.api();
    engine.ok(&["run", "-d", "--name", "stays", "busybox", "sleep", "1000"]);
    // The first of everything makes what then stays.
    lives(&api, 8, 8);
    execs(&api, 50, 8);
    attaches(&api, 50);
    let base = remains::settled(&engine);
    let (fds, memory) = (
        descriptors(&engine),
        status(engine.pid(), "VmRSS").expect("memory"),
    );
    let began = Instant::now();
    let (containers, many_execs) = (many(60, 1000), many(300, 10_000));
    lives(&api, containers, 32);
    let lived = began.elapsed();
    execs(&api, many_execs, 16);
    attaches(&api, many_execs);
    // Half of a request, and nobody behind it: the others are served.
    let mut half: Vec<_> = (0..many(200, 5000))
        .map(|_| api.connect().expect("a connection"))
        .collect();
    for stream in &mut half {
        stream.write_all(b"GET /_ping HT").expect("half a request");
    }
    let asked = Instant::now();
    assert!(api.call("GET", "/_ping", b"").expect("an answer").ok());
    let ping = asked.elapsed();
    drop(half);
    remains::until_as_before(&engine, &base, "crowds");
    let waited = Instant::now();
    while descriptors(&engine) > fds {
        assert!(
            waited.elapsed() < wait::DEADLINE,
            "{fds} descriptors before, {} now: {}",
            descriptors(&engine),
            open_files(engine.pid())
        );
        std::thread::yield_now();
    }
    let now = status(engine.pid(), "VmRSS").expect("memory");
    println!(
        "{containers} containers by 32 clients in {lived:?}, {many_execs} execs, {many_execs} attaches; ping among half-open {ping:?}; \
         descriptors {fds} before, {} now; memory {memory} KiB before, {now} KiB now",
        descriptors(&engine)
    );
    // What the records of execs take (4,096 are kept) is no leak.
    assert!(
        now < memory + 24 * 1024,
        "{memory} KiB before, {now} KiB now"
    );
}

/// Makes, starts, stops and removes containers, some clients at once.
fn lives(api: &Api, count: usize, clients: usize) {
    share(count, clients, |_| {
        let body = br#"{"Image":"busybox","Cmd":["sleep","1000"],"Volumes":{"/data":{}}}"#;
        let made = api
            .call("POST", "/containers/create", body)
            .expect("an answer");
        let made = made.json();
        let id = made["Id"].as_str().unwrap_or_else(|| panic!("{made}"));
        for (method, path) in [
            ("POST", format!("/containers/{id}/start")),
            ("POST", format!("/containers/{id}/kill")),
            ("DELETE", format!("/containers/{id}?v=1")),
        ] {
            let done = api.call(method, &path, b"").expect("an answer");
            assert!(done.ok(), "{method} {path}: {}", done.text());
        }
    });
}

fn execs(api: &Api, count: usize, clients: usize) {
    share(count, clients, |_| {
        let exec = api.post(
            "/containers/stays/exec",
            r#"{"Cmd":["true"],"AttachStdout":true}"#,
        );
        let id = exec["Id"].as_str().expect("an id").to_owned();
        let ran = api
            .call("POST", &format!("/exec/{id}/start"), b"{}")
            .expect("an answer");
        assert!(ran.ok(), "{}", ran.text());
    });
}

/// Attaches and goes away without a word.
fn attaches(api: &Api, count: usize) {
    share(count, 8, |_| {
        let path = "/containers/stays/attach?stream=1&stdout=1&stderr=1";
        let mut stream = api.send("POST", path, b"").expect("a stream");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("a head");
    });
}

fn share(count: usize, clients: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

/// Clients of what is silent (events, followed logs) that close without a word.
#[test]
fn followers_that_leave_are_noticed_at_once() {
    let engine = Engine::start(BERTH);
    engine.line("run -d --network none --name box busybox sleep 1000");
    let before = descriptors(&engine);
    let mut followers = Vec::new();
    for path in ["/events", "/containers/box/logs?stdout=1&follow=1"] {
        for _ in 0..20 {
            let mut stream = engine.api().connect().expect("a connection");
            write!(stream, "GET {path} HTTP/1.1\r\nHost: engine\r\n\r\n").expect("a request");
            // The head of the answer; nothing follows it.
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("an answer");
                head.extend(byte);
            }
            followers.push(stream);
        }
    }
    assert!(descriptors(&engine) >= before + 40);
    drop(followers);
    wait::until("the descriptors of before", || {
        (descriptors(&engine) <= before + 2).then_some(())
    });
}
