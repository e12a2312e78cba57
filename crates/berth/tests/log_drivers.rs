//! `--log-driver` and `--log-opt`: attributes, syslog servers, the journal, and files that do not grow
//! for ever.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// How long a message may take to come.
const DEADLINE: Option<Duration> = Some(Duration::from_secs(30));

#[test]
fn attributes_go_along_and_files_are_bounded() {
    let engine = Engine::start(BERTH);
    engine.line(
        "run --name c1 --network none --label app=web --label other=x -e TIER=front -e X=1 \
         --log-opt labels=app --log-opt env-regex=^TI --log-opt tag={{.Name}}/{{.ID}} \
         busybox echo hi",
    );
    let id = engine.line("inspect -f {{.Id}} c1");
    assert_eq!(
        engine.line("logs --details c1"),
        format!("TIER=front,app=web,tag=c1%2F{} hi", &id[..12])
    );
    let path = engine.line("inspect -f {{.LogPath}} c1");
    let entry = std::fs::read_to_string(path).expect("the log");
    assert!(
        entry.starts_with("{\"log\":\"hi\\n\",\"stream\":\"stdout\",\"attrs\":{\"TIER\":\"front\",\"app\":\"web\",\"tag\":\"c1/"),
        "{entry}"
    );
    // Two files of a hundred kilobytes, and no more.
    engine.line(
        "run --name c2 --network none --log-opt max-size=100k --log-opt max-file=2 \
         busybox sh -c 'yes 0123456789012345678901234567890123456789 | head -n 20000'",
    );
    let path = PathBuf::from(engine.line("inspect -f {{.LogPath}} c2"));
    let total: u64 = std::fs::read_dir(path.parent().expect("a directory"))
        .expect("its files")
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().contains("-json.log"))
        .map(|e| e.metadata().expect("a file").len())
        .sum();
    assert!((100_000..400_000).contains(&total), "{total}");
    assert!(engine.line("logs c2").lines().count() > 1000);
    assert_eq!(engine.line("logs --tail 2 c2").lines().count(), 2);
    // Nothing said: bounded all the same.
    let config = "inspect -f {{.HostConfig.LogConfig.Type}} c2";
    assert_eq!(engine.line(config), "json-file");
    // The driver without files.
    engine.line("run --name c3 --network none --log-driver none busybox echo hi");
    let err = engine.line_fails(1, "logs c3");
    assert!(
        err.contains("configured logging driver does not support reading"),
        "{err}"
    );
    assert_eq!(engine.line("inspect -f {{.LogPath}} c3"), "");
    for (options, words) in [
        (
            "--log-driver bogus",
            "no log driver named 'bogus' is registered",
        ),
        (
            "--log-opt bogus=1",
            "unknown log opt 'bogus' for json-file log driver",
        ),
        ("--log-opt max-size=zz", "invalid size: 'zz'"),
        ("--log-opt max-file=0", "max-file cannot be less than 1"),
        (
            "--log-driver local --log-opt labels=a",
            "unknown log opt 'labels' for local log driver",
        ),
        ("--log-opt tag={{.Bogus}}", "invalid log tag"),
        (
            "--log-driver syslog --log-opt syslog-address=nowhere",
            "syslog-address should be in form proto://address, got nowhere",
        ),
        (
            "--log-driver syslog --log-opt syslog-address=unix:///nowhere",
            "failed to initialize logging driver: stat /nowhere: no such file or directory",
        ),
        (
            "--log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:1",
            "failed to initialize logging driver: dial tcp 127.0.0.1:1:",
        ),
    ] {
        let line = format!("run --rm --network none {options} busybox true");
        let code = if options.contains("/nowhere") {
            127
        } else {
            125
        };
        let err = engine.line_fails(code, &line);
        assert!(err.contains(words), "{options}: {err}");
    }
}

fn text(socket: &UdpSocket) -> String {
    let mut message = [0; 4096];
    let n = socket.recv(&mut message).expect("a message");
    String::from_utf8_lossy(&message[..n]).into_owned()
}

#[test]
fn lines_go_to_a_syslog_server() {
    let engine = Engine::start(BERTH);
    let server = UdpSocket::bind("127.0.0.1:0").expect("a server");
    server.set_read_timeout(DEADLINE).expect("a deadline");
    let address = server.local_addr().expect("its address");
    let run = |name: &str, options: &str| {
        engine.line(&format!(
            "run --name {name} --network none --log-driver syslog {options} busybox \
             sh -c 'echo hello; echo bad >&2'"
        ))
    };
    run(
        "u1",
        &format!("--log-opt syslog-address=udp://{address} --log-opt tag=box/{{{{.Name}}}}"),
    );
    let (one, two) = (text(&server), text(&server));
    assert!(one.starts_with("<30>") && one.contains(" box/u1["), "{one}");
    assert!(
        one.ends_with("]: hello\n") && two.ends_with("]: bad\n"),
        "{one}{two}"
    );
    assert!(two.starts_with("<27>"), "{two}");
    // What was sent can be read here, too.
    let logs = engine.run_line("logs u1");
    assert_eq!((&*logs.out, &*logs.err), ("hello\n", "bad\n"));

    run(
        "u2",
        &format!(
            "--log-opt syslog-address=udp://{address} --log-opt syslog-format=rfc5424micro \
             --log-opt syslog-facility=local3 --log-opt cache-disabled=true"
        ),
    );
    let one = text(&server);
    let words: Vec<&str> = one.trim_end().split(' ').collect();
    let id = engine.line("inspect -f {{.Id}} u2");
    assert_eq!(
        (words[0], words[3], words[5]),
        ("<158>1", &id[..12], &id[..12])
    );
    assert!(
        words[1].len() >= "2024-01-02T03:04:05.678901Z".len(),
        "{one}"
    );
    assert_eq!(words[6..], ["-", "hello"]);
    let err = engine.line_fails(1, "logs u2");
    assert!(err.contains("does not support reading"), "{err}");
}

#[test]
fn lines_go_over_a_stream_and_over_unix_sockets() {
    let engine = Engine::start(BERTH);
    let server = TcpListener::bind("127.0.0.1:0").expect("a server");
    let address = server.local_addr().expect("its address");
    let reader = std::thread::spawn(move || {
        // The engine looks whether somebody is there, then the container's lines come.
        let all = server.incoming().flatten().find_map(|connection| {
            let lines: Vec<String> = BufReader::new(connection)
                .lines()
                .map_while(Result::ok)
                .collect();
            (!lines.is_empty()).then_some(lines)
        });
        all.expect("lines")
    });
    engine.line(&format!(
        "run --network none --log-driver syslog --log-opt syslog-address=tcp://{address} \
         --log-opt syslog-format=rfc3164 busybox seq 1 5000"
    ));
    let lines = reader.join().expect("the server");
    assert_eq!(lines.len(), 5000);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert!(
        lines[0].contains(&format!(" {} ", host.trim())),
        "{}",
        lines[0]
    );
    assert!(lines[4999].ends_with("]: 5000"), "{}", lines[4999]);

    let path = engine.path("log.sock");
    let server = UnixDatagram::bind(&path).expect("a server");
    server.set_read_timeout(DEADLINE).expect("a deadline");
    engine.line(&format!(
        "run --network none --log-driver syslog --log-opt syslog-address=unix://{} busybox echo hello",
        path.display()
    ));
    let mut message = [0; 4096];
    let n = server.recv(&mut message).expect("a message");
    let message = String::from_utf8_lossy(&message[..n]);
    assert!(message.ends_with("]: hello\n"), "{message}");
}

/// The journal's socket, unless this machine has a journal of its own.
struct Journal(UnixDatagram);

const JOURNAL: &str = "/run/systemd/journal/socket";

impl Journal {
    fn new() -> Option<Self> {
        if Path::new(JOURNAL).exists() {
            testkit::skipped("this machine has a journal, whose entries are not ours to read");
            return None;
        }
        std::fs::create_dir_all("/run/systemd/journal").expect("a directory");
        let socket = UnixDatagram::bind(JOURNAL).expect("a socket");
        socket.set_read_timeout(DEADLINE).expect("a deadline");
        Some(Self(socket))
    }

    fn entry(&self) -> BTreeMap<String, String> {
        let mut entry = vec![0; 64 << 10];
        let n = self.0.recv(&mut entry).expect("an entry");
        String::from_utf8_lossy(&entry[..n])
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(JOURNAL);
        // A directory that others use stays.
        let _ = std::fs::remove_dir("/run/systemd/journal");
        let _ = std::fs::remove_dir("/run/systemd");
    }
}

#[test]
fn lines_go_to_the_journal() {
    let engine = Engine::start(BERTH);
    let Some(journal) = Journal::new() else {
        return;
    };
    engine.line(
        "run --name j1 --network none --log-driver journald --label app.name=web --log-opt labels=app.name \
         --log-opt tag={{.Name}} busybox sh -c 'echo hello; echo bad >&2'",
    );
    let entry = journal.entry();
    let id = engine.line("inspect -f {{.Id}} j1");
    for (name, value) in [
        ("MESSAGE", "hello"),
        ("PRIORITY", "6"),
        ("CONTAINER_ID", &id[..12]),
        ("CONTAINER_ID_FULL", &id),
        ("CONTAINER_NAME", "j1"),
        ("CONTAINER_TAG", "j1"),
        ("SYSLOG_IDENTIFIER", "j1"),
        ("IMAGE_NAME", "busybox"),
        ("APP_NAME", "web"),
    ] {
        assert_eq!(
            entry.get(name).map(String::as_str),
            Some(value),
            "{entry:?}"
        );
    }
    let entry = journal.entry();
    assert_eq!((&*entry["MESSAGE"], &*entry["PRIORITY"]), ("bad", "3"));
    let logs = engine.run_line("logs j1");
    assert_eq!((&*logs.out, &*logs.err), ("hello\n", "bad\n"));
    drop(journal);
    let err = engine.line_fails(
        125,
        "run --rm --network none --log-driver journald busybox true",
    );
    assert!(
        err.contains("failed to initialize logging driver: journald is not enabled on this host"),
        "{err}"
    );
}
