//! Signatures: made by `image sign` with keys of openssl, found again in both forms, asked for by policy.

use std::path::Path;
use std::process::Command;

use testkit::engine::{Engine, ran};
use testkit::registry::Registry;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

fn openssl(args: &[&str]) -> Vec<u8> {
    let out = Command::new("openssl")
        .args(args)
        .output()
        .expect("openssl");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// A key pair `NAME.key`, `NAME.pub` in `dir`.
fn key_pair(dir: &Path, name: &str, algorithm: &[&str]) -> (String, String) {
    std::fs::create_dir_all(dir).expect("a directory");
    let at = |suffix: &str| dir.join(format!("{name}.{suffix}")).display().to_string();
    let (private, public) = (at("key"), at("pub"));
    openssl(&[&["genpkey", "-out", &private], algorithm].concat());
    openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
    (private, public)
}

const P256: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

fn pushed(engine: &Engine, registry: &Registry, name: &str) -> String {
    let name = format!("{}/{name}", registry.host());
    engine.ok(&["tag", "busybox", &name]);
    engine.ok(&["push", "-q", &name]);
    name
}

#[test]
fn every_kind_of_key_signs_and_is_known_again() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with("keys", &[]);
    let kinds: [(&str, &[&str]); 5] = [
        ("p256", &P256),
        (
            "p384",
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ),
        ("ed25519", &["-algorithm", "ED25519"]),
        (
            "rsa",
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ),
        ("other", &P256),
    ];
    let keys = kinds.map(|(name, algorithm)| (name, key_pair(&dir, name, algorithm)));
    let (_, (_, other)) = &keys[4];
    for (kind, (private, public)) in &keys[..4] {
        for form in ["simple", "bundle"] {
            let name = pushed(&engine, &registry, &format!("{kind}/{form}:v1"));
            let verify = ["image", "verify-signature", "--key", public, &name];
            let err = engine.fails(1, &verify);
            assert!(err.contains("none was found"), "{err}");
            let mut sign = vec!["image", "sign", "--key", private];
            if form == "bundle" {
                sign.push("--bundle");
            }
            sign.push(&name);
            let said = engine.ok(&sign);
            assert!(said.contains("@sha256:"), "{said}");
            let said = engine.ok(&verify);
            assert!(said.contains(&format!("is signed ({form})")), "{said}");
            // By the first or the second of two keys, but not by another alone.
            engine.ok(&[
                "image",
                "verify-signature",
                "--key",
                other,
                "--key",
                public,
                &name,
            ]);
            let err = engine.fails(1, &["image", "verify-signature", "--key", other, &name]);
            assert!(err.contains("no key fits its signature"), "{err}");
            let listed = engine.ok(&["image", "attestations", "--format", "{{.Kind}}", &name]);
            assert_eq!(listed, "signature");
        }
    }
}

/// The policy: what is not signed is not pulled, not even when it is here already; rules by prefix.
#[test]
fn a_pull_wants_what_the_policy_says() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let one = Engine::start(BERTH);
    let dir = one.dir_with("keys", &[]);
    let (private, public) = key_pair(&dir, "team", &P256);
    let signed = pushed(&one, &registry, "team/signed:v1");
    let bundled = pushed(&one, &registry, "team/bundled:v1");
    let bare = pushed(&one, &registry, "team/bare:v1");
    let open = pushed(&one, &registry, "team/open/box:v1");
    let never = pushed(&one, &registry, "never/box:v1");
    one.ok(&["image", "sign", "--key", &private, &signed]);
    one.ok(&["image", "sign", "--bundle", "--key", &private, &bundled]);
    let host = registry.host();
    let policy = format!(
        r#"{{"signature-policy": {{"{host}/team": {{"keys": ["{public}"]}}, "{host}/team/open": "accept", "{host}/never": "reject"}}}}"#
    );
    let config = one.dir_with("config", &[("daemon.json", &policy)]);
    let file = config.join("daemon.json").display().to_string();
    let two = Engine::start_empty(BERTH, &["--config-file", &file]);
    let err = two.fails(1, &["pull", &bare]);
    assert!(
        err.contains("has no signature by a key that is wanted"),
        "{err}"
    );
    let err = two.fails(1, &["pull", &never]);
    assert!(err.contains("the signature policy lets"), "{err}");
    assert_eq!(two.ok(&["images", "-q"]), "");
    let err = two.fails(125, &["run", "--rm", &bare, "true"]);
    assert!(err.contains("has no signature"), "{err}");
    for name in [&signed, &bundled, &open] {
        two.ok(&["pull", "-q", name]);
        assert!(two.ok(&["pull", name]).contains("up to date"));
    }
    two.ok(&["image", "verify-signature", &signed]);
    let err = two.fails(1, &["image", "verify-signature", &open]);
    assert!(err.contains("the policy names none"), "{err}");
    // Another image under the signed name has no signature of its own.
    one.ok(&["tag", "busybox", "changed"]);
    let changed = one.dir_with("c", &[("Dockerfile", "FROM busybox\nLABEL a=b\n")]);
    one.ok(&["build", "-q", "-t", &signed, &changed.display().to_string()]);
    one.ok(&["push", "-q", &signed]);
    let err = two.fails(1, &["pull", &signed]);
    assert!(err.contains("none was found"), "{err}");
    // A signature of one image under the tag of another.
    let moved = pushed(&one, &registry, "team/moved:v1");
    one.ok(&["image", "sign", "--key", &private, &moved]);
    two.ok(&["pull", "-q", &moved]);
}

/// A key that is not there, or is none, and a policy of nonsense.
#[test]
fn mistakes_are_told() {
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with("keys", &[("none.pub", "no key"), ("enc.key", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n")]);
    let at = |name: &str| dir.join(name).display().to_string();
    let err = engine.fails(1, &["image", "sign", "--key", "/nowhere/k", "x"]);
    assert!(err.contains("open /nowhere/k: no such file"), "{err}");
    let err = engine.fails(1, &["image", "sign", "--key", &at("enc.key"), "x"]);
    assert!(err.contains("it is encrypted"), "{err}");
    let err = engine.fails(
        1,
        &[
            "image",
            "verify-signature",
            "--key",
            &at("none.pub"),
            "127.0.0.1:9/x",
        ],
    );
    assert!(err.contains("it is no PEM file"), "{err}");
    let text = format!(
        r#"{{"signature-policy": {{"x": {{"keys": ["{}"]}}}}}}"#,
        at("none.pub")
    );
    let config = engine.dir_with("config", &[("daemon.json", &text)]);
    let mut start = Command::new(BERTH);
    start
        .args([
            "engine",
            "-H",
            &format!("unix://{}", engine.path("other.sock").display()),
        ])
        .arg("--data-root")
        .arg(engine.path("other"))
        .arg("--exec-root")
        .arg(engine.path("other-run"))
        .arg("--config-file")
        .arg(config.join("daemon.json"));
    let ended = ran(&mut start, None);
    assert!(
        ended.code != 0 && ended.err.contains("it is no PEM file"),
        "{ended:?}"
    );
}

/// cosign itself, where it is installed: each reads what the other has written.
#[test]
fn cosign_and_berth_read_each_other() {
    if !testkit::has_command("cosign") {
        return testkit::skipped("cosign is missing");
    }
    let Some(registry) = Registry::start() else {
        return;
    };
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with("keys", &[]);
    let (private, public) = key_pair(&dir, "own", &P256);
    let cosign = |args: &[&str]| {
        let mut command = Command::new("cosign");
        command
            .current_dir(&dir)
            .env("COSIGN_PASSWORD", "")
            .env("HOME", &dir)
            .args(args);
        ran(&mut command, None)
    };
    for bundle in [false, true] {
        let form = if bundle { "bundle" } else { "simple" };
        let name = pushed(&engine, &registry, &format!("by-berth/{form}:v1"));
        let mut sign = vec!["image", "sign", "--key", &private];
        sign.extend(bundle.then_some("--bundle"));
        sign.push(&name);
        let at = engine.ok(&sign);
        let flag = format!("--new-bundle-format={bundle}");
        let verified = cosign(&[
            "verify",
            "--key",
            &public,
            "--insecure-ignore-tlog=true",
            &flag,
            "--allow-http-registry",
            &at,
        ]);
        assert_eq!(verified.code, 0, "{form}: {verified:?}");
    }
    let generated = cosign(&["generate-key-pair"]);
    assert_eq!(generated.code, 0, "{generated:?}");
    let theirs = dir.join("cosign.pub").display().to_string();
    for bundle in [false, true] {
        let form = if bundle { "bundle" } else { "simple" };
        let name = pushed(&engine, &registry, &format!("by-cosign/{form}:v1"));
        let digest = engine.ok(&["inspect", "-f", "{{index .RepoDigests 0}}", &name]);
        let digest = digest.rsplit('@').next().expect("a digest").to_owned();
        let at = format!("{}@{digest}", name.trim_end_matches(":v1"));
        let flag = format!("--new-bundle-format={bundle}");
        let signed = cosign(&[
            "sign",
            "--key",
            "cosign.key",
            "--tlog-upload=false",
            "--use-signing-config=false",
            &flag,
            "--allow-http-registry",
            "-y",
            &at,
        ]);
        assert_eq!(signed.code, 0, "{form}: {signed:?}");
        let said = engine.ok(&["image", "verify-signature", "--key", &theirs, &name]);
        assert!(said.contains(&format!("is signed ({form})")), "{said}");
    }
}
