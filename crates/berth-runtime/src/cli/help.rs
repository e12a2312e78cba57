//! What `-h` prints.

/// Commands with what they do and take.
const COMMANDS: [(&str, &str, &str); 18] = [
    (
        "checkpoint",
        "dump a running container by criu, and end it",
        "[--image-path DIR] [--work-path DIR] [--parent-path DIR] [--leave-running] [--pre-dump] [--tcp-established] [--ext-unix-sk] [--file-locks] [--manage-cgroups-mode MODE] … ID",
    ),
    (
        "create",
        "make a container, up to its program",
        "[--bundle DIR] [--console-socket PATH] [--pid-file FILE] [--preserve-fds N] ID",
    ),
    (
        "delete",
        "remove what is left of a container",
        "[--force] ID",
    ),
    (
        "events",
        "tell what a container uses, and that it ran out of memory",
        "[--interval DURATION] [--stats] ID",
    ),
    (
        "exec",
        "run a further process in a container",
        "[--cwd DIR] [--env NAME=VALUE] [--tty] [--user UID[:GID]] [--cap NAME] [--process FILE] [--pid-file FILE] [--console-socket PATH] [--preserve-fds N] [--cgroup [CONTROLLERS:]PATH] [--ignore-paused] [--detach] ID COMMAND [ARGS]",
    ),
    ("features", "tell what this runtime can do", ""),
    ("kill", "send a signal", "[--all] ID [SIGNAL]"),
    ("list", "list containers", "[--format table|json] [--quiet]"),
    (
        "pause",
        "stop all processes of a container where they are",
        "ID",
    ),
    (
        "ps",
        "list the processes of a container",
        "[--format table|json] ID [PS OPTIONS]",
    ),
    (
        "restore",
        "let a container go on that was dumped by criu",
        "[--bundle DIR] [--image-path DIR] [--work-path DIR] [--detach] [--console-socket PATH] [--pid-file FILE] [--tcp-established] … ID",
    ),
    ("resume", "let paused processes go on", "ID"),
    (
        "run",
        "make a container and start it",
        "[--bundle DIR] [--detach] [--keep] [--console-socket PATH] [--pid-file FILE] [--preserve-fds N] ID",
    ),
    ("spec", "write a document to begin with", "[--bundle DIR]"),
    (
        "start",
        "run the program of a container that was created",
        "ID",
    ),
    ("state", "tell the state of a container", "ID"),
    (
        "update",
        "change limits",
        "[--resources FILE] [--memory BYTES] [--cpu-quota N] [--cpu-period N] [--pids-limit N] … ID",
    ),
    ("help", "show this", "[COMMAND]"),
];

/// The page of a command, if there is one of that name.
pub(super) fn of(command: &str) -> Option<String> {
    let (name, what, arguments) = COMMANDS.iter().find(|(name, ..)| *name == command)?;
    Some(format!(
        "NAME:\n   runc {name} - {what}\n\nUSAGE:\n   berth runtime {name} {arguments}\n"
    ))
}

/// The page of all.
pub(super) fn all() -> String {
    let commands: String = COMMANDS
        .iter()
        .map(|(name, what, _)| format!("   {name:10} {what}\n"))
        .collect();
    format!(
        "NAME:\n   runc - Open Container Initiative runtime, as berth runtime\n\nUSAGE:\n   berth runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] COMMAND [ARGS]\n\nCOMMANDS:\n{commands}"
    )
}
