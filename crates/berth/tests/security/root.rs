//! Root file systems that somebody made who means harm, and a place outside that tells of it.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::engine::Engine;

/// A busybox root with other things in it.
#[derive(Default)]
pub struct Root(Vec<(String, tar::Header, Option<String>, Vec<u8>)>);

impl Root {
    fn with(mut self, path: &str, kind: tar::EntryType, link: Option<&str>, data: &str) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.set_device_major(0).expect("a number");
        header.set_device_minor(0).expect("a number");
        let entry = (
            path.to_owned(),
            header,
            link.map(str::to_owned),
            data.into(),
        );
        self.0.push(entry);
        self
    }

    pub fn link(self, path: &str, to: &str) -> Self {
        self.with(path, tar::EntryType::Symlink, Some(to), "")
    }

    pub fn fifo(self, path: &str) -> Self {
        self.with(path, tar::EntryType::Fifo, None, "")
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        self.with(path, tar::EntryType::Regular, None, text)
    }

    /// A character device that no driver answers for.
    pub fn device(self, path: &str) -> Self {
        let mut root = self.with(path, tar::EntryType::Char, None, "");
        if let Some((_, header, ..)) = root.0.last_mut() {
            header.set_device_major(511).expect("a number");
            header.set_device_minor(9).expect("a number");
        }
        root
    }

    /// Makes it the image `name`, with these changes of its configuration.
    pub fn image(self, engine: &Engine, name: &str, changes: &[&str]) {
        let mut made = tar::Builder::new(Vec::new());
        let busybox = testkit::rootfs::busybox_tar();
        let covered = |path: &Path| self.0.iter().any(|(other, ..)| path.starts_with(other));
        for entry in tar::Archive::new(&busybox[..]).entries().expect("a tar") {
            let entry = entry.expect("an entry");
            if !covered(&entry.path().expect("a path")) {
                let header = entry.header().clone();
                made.append(&header, entry).expect("an entry");
            }
        }
        for (path, mut header, link, data) in self.0 {
            match link {
                Some(to) => made.append_link(&mut header, path, to),
                None => made.append_data(&mut header, path, &data[..]),
            }
            .expect("an entry");
        }
        let file = engine.path("hostile.tar");
        fs::write(&file, made.into_inner().expect("a tar")).expect("hostile.tar");
        let file = file.display().to_string();
        let mut args = vec!["import", "--change", "ENV PATH=/bin", "--change", "CMD sh"];
        for change in changes {
            args.extend(["--change", change]);
        }
        args.extend([&file[..], name]);
        engine.ok(&args);
    }
}

/// A directory of the host that no container was given.
pub struct Canary(PathBuf);

impl Canary {
    pub fn new(engine: &Engine) -> Self {
        Self(engine.dir_with("canary", &[("file", "of the host\n")]))
    }

    pub fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// That it is as it was.
    pub fn check(&self, what: &str) {
        let names: Vec<_> = fs::read_dir(&self.0)
            .expect("the canary")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["file"], "{what}");
        let text = fs::read_to_string(self.0.join("file")).expect("its file");
        assert_eq!(text, "of the host\n", "{what}");
    }
}

/// What the host does with core dumps: writing it is how many of these flaws became root.
pub fn core_pattern() -> String {
    fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default()
}
