//! Contexts and images that want out.

use std::path::Path;

use crate::bench::{Bench, File, context, request};

#[test]
fn links_of_a_context_stay_in_it() {
    let Some(bench) = Bench::new() else { return };
    let files = [
        File::Link("passwd", "/etc/passwd"),
        File::Link("up", "../../../../../../etc/passwd"),
        File::Link("root", "/"),
        File::Text("inside", "inside"),
        File::Link("dir", "/sub"),
        File::Text("sub/x", "x"),
        File::Link("loop", "loop"),
    ];
    for (source, why) in [
        ("passwd", "stat passwd: file does not exist"),
        ("up", "stat up: file does not exist"),
        (
            "root/etc/passwd",
            "stat root/etc/passwd: file does not exist",
        ),
        ("loop", "/loop: too many levels of symbolic links"),
    ] {
        let error = bench.fails(&format!("FROM busybox\nCOPY {source} /y\n"), &files);
        assert!(error.ends_with(why), "{source}: {error}");
    }
    let id = bench.ok(
        "FROM busybox\nCOPY root/inside /y\nCOPY dir/x /x\nCOPY passwd* sub /z/\n",
        &files[..6]
            .iter()
            .map(|f| match f {
                File::Link("passwd", _) => File::Link("passwd", "inside"),
                File::Link(a, b) => File::Link(a, b),
                File::Text(a, b) => File::Text(a, b),
                _ => unreachable!(),
            })
            .collect::<Vec<_>>(),
    );
    assert_eq!(bench.read(&id, "/y"), "inside");
    assert_eq!(bench.read(&id, "/x"), "x");
    assert_eq!(bench.read(&id, "/z/passwd"), "inside");
    // Inside a directory a link is copied as it is.
    let id = bench.ok("FROM scratch\nCOPY . /\n", &files);
    let target = bench.root(&id).readlink(Path::new("/up")).unwrap();
    assert_eq!(target, Path::new("../../../../../../etc/passwd"));
}

#[test]
fn archives_that_climb() {
    let Some(bench) = Bench::new() else { return };
    let mut tar = context(&[File::Text("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    let mut evil = tar::Header::new_gnu();
    evil.as_mut_bytes()[..10].copy_from_slice(b"../../evil");
    evil.set_size(0);
    evil.set_mode(0o644);
    evil.set_cksum();
    let end = tar.len() - 1024;
    tar.splice(end..end, evil.as_bytes().iter().copied());
    let error = bench.build_tar(tar, request()).result.unwrap_err();
    assert!(error.to_string().contains("escapes the root"), "{error}");
    // Something below a link is not reached through it.
    let id = bench.ok(
        "FROM scratch\nCOPY . /\n",
        &[File::Link("etc", "/etc"), File::Text("etc/evil", "x")],
    );
    assert!(!bench.has(&id, "/etc/evil"));
    let error = bench.fails("FROM busybox\nCOPY . /\n", &[File::Text(".wh.etc", "")]);
    assert!(error.contains("mark deleted files"), "{error}");
    for bad in [&b"no tar"[..], &[0x1f, 0x8b, 8, 0, 0, 0], &[b'x'; 2048]] {
        assert!(bench.build_tar(bad.to_vec(), request()).result.is_err());
    }
    bench.assert_clean();
}

#[test]
fn links_of_an_image_stay_in_it() {
    let Some(bench) = Bench::new() else { return };
    let marker = tempfile::tempdir().unwrap();
    let outside = marker.path().display();
    let base = format!(
        "FROM busybox\nRUN ln -s {outside} /out && ln -s /proc/self/root{outside} /magic\n"
    );
    let id = bench.ok(
        &format!("{base}COPY a /out/\nWORKDIR /out/w\nADD a /magic/\nWORKDIR /magic/w\n"),
        &[File::Text("a", "x")],
    );
    assert_eq!(std::fs::read_dir(marker.path()).unwrap().count(), 0);
    assert_eq!(bench.read(&id, &format!("{outside}/a")), "x");
    // A stage's link into the host is the stage's own file.
    let error = bench.fails(
        &format!("{base}FROM scratch\nCOPY --from=0 /magic/nothing /x\n"),
        &[],
    );
    assert!(error.ends_with("file does not exist"), "{error}");
    bench.assert_clean();
}
