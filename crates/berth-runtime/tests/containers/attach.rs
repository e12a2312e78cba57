//! Clients of a container's streams.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use berth_runtime::launcher::Launcher;
use berth_runtime::task::AttachOptions;
use berth_spec::oci::runtime::ConsoleSize;

use crate::bundle::{Bundle, await_text, frames};

fn rest(client: UnixStream) -> (String, String) {
    let mut raw = Vec::new();
    (&client).read_to_end(&mut raw).unwrap();
    frames(&raw)
}

pub fn two_clients_get_the_same(launcher: &Launcher) {
    let mut bundle = Bundle::new("read x; echo out $x; echo err >&2");
    bundle.task.open_stdin = true;
    let running = bundle.spawn(launcher).unwrap();
    let all: UnixStream = running.task.attach(AttachOptions::ALL).unwrap().into();
    let errors = AttachOptions {
        stderr: true,
        ..AttachOptions::default()
    };
    let errors: UnixStream = running.task.attach(errors).unwrap().into();
    (&all).write_all(b"put\n").unwrap();
    assert_eq!(rest(all), ("out put\n".to_owned(), "err\n".to_owned()));
    assert_eq!(rest(errors), (String::new(), "err\n".to_owned()));
    let (out, _, _) = running.finish();
    assert_eq!(out, "out put\n");
}

pub fn a_late_client_gets_what_follows(launcher: &Launcher) {
    let mut bundle = Bundle::new("echo before; read x; echo after");
    bundle.task.open_stdin = true;
    let mut running = bundle.spawn(launcher).unwrap();
    running.await_output("before");
    let late: UnixStream = running.task.attach(AttachOptions::ALL).unwrap().into();
    (&late).write_all(b"\n").unwrap();
    assert_eq!(rest(late).0, "after\n");
}

pub fn a_terminal_is_raw_and_has_a_size(launcher: &Launcher) {
    let mut bundle =
        Bundle::new("tty; stty size; read x; stty size; echo got $x; ls -l /dev/console");
    let process = bundle.spec().process.as_mut().unwrap();
    process.terminal = true;
    process.console_size = Some(ConsoleSize {
        height: 30,
        width: 100,
    });
    bundle.task.open_stdin = true;
    let mut running = bundle.spawn(launcher).unwrap();
    let text = await_text(&mut running.client, "100\r\n");
    assert!(text.starts_with("/dev/pts/0\r\n30 100\r\n"), "{text:?}");
    running.task.resize(120, 40).unwrap();
    running.client.write_all(b"it\n").unwrap();
    let (text, _, status) = running.finish();
    // The echo comes first.
    assert!(text.starts_with("it\r\n40 120\r\ngot it\r\n"), "{text:?}");
    assert!(
        text.contains("136,   0") || text.contains("136, 0"),
        "{text:?}"
    );
    assert_eq!(status.code, 0);
}

pub fn a_terminal_is_there_for_the_next_client(launcher: &Launcher) {
    let mut bundle = Bundle::new("read x; echo got $x");
    bundle.spec().process.as_mut().unwrap().terminal = true;
    bundle.task.open_stdin = true;
    bundle.task.stdin_once = true;
    let running = bundle.spawn(launcher).unwrap();
    running.client.shutdown(Shutdown::Write).unwrap();
    let second: UnixStream = running.task.attach(AttachOptions::ALL).unwrap().into();
    (&second).write_all(b"it\n").unwrap();
    await_text(&mut &second, "got it");
    drop(second);
    let (_, _, status) = running.finish();
    assert_eq!(status.code, 0);
}

pub fn a_slow_client_loses_nothing(launcher: &Launcher) {
    // Far more than sockets and queues hold; the client begins to read when all others have ended.
    let mut bundle = Bundle::new("yes 0123456789abcdef | head -c 8000000; echo end >&2");
    let log = bundle.log(0, 0);
    let running = bundle.spawn(launcher).unwrap();
    let fast: UnixStream = running.task.attach(AttachOptions::OUTPUT).unwrap().into();
    let reader = std::thread::spawn(move || rest(fast));
    let (out, errors, _) = running_rest(running);
    assert_eq!((out.len(), errors.as_str()), (8_000_000, "end\n"));
    let (_, errors) = reader.join().unwrap();
    assert_eq!(errors, "end\n");
    drop(log);
}

fn running_rest(running: crate::bundle::Running) -> (String, String, i32) {
    let (out, errors, status) = running.finish();
    (out, errors, status.code)
}

pub fn a_client_that_goes_does_not_end_it(launcher: &Launcher) {
    let mut bundle = Bundle::new("read x; echo $x; read y; echo $y");
    bundle.task.open_stdin = true;
    let mut running = bundle.spawn(launcher).unwrap();
    let first: UnixStream = running.task.attach(AttachOptions::ALL).unwrap().into();
    (&first).write_all(b"one\n").unwrap();
    await_text(&mut &first, "one");
    drop(first);
    running.client.write_all(b"two\n").unwrap();
    let (out, _, status) = running.finish();
    assert_eq!((out.as_str(), status.code), ("one\ntwo\n", 0));
}
