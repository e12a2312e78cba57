//! Tiny root file systems, from `busybox-static`.

use std::path::PathBuf;

/// The applets that tests use; busybox has more.
const APPLETS: [&str; 62] = [
    "sh",
    "ls",
    "cat",
    "echo",
    "sleep",
    "true",
    "false",
    "id",
    "env",
    "mkdir",
    "rm",
    "cp",
    "mv",
    "ln",
    "chmod",
    "chown",
    "touch",
    "stat",
    "pwd",
    "test",
    "head",
    "tail",
    "grep",
    "sed",
    "awk",
    "wc",
    "sort",
    "seq",
    "printf",
    "kill",
    "ps",
    "mount",
    "umount",
    "hostname",
    "ip",
    "ping",
    "nc",
    "wget",
    "httpd",
    "nslookup",
    "date",
    "dd",
    "df",
    "du",
    "find",
    "tar",
    "gzip",
    "sha256sum",
    "tty",
    "stty",
    "uname",
    "whoami",
    "xargs",
    "yes",
    "tr",
    "cut",
    "readlink",
    "mknod",
    "nproc",
    "mktemp",
    "timeout",
    "vi",
];

/// Where `busybox-static` put its file.
pub fn busybox() -> PathBuf {
    ["/bin/busybox", "/usr/bin/busybox"]
        .map(PathBuf::from)
        .into_iter()
        .find(|p| p.exists())
        .expect("busybox is missing: run scripts/prepare test")
}

/// An uncompressed tar of a root with busybox, `/etc/passwd` and `/etc/group`.
pub fn busybox_tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for dir in ["bin", "etc", "tmp", "root", "var", "home", "usr"] {
        append(
            &mut builder,
            dir,
            tar::EntryType::Directory,
            if dir == "tmp" { 0o1777 } else { 0o755 },
            b"",
        );
    }
    let program = std::fs::read(busybox()).expect("busybox");
    append(
        &mut builder,
        "bin/busybox",
        tar::EntryType::Regular,
        0o755,
        &program,
    );
    for applet in APPLETS {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        builder
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .expect("an applet");
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\nnobody:x:65534:65534::/home:/bin/false\n";
    append(
        &mut builder,
        "etc/passwd",
        tar::EntryType::Regular,
        0o644,
        passwd,
    );
    let group = b"root:x:0:\nstaff:x:50:alice\nalice:x:1000:\nnogroup:x:65534:\n";
    append(
        &mut builder,
        "etc/group",
        tar::EntryType::Regular,
        0o644,
        group,
    );
    builder.into_inner().expect("a finished tar")
}

fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    data: &[u8],
) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(data.len() as u64);
    header.set_mtime(1_700_000_000);
    builder
        .append_data(&mut header, path, data)
        .expect("an entry");
}
