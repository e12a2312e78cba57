//! Who makes files out of what others made: processes that can do nothing else.
//!
//! A small process, forked before there are threads, forks one more for each piece of work (`server`).
//! That one is told what to do and given the trees as descriptors (`job`), gives up all that the work
//! does not take (`walls`), does it and answers. Archives come through a pipe, uncompressed: what
//! decompresses is out here, and no program is ever run there.

mod check;
mod job;
mod server;
mod walls;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use berth_sys::mount;
use berth_sys::process::{self, Forked};
use berth_sys::root::RootFd;
use berth_sys::socket;

use super::confine::{Roots, confined};
use super::copy::{CopyOptions, copy_all};
use super::unpack::{Placed, UnpackOptions, place_all};
use crate::layer::pipe::pipe;
use crate::{Error, ErrorKind, Result};
use job::{Job, Reply, Task};

/// Bytes that a request or an answer may have.
const MESSAGE_MAX: usize = 64 << 10;
/// Bytes that the pipe of an archive should hold.
const PIPE: usize = 1 << 20;

/// Unpacks and copies; cheap to clone.
#[derive(Clone, Debug)]
pub struct Extractor {
    way: Way,
    /// Whose root the work is done as.
    users: Option<Arc<OwnedFd>>,
}

#[derive(Clone, Debug)]
enum Way {
    /// The socket of the process that forks.
    Process(Arc<OwnedFd>),
    Thread,
}

impl Extractor {
    /// Forks the process that the work is done by. It ends with this one.
    ///
    /// # Errors
    /// `Internal` where this process has threads already.
    pub fn fork() -> Result<Extractor> {
        let failed = |e: io::Error| Error::io("cannot fork the extractor", e);
        let (here, there) = socket::packet_pair().map_err(failed)?;
        let parent = rustix::process::getpid();
        match process::fork().map_err(failed)? {
            Forked::Child => server::run(there, parent),
            Forked::Parent { .. } => Ok(Extractor {
                way: Way::Process(Arc::new(here)),
                users: None,
            }),
        }
    }

    /// Works on a thread of this process that has fewer walls around it: for programs that have
    /// threads from the start, as tests do.
    pub fn on_thread() -> Extractor {
        Extractor {
            way: Way::Thread,
            users: None,
        }
    }

    /// One whose work is done as the root of a user namespace: owners are then what they are called
    /// there. A thread cannot be that, which the work then ends with.
    pub fn inside(&self, users: OwnedFd) -> Extractor {
        Extractor {
            way: self.way.clone(),
            users: Some(Arc::new(users)),
        }
    }

    fn way(&self) -> Result<&Way> {
        match (&self.way, &self.users) {
            (Way::Thread, Some(_)) => Err(Error::new(
                ErrorKind::Unsupported,
                "a thread is not in a user namespace of its own",
            )),
            (way, _) => Ok(way),
        }
    }

    /// Unpacks an uncompressed tar below `path` inside `root`; the directory is made if it is not
    /// there. See [`crate::layer::decompress`] for compressed ones.
    ///
    /// Names in the archive are cleaned; one that climbs out is refused. Links that the archive
    /// brings, or that were there, lead at most through the root. Later entries replace earlier ones.
    pub fn unpack(
        &self,
        root: &RootFd,
        path: &Path,
        tar: &mut dyn Read,
        options: &UnpackOptions,
    ) -> Result<Placed> {
        let (placed, fed) = match self.way()? {
            Way::Thread => {
                let (writer, reader) = pipe();
                let roots = Roots {
                    written: &[root.as_fd()],
                    read: &[],
                };
                let work = || place_all(root, path, reader, options);
                confined(roots, work, || {
                    let mut writer = writer;
                    feed(tar, &mut writer).map(|()| drop(writer.finish()))
                })
            }
            Way::Process(server) => {
                let (read, write) = stream()?;
                let job = Job::unpack(path, options);
                let given = vec![private(root, 0), read];
                let meanwhile = || feed(tar, &mut File::from(write));
                self.call(server, job, given, meanwhile)
            }
        };
        // When the archive could not be read, everything else follows from that.
        fed.and(placed)
    }

    /// Copies what `from` names inside `source` to the path `to` inside `target`: a file becomes the
    /// file `to`, of a directory what is in it goes into the directory `to`. Directories above `to` are
    /// made. Sockets are left out.
    pub fn copy(
        &self,
        source: &RootFd,
        from: &Path,
        target: &RootFd,
        to: &Path,
        options: &CopyOptions,
    ) -> Result<Placed> {
        match self.way()? {
            Way::Thread => {
                let roots = Roots {
                    written: &[target.as_fd()],
                    read: &[source.as_fd()],
                };
                let work = || copy_all(source, from, target, to, options);
                confined(roots, work, || ()).0
            }
            Way::Process(server) => {
                let job = Job::copy(from, to, options);
                let given = vec![private(target, 0), private(source, mount::RDONLY)];
                self.call(server, job, given, || ()).0
            }
        }
    }

    /// Fills `root` with what the layer `tar` shows; `side` holds its sparse files.
    pub(crate) fn write_layer(&self, root: &RootFd, tar: File, side: Option<File>) -> Result<()> {
        match self.way()? {
            Way::Thread => {
                let roots = Roots {
                    written: &[root.as_fd()],
                    read: &[],
                };
                let work = || crate::layer::fill_directory(root, tar, side);
                confined(roots, work, || ()).0
            }
            Way::Process(server) => {
                let given = [private(root, 0), Ok(tar.into())]
                    .into_iter()
                    .chain(side.map(|side| Ok(side.into())))
                    .collect();
                self.call(server, Job::Layer, given, || ()).0.map(drop)
            }
        }
    }

    /// Tries, where the work is done, what the work does not need: to run `program`, to open a socket,
    /// to make something beside `root`, which must be writable, and so on. Answers what succeeded.
    pub fn check(&self, root: &RootFd, program: BorrowedFd<'_>) -> Result<Vec<String>> {
        let program = program.try_clone_to_owned();
        let program = program.map_err(|e| Error::io("cannot copy a descriptor", e))?;
        match self.way()? {
            Way::Thread => {
                let roots = Roots {
                    written: &[root.as_fd()],
                    read: &[],
                };
                confined(roots, || Ok(check::try_all(root, None)), || ()).0
            }
            Way::Process(server) => {
                let given = vec![private(root, 0), Ok(program)];
                match self.exchange(server, Job::Check, given, || ()).0? {
                    Reply::Possible(possible) => Ok(possible),
                    other => other.placed().map(|_| Vec::new()),
                }
            }
        }
    }
}

impl Extractor {
    /// Has a piece of work done, and does `meanwhile` here.
    fn call<M>(
        &self,
        server: &OwnedFd,
        job: Job,
        given: Vec<io::Result<OwnedFd>>,
        meanwhile: impl FnOnce() -> M,
    ) -> (Result<Placed>, M) {
        let (reply, meanwhile) = self.exchange(server, job, given, meanwhile);
        (reply.and_then(Reply::placed), meanwhile)
    }

    fn exchange<M>(
        &self,
        server: &OwnedFd,
        job: Job,
        mut given: Vec<io::Result<OwnedFd>>,
        meanwhile: impl FnOnce() -> M,
    ) -> (Result<Reply>, M) {
        let users = self.users.as_ref();
        given.extend(users.map(|users| users.try_clone()));
        let task = Task {
            job,
            inside: users.is_some(),
        };
        let asked = ask(server, &task, given);
        let meanwhile = meanwhile();
        (asked.and_then(|connection| answer(&connection)), meanwhile)
    }
}

/// Both ends of a new pipe, the end for reading first.
fn stream() -> Result<(io::Result<OwnedFd>, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| Error::io("cannot make a pipe", e))?;
    // A smaller one is slower and as good.
    let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE);
    Ok((Ok(read), write))
}

/// A mount of its own that shows the tree and nothing above it, in which devices can be made but not
/// opened. Where the kernel makes none (of another namespace's tree, or for lack of privileges), the
/// tree itself.
fn private(root: &RootFd, more: u64) -> io::Result<OwnedFd> {
    let change = mount::Attributes {
        set: mount::NODEV | mount::NOSUID | mount::NOEXEC | more,
        ..mount::Attributes::default()
    };
    let copy = mount::clone_handle(root, true)
        .and_then(|copy| mount::set_attributes(&copy, true, &change).map(|()| copy));
    copy.or_else(|_| root.as_fd().try_clone_to_owned())
}

/// Passes the archive on, as long as somebody wants it.
fn feed(tar: &mut dyn Read, writer: &mut dyn Write) -> Result<()> {
    let mut chunk = vec![0; 256 << 10];
    loop {
        match tar.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                if writer.write_all(&chunk[..n]).is_err() {
                    return Ok(());
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("cannot read the archive", e)),
        }
    }
}

/// Starts the work. The descriptors are closed here, so that whoever writes to the other end of one
/// learns when nobody reads it any more.
fn ask(server: &OwnedFd, task: &Task, given: Vec<io::Result<OwnedFd>>) -> Result<OwnedFd> {
    let failed = |e: io::Error| Error::io("cannot reach the extractor", e);
    let given = given
        .into_iter()
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed)?;
    let text = serde_json::to_vec(task).map_err(|e| failed(e.into()))?;
    if text.len() > MESSAGE_MAX {
        return Err(Error::invalid("the path is too long"));
    }
    let (here, there) = socket::packet_pair().map_err(failed)?;
    socket::send(server, b"x", &[there.as_fd()]).map_err(failed)?;
    drop(there);
    let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
    socket::send(&here, &text, &given).map_err(failed)?;
    Ok(here)
}

fn answer(connection: &OwnedFd) -> Result<Reply> {
    let mut buffer = vec![0; MESSAGE_MAX];
    let ended = || Error::new(ErrorKind::Internal, "the extractor ended unexpectedly");
    // Whoever dies with a request unread resets the connection.
    let (n, _) = socket::receive(connection, &mut buffer).map_err(|_| ended())?;
    if n == 0 {
        return Err(ended());
    }
    serde_json::from_slice(&buffer[..n]).map_err(|_| ended())
}
