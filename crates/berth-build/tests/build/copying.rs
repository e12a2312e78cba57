//! `COPY`, `ADD` and `WORKDIR` on real trees.

use std::path::Path;

use crate::bench::{Bench, File};

fn files() -> Vec<File<'static>> {
    vec![
        File::Text("a.txt", "a"),
        File::Mode("run.sh", "#!/bin/sh", 0o755),
        File::Dir("dir"),
        File::Text("dir/one", "1"),
        File::Text("dir/two", "2"),
        File::Dir("dir/sub"),
        File::Text("dir/sub/three", "3"),
        File::Link("dir/link", "sub/three"),
        File::Link("alias", "dir"),
        File::HardLink("dir/again", "dir/one"),
    ]
}

#[test]
fn destinations() {
    let Some(bench) = Bench::new() else { return };
    // Instruction, then path and content of what has to be there.
    let table: &[(&str, &str, &str)] = &[
        ("COPY a.txt /", "/a.txt", "a"),
        ("COPY a.txt /b", "/b", "a"),
        ("COPY a.txt /new/b", "/new/b", "a"),
        ("COPY a.txt /new/", "/new/a.txt", "a"),
        ("COPY a.txt /etc", "/etc/a.txt", "a"),
        ("COPY a.txt .", "/app/a.txt", "a"),
        ("COPY a.txt ./", "/app/a.txt", "a"),
        ("COPY a.txt sub/x", "/app/sub/x", "a"),
        ("COPY ./a.txt ../y", "/y", "a"),
        ("COPY ../../a.txt /y", "/y", "a"),
        ("COPY /a.txt /y", "/y", "a"),
        ("COPY dir /d", "/d/one", "1"),
        ("COPY dir/ /d/", "/d/sub/three", "3"),
        ("COPY dir /etc", "/etc/one", "1"),
        ("COPY alias /d", "/d/one", "1"),
        ("COPY alias/one /d", "/d", "1"),
        ("COPY . /all/", "/all/dir/two", "2"),
        ("COPY *.txt /d/", "/d/a.txt", "a"),
        ("COPY dir/t* /d/", "/d/two", "2"),
        ("COPY d[i]r/on? /d/", "/d/one", "1"),
        ("COPY a.txt run.sh /d/", "/d/run.sh", "#!/bin/sh"),
        ("COPY [\"a.txt\", \"/with blank\"]", "/with blank", "a"),
        ("ADD a.txt /d/", "/d/a.txt", "a"),
        (
            "COPY --parents dir/sub/three a.txt /d/",
            "/d/dir/sub/three",
            "3",
        ),
        ("COPY --parents ./dir/./sub/three /d/", "/d/sub/three", "3"),
        ("COPY --exclude=two dir /d", "/d/one", "1"),
        ("COPY --link a.txt /d/", "/d/a.txt", "a"),
        (
            "COPY <<EOF <<'X' /d/\nv=$A\nEOF\nv=$A\nX",
            "/d/EOF",
            "v=1\n",
        ),
        ("COPY <<EOF <<'X' /d/\nv=$A\nEOF\nv=$A\nX", "/d/X", "v=$A\n"),
    ];
    for (instruction, path, content) in table {
        let source = format!("FROM busybox\nENV A=1\nWORKDIR /app\n{instruction}\n");
        let id = bench.ok(&source, &files());
        assert_eq!(&bench.read(&id, path), content, "{instruction}");
    }
    let id = bench.ok(
        "FROM busybox\nCOPY --exclude=two --exclude=sub dir /d\n",
        &files(),
    );
    assert_eq!(bench.last_layer(&id), ["d/", "d/again", "d/link", "d/one"]);
    let id = bench.ok(
        "FROM busybox\nCOPY --exclude=*.txt *.txt *.sh /d/\n",
        &files(),
    );
    assert_eq!(bench.last_layer(&id), ["d/", "d/run.sh"]);
    bench.assert_clean();
}

#[test]
fn what_cannot_be_copied() {
    let Some(bench) = Bench::new() else { return };
    for (instruction, error) in [
        (
            "COPY a.txt run.sh /d",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "COPY dir /etc/passwd",
            "failed to copy files: cannot copy to non-directory: /etc/passwd",
        ),
        (
            "COPY a.txt /etc/passwd/",
            "failed to copy files: cannot copy to non-directory: /etc/passwd",
        ),
        (
            "COPY a.txt /etc/passwd/x",
            "failed to copy files: /etc/passwd: not a directory",
        ),
        (
            "COPY --chown=nobodyatall a.txt /",
            "unable to convert uid/gid chown string to host mapping: can't find uid for user nobodyatall: no such user: nobodyatall",
        ),
        (
            "COPY --chmod=999 a.txt /",
            "invalid chmod parameter: '999'. it should be octal string and between 0 and 07777",
        ),
        ("COPY a.txt/x /", "COPY failed: /a.txt: not a directory"),
    ] {
        let error_found = bench.fails(&format!("FROM busybox\n{instruction}\n"), &files());
        assert_eq!(error_found, error, "{instruction}");
    }
    bench.assert_clean();
}

#[test]
fn owners_and_modes() {
    let Some(bench) = Bench::new() else { return };
    let table: &[(&str, &str, (u32, u32, u32))] = &[
        ("COPY a.txt /x", "/x", (0o644, 0, 0)),
        ("COPY run.sh /x", "/x", (0o755, 0, 0)),
        ("COPY dir/ /new/deep/", "/new", (0o755, 0, 0)),
        ("COPY dir/ /new/", "/new/sub", (0o750, 0, 0)),
        ("COPY --chown=5 a.txt /n/x", "/n", (0o755, 5, 5)),
        ("COPY --chown=5:6 a.txt /x", "/x", (0o644, 5, 6)),
        ("COPY --chown=alice a.txt /x", "/x", (0o644, 1000, 1000)),
        (
            "COPY --chown=alice:staff dir /d",
            "/d/sub/three",
            (0o644, 1000, 50),
        ),
        ("COPY --chown=alice dir /tmp", "/tmp", (0o1777, 0, 0)),
        ("COPY --chmod=600 a.txt /x", "/x", (0o600, 0, 0)),
        ("COPY --chmod=u=rwX,go= dir /d", "/d/sub", (0o700, 0, 0)),
        ("COPY --chown=$U --chmod=$M a.txt /x", "/x", (0o640, 7, 7)),
    ];
    for (instruction, path, expected) in table {
        let source = format!("FROM busybox\nENV U=7 M=640\n{instruction}\n");
        let id = bench.ok(&source, &files());
        assert_eq!(&bench.owner(&id, path), expected, "{instruction}");
    }
    // What comes from another stage keeps its owner, unless somebody else is to have it.
    let id = bench.ok(
        "FROM busybox AS one\nCOPY --chown=5:6 a.txt /x\nFROM scratch\nCOPY --from=one /x /kept\nCOPY --from=one --chown=9 /x /given\n",
        &files(),
    );
    assert_eq!(bench.owner(&id, "/kept"), (0o644, 5, 6));
    assert_eq!(bench.owner(&id, "/given"), (0o644, 9, 9));
}

#[test]
fn links_of_the_image_are_followed_inside_it() {
    let Some(bench) = Bench::new() else { return };
    let base = "FROM busybox\nRUN mkdir -p /real && ln -s /real /link && ln -s ../../../../real /up && ln -s /later /dangling && echo old > /real/old && ln -s /real/old /file\n";
    let ok = |rest: &str| bench.ok(&format!("{base}{rest}\n"), &files());
    let id = ok("COPY a.txt /link/");
    assert_eq!(bench.read(&id, "/real/a.txt"), "a");
    assert_eq!(
        bench.root(&id).readlink(Path::new("/link")).unwrap(),
        Path::new("/real")
    );
    let id = ok("COPY dir /up");
    assert_eq!(bench.read(&id, "/real/sub/three"), "3");
    let id = ok("COPY a.txt /file");
    assert_eq!(bench.read(&id, "/real/old"), "a");
    let id = ok("COPY a.txt /dangling/");
    assert_eq!(bench.read(&id, "/later/a.txt"), "a");
    let id = ok("WORKDIR /dangling/x");
    assert!(bench.has(&id, "/later/x"));
    // A directory is not put in a link's place.
    let error = bench.fails(
        &format!("{base}COPY . /\n"),
        &[File::Dir("link"), File::Text("link/x", "")],
    );
    assert_eq!(
        error,
        "failed to copy files: cannot copy to non-directory: /link"
    );
}

#[test]
fn layers_hold_what_changed_and_nothing_else() {
    let Some(bench) = Bench::new() else { return };
    let id = bench.ok("FROM busybox\nCOPY a.txt /etc/conf/\n", &files());
    assert_eq!(
        bench.last_layer(&id),
        ["etc/", "etc/conf/", "etc/conf/a.txt"]
    );
    assert_eq!(bench.owner(&id, "/etc").0, 0o755);
    let id = bench.ok("FROM busybox\nCOPY dir /tmp/\n", &files());
    // The directory that is there keeps its mode.
    assert_eq!(bench.owner(&id, "/tmp").0, 0o1777);
    let stat = |path: &str| bench.root(&id).stat(Path::new(path)).unwrap();
    assert_eq!(stat("/tmp/one").st_ino, stat("/tmp/again").st_ino);
    assert_eq!(stat("/tmp/one").st_mtime, 1_600_000_000);
    assert_eq!(bench.read(&id, "/tmp/link"), "3");
    // A working directory that exists makes no layer.
    let id = bench.ok("FROM busybox\nWORKDIR /etc\n", &[]);
    assert_eq!(bench.config(&id).rootfs.diff_ids.len(), 1);
    assert_eq!(bench.config(&id).config.working_dir, "/etc");
    let id = bench.ok("FROM scratch\nWORKDIR /a/b\nWORKDIR c\n", &[]);
    assert_eq!(bench.last_layer(&id), ["a/", "a/b/", "a/b/c/"]);
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let Some(bench) = Bench::new() else { return };
    let inner = crate::bench::context(&[
        File::Text("bin/tool", "t"),
        File::Dir("lib"),
        File::Text("lib/so", "s"),
        File::HardLink("lib/so2", "lib/so"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &inner).unwrap();
    let packed = gzip.finish().unwrap();
    let tar = |dockerfile: &str| {
        let mut builder = tar::Builder::new(crate::bench::context(&[File::Text(
            "Dockerfile",
            dockerfile,
        )]));
        // The end of the first archive goes: more follows.
        let length = builder.get_ref().len() - 1024;
        builder.get_mut().truncate(length);
        for (name, bytes) in [("a.tar", &inner), ("a.tgz", &packed)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let build = |dockerfile: &str| {
        bench
            .build_tar(tar(dockerfile), crate::bench::request())
            .id()
    };
    for archive in ["a.tar", "a.tgz"] {
        let id = build(&format!(
            "FROM busybox\nRUN mkdir -p /usr/lib && ln -s usr/lib /lib\nADD {archive} /\n"
        ));
        assert_eq!(bench.read(&id, "/bin/tool"), "t");
        // `lib` stays the link that it is, and what belongs there is behind it.
        assert_eq!(bench.read(&id, "/usr/lib/so"), "s");
        assert_eq!(
            bench.root(&id).readlink(Path::new("/lib")).unwrap(),
            Path::new("usr/lib")
        );
        assert!(bench.has(&id, "/bin/sh"));
        // Owners are the archive's.
        assert_eq!(bench.owner(&id, "/usr/lib/so").1, 1234);
        let id = build(&format!("FROM busybox\nADD --chown=3 {archive} /new\n"));
        assert_eq!(bench.owner(&id, "/new/lib/so"), (0o644, 3, 3));
        for kept in [
            format!("COPY {archive} /x/"),
            format!("ADD --unpack=false {archive} /x/"),
        ] {
            let id = build(&format!("FROM busybox\n{kept}\n"));
            assert_eq!(
                bench.last_layer(&id),
                ["x/".to_owned(), format!("x/{archive}")]
            );
        }
    }
    bench.assert_clean();
}
