//! The engine is killed at random moments while several clients make and remove containers, volumes, networks and image
//! names: what they were told must fit what is found afterwards, containers must run on, and in the end nothing may be
//! left over. 30 kills; 1,000 with `BERTH_SOAK=1`. `BERTH_TEST_SEED=N` does again what was done with that seed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::api::{Answer, Api};
use testkit::engine::Engine;
use testkit::history::{Call, Did, Objects};
use testkit::remains;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");
const CLIENTS: u64 = 6;
/// Names of each kind that a client has for itself; there are as many that all share.
const NAMES: u64 = 2;

/// xorshift64*: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// What all clients of a round share.
struct Round<'a> {
    api: Api,
    clock: &'a AtomicU64,
    calls: Mutex<Vec<Call>>,
    /// Processes of containers whose start was answered.
    pids: Mutex<BTreeMap<String, i64>>,
    context: &'a [u8],
    image: &'a [u8],
}

impl Round<'_> {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A call whose answer `read` understands; an error is the engine's death.
    fn call(
        &self,
        object: &str,
        (method, path, body): (&str, &str, &[u8]),
        unknown: Did,
        read: impl Fn(&Answer) -> Option<Did>,
    ) -> io::Result<bool> {
        let begun = self.now();
        let answer = self.api.call(method, path, body);
        let ended = self.now();
        let did = match &answer {
            Ok(answer) => read(answer),
            Err(e) => {
                let stuck = matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                );
                assert!(!stuck, "{method} {path} got no answer");
                Some(unknown)
            }
        };
        if let Some(did) = did {
            let object = object.to_owned();
            let call = Call {
                object,
                did,
                begun,
                ended,
            };
            self.calls.lock().expect("the calls").push(call);
        }
        answer.map(|answer| {
            assert!(
                answer.status < 500,
                "{method} {path}: {} {}",
                answer.status,
                answer.text()
            );
            answer.ok()
        })
    }

    fn remove(&self, object: &str, path: &str) -> io::Result<bool> {
        self.call(
            object,
            ("DELETE", path, b""),
            Did::MaybeRemoved,
            |a| match a.status {
                200..=299 => Some(Did::Removed),
                404 => Some(Did::Seen(false)),
                _ => None,
            },
        )
    }

    fn container(&self, dice: &mut Dice, name: &str) -> io::Result<()> {
        let object = format!("container {name}");
        if dice.roll(3) == 0 {
            self.pids.lock().expect("the pids").remove(name);
            self.remove(&object, &format!("/containers/{name}?force=1&v=1"))?;
            return Ok(());
        }
        let host = match dice.roll(3) {
            0 => r#"{"NetworkMode":"inner","PublishAllPorts":true}"#,
            1 => r#"{"NetworkMode":"none"}"#,
            _ => "{}",
        };
        let body = format!(
            r#"{{"Image":"busybox","Cmd":["sleep","9999"],"Volumes":{{"/data":{{}}}},"ExposedPorts":{{"80/tcp":{{}}}},"HostConfig":{host}}}"#
        );
        let path = format!("/containers/create?name={name}");
        let made = self.call(
            &object,
            ("POST", &path, body.as_bytes()),
            Did::MaybeMade,
            |a| {
                Some(match a.status {
                    409 => Did::Seen(true),
                    _ => Did::Made,
                })
            },
        )?;
        let start = self
            .api
            .call("POST", &format!("/containers/{name}/start"), b"")?;
        assert!(start.ok() || !made, "start of {name}: {}", start.text());
        let seen = self
            .api
            .call("GET", &format!("/containers/{name}/json"), b"")?
            .json();
        if let Some(pid) = seen["State"]["Pid"].as_i64().filter(|pid| *pid > 0) {
            self.pids
                .lock()
                .expect("the pids")
                .insert(name.to_owned(), pid);
        }
        let exec = format!("/containers/{name}/exec");
        let exec = self
            .api
            .call(
                "POST",
                &exec,
                br#"{"Cmd":["echo","hello"],"AttachStdout":true}"#,
            )?
            .json();
        if let Some(id) = exec["Id"].as_str() {
            let said = self.api.call("POST", &format!("/exec/{id}/start"), b"{}")?;
            assert!(said.text().contains("hello"), "exec in {name}: {said:?}");
        }
        Ok(())
    }

    fn volume(&self, dice: &mut Dice, name: &str) -> io::Result<()> {
        let object = format!("volume {name}");
        if dice.roll(2) == 0 {
            self.remove(&object, &format!("/volumes/{name}"))?;
        } else {
            let body = format!(r#"{{"Name":"{name}"}}"#);
            let call = ("POST", "/volumes/create", body.as_bytes());
            self.call(&object, call, Did::MaybeMade, |a| {
                a.ok().then_some(Did::Ensured)
            })?;
        }
        Ok(())
    }

    fn network(&self, dice: &mut Dice, name: &str) -> io::Result<()> {
        let object = format!("network {name}");
        if dice.roll(2) == 0 {
            self.remove(&object, &format!("/networks/{name}"))?;
        } else {
            let body = format!(r#"{{"Name":"{name}"}}"#);
            let call = ("POST", "/networks/create", body.as_bytes());
            self.call(&object, call, Did::MaybeMade, |a| {
                Some(match a.status {
                    409 => Did::Seen(true),
                    _ => Did::Made,
                })
            })?;
        }
        Ok(())
    }

    fn image(&self, dice: &mut Dice, name: &str) -> io::Result<()> {
        let object = format!("image {name}");
        let ensured =
            |a: &Answer| (a.ok() && !a.text().contains("errorDetail")).then_some(Did::Ensured);
        match dice.roll(5) {
            0 | 1 => {
                self.remove(&object, &format!("/images/{name}:1?force=1"))?;
            }
            2 => {
                let path = format!("/images/busybox/tag?repo={name}&tag=1");
                self.call(&object, ("POST", &path, b""), Did::MaybeMade, ensured)?;
            }
            3 => {
                let path = format!("/build?t={name}:1&nocache={}", dice.roll(2));
                self.call(
                    &object,
                    ("POST", &path, self.context),
                    Did::MaybeMade,
                    ensured,
                )?;
            }
            _ => {
                let loaded = self.api.call("POST", "/images/load", self.image)?;
                assert!(loaded.ok(), "{}", loaded.text());
                self.api.call("POST", "/images/prune", b"")?;
                self.api.call("POST", "/build/prune?all=true", b"")?;
            }
        }
        Ok(())
    }

    /// Calls until the engine dies.
    fn client(&self, mut dice: Dice, number: u64) {
        loop {
            let owner = match dice.roll(3) {
                0 => "shared".to_owned(),
                _ => format!("client{number}"),
            };
            let slot = dice.roll(NAMES);
            let name = format!("{owner}-{slot}");
            let done = match dice.roll(5) {
                // Who starts and who removes a shared container would not know of each other.
                0 | 1 => self.container(&mut dice, &format!("client{number}-{slot}")),
                2 => self.volume(&mut dice, &name),
                3 => self.network(&mut dice, &name),
                _ => self.image(&mut dice, &name),
            };
            if done.is_err() {
                return;
            }
        }
    }
}

fn found(api: &Api) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for c in api
        .get("/containers/json?all=1")
        .as_array()
        .expect("a list")
    {
        let name = c["Names"][0].as_str().expect("a name");
        found.insert(format!("container {}", name.trim_start_matches('/')));
    }
    for v in api.get("/volumes")["Volumes"]
        .as_array()
        .into_iter()
        .flatten()
    {
        found.insert(format!("volume {}", v["Name"].as_str().expect("a name")));
    }
    for n in api.get("/networks").as_array().expect("a list") {
        found.insert(format!("network {}", n["Name"].as_str().expect("a name")));
    }
    for i in api.get("/images/json").as_array().expect("a list") {
        for tag in i["RepoTags"].as_array().into_iter().flatten() {
            let tag = tag.as_str().expect("a name");
            found.insert(format!("image {}", tag.trim_end_matches(":1")));
        }
    }
    found
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

#[test]
fn killed_at_random_under_load() {
    let kills = if std::env::var_os("BERTH_SOAK").is_some() {
        1000
    } else {
        30
    };
    let seed = std::env::var("BERTH_TEST_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) + 1);
    println!("seed {seed}");
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut engine = Engine::start(BERTH);
    let api = engine.api();
    let layer = engine.path("layer.tar");
    std::fs::write(&layer, tar(&[("own", "an image's own file")])).expect("a file");
    engine.ok(&["import", &layer.display().to_string(), "loaded:0"]);
    let image = api
        .call("GET", "/images/loaded:0/get", b"")
        .expect("an image")
        .body;
    engine.ok(&["rmi", "loaded:0"]);
    let context = tar(&[
        ("Dockerfile", "FROM busybox\nCOPY a /a\nRUN echo b > /b\n"),
        ("a", "a"),
    ]);
    engine.ok(&["network", "create", "inner"]);
    let base = remains::settled(&engine);

    let clock = AtomicU64::new(0);
    let mut objects = Objects::default();
    let mut pids: BTreeMap<String, i64> = BTreeMap::new();
    let mut waits = Vec::new();
    let (mut acknowledged, mut survived) = (0, 0);
    for kill in 0..kills {
        let round = Round {
            api: api.clone(),
            clock: &clock,
            calls: Mutex::default(),
            pids: Mutex::new(std::mem::take(&mut pids)),
            context: &context,
            image: &image,
        };
        let (after, linger) = (5 + dice.roll(60), dice.roll(4000));
        let began = clock.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (round, dice) = (
                    &round,
                    Dice(dice.roll(u64::MAX >> 34) << 20 | number << 1 | 1),
                );
                scope.spawn(move || round.client(dice, number));
            }
            testkit::wait::until("calls", || {
                (clock.load(Ordering::SeqCst) > began + after).then_some(())
            });
            let moment = Instant::now() + Duration::from_micros(linger);
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            engine.kill();
        });
        let launched = Instant::now();
        engine.launch();
        let what = format!("seed {seed}, kill {kill}");
        let found = found(&api);
        waits.push(launched.elapsed());
        let calls = round.calls.into_inner().expect("the calls");
        acknowledged += calls
            .iter()
            .filter(|c| !matches!(c.did, Did::MaybeMade | Did::MaybeRemoved))
            .count();
        objects.check(&calls, |object| found.contains(object), &what);
        pids = round.pids.into_inner().expect("the pids");
        for (name, pid) in &pids {
            let seen = api.get(&format!("/containers/{name}/json"));
            assert_eq!(
                seen["State"]["Pid"].as_i64(),
                Some(*pid),
                "{what}: {name}: {}",
                seen["State"]
            );
            survived += 1;
        }
        let warnings = api.get("/info")["Warnings"].to_string();
        assert!(
            !warnings.contains("broken") && !warnings.contains("damaged"),
            "{what}: {warnings}"
        );
    }
    waits.sort();
    println!(
        "{kills} kills, {acknowledged} acknowledged calls, {survived} times a container ran on; answers again after {:?} (median), {:?} (worst)",
        waits[waits.len() / 2],
        waits[waits.len() - 1]
    );
    for object in objects.names().filter(|o| objects.there(o)) {
        let path = match object.split_once(' ').expect("a kind and a name") {
            ("container", name) => format!("/containers/{name}?force=1&v=1"),
            ("volume", name) => format!("/volumes/{name}"),
            ("network", name) => format!("/networks/{name}"),
            (_, name) => format!("/images/{name}:1?force=1"),
        };
        let gone = api.call("DELETE", &path, b"").expect("an answer");
        assert!(gone.ok(), "{path}: {}", gone.text());
    }
    // It may have been loaded, or not.
    api.call("DELETE", "/images/loaded:0?force=1", b"")
        .expect("an answer");
    api.post("/build/prune?all=true", "");
    api.post("/images/prune", "");
    let images = api.get("/images/json?all=1");
    assert_eq!(images.as_array().map(Vec::len), Some(1), "{images}");
    remains::until_as_before(&engine, &base, &format!("seed {seed}"));
}
