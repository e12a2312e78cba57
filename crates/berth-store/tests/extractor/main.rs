//! The processes that make files, from outside and from inside.
//!
//! They are forked before there are threads, which the usual test runner has from the start; hence
//! the runner at the end of this file.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use berth_store::tree::{CopyOptions, Extractor, UnpackOptions};
use berth_store::{Error, ErrorKind};
use berth_sys::root::RootFd;

/// Where things are made, and beside it what must stay as it is.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.root()).unwrap();
        fs::write(place.0.path().join("beside"), "untouched").unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn open(&self) -> RootFd {
        RootFd::open(&self.root()).unwrap()
    }

    /// The names beside the root.
    fn beside(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o4751);
    header.set_uid(12);
    header.set_gid(34);
    header.set_mtime(1_000);
    header.set_size(content.len() as u64);
    if kind == tar::EntryType::Char {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn unpack(extractor: &Extractor, place: &Place, mut tar: &[u8]) -> Result<u64, Error> {
    extractor
        .unpack(
            &place.open(),
            Path::new("in"),
            &mut tar,
            &UnpackOptions::default(),
        )
        .map(|placed| placed.entries)
}

fn files_become_what_the_archive_says(extractor: &Extractor) {
    let place = Place::new();
    let tar = archive(|tar| {
        add(tar, tar::EntryType::Directory, "d/", b"");
        add(tar, tar::EntryType::Regular, "d/f", &[7; 300_000]);
        add(tar, tar::EntryType::Char, "d/null", b"");
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "d/l", "/etc").unwrap();
        tar.append_pax_extensions([("SCHILY.xattr.user.note", &b"x"[..])])
            .unwrap();
        add(tar, tar::EntryType::Regular, "noted", b"n");
    });
    assert_eq!(unpack(extractor, &place, &tar).unwrap(), 5);
    let file = fs::metadata(place.root().join("in/d/f")).unwrap();
    assert_eq!(
        (
            file.len(),
            file.uid(),
            file.gid(),
            file.mode(),
            file.mtime()
        ),
        (300_000, 12, 34, 0o10_4751, 1_000)
    );
    let device = fs::metadata(place.root().join("in/d/null")).unwrap();
    assert!(device.file_type().is_char_device());
    assert_eq!(
        fs::read_link(place.root().join("in/d/l")).unwrap(),
        Path::new("/etc")
    );
    let mut value = [0; 8];
    let noted = place.root().join("in/noted");
    match rustix::fs::getxattr(&noted, "user.note", &mut value[..]) {
        Ok(n) => assert_eq!(&value[..n], b"x"),
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(e) => panic!("{e}"),
    }
}

/// As the root of a user namespace, whose users are others outside.
fn owners_are_those_of_a_user_namespace(extractor: &Extractor) {
    const BASE: u32 = 800_000;
    let Some(users) = testkit::userns::user_namespace(BASE) else {
        return;
    };
    let place = Place::new();
    let tar = archive(|tar| {
        add(tar, tar::EntryType::Directory, "d/", b"");
        add(tar, tar::EntryType::Regular, "d/f", b"x");
    });
    let inside = extractor.inside(users.try_clone().unwrap());
    // What belongs to nobody there is not its root's.
    let error = unpack(&inside, &place, &tar).unwrap_err();
    assert!(error.to_string().contains("in"), "{error}");
    std::os::unix::fs::chown(place.root(), Some(BASE), Some(BASE)).unwrap();
    assert_eq!(unpack(&inside, &place, &tar).unwrap(), 2);
    let file = fs::metadata(place.root().join("in/d/f")).unwrap();
    assert_eq!((file.uid(), file.gid()), (BASE + 12, BASE + 34));
    assert_eq!(file.mode(), 0o10_4751);
    let made = fs::metadata(place.root().join("in")).unwrap();
    assert_eq!(made.uid(), BASE);
    // The walls are the same.
    let root = place.open();
    let program = fs::File::open("/bin/true").unwrap();
    let possible = inside.check(&root, program.as_fd()).unwrap();
    let before = extractor.check(&root, program.as_fd()).unwrap();
    assert!(possible.iter().all(|p| before.contains(p)), "{possible:?}");
    assert!(
        Extractor::on_thread()
            .inside(users)
            .check(&root, program.as_fd())
            .is_err()
    );
    assert_eq!(place.beside(), ["beside", "root"]);
}

fn trees_are_copied(extractor: &Extractor) {
    let (from, to) = (Place::new(), Place::new());
    fs::create_dir(from.root().join("a")).unwrap();
    fs::write(from.root().join("a/file"), vec![1; 100_000]).unwrap();
    symlink("../../beside", from.root().join("a/link")).unwrap();
    let placed = extractor
        .copy(
            &from.open(),
            Path::new("a"),
            &to.open(),
            Path::new("b/c"),
            &CopyOptions::default(),
        )
        .unwrap();
    assert_eq!((placed.entries, placed.bytes), (3, 100_000));
    assert_eq!(
        fs::read(to.root().join("b/c/file")).unwrap(),
        vec![1; 100_000]
    );
    assert_eq!(
        fs::read_link(to.root().join("b/c/link")).unwrap(),
        Path::new("../../beside")
    );
    let lost = extractor.copy(
        &from.open(),
        Path::new("lost"),
        &to.open(),
        Path::new("x"),
        &CopyOptions::default(),
    );
    assert!(lost.unwrap_err().to_string().contains("cannot copy lost"));
}

fn errors_keep_their_kind_and_words(extractor: &Extractor) {
    let place = Place::new();
    let escape = archive(|tar| add(tar, tar::EntryType::Regular, "../beside", b"x"));
    let error = unpack(extractor, &place, &escape).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("../beside"), "{error}");
    let error = unpack(extractor, &place, &escape[..700]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    // What the source says goes before what follows from it.
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line is dead"))
        }
    }
    let options = UnpackOptions::default();
    let error = extractor.unpack(&place.open(), Path::new(""), &mut Broken, &options);
    assert!(error.unwrap_err().to_string().contains("the line is dead"));
    assert_eq!(
        fs::read(place.0.path().join("beside")).unwrap(),
        b"untouched"
    );
}

fn an_archive_after_the_failure_is_not_waited_for(extractor: &Extractor) {
    let place = Place::new();
    let mut tar = archive(|tar| add(tar, tar::EntryType::Regular, "../x", b""));
    tar.resize(64 << 20, 7);
    assert!(unpack(extractor, &place, &tar).is_err());
}

fn nothing_else_is_possible(extractor: &Extractor) {
    let place = Place::new();
    let program = fs::File::open("/proc/self/exe").unwrap();
    let possible = extractor.check(&place.open(), program.as_fd()).unwrap();
    assert_eq!(possible, [""; 0]);
    assert_eq!(place.beside(), ["beside", "root"]);
    // The same attempts succeed where there are no such walls.
    let on_thread = Extractor::on_thread();
    let possible = on_thread.check(&place.open(), program.as_fd()).unwrap();
    for what in ["opening a socket", "signalling", "opening a device"] {
        assert!(possible.iter().any(|p| p == what), "{what}: {possible:?}");
    }
}

/// Reads what /proc says of the extractor while it waits for more of an archive.
struct Watching<'a> {
    tar: &'a [u8],
    root: PathBuf,
    seen: Option<Vec<Seen>>,
}

impl Read for Watching<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.tar.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.tar[..n]);
        self.tar = &self.tar[n..];
        if n == 0 && self.seen.is_none() {
            let first = self.root.join("first");
            testkit::wait::until("the first file", || first.exists().then_some(()));
            self.seen = Some(children());
        }
        Ok(n)
    }
}

/// What is in the root of a process, its status, the number of its descriptors.
type Seen = (Vec<std::ffi::OsString>, String, usize);

/// Our children's children.
fn children() -> Vec<Seen> {
    let of = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
    };
    let own = of(&std::process::id().to_string());
    own.split_whitespace()
        .flat_map(|child| {
            of(child)
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|pid| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let descriptors = fs::read_dir(proc.join("fd")).map_or(0, Iterator::count);
            let root = fs::read_dir(proc.join("root")).map_or(Vec::new(), |entries| {
                entries.map(|entry| entry.unwrap().file_name()).collect()
            });
            let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
            (root, status, descriptors)
        })
        .collect()
}

fn from_outside_it_looks_confined(extractor: &Extractor) {
    let place = Place::new();
    let mut tar = archive(|tar| add(tar, tar::EntryType::Regular, "first", b"1"));
    // Without the end of the archive, more is waited for.
    tar.truncate(1024);
    let mut source = Watching {
        tar: &tar,
        root: place.root(),
        seen: None,
    };
    let options = UnpackOptions::default();
    extractor
        .unpack(&place.open(), Path::new(""), &mut source, &options)
        .unwrap();
    let seen = source.seen.unwrap();
    let [(root, status, descriptors)] = &seen[..] else {
        panic!("one process was expected: {seen:?}");
    };
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("Threads:"), "1");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP.
    for set in ["CapEff:", "CapPrm:"] {
        assert_eq!(
            field(set),
            format!("{:016x}", 1 | 2 | 8 | 16 | 1 << 27 | 1 << 31_u64)
        );
    }
    assert_eq!(field("CapInh:"), "0000000000000000");
    assert_eq!(root[..], ["first"], "a root of its own");
    // Standard streams, the connection, the tree, the archive, the working directory's are few.
    assert!(*descriptors <= 12, "{descriptors} descriptors");
    // It went with the work.
    testkit::wait::until("its end", || children().is_empty().then_some(()));
}

fn it_ends_with_whoever_waits(_: &Extractor) {
    // A process of ours that has an extractor, and is killed in the middle of an archive.
    let (read, write) = io::pipe().unwrap();
    let place = Place::new();
    let mut child = std::process::Command::new("/proc/self/exe")
        .args(["--unpack-for-ever", place.root().to_str().unwrap()])
        .stdout(write)
        .spawn()
        .unwrap();
    let mut told = String::new();
    let mut read = io::BufReader::new(read);
    io::BufRead::read_line(&mut read, &mut told).unwrap();
    let pids: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "a server and its child: {told:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    for pid in pids {
        let status = PathBuf::from(format!("/proc/{pid}/status"));
        testkit::wait::until("the extractors' end", || {
            // A zombie is nobody's child in a container without an init.
            let gone = fs::read_to_string(&status).map_or(true, |s| s.contains("State:\tZ"));
            gone.then_some(())
        });
    }
}

/// See [`it_ends_with_whoever_waits`].
fn unpack_for_ever(extractor: &Extractor, root: &Path) {
    struct Endless(Vec<u8>, PathBuf);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if !self.0.is_empty() {
                let head = std::mem::take(&mut self.0);
                buffer[..head.len()].copy_from_slice(&head);
                return Ok(head.len());
            }
            testkit::wait::until("the first file", || self.1.exists().then_some(()));
            let of = |pid: String| {
                fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
            };
            let server = of(std::process::id().to_string()).trim().to_owned();
            println!("{server} {}", of(server.clone()).trim());
            io::stdout().flush().unwrap();
            // Until we are killed.
            rustix::event::pause();
            Ok(0)
        }
    }
    let mut tar = archive(|tar| add(tar, tar::EntryType::Regular, "first", b"1"));
    tar.truncate(1024);
    let mut source = Endless(tar, root.join("first"));
    let options = UnpackOptions::default();
    let _ = extractor.unpack(
        &RootFd::open(root).unwrap(),
        Path::new(""),
        &mut source,
        &options,
    );
}

fn many_work_at_once(extractor: &Extractor) {
    let tar = archive(|tar| {
        for n in 0..50 {
            add(tar, tar::EntryType::Regular, &format!("f{n}"), &[1; 5_000]);
        }
    });
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let place = Place::new();
                assert_eq!(unpack(extractor, &place, &tar).unwrap(), 50);
            });
        }
    });
    assert!(
        fs::read_dir("/proc/self/fd").unwrap().count() < 16,
        "descriptors are left open"
    );
}

/// Not a test: how long a small piece of work takes, for who asks with `--time`.
fn time(extractor: &Extractor) {
    let tar = archive(|tar| add(tar, tar::EntryType::Regular, "f", b"1"));
    for extractor in [extractor, &Extractor::on_thread()] {
        let place = Place::new();
        let mut all: Vec<Duration> = (0..200)
            .map(|_| {
                let began = Instant::now();
                unpack(extractor, &place, &tar).unwrap();
                began.elapsed()
            })
            .collect();
        all.sort();
        println!("{extractor:?}: {:?} {:?}", all[0], all[100]);
    }
}

type Test = (&'static str, fn(&Extractor));

macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        &[$((stringify!($test), $test)),*]
    };
}

const TESTS: &[Test] = tests![
    files_become_what_the_archive_says,
    owners_are_those_of_a_user_namespace,
    trees_are_copied,
    errors_keep_their_kind_and_words,
    an_archive_after_the_failure_is_not_waited_for,
    nothing_else_is_possible,
    from_outside_it_looks_confined,
    it_ends_with_whoever_waits,
    many_work_at_once,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&Test> = TESTS
        .iter()
        .filter(|(name, _)| {
            let mut filters = arguments.iter().filter(|a| !a.starts_with('-')).peekable();
            filters.peek().is_none() || filters.any(|f| name.contains(f.as_str()))
        })
        .collect();
    if arguments.iter().any(|a| a == "--list") {
        for (name, _) in chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        testkit::skipped("owners and nodes are made by root");
        return ExitCode::SUCCESS;
    }
    let extractor = Extractor::fork().unwrap();
    match &arguments[..] {
        [flag, root] if flag == "--unpack-for-ever" => {
            unpack_for_ever(&extractor, Path::new(root));
            return ExitCode::SUCCESS;
        }
        [flag] if flag == "--time" => {
            time(&extractor);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let mut failed = 0;
    println!("\nrunning {} tests", chosen.len());
    for (name, test) in &chosen {
        let passed = catch_unwind(AssertUnwindSafe(|| test(&extractor))).is_ok();
        failed += usize::from(!passed);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {failed} failed; 0 ignored\n",
        chosen.len() - failed
    );
    ExitCode::from(u8::from(failed > 0))
}
