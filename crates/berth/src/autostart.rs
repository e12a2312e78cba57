//! Starting the engine where none listens: the same binary, detached, which tells by the
//! notification protocol of `sd_notify(3)` that it is ready.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};

/// How long an engine may take to recover its records and open its socket.
const DEADLINE: Duration = Duration::from_secs(30);
/// Where an engine started on demand writes its log.
const LOG: &str = "/var/log/berth.log";
/// How much of the log is shown when the engine does not come up, in bytes.
const LOG_TAIL: u64 = 4096;

/// Starts an engine that listens on `socket` and waits until it is ready.
pub fn start(socket: &Path) -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(format!(
            "permission denied while trying to connect to the Docker daemon socket at unix://{}: \
             no engine is running, and starting one needs root",
            socket.display()
        )));
    }
    spawn_and_wait().map_err(|e| Failure::new(format!("starting the engine: {e}")))
}

fn spawn_and_wait() -> io::Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("berth-start-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .tempdir()?;
    let notify = dir.path().join("notify");
    let ready = UnixDatagram::bind(&notify)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create("/var/log")?;
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o640)
        .open(LOG)?;
    let begin = log.seek(SeekFrom::End(0))?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("berth")
        .args(["engine", "--on-demand"])
        .env("NOTIFY_SOCKET", &notify)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        // The engine makes itself a session of its own; this keeps the terminal's keys from
        // it until it has.
        .process_group(0)
        .spawn()?;
    let deadline = Instant::now() + DEADLINE;
    let mut message = [0; 1024];
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        // Short enough to see an engine that ended without a word.
        ready.set_read_timeout(Some(
            left.clamp(Duration::from_millis(1), Duration::from_millis(200)),
        ))?;
        match ready.recv(&mut message) {
            Ok(length) if is_ready(&message[..length]) => return Ok(()),
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                if let Some(status) = child.try_wait()? {
                    let said = tail(&mut log, begin)?;
                    return Err(io::Error::other(format!("it ended with {status}\n{said}")));
                }
            }
            Err(e) => return Err(e),
        }
    }
    let said = tail(&mut log, begin)?;
    Err(io::Error::other(format!(
        "it was not ready after {} s\n{said}",
        DEADLINE.as_secs()
    )))
}

fn is_ready(message: &[u8]) -> bool {
    message
        .split(|&b| b == b'\n')
        .any(|line| line == b"READY=1")
}

/// What the engine wrote since `begin`, its last part.
fn tail(log: &mut fs::File, begin: u64) -> io::Result<String> {
    let end = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(begin.max(end.saturating_sub(LOG_TAIL))))?;
    let mut said = Vec::new();
    log.take(LOG_TAIL).read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        assert!(is_ready(b"READY=1"));
        assert!(is_ready(b"STATUS=recovering\nREADY=1\n"));
        assert!(!is_ready(b"STATUS=READY=1"));
    }
}
