//! logs: what a container wrote.
//!
//! ```text
//! <dir>/<id>-json.log     the current file
//! <dir>/<id>-json.log.1   the one before, and so on
//! ```
//!
//! The reader holds open files: a rotation (rename) or removal meanwhile takes nothing away from it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_runtime::log_line::{LINE_MAX, LogLine, Wanted};
use bytes::Bytes;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::record::Container;
use super::{log_driver, log_file, log_seek};
use crate::crossing::blocking;
use crate::readiness::readable;
use crate::{ByteStream, Engine, Error, Result};

/// Pieces that a slow reader may be behind.
const QUEUE: usize = 8;
/// Bytes of the files that are read at once; what is sent of them is about as much.
const BLOCK: usize = 64 << 10;
/// Rotated files that are looked for.
const FILES_MAX: u32 = 1000;

/// Which lines [`logs`] gives.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    /// Go on with what is written from now on, until the container ends.
    pub follow: bool,
    /// Nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch.
    pub until: Option<i64>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Each line begins with the log's extra attributes.
    pub details: bool,
    /// The last so many lines; all where absent.
    pub tail: Option<usize>,
}

impl LogOptions {
    fn wanted(&self, raw: bool) -> Wanted {
        Wanted {
            stdout: self.stdout,
            stderr: self.stderr,
            since: self.since,
            until: self.until,
            timestamps: self.timestamps,
            details: self.details,
            raw,
        }
    }
}

/// A container's output.
pub struct Logs {
    /// Raw bytes if it has a terminal, framed otherwise.
    pub tty: bool,
    pub stream: ByteStream,
}

/// Reads the log of a container.
pub async fn logs(engine: &Engine, id: &str, options: LogOptions) -> Result<Logs> {
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("You must choose at least one stream"));
    }
    let container = engine.0.containers.find(id)?;
    let (readable, tty) =
        container.read(|r| (log_driver::readable(&r.host.log_config), r.config.tty));
    if !readable {
        return Err(Error::not_implemented(
            "configured logging driver does not support reading",
        ));
    }
    let stream = read(engine, &container, options).await?;
    Ok(Logs { tty, stream })
}

/// The log as a stream.
pub(super) async fn read(
    engine: &Engine,
    container: &Arc<Container>,
    options: LogOptions,
) -> Result<ByteStream> {
    let path = log_file::path(&container.id, &engine.container_dir(&container.id));
    let tty = container.read(|r| r.config.tty);
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut reader = LogReader {
        path,
        wanted: options.wanted(tty),
        options,
        sender,
        file: None,
        partial: Vec::new(),
    };
    let container = container.clone();
    let leaving = engine.0.leaving.clone();
    tokio::spawn(async move {
        let work = async {
            // What to follow is watched before the file is read: nothing falls between.
            let watch = reader
                .options
                .follow
                .then(|| Watch::new(&reader.path))
                .transpose()?;
            let running = container.pulse.borrow().running;
            reader = blocking(move || reader.past().map(|()| reader).map_err(failed))
                .await
                .map_err(io::Error::other)?;
            match watch {
                Some(watch) if running => follow(reader, watch, &container).await,
                _ => Ok(()),
            }
        };
        tokio::select! {
            ended = work => if let Err(error) = ended {
                tracing::debug!(container.id = %container.id, %error, "reading a log ended early");
            },
            () = leaving.cancelled() => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn failed(error: io::Error) -> Error {
    Error::io("cannot read the log", error)
}

struct LogReader {
    path: PathBuf,
    options: LogOptions,
    wanted: Wanted,
    sender: mpsc::Sender<io::Result<Bytes>>,
    /// The current file, at the place up to which it has been read.
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

impl LogReader {
    /// Sends what is there already. Blocks.
    fn past(&mut self) -> io::Result<()> {
        let mut files = open_files(&self.path)?;
        match self.options.tail {
            Some(0) => {}
            Some(lines) => seek_tail(&mut files, lines, &self.wanted)?,
            None => {
                if let Some(since) = self.options.since {
                    log_seek::to_time(&mut files, since)?;
                }
            }
        }
        if self.options.tail == Some(0) {
            if let Some(mut last) = files.pop_back() {
                last.seek(SeekFrom::End(0))?;
                self.file = Some(last);
            }
            return Ok(());
        }
        while let Some(file) = files.pop_front() {
            let current = files.is_empty();
            let file = self.pass(file, current)?;
            if current {
                self.file = Some(file);
            }
        }
        Ok(())
    }

    /// Sends the rest of a file. What is no whole line is kept for later in the current file.
    fn pass(&mut self, file: File, current: bool) -> io::Result<File> {
        loop {
            self.partial.reserve(BLOCK);
            let room = rustix::buffer::spare_capacity(&mut self.partial);
            match rustix::io::read(&file, room) {
                Ok(0) => break,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let mut piece = Vec::with_capacity(self.partial.len());
            let passed = self.wanted.pass(&self.partial, &mut piece);
            self.partial.drain(..passed.used);
            if !piece.is_empty() {
                // An error: the reader left.
                self.sender
                    .blocking_send(Ok(Bytes::from(piece)))
                    .map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            if passed.over || self.partial.len() >= LINE_MAX {
                self.partial.clear();
            }
            if passed.over {
                break;
            }
        }
        // The end of the file within a line.
        if !current {
            self.partial.clear();
        }
        // Who follows may wait long, with a beginning of a line at most.
        self.partial.shrink_to_fit();
        Ok(file)
    }

    /// Sends what has been written since, also to files that came after this one. Blocks.
    fn more(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            let emptied = file.metadata()?.len() < position(&file)?;
            let mut file = file;
            if emptied {
                // Kept to one file, it is emptied in place of a rotation.
                file.seek(SeekFrom::Start(0))?;
                self.partial.clear();
            }
            self.file = Some(self.pass(file, true)?);
        }
        loop {
            let Ok(current) = File::open(&self.path) else {
                return Ok(());
            };
            let old = self.file.as_ref().map(identity).transpose()?;
            if old == Some(identity(&current)?) {
                return Ok(());
            }
            // Rotated: what the old file still had has been read, the next one is read from its start.
            self.partial.clear();
            self.file = Some(self.pass(current, true)?);
        }
    }
}

fn position(file: &File) -> io::Result<u64> {
    let mut file = file;
    file.stream_position()
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

/// The log's files, the oldest first.
fn open_files(path: &Path) -> io::Result<VecDeque<File>> {
    let mut files = VecDeque::new();
    match File::open(path) {
        Ok(file) => files.push_front(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    for number in 1..FILES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        match File::open(&name) {
            Ok(file) => files.push_front(file),
            Err(_) => break,
        }
    }
    Ok(files)
}

/// Leaves of the files what comes after the last `lines` wanted lines, found from the end backwards.
fn seek_tail(files: &mut VecDeque<File>, lines: usize, asked: &Wanted) -> io::Result<()> {
    let mut wanted = lines;
    let mut kept = VecDeque::new();
    while let Some(mut file) = files.pop_back() {
        let (start, found) = tail_start(&mut file, wanted, asked)?;
        file.seek(SeekFrom::Start(start))?;
        kept.push_front(file);
        wanted -= found;
        if wanted == 0 {
            break;
        }
    }
    *files = kept;
    Ok(())
}

/// Where the last `lines` wanted lines of a file begin, and how many there are.
fn tail_start(file: &mut File, lines: usize, asked: &Wanted) -> io::Result<(u64, usize)> {
    let mut end = file.seek(SeekFrom::End(0))?;
    // Bytes from `end` on that belong to a line whose beginning is not found yet.
    let mut pending: Vec<u8> = Vec::new();
    let mut found = 0;
    let count =
        |line: &[u8]| LogLine::parse(line).is_some_and(|l| l.wanted(asked) && !l.late(asked));
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let mut chunk = vec![0; usize::try_from(end - start).unwrap_or(BLOCK)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut chunk)?;
        chunk.extend_from_slice(&pending);
        // Every line but the first of the chunk is whole.
        let mut tail = chunk.len();
        while let Some(at) = chunk[..tail.saturating_sub(1)]
            .iter()
            .rposition(|b| *b == b'\n')
        {
            if count(&chunk[at + 1..tail]) {
                found += 1;
                if found == lines {
                    return Ok((start + at as u64 + 1, found));
                }
            }
            tail = at + 1;
        }
        chunk.truncate(tail);
        if chunk.len() > LINE_MAX {
            chunk.clear();
        }
        pending = chunk;
        end = start;
    }
    if !pending.is_empty() && count(&pending) {
        found += 1;
    }
    Ok((0, found))
}

/// Tells when something in the log's directory changes.
struct Watch(AsyncFd<std::os::fd::OwnedFd>);

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let dir = path.parent().unwrap_or(path);
        let events = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&fd, dir, events)?;
        Ok(Self(readable(fd)?))
    }

    async fn changed(&self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        // What changed does not matter; that something did is enough.
        let mut reader = inotify::Reader::new(self.0.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        guard.clear_ready();
        Ok(())
    }
}

async fn follow(mut reader: LogReader, watch: Watch, container: &Arc<Container>) -> io::Result<()> {
    let mut pulse = container.pulse.subscribe();
    let until = reader.options.until;
    loop {
        let over = {
            let deadline = async {
                match until {
                    Some(until) => {
                        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond())
                            .unwrap_or(i64::MAX);
                        let left = u64::try_from(until.saturating_sub(now)).unwrap_or(0);
                        tokio::time::sleep(std::time::Duration::from_nanos(left)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = watch.changed() => { changed?; false }
                _ = pulse.wait_for(|p| !p.running || p.removed) => true,
                () = deadline => true,
                () = reader.sender.closed() => return Ok(()),
            }
        };
        // The shim writes everything before it tells of the end.
        reader = blocking(move || reader.more().map(|()| reader).map_err(failed))
            .await
            .map_err(io::Error::other)?;
        if over {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn lines(numbers: std::ops::Range<u32>) -> String {
        numbers.fold(String::new(), |mut text, n| {
            let stream = if n % 2 == 0 { "stdout" } else { "stderr" };
            writeln!(
                text,
                r#"{{"log":"line {n}\n","stream":"{stream}","time":"2024-01-01T00:00:{:02}Z"}}"#,
                n % 60
            )
            .unwrap();
            text
        })
    }

    fn read_all(path: &Path, options: LogOptions) -> String {
        let (sender, mut receiver) = mpsc::channel(10_000);
        let mut reader = LogReader {
            path: path.to_owned(),
            wanted: options.wanted(true),
            options,
            sender,
            file: None,
            partial: Vec::new(),
        };
        reader.past().unwrap();
        drop(reader);
        let mut text = String::new();
        while let Some(piece) = receiver.blocking_recv() {
            text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
        text
    }

    fn both() -> LogOptions {
        LogOptions {
            stdout: true,
            stderr: true,
            ..LogOptions::default()
        }
    }

    #[test]
    fn tail_is_found_from_the_end_over_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(dir.path().join("x-json.log.1"), lines(0..3000)).unwrap();
        std::fs::write(&path, lines(3000..3003)).unwrap();
        let all = read_all(&path, both());
        assert_eq!(all.lines().count(), 3003);
        assert!(all.starts_with("line 0\n") && all.ends_with("line 3002\n"));
        for (tail, first) in [(1, 3002), (3, 3000), (4, 2999), (1500, 1503), (9999, 0)] {
            let text = read_all(
                &path,
                LogOptions {
                    tail: Some(tail),
                    ..both()
                },
            );
            assert_eq!(
                text.lines().next().unwrap(),
                format!("line {first}"),
                "{tail}"
            );
            assert_eq!(text.lines().count(), tail.min(3003), "{tail}");
        }
        assert_eq!(
            read_all(
                &path,
                LogOptions {
                    tail: Some(0),
                    ..both()
                }
            ),
            ""
        );
        let odd = LogOptions {
            stderr: true,
            tail: Some(2),
            ..LogOptions::default()
        };
        assert_eq!(read_all(&path, odd), "line 2999\nline 3001\n");
    }

    #[test]
    fn times_bound_what_is_given_and_a_torn_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(&path, lines(0..10) + "{\"log\":\"to").unwrap();
        let at = |second: i64| {
            let time: jiff::Timestamp = format!("2024-01-01T00:00:{second:02}Z").parse().unwrap();
            Some(i64::try_from(time.as_nanosecond()).unwrap())
        };
        let options = LogOptions {
            since: at(3),
            until: at(5),
            ..both()
        };
        assert_eq!(read_all(&path, options), "line 3\nline 4\nline 5\n");
        assert_eq!(read_all(&path, both()).lines().count(), 10);
        assert_eq!(read_all(&dir.path().join("absent"), both()), "");
    }
}
