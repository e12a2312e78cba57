//! The words in a mount's options (fstab(5), config-linux.md).

use berth_sys::mount::{
    ATIME_MASK, Attributes, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, Propagation,
    RDONLY, RELATIME, STRICTATIME,
};

/// Options by what they change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// A bind mount; whether mounts below the source come along.
    pub bind: Option<bool>,
    /// `MOUNT_ATTR_*` of the mount itself.
    pub set: u64,
    pub clear: u64,
    /// The same for it and all below it.
    pub set_all: u64,
    pub clear_all: u64,
    /// In order; whether all below are meant.
    pub propagation: Vec<(Propagation, bool)>,
    /// Owners are mapped; whether those of mounts below are, too.
    pub idmap: Option<bool>,
    /// What the image has at the place is copied into the new file system.
    pub copy_up: bool,
    /// The file system's own: names, and values where they have some.
    pub data: Vec<(String, Option<String>)>,
}

impl MountOptions {
    pub fn parse(words: &[String]) -> Self {
        let mut options = Self::default();
        for word in words {
            options.add(word);
        }
        options
    }

    fn add(&mut self, word: &str) {
        match word {
            "defaults" | "async" | "remount" | "nomand" | "loud" | "noiversion" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(false)),
            "ridmap" => self.idmap = Some(true),
            "sync" | "dirsync" | "lazytime" | "mand" | "silent" | "iversion" => {
                self.data.push((word.to_owned(), None));
            }
            _ => self.add_flag(word),
        }
    }

    fn add_flag(&mut self, word: &str) {
        if let Some(propagation) = propagation(word) {
            self.propagation.push((propagation, false));
        } else if let Some(propagation) = word.strip_prefix('r').and_then(propagation) {
            self.propagation.push((propagation, true));
        } else if let Some((set, clear)) = attribute(word) {
            self.set = self.set & !clear | set;
            self.clear = self.clear & !set | clear;
        } else if let Some((set, clear)) = word.strip_prefix('r').and_then(attribute) {
            self.set_all = self.set_all & !clear | set;
            self.clear_all = self.clear_all & !set | clear;
        } else {
            self.data.push(match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            });
        }
    }

    /// What is changed of the mount alone.
    pub fn own(&self) -> Attributes<'static> {
        Attributes {
            set: self.set,
            clear: self.clear,
            ..Attributes::default()
        }
    }

    /// What is changed of it and all below.
    pub fn all(&self) -> Attributes<'static> {
        Attributes {
            set: self.set_all,
            clear: self.clear_all,
            ..Attributes::default()
        }
    }
}

fn propagation(word: &str) -> Option<Propagation> {
    Some(match word {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        "shared" => Propagation::Shared,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    })
}

/// Attributes to set and to clear.
fn attribute(word: &str) -> Option<(u64, u64)> {
    Some(match word {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        // The access time modes are one field.
        "relatime" | "atime" | "nostrictatime" => (RELATIME, ATIME_MASK),
        "noatime" => (NOATIME, ATIME_MASK),
        "strictatime" | "norelatime" => (STRICTATIME, ATIME_MASK),
        _ => return None,
    })
}

/// The propagation that `linux.rootfsPropagation` names, and whether all below is meant.
pub(crate) fn root_propagation(word: &str) -> Option<(Propagation, bool)> {
    propagation(word).map(|p| (p, false)).or_else(|| {
        word.strip_prefix('r')
            .and_then(propagation)
            .map(|p| (p, true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> MountOptions {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        MountOptions::parse(&words)
    }

    #[test]
    fn words_find_their_place() {
        let options = parse("rbind ro rprivate rro nosuid size=64m mode=1777 noswap");
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.set, RDONLY | NOSUID);
        assert_eq!(options.set_all, RDONLY);
        assert_eq!(options.propagation, [(Propagation::Private, true)]);
        assert_eq!(options.data[0], ("size".to_owned(), Some("64m".to_owned())));
        assert_eq!(options.data[2], ("noswap".to_owned(), None));
    }

    #[test]
    fn the_last_word_wins() {
        let options = parse("ro rw noatime strictatime bind");
        assert_eq!(options.set & (RDONLY | ATIME_MASK), STRICTATIME);
        assert_eq!(options.clear & RDONLY, RDONLY);
        assert_eq!(options.bind, Some(false));
        // `rw` and `relatime` begin with an r and are no recursive forms.
        assert_eq!(parse("relatime").set_all, 0);
        assert_eq!(parse("ridmap idmap").idmap, Some(true));
        assert_eq!(parse("idmap").idmap, Some(false));
    }
}
