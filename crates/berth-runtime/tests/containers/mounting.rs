//! Mounts that depend on what stands in the root, as bundles of others ask for them.

use berth_runtime::launcher::Launcher;
use berth_spec::oci::runtime::{Hook, Mount};

use crate::bundle::Bundle;
use crate::command::Place;

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

/// By its name: `/proc/self/exe` is somebody else's where a shell starts it.
fn this_program() -> std::path::PathBuf {
    std::fs::canonicalize(std::env::args().next().unwrap()).unwrap()
}

pub fn a_tmpfs_has_the_mode_of_what_it_covers(launcher: &Launcher) {
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = Bundle::new("stat -c %a /there /asked /new");
    for (name, mode) in [("there", 0o5710), ("asked", 0o711)] {
        let path = bundle.root.join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    bundle.spec().mounts.extend([
        mount("tmpfs", "tmpfs", "/there", &["nosuid"]),
        mount("tmpfs", "tmpfs", "/asked", &["mode=700"]),
        mount("tmpfs", "tmpfs", "/new", &[]),
    ]);
    assert_eq!(bundle.output(launcher), "5710\n700\n1777\n");
}

pub fn a_read_only_tmpfs_is_filled_first(launcher: &Launcher) {
    let script = "test -c /dev/null && cat /copied/file; touch /dev/x /copied/x 2>&1 | grep -c 'Read-only'; \
        echo y > /dev/shm/y && echo written";
    let mut bundle = Bundle::new(script);
    std::fs::create_dir(bundle.root.join("copied")).unwrap();
    std::fs::write(bundle.root.join("copied/file"), "text\n").unwrap();
    let mounts = &mut bundle.spec().mounts;
    let dev = mounts.iter_mut().find(|m| m.destination == "/dev").unwrap();
    dev.options.push("ro".into());
    mounts.push(mount("tmpfs", "tmpfs", "/copied", &["ro", "tmpcopyup"]));
    assert_eq!(bundle.output(launcher), "text\n2\nwritten\n");
}

pub fn sources_may_be_earlier_mounts(_: &Launcher) {
    let mut bundle = Bundle::new("cat /final/b/file /final/b/c/file; cat /relative/file");
    let (temp, root) = (bundle.temp.path().to_owned(), bundle.root.clone());
    for (dir, below) in [("one", "b"), ("two", "c"), ("three", "")] {
        std::fs::create_dir_all(temp.join(dir).join(below)).unwrap();
        std::fs::write(temp.join(dir).join("file"), format!("{dir}\n")).unwrap();
    }
    let host = |path: &str| root.join(path).display().to_string();
    bundle.spec().mounts.extend([
        mount("bind", "one", "/mnt", &["bind"]),
        mount("bind", "two", "/mnt/b", &["bind"]),
        // A path of the host that is one of the root.
        mount("bind", "three", &host("mnt/b/c"), &["bind"]),
        mount("bind", &host("mnt"), &host("final"), &["rbind"]),
        // The host has something else at that place, and a link out of the root leads nowhere.
        mount("bind", &host("mnt/b"), "relative", &["bind"]),
    ]);
    let place = Place::with(bundle);
    assert_eq!(place.good(&["run", "c1"]), "two\nthree\ntwo\n");
}

pub fn a_source_inside_does_not_lead_outside(_: &Launcher) {
    let mut bundle = Bundle::new("cat /final/secret");
    let (temp, root) = (bundle.temp.path().to_owned(), bundle.root.clone());
    std::fs::create_dir(temp.join("one")).unwrap();
    std::fs::write(temp.join("secret"), "of the host\n").unwrap();
    // What was mounted earlier is somebody else's, and has a link where the source should be.
    std::os::unix::fs::symlink(&temp, temp.join("one/out")).unwrap();
    let source = root.join("mnt/out").display().to_string();
    bundle.spec().mounts.extend([
        mount("bind", "one", "/mnt", &["bind"]),
        mount("bind", &source, "/final", &["bind"]),
    ]);
    let place = Place::with(bundle);
    let refusal = place.bad(&["run", "c1"]);
    assert!(refusal.contains("o such file"), "{refusal}");
}

pub fn hooks_find_the_root_where_the_host_has_it(_: &Launcher) {
    let mut bundle = Bundle::new("cat /by-runtime /by-container");
    let (temp, root) = (bundle.temp.path().to_owned(), bundle.root.clone());
    std::fs::write(temp.join("text"), "from the host\n").unwrap();
    for name in ["by-runtime", "by-container"] {
        std::fs::write(root.join(name), "of the image\n").unwrap();
    }
    let hook = |script: String| Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-ec".into(), script],
        ..Hook::default()
    };
    let (temp, root) = (temp.display(), root.display());
    let hooks = bundle.spec().hooks.get_or_insert_default();
    hooks.create_runtime.push(hook(format!(
        "pid=$(sed -E 's/.*\"pid\":([0-9]+).*/\\1/'); nsenter -m -t $pid mount --bind {temp}/text {root}/by-runtime"
    )));
    hooks
        .create_container
        .push(hook(format!("mount --bind {temp}/text ./by-container")));
    let place = Place::with(bundle);
    assert_eq!(place.good(&["run", "c1"]), "from the host\nfrom the host\n");
}

/// What a script prints on a machine whose mounts are shared, as systemd makes them, played by a mount
/// namespace. Its arguments are the runtime's command line up to the command.
fn on_a_shared_host(place: &Place, script: &str) -> String {
    let script = format!("mount --make-rshared /; {script}");
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-ec", &script, "sh"])
        .arg(this_program())
        .args(place.command(&[]).get_args())
        .current_dir(place.dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn nothing_of_it_is_mounted_on_the_host(_: &Launcher) {
    let mut bundle = Bundle::new("exec sleep 1000");
    let root = bundle.root.clone();
    for dir in ["bound/in", "own/in"] {
        std::fs::create_dir_all(bundle.temp.path().join(dir)).unwrap();
    }
    bundle.spec().mounts.extend([
        mount("bind", "bound", "/bound", &["bind"]),
        mount("bind", "own", "/own", &["bind", "private"]),
    ]);
    std::fs::create_dir(root.join("in")).unwrap();
    // Others mount and unmount elsewhere meanwhile.
    let script = "mounted() { grep -F \"$PWD/\" /proc/self/mountinfo || :; }; mounted >before
        \"$@\" create --pid-file pid c1 </dev/null >/dev/null && \"$@\" start c1
        for dir in / /bound/ /own/; do nsenter --mount --target $(cat pid) busybox mount -t tmpfs none ${dir}in || exit 1; done
        mounted >after; \"$@\" delete --force c1; diff before after";
    assert_eq!(on_a_shared_host(&Place::with(bundle), script), "");
}

pub fn a_root_on_a_shared_mount_can_be_entered_with_hooks(_: &Launcher) {
    let mut bundle = Bundle::new("echo in it");
    let hooks = bundle.spec().hooks.get_or_insert_default();
    hooks.create_runtime.push(Hook {
        path: "/bin/true".into(),
        ..Hook::default()
    });
    let said = on_a_shared_host(&Place::with(bundle), "exec \"$@\" run c1");
    assert_eq!(said, "in it\n");
}
