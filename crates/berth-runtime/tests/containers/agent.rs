//! System calls that somebody else decides upon. This program plays his part.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use berth_runtime::launcher::Launcher;
use berth_spec::oci::runtime::{LinuxSeccomp, SeccompAction, SeccompSyscall};
use berth_sys::socket;
use serde_json::Value;

use crate::bundle::Bundle;
use crate::command::Place;

/// A place whose calls of mkdir wait for whoever listens at `agent`.
fn place(script: &str, no_new_privileges: bool) -> Place {
    let mut bundle = Bundle::new(script);
    let path = bundle.temp.path().join("agent").display().to_string();
    let spec = bundle.spec();
    spec.annotations.insert("note".into(), "kept".into());
    spec.process.as_mut().unwrap().no_new_privileges = no_new_privileges;
    let call = SeccompSyscall {
        names: vec!["mkdir".into(), "mkdirat".into()],
        action: SeccompAction::Notify,
        ..SeccompSyscall::default()
    };
    spec.linux.as_mut().unwrap().seccomp = Some(LinuxSeccomp {
        default_action: SeccompAction::Allow,
        listener_path: path,
        listener_metadata: "told".into(),
        syscalls: vec![call],
        ..LinuxSeccomp::default()
    });
    Place::with(bundle)
}

/// What comes to the agent once.
fn hear(listener: &UnixListener) -> (Value, Vec<OwnedFd>) {
    let (connection, _) = listener.accept().unwrap();
    let mut text = vec![0; 65_536];
    let (n, fds) = socket::receive(&connection, &mut text).unwrap();
    (serde_json::from_slice(&text[..n]).unwrap(), fds)
}

pub fn its_descriptor_goes_to_the_agent(_: &Launcher) {
    for no_new_privileges in [false, true] {
        let place = place("mkdir /x; ls -d /x", no_new_privileges);
        let listener = UnixListener::bind(place.dir().join("agent")).unwrap();
        let child = place.command(&["run", "c1"]);
        let told = std::thread::scope(|threads| {
            // The descriptor is closed at once: calls that wait for it are then not there.
            let agent = threads.spawn(|| hear(&listener).0);
            let output = { child }.output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains("Function not implemented"), "{errors}");
            assert_eq!(output.stdout, b"");
            agent.join().unwrap()
        });
        assert_eq!(told["fds"], serde_json::json!(["seccompFd"]));
        assert_eq!(told["metadata"], "told");
        assert_eq!(told["state"]["id"], "c1");
        assert_eq!(told["state"]["pid"], told["pid"]);
        assert_eq!(told["state"]["annotations"]["note"], "kept");
    }
}

pub fn execs_have_an_agent_too(_: &Launcher) {
    let place = place("exec sleep 1000", false);
    let listener = UnixListener::bind(place.dir().join("agent")).unwrap();
    std::thread::scope(|threads| {
        let agent = threads.spawn(|| (hear(&listener), hear(&listener)));
        crate::command::create(&place, &[]);
        place.good(&["start", "c1"]);
        let open = place.good(&["exec", "c1", "sh", "-c", "ls /proc/self/fd | wc -l"]);
        // Standard streams and the directory: not the listener.
        assert_eq!(open.trim(), "4");
        let ((first, fds), (second, _)) = agent.join().unwrap();
        assert_eq!(fds.len(), 1);
        assert_eq!(first["state"]["status"], "creating");
        assert_eq!(second["state"]["status"], "running");
        assert_eq!(second["state"]["pid"], first["pid"]);
        assert_ne!(second["pid"], first["pid"]);
    });
}

pub fn without_an_agent_nothing_starts(_: &Launcher) {
    let place = place("true", true);
    let refusal = place.bad(&["run", "c1"]);
    let expected = "failed to connect with seccomp agent";
    assert!(refusal.contains(expected), "{refusal}");
    assert_eq!(place.good(&["list", "-q"]), "");
}
