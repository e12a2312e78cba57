//! `berth completion`: what a shell offers, asked the way the shell asks.

use std::path::Path;
use std::process::Command;

/// A home with these contexts, and a shell in it that finds `berth`; None where there is no such shell.
struct Shell {
    home: tempfile::TempDir,
    name: &'static str,
}

impl Shell {
    fn new(name: &'static str, contexts: &[&str]) -> Option<Shell> {
        if testkit::find_command(name).is_none() {
            testkit::skipped(&format!("there is no {name}"));
            return None;
        }
        let home = tempfile::tempdir().expect("a directory");
        for context in contexts {
            let made = Command::new(env!("CARGO_BIN_EXE_berth"))
                .args([
                    "context",
                    "create",
                    context,
                    "--docker",
                    "host=unix:///nowhere",
                ])
                .env("DOCKER_CONFIG", home.path())
                .output()
                .expect("the berth binary");
            assert!(made.status.success(), "{made:?}");
        }
        Some(Shell { home, name })
    }

    /// What the shell prints when it runs `script` with `line` as its first argument.
    fn says(&self, options: &[&str], script: &str, line: &str) -> Vec<String> {
        let bin = Path::new(env!("CARGO_BIN_EXE_berth"))
            .parent()
            .expect("a directory");
        let path = format!(
            "{}:{}",
            bin.display(),
            std::env::var("PATH").expect("a PATH")
        );
        let mut command = Command::new(self.name);
        command.args(options).args(["-c", script]);
        if self.name != "fish" {
            command.arg(self.name);
        }
        let output = command
            .arg(line)
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("DOCKER_CONFIG", self.home.path())
            .env("DOCKER_HOST", "unix:///nowhere")
            .output()
            .expect("the shell");
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

const BASH: &str = r#"source <(berth completion bash)
COMP_LINE=$1 COMP_POINT=${#1}
_berth
printf '%s\n' "${COMPREPLY[@]}""#;

/// An interactive zsh in a terminal of its own: the line is typed, then Tab, then a key whose
/// widget writes down what stands on the line.
const ZSH: &str = r#"
zmodload zsh/zpty
[[ -p $HOME/line ]] || mkfifo $HOME/line
zpty inner zsh -f -i
zpty -w inner 'autoload -U compinit; compinit -D; source <(berth completion zsh); setopt menucomplete'
zpty -w inner 'report() { print -r -- "$BUFFER" > $HOME/line }; zle -N report; bindkey "^X" report'
zpty -w inner 'print > $HOME/line'
read -r < $HOME/line
zpty -w -n inner "$1"$'\t'$'\x18'
IFS= read -r found < $HOME/line
zpty -d inner
print -r -- "$found"
"#;

const FISH: &str =
    r#"berth completion fish | source; complete -C "$argv[1]" | string split -f1 \t"#;

#[test]
fn bash_offers_verbs_options_and_names() {
    let Some(bash) = Shell::new("bash", &["one", "other"]) else {
        return;
    };
    for (line, expected) in [
        ("berth comp", &["completion"][..]),
        ("berth context sh", &["show"]),
        ("berth build --no", &["--no-cache"]),
        ("berth context use o", &["one", "other"]),
        ("berth context rm one d", &["default"]),
        ("berth context use ", &["default", "one", "other"]),
        // No engine is there to ask, and none is started.
        ("berth rm x", &[]),
    ] {
        assert_eq!(bash.says(&["--norc"], BASH, line), expected, "{line}");
    }
}

#[test]
fn zsh_completes_verbs_options_and_names() {
    let Some(zsh) = Shell::new("zsh", &["one", "other"]) else {
        return;
    };
    for (line, expected) in [
        ("berth comp", "berth completion "),
        ("berth build --no", "berth build --no-cache "),
        ("berth context use ot", "berth context use other "),
        // All that may come next, of which the first is put on the line.
        ("berth context use ", "berth context use default"),
    ] {
        assert_eq!(zsh.says(&["-f"], ZSH, line), [expected], "{line}");
    }
}

#[test]
fn fish_offers_verbs_options_and_names() {
    let Some(fish) = Shell::new("fish", &["one", "other"]) else {
        return;
    };
    for (line, expected) in [
        ("berth comp", &["completion"][..]),
        ("berth build --no", &["--no-cache"]),
        ("berth context use o", &["one", "other"]),
        ("berth context use ", &["default", "one", "other"]),
        // Files, where berth knows of nothing.
        ("berth build Car", &["Cargo.toml"]),
    ] {
        let found = fish.says(&["--no-config"], FISH, line);
        assert_eq!(found, expected, "{line}");
    }
}
