//! A disk without room, and one without inodes, under a whole engine: what is asked for fails with a clear
//! word, what is there can be removed, and service comes back by itself.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// Runs the engine where its data root is a small disk of its own.
const SMALL: &str = r#"
    for word; do
        [ "$before" = --data-root ] && root=$word
        before=$word
    done
    mkdir -p "$root" && mount -t tmpfs -o size=40m,nr_inodes=1500 small "$root" && exec "$@"
"#;

struct Small {
    engine: Engine,
    /// The disk as seen from here.
    disk: PathBuf,
}

impl Small {
    fn start() -> Self {
        let prefix = ["unshare", "-m", "sh", "-c", SMALL, "sh"].map(str::to_owned);
        let engine = Engine::start_under(BERTH, &[], &prefix);
        engine.load_busybox();
        let inside = engine.path("data");
        let inside = inside.strip_prefix("/").expect("an absolute path");
        let disk = Path::new("/proc")
            .join(engine.pid().to_string())
            .join("root")
            .join(inside);
        Self { engine, disk }
    }

    /// What there is to remove.
    fn furnish(&self) {
        let engine = &self.engine;
        engine.line("run -d --network none --name runs busybox sleep 1000");
        engine.line("run --network none --name ended -v kept:/v busybox sh -c 'head -c 100000 /dev/zero > /v/x'");
        engine.line("create --network none --name made -v /anonymous busybox");
        engine.line("volume create loose");
        engine.line("network create net");
        engine.line("tag busybox other:name");
    }

    /// Nothing new gets in, and everything can go.
    fn full(&self) {
        let engine = &self.engine;
        for line in [
            "create --network none busybox",
            "run --rm --network none busybox true",
            "commit ended image",
        ] {
            let ran = engine.run_line(line);
            assert!(
                ran.code != 0 && ran.err.contains("no space left on device"),
                "{line}: {ran:?}"
            );
        }
        assert_eq!(
            engine.line("ps -aq").lines().count(),
            3,
            "nothing half made"
        );
        engine.line("kill runs");
        assert_eq!(engine.line("wait runs"), "137");
        assert_eq!(
            engine.line("inspect -f '{{.State.Status}} {{.State.ExitCode}}' runs"),
            "exited 137"
        );
        engine.line("rm runs");
        engine.line("rm -v made");
        engine.line("rmi other:name");
        engine.line("network rm net");
        engine.line("volume rm loose");
        engine.line("system prune -f --volumes");
        engine.line("volume rm kept");
        assert_eq!(engine.line("ps -aq"), "");
        assert_eq!(engine.line("volume ls -q"), "");
    }

    /// Room again.
    fn serves(&self) {
        let engine = &self.engine;
        assert_eq!(
            engine.line("run --rm --network none busybox sh -c 'echo x > /x; cat /x'"),
            "x"
        );
        // What is kept back for removals is kept back again.
        assert!(self.disk.join("reserve").exists());
    }
}

#[test]
fn without_room_things_can_be_removed() {
    let small = Small::start();
    small.furnish();
    assert!(small.disk.join("reserve").exists(), "room is kept back");
    let filler = small.disk.join("filler");
    let mut file = fs::File::create(&filler).expect("a file");
    while file.write_all(&[7; 4096]).is_ok() {}
    small.full();
    drop(file);
    fs::remove_file(&filler).expect("room");
    small.serves();
}

#[test]
fn without_inodes_things_can_be_removed() {
    let small = Small::start();
    small.furnish();
    let files = small.disk.join("files");
    fs::create_dir(&files).expect("a directory");
    let mut made = 0;
    while fs::File::create(files.join(made.to_string())).is_ok() {
        made += 1;
    }
    assert!(made > 100, "{made}");
    small.full();
    fs::remove_dir_all(&files).expect("room");
    small.serves();
}
