//! What a layer costs in memory, whatever is in it: each hostile layer is taken in by a process of its
//! own, whose peak is read from the kernel.

mod bench;

use std::io::{self, Read};
use std::process::Command;

use bench::{Bench, Tar};
use tar::EntryType;

/// Bytes that the peak may be above what the process had before.
const GROWTH: u64 = 128 << 20;
/// Names the case to a process that this test started.
const CASE: &str = "BERTH_TEST_LAYER";

/// A stream made piece by piece, so that it takes no memory itself.
struct Pieces<F> {
    piece: Vec<u8>,
    at: usize,
    next: F,
}

impl<F: FnMut() -> Option<Vec<u8>>> Read for Pieces<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(piece) = (self.next)() else {
                return Ok(0);
            };
            (self.piece, self.at) = (piece, 0);
        }
        let n = out.len().min(self.piece.len() - self.at);
        out[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// A tar whose entries `entry` gives, as whole blocks, until it has no more.
fn stream(mut entry: impl FnMut(u64) -> Option<Vec<u8>> + 'static) -> Box<dyn Read> {
    let mut number = 0;
    Box::new(Pieces {
        piece: Vec::new(),
        at: 0,
        next: move || {
            number += 1;
            entry(number - 1)
        },
    })
}

/// The blocks of a tar, without its end.
fn blocks(tar: Tar) -> Vec<u8> {
    let mut bytes = tar.finish();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// `len` bytes of a name that no other number has, in pieces that a kernel takes.
fn long_name(number: u64, len: usize) -> String {
    let mut name = String::new();
    while name.len() + 210 < len {
        name.push_str(&format!("{number:0>200}/"));
    }
    name.push_str(&format!("{number:0>200}"));
    name
}

/// Gzip of `len` zeros, made once and repeated: a bomb of a few kilobytes a gigabyte.
fn bomb(gigabytes: u64) -> Box<dyn Read> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(&blocks(Tar::new().header(b"", |header| {
            header.as_gnu_mut().unwrap().name[..4].copy_from_slice(b"zero");
            header.set_size(64 << 20);
        })))
        .unwrap();
    encoder.write_all(&vec![0; 64 << 20]).unwrap();
    let member = encoder.finish().unwrap();
    stream(move |number| (number < gigabytes * 16).then(|| member.clone()))
}

/// A frame of zstd that asks for a window of 2^`log` bytes.
fn wide_window(log: u32) -> Box<dyn Read> {
    let tar = Tar::new().file("a", "x").finish();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.long_distance_matching(true).unwrap();
    let body = vec![7; 1 << 20];
    for _ in 0..80 {
        io::Write::write_all(&mut encoder, &body).unwrap();
    }
    drop(tar);
    let bytes = encoder.finish().unwrap();
    Box::new(io::Cursor::new(bytes))
}

fn layer(case: &str) -> Option<Box<dyn Read>> {
    Some(match case {
        "bomb" => bomb(1),
        "pax header" => stream(|n| {
            (n < 300).then(|| {
                blocks(
                    Tar::new()
                        .pax(&[("comment", &vec![b'x'; 1 << 20][..])])
                        .file("a", ""),
                )
            })
        }),
        // A name that says that it has a gigabyte.
        "long name" => stream(|n| match n {
            0 => {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(EntryType::new(b'L'));
                header.set_size(1 << 30);
                header.set_cksum();
                Some(header.as_bytes().to_vec())
            }
            n => (n < 1 << 14).then(|| vec![b'n'; 64 << 10]),
        }),
        "entries" => {
            stream(|n| (n < 2_100_000).then(|| blocks(Tar::new().file(&format!("{n:x}"), ""))))
        }
        "directories" => {
            stream(|n| (n < 1_000_000).then(|| blocks(Tar::new().dir(&format!("{n:x}/")))))
        }
        "unlisted directories" => stream(|n| {
            (n < 30_000)
                .then(|| blocks(Tar::new().file(&format!("{n}/{}x", "d/".repeat(1900)), "")))
        }),
        "long names" => {
            stream(|n| (n < 200_000).then(|| blocks(Tar::new().file(&long_name(n, 3900), ""))))
        }
        "hard links" => {
            let deep = "dddddddd/".repeat(100);
            stream(move |n| match n {
                0 => Some(blocks(
                    Tar::new().file(&format!("{deep}0"), "").symlink("s", &deep),
                )),
                n if n < 400_000 => Some(blocks(
                    Tar::new()
                        .file(&format!("s/{n}"), "")
                        .hard_link(&format!("s/l{n}"), &format!("s/{n}")),
                )),
                _ => None,
            })
        }
        "duplicates" => stream(|n| (n < 1_500_000).then(|| blocks(Tar::new().file("same", "")))),
        "attributes" => stream(|n| {
            let value = vec![b'v'; 60_000];
            (n < 9000).then(|| {
                blocks(
                    Tar::new()
                        .pax(&[
                            ("SCHILY.xattr.user.a", &value),
                            ("SCHILY.xattr.user.b", &value),
                            ("SCHILY.xattr.user.c", &value),
                            ("SCHILY.xattr.user.d", &value),
                        ])
                        .file(&format!("{n}"), ""),
                )
            })
        }),
        "many attributes" => stream(|n| {
            let names: Vec<String> = (0..2000)
                .map(|i| format!("SCHILY.xattr.user.{i}"))
                .collect();
            let records: Vec<(&str, &[u8])> =
                names.iter().map(|name| (&name[..], &b"v"[..])).collect();
            (n < 2000).then(|| blocks(Tar::new().pax(&records).file(&format!("{n}"), "")))
        }),
        "sparse" => stream(|n| {
            let map: Vec<String> = (0..20_000).map(|i| format!("{},0", i * 4096)).collect();
            (n < 500).then(|| {
                blocks(
                    Tar::new()
                        .pax(&[
                            ("GNU.sparse.major", b"0"),
                            ("GNU.sparse.minor", b"1"),
                            ("GNU.sparse.size", b"1099511627776"),
                            ("GNU.sparse.map", map.join(",").as_bytes()),
                        ])
                        .file(&format!("s{n}"), ""),
                )
            })
        }),
        "symlinks" => stream(|n| {
            (n < 400_000).then(|| blocks(Tar::new().symlink(&format!("{n:x}"), &"t/".repeat(2000))))
        }),
        "whiteouts" => stream(|n| {
            (n < 1_500_000).then(|| blocks(Tar::new().file(&format!("{n:x}/.wh..wh..opq"), "")))
        }),
        "wide window" => wide_window(27),
        _ => return None,
    })
}

const CASES: [&str; 15] = [
    "bomb",
    "pax header",
    "long name",
    "entries",
    "directories",
    "unlisted directories",
    "long names",
    "hard links",
    "duplicates",
    "attributes",
    "many attributes",
    "sparse",
    "symlinks",
    "whiteouts",
    "wide window",
];

/// The largest the process has been since the count was set back, and what it is now, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// What a process of its own does: nothing, when it is run with all others.
#[test]
fn one_layer() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let bench = Bench::new();
    bench.layer(&Tar::new().file("a", "b").finish());
    let mut source = layer(&case).unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let began = std::time::Instant::now();
    let outcome = bench.store.layers().import(&bench.lease, &mut source, None);
    let grown = peak() - before;
    let said = match outcome {
        Ok(layer) => format!("{:?}, {} bytes", layer.form, layer.size),
        Err(error) => error.to_string(),
    };
    println!(
        "{case}: {} MiB more after {:?}: {said}",
        grown >> 20,
        began.elapsed()
    );
    assert!(grown < GROWTH, "{case}: {} MiB", grown >> 20);
}

#[test]
fn no_layer_takes_much_memory() {
    let one = |case: &str| {
        let ran = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_layer", "--nocapture"])
            .env(CASE, case)
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        print!("{out}");
        assert!(
            ran.status.success() && out.contains(" MiB more"),
            "{case}: {out}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    };
    CASES.iter().for_each(|case| one(case));
}
