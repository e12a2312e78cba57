//! Progress as a person at a slow line sees it: bars in a terminal, plain lines elsewhere.

use std::fs;

use testkit::engine::Engine;
use testkit::gate::Gate;
use testkit::registry::Registry;
use testkit::terminal::Terminal;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");
/// As with Docker, narrower than 110 there are figures but no bars.
const COLUMNS: u16 = 120;
/// Bytes of the image's one file, which no compression makes smaller.
const SIZE: usize = 12_000_000;
/// What the line lets through before it stands still.
const PART: u64 = 5_000_000;

/// The lines that were drawn, one per drawing, without what moves the cursor.
fn drawn(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // CSI: parameters, then one letter.
            for c in chars.by_ref().skip(1) {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(c);
        }
    }
    plain
        .split(['\r', '\n'])
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A bar that is neither empty nor full, with `verb` before it.
fn half_way(text: &str, verb: &str) -> Option<String> {
    drawn(text).into_iter().find(|line| {
        line.contains(&format!(": {verb} ["))
            && line.contains("=>")
            && line.contains("MB/12")
            && !line.contains("12MB/12")
    })
}

fn image_of_noise(engine: &Engine) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = (0..SIZE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect();
    let dir = engine.dir_with("noise", &[]);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("noise"), noise).expect("a file");
    let dockerfile = engine.dir_with("noise", &[("Dockerfile", "FROM scratch\nCOPY noise /\n")]);
    engine.ok(&[
        "build",
        "-q",
        "-t",
        "noise",
        &dockerfile.display().to_string(),
    ]);
}

#[test]
fn bars_move_in_a_terminal() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let gate = Gate::before(registry.address(), PART);
    let name = format!("{}/noise", gate.host());
    let one = Engine::start_empty(BERTH, &[]);
    image_of_noise(&one);
    one.ok(&["tag", "noise", &name]);

    let mut command = one.berth();
    command.args(["push", &name]);
    let push = Terminal::start(command, COLUMNS);
    let bar = push.until("a bar half way", |text| half_way(text, "Pushing"));
    assert!(bar.chars().count() <= usize::from(COLUMNS), "{bar}");
    gate.open(u64::MAX);
    let (status, text) = push.end();
    assert!(status.success(), "{text}");
    assert!(
        text.contains("\u{1b}[1A")
            && drawn(&text)
                .iter()
                .any(|l| l.trim_end().ends_with(": Pushed")),
        "{text}"
    );

    let slow = Gate::before(registry.address(), PART);
    let name = format!("{}/noise", slow.host());
    let two = Engine::start_empty(BERTH, &[]);
    let mut command = two.berth();
    command.args(["pull", &name]);
    let pull = Terminal::start(command, COLUMNS);
    let bar = pull.until("a bar half way", |text| half_way(text, "Downloading"));
    assert!(bar.chars().count() <= usize::from(COLUMNS), "{bar}");
    slow.open(u64::MAX);
    let (status, text) = pull.end();
    assert!(status.success(), "{text}");
    let lines = drawn(&text);
    for end in [": Download complete", ": Pull complete"] {
        assert!(
            lines.iter().any(|line| line.trim_end().ends_with(end)),
            "{end}: {text}"
        );
    }
    assert!(
        text.contains(&format!("Status: Downloaded newer image for {name}")),
        "{text}"
    );
}

#[test]
fn lines_elsewhere() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = format!("{}/box", registry.host());
    let engine = Engine::start(BERTH);
    engine.ok(&["tag", "busybox", &name]);
    let refers = format!("The push refers to repository [{name}]");
    for (verb, once) in [
        ("push", refers.as_str()),
        ("pull", "Using default tag: latest"),
    ] {
        let said = engine.run(&[verb, &name]);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(said.out.matches(once).count(), 1, "{said:?}");
        assert!(
            !said.out.contains('\u{1b}') && !said.out.contains('\r') && !said.out.contains("=>"),
            "{said:?}"
        );
    }
}
