//! A command in a terminal: what a person would see of it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait::DEADLINE;

/// What has been written so far, and whether that is all.
type Seen = (Mutex<(Vec<u8>, bool)>, Condvar);

/// A running command whose three streams are a terminal of 24 lines.
pub struct Terminal {
    child: Child,
    seen: Arc<Seen>,
    _master: OwnedFd,
}

impl Terminal {
    /// Starts `command` in a terminal of so many columns.
    pub fn start(mut command: Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&master).expect("a terminal");
        unlockpt(&master).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).expect("its size");
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a name in ASCII"))
            .expect("its other end");
        let child = command
            .env("TERM", "xterm")
            .stdin(slave.try_clone().expect("a descriptor"))
            .stdout(slave.try_clone().expect("a descriptor"))
            .stderr(slave)
            .spawn()
            .expect("the command");
        // The command holds its ends of the terminal; this closes ours.
        drop(command);
        let seen = Arc::new((Mutex::new((Vec::new(), false)), Condvar::new()));
        let mut reader = File::from(master.try_clone().expect("a descriptor"));
        let writes = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // EIO is how a terminal says that its other end has been closed.
                let read = reader.read(&mut buffer).unwrap_or(0);
                let mut state = writes.0.lock().expect("no panic");
                state.0.extend_from_slice(&buffer[..read]);
                state.1 = read == 0;
                writes.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Terminal {
            child,
            seen,
            _master: master,
        }
    }

    /// Waits until `found` finds something in what was written so far.
    pub fn until<T>(&self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let mut state = self.seen.0.lock().expect("no panic");
        loop {
            let text = String::from_utf8_lossy(&state.0).into_owned();
            if let Some(value) = found(&text) {
                return value;
            }
            assert!(!state.1, "ended without {what}:\n{text}");
            let (next, late) = self.seen.1.wait_timeout(state, DEADLINE).expect("no panic");
            assert!(
                !late.timed_out(),
                "waited {DEADLINE:?} in vain for {what}:\n{text}"
            );
            state = next;
        }
    }

    /// Waits for the command's end: how it ended, and all that was written.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("its end");
        let mut state = self.seen.0.lock().expect("no panic");
        while !state.1 {
            state = self.seen.1.wait(state).expect("no panic");
        }
        (status, String::from_utf8_lossy(&state.0).into_owned())
    }
}
