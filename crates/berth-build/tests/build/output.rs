//! The text that users and tools read.

use berth_build::BuildEvent;

use crate::bench::{Bench, File, request};

/// IDs become `<id>`.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        let id = word.len() == 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
        out.push_str(if id { "<id>" } else { &word });
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[test]
fn the_classic_builders_text_to_the_byte() {
    let Some(bench) = Bench::new() else { return };
    let dockerfile = "ARG V=latest\nFROM busybox:$V\nENV A=1\nWORKDIR /app\nCOPY a .\nRUN echo hello\nCMD [\"sh\"]\n";
    let files = [File::Text("a", "x")];
    let first = bench.build(dockerfile, &files);
    assert_eq!(
        masked(&first.text()),
        "Step 1/7 : ARG V=latest\n\
         Step 2/7 : FROM busybox:$V\n ---> <id>\n\
         Step 3/7 : ENV A=1\n ---> Running in <id>\n ---> Removed intermediate container <id>\n ---> <id>\n\
         Step 4/7 : WORKDIR /app\n ---> Running in <id>\n ---> Removed intermediate container <id>\n ---> <id>\n\
         Step 5/7 : COPY a .\n ---> <id>\n\
         Step 6/7 : RUN echo hello\n ---> Running in <id>\nhello\n ---> Removed intermediate container <id>\n ---> <id>\n\
         Step 7/7 : CMD [\"sh\"]\n ---> Running in <id>\n ---> Removed intermediate container <id>\n ---> <id>\n\
         Successfully built <id>\n"
    );
    let second = bench.build(dockerfile, &files);
    assert_eq!(
        masked(&second.text()),
        "Step 1/7 : ARG V=latest\n\
         Step 2/7 : FROM busybox:$V\n ---> <id>\n\
         Step 3/7 : ENV A=1\n ---> Using cache\n ---> <id>\n\
         Step 4/7 : WORKDIR /app\n ---> Using cache\n ---> <id>\n\
         Step 5/7 : COPY a .\n ---> Using cache\n ---> <id>\n\
         Step 6/7 : RUN echo hello\n ---> Using cache\n ---> <id>\n\
         Step 7/7 : CMD [\"sh\"]\n ---> Using cache\n ---> <id>\n\
         Successfully built <id>\n"
    );
    assert_eq!(first.id(), second.id());
    let last = format!("Successfully built {}\n", first.id().short());
    assert!(first.text().ends_with(&last));
    assert!(
        first
            .text()
            .contains(&format!(" ---> {}\n", first.id().short()))
    );
    assert!(first.events.contains(&BuildEvent::Aux(first.id())));
    bench.assert_clean();
}

#[test]
fn the_history_reads_as_dockers() {
    let Some(bench) = Bench::new() else { return };
    let mut with_args = request();
    with_args.build_args = [("B", "2"), ("HTTP_PROXY", "http://p")]
        .map(|(k, v)| (k.to_owned(), Some(v.to_owned())))
        .into();
    with_args.labels = [("l".to_owned(), "m".to_owned())].into();
    let ended = bench.build_with(
        "FROM busybox\nARG B\nENV A=$B\nWORKDIR /app\nCOPY --chown=1:1 a b/ ${D:-d}/\nRUN true\nRUN touch x\nMAINTAINER me\n",
        &[File::Text("a", "x"), File::Dir("b"), File::Text("b/c", "y")],
        with_args,
    );
    let config = bench.config(&ended.id());
    let lines: Vec<(String, bool)> = config.history[1..]
        .iter()
        .map(|h| (h.created_by.clone().unwrap(), h.empty_layer))
        .collect();
    let copied = lines[3].0.clone();
    let hash = copied
        .strip_prefix("/bin/sh -c #(nop) COPY --chown=1:1multi:")
        .and_then(|rest| rest.strip_suffix(" in d/ "))
        .unwrap_or_else(|| panic!("{copied}"));
    assert_eq!(hash.len(), 64);
    let expected = [
        ("/bin/sh -c #(nop)  ARG B", true),
        ("/bin/sh -c #(nop)  ENV A=2", true),
        ("/bin/sh -c #(nop) WORKDIR /app", false),
        (copied.as_str(), false),
        ("|1 B=2 /bin/sh -c true", true),
        ("|1 B=2 /bin/sh -c touch x", false),
        ("/bin/sh -c #(nop)  MAINTAINER me", true),
        ("/bin/sh -c #(nop)  LABEL l=m", true),
    ];
    let found: Vec<(&str, bool)> = lines.iter().map(|(t, e)| (t.as_str(), *e)).collect();
    assert_eq!(found, expected);
    assert_eq!(config.author.as_deref(), Some("me"));
    assert_eq!(config.rootfs.diff_ids.len(), 4);
    assert_eq!(config.config.labels.unwrap()["l"], "m");
    assert!(
        !serde_json::to_string(&config.history)
            .unwrap()
            .contains("http://p")
    );
    assert!(
        bench
            .executor
            .last()
            .env
            .contains(&"HTTP_PROXY=http://p".to_owned())
    );
}

#[test]
fn unused_arguments_and_blank_lines_are_told() {
    let Some(bench) = Bench::new() else { return };
    let mut with_args = request();
    with_args.build_args = [("NOPE".to_owned(), Some("1".to_owned()))].into();
    let ended = bench.build_with("FROM busybox\nENV A=1 \\\n\n B=2\n", &[], with_args);
    assert!(
        ended
            .text()
            .contains("[Warning] One or more build-args [NOPE] were not consumed\n")
    );
    assert!(
        ended
            .text()
            .starts_with("[WARNING]: Empty continuation line found in:\n")
    );
}

#[test]
fn errors_are_dockers() {
    let Some(bench) = Bench::new() else { return };
    let failed = bench.build("FROM busybox\nRUN exit 3\n", &[]);
    let error = failed.result.as_ref().unwrap_err();
    assert_eq!(
        error.to_string(),
        "The command '/bin/sh -c exit 3' returned a non-zero code: 3"
    );
    assert_eq!(error.exit_code(), Some(3));
    // The container of a failed step is not said to be removed.
    assert!(!failed.text().contains("Removed"));
    for (dockerfile, error) in [
        (
            "FROM busybox\nFOO\n",
            "dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)",
        ),
        (
            "FROM busybox\nCOPY nope /\n",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist",
        ),
        (
            "FROM busybox\nCOPY n*pe /\n",
            "COPY failed: no source files were specified",
        ),
        (
            "FROM busybox\nCOPY Dockerfile /etc /x\n",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat etc: file does not exist",
        ),
        (
            "FROM busybox\nCOPY http://x/y /\n",
            "COPY failed: source can't be a URL for COPY",
        ),
        (
            "FROM busybox\nENV A=${B\n",
            "failed to process \"${B\": syntax error: missing '}'",
        ),
        (
            "FROM busybox\nCOPY --from=busybox /nope /x\n",
            "COPY failed: stat nope: file does not exist",
        ),
    ] {
        assert_eq!(bench.fails(dockerfile, &[]), error, "{dockerfile}");
    }
    let ended = bench.build_tar(crate::bench::context(&[File::Text("a", "")]), request());
    assert_eq!(
        ended.result.unwrap_err().to_string(),
        "Cannot locate specified Dockerfile: Dockerfile"
    );
    bench.assert_clean();
}
