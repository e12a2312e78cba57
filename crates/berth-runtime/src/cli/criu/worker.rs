//! `criu swrk`: criu as our child, which does one thing that it is told over a socket.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use berth_sys::socket;
use rustix::io::{FdFlags, fcntl_setfd};

use super::rpc::{self, Answer, Kind, Message};
use crate::error::{Context, Error, Result};

/// Bytes an answer may have.
const ANSWER_MAX: usize = 64 << 10;
/// Lines of the log that are told before one with an error, and in all.
const BEFORE: usize = 4;
const TOLD_MAX: usize = 40;

/// criu, waiting for its request.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    socket: OwnedFd,
}

impl Worker {
    /// Starts it; its standard streams are ours with `streams`, else nothing.
    pub fn start(streams: bool) -> Result<Self> {
        let what = || "criu".to_owned();
        let (here, there) = socket::packet_pair().context(what)?;
        // The one descriptor beside its streams that it is to have; it is told by its number.
        fcntl_setfd(&there, FdFlags::empty()).context(what)?;
        let mut command = Command::new("criu");
        command.arg("swrk").arg(there.as_raw_fd().to_string());
        if !streams {
            command.stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::invalid(
                "checkpoint and restore need criu: exec: \"criu\": executable file not found in $PATH",
            ),
            _ => Error::internal(format!("criu: {e}")),
        })?;
        Ok(Self {
            child,
            socket: here,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks, and answers what comes at last. `noticed` is told of what comes before, with what
    /// descriptors came along.
    pub fn ask(
        mut self,
        kind: Kind,
        options: Option<&Message>,
        noticed: &mut dyn FnMut(&Answer, Vec<OwnedFd>) -> Result<()>,
    ) -> Result<Answer> {
        let result = self.talk(rpc::request(kind, options), noticed);
        drop(self.socket);
        let ended = self.child.wait().context(|| "criu".to_owned())?;
        let answer = result?;
        // After a pre-dump it waits for more, and is not content that nothing comes.
        if ended.success() || kind == Kind::PreDump {
            return Ok(answer);
        }
        Err(Error::internal(format!("criu failed: {ended}")))
    }

    fn talk(
        &self,
        request: Message,
        noticed: &mut dyn FnMut(&Answer, Vec<OwnedFd>) -> Result<()>,
    ) -> Result<Answer> {
        let what = || "talking to criu".to_owned();
        socket::send(&self.socket, request.as_bytes(), &[]).context(what)?;
        let mut buffer = vec![0; ANSWER_MAX];
        loop {
            let (n, fds) = socket::receive(&self.socket, &mut buffer).context(what)?;
            if n == 0 {
                return Err(Error::internal("criu ended before it answered"));
            }
            let answer = rpc::answer(&buffer[..n])?;
            if !answer.success {
                let (errno, text) = (answer.errno, &answer.message);
                return Err(Error::internal(format!(
                    "criu failed: errno {errno} {text}"
                )));
            }
            if answer.kind != Kind::Notify as u64 {
                return Ok(answer);
            }
            super::super::debug(&format!("criu: notify: {}", answer.script));
            noticed(&answer, fds)?;
            socket::send(&self.socket, rpc::noticed().as_bytes(), &[]).context(what)?;
        }
    }
}

/// Its version, as 31701 for 3.17.1; an error where there is none that can be used.
pub(super) fn version() -> Result<u64> {
    let answer = Worker::start(false)?.ask(Kind::Version, None, &mut |_, _| Ok(()))?;
    if answer.version < 30_000 {
        let version = answer.version;
        return Err(Error::invalid(format!(
            "criu version {version} must be 30000 or higher"
        )));
    }
    Ok(answer.version)
}

/// Whether it and the kernel can track memory, and give pages when they are asked for.
pub(super) fn features() -> Result<(bool, bool)> {
    let mut wanted = Message::default();
    wanted.switch(1, true).switch(2, true);
    let mut request = rpc::request(Kind::FeatureCheck, None);
    request.message(5, &wanted);
    let mut worker = Worker::start(false)?;
    let answer = worker.talk(request, &mut |_, _| Ok(()));
    drop(worker.socket);
    worker.child.wait().context(|| "criu".to_owned())?;
    let answer = answer?;
    Ok((answer.tracks_memory, answer.lazy_pages))
}

/// Tells the errors of its log, with some lines before each.
pub(super) fn quote(log: &Path) {
    let Ok(file) = File::open(log) else {
        return;
    };
    let lines: Vec<String> = BufReader::new(file).lines().map_while(|l| l.ok()).collect();
    let near = |at: usize| {
        let until = lines.len().min(at + BEFORE + 1);
        lines[at..until].iter().any(|line| line.contains("Error"))
    };
    let told = (0..lines.len()).filter(|at| near(*at)).take(TOLD_MAX);
    for at in told {
        let (path, line) = (log.display(), &lines[at]);
        super::super::note("warning", &format!("{path}: {line}"));
    }
}

/// The number of a descriptor that criu takes out of our process.
pub(super) fn number(fd: impl AsFd) -> u64 {
    u64::from(fd.as_fd().as_raw_fd().unsigned_abs())
}
