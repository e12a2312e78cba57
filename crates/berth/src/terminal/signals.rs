//! Signals that this program gets and a container is meant to have.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What is passed on. The kernel lets nobody catch KILL and STOP; CHLD, PIPE and URG are
/// this process's own affair; WINCH is a resize.
const FORWARDED: [(&str, i32); 17] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("TRAP", 5),
    ("ABRT", 6),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("IO", 29),
];

/// Signals that may wait.
const QUEUE: usize = 64;

/// Catches them from now on; the names come as they arrive.
pub fn catch() -> io::Result<mpsc::Receiver<&'static str>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    for (name, number) in FORWARDED {
        let mut source = signal(SignalKind::from_raw(number))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while source.recv().await.is_some() {
                if sender.send(name).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}
