//! Who a process runs as: `name`, `uid`, `user:group`, resolved with the container's own
//! `/etc/passwd` and `/etc/group`.
//!
//! A number is `0..=2^32-2` in decimal and nothing else. The files are data of the image: they are
//! read through the root's handle, bounded, and only where they are regular files.

use std::io::Read;
use std::path::Path;

use berth_sys::root::RootFd;

use crate::{Error, Result};

/// Bytes of either file that are read at most.
const FILE_MAX: u64 = 1 << 20;

/// A user as the kernel knows one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups; the primary one among them.
    pub groups: Vec<u32>,
    pub home: String,
}

/// The two files, as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads the files of a root; one that is absent is empty.
    pub fn read(root: &RootFd) -> Result<Self> {
        Ok(Self {
            passwd: read(root, "etc/passwd")?,
            group: read(root, "etc/group")?,
        })
    }

    fn users(&self) -> impl Iterator<Item = Entry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (
                fields.next()?,
                fields.next()?,
                fields.next()?,
                fields.next()?,
            );
            Some(Entry {
                name,
                uid: parse_id(uid)?,
                gid: parse_id(gid)?,
                home: fields.nth(1).unwrap_or(""),
            })
        })
    }

    /// Name, number and members of each group.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name, parse_id(gid)?, fields.next().unwrap_or("")))
        })
    }

    fn group_id(&self, text: &str) -> Result<u32> {
        if let Some(gid) = number(text)? {
            return Ok(gid);
        }
        let named = self.groups().find(|(name, _, _)| *name == text);
        named.map(|(_, gid, _)| gid).ok_or_else(|| {
            Error::invalid(format!(
                "unable to find group {text}: no matching entries in group file"
            ))
        })
    }

    /// Resolves `user` (empty is root) with the groups of `--group-add`.
    pub fn resolve(&self, user: &str, group_add: &[String]) -> Result<User> {
        let (name, group) = match user.split_once(':') {
            Some((name, group)) => (name, (!group.is_empty()).then_some(group)),
            None => (user, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let numeric = number(name)?;
        // A number is never a name (CVE-2016-3697): the image says what names mean, and may have one
        // called 1000 that is root.
        let entry = self.users().find(|entry| match numeric {
            Some(uid) => entry.uid == uid,
            None => entry.name == name,
        });
        let mut found = match (&entry, numeric) {
            (Some(entry), _) => User {
                uid: entry.uid,
                gid: entry.gid,
                home: entry.home.to_owned(),
                groups: Vec::new(),
            },
            (None, Some(uid)) => User {
                uid,
                ..User::default()
            },
            (None, None) => {
                return Err(Error::invalid(format!(
                    "unable to find user {name}: no matching entries in passwd file"
                )));
            }
        };
        if let Some(group) = group {
            found.gid = self.group_id(group)?;
        }
        found.groups.push(found.gid);
        if let (None, Some(entry)) = (group, &entry) {
            let member = |members: &str| members.split(',').any(|m| m.trim() == entry.name);
            for (_, gid, members) in self.groups() {
                if member(members) {
                    found.groups.push(gid);
                }
            }
        }
        for group in group_add {
            found.groups.push(self.group_id(group)?);
        }
        let mut seen = std::collections::BTreeSet::new();
        found.groups.retain(|gid| seen.insert(*gid));
        if found.home.is_empty() {
            found.home = "/".to_owned();
        }
        Ok(found)
    }
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn read(root: &RootFd, path: &str) -> Result<String> {
    let file = match root.open_file(Path::new(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => {
            return Err(Error::invalid(format!(
                "cannot read /{path} of the container: {error}"
            )));
        }
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(format_args!("cannot read /{path} of the container"), e))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Error::invalid(format!(
            "/{path} of the container has more than {FILE_MAX} bytes"
        )));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A number of a file; a line with another one is passed over.
fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse::<u32>().ok().filter(|_| digits)?;
    (id != u32::MAX).then_some(id)
}

/// Reads what looks like a number as one; a number that the kernel does not have is refused.
fn number(text: &str) -> Result<Option<u32>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match parse_id(text) {
        Some(id) => Ok(Some(id)),
        None => Err(Error::invalid(format!(
            "uids and gids must be in range 0-{}: {text}",
            u32::MAX - 1
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\n\
                     bad:x:-1:0::/:\nwrap:x:4294967295:0::/:\n7:x:70:70::/seven:\n"
                .to_owned(),
            group: "root:x:0:\nwww:x:33:\nlogs:x:44:web,other\nwheel:x:10:root\n".to_owned(),
        }
    }

    #[test]
    fn users_are_found() {
        let find = |text: &str, add: &[&str]| {
            let add: Vec<String> = add.iter().map(|g| (*g).to_owned()).collect();
            let user = accounts().resolve(text, &add).unwrap();
            (user.uid, user.gid, user.groups, user.home)
        };
        let root = (0, 0, vec![0, 10], "/root".to_owned());
        assert_eq!(find("", &[]), root);
        assert_eq!(find("root", &[]), root);
        assert_eq!(find("0", &[]), root);
        assert_eq!(find("web", &[]), (33, 33, vec![33, 44], "/var/www".into()));
        assert_eq!(find("web:logs", &[]), (33, 44, vec![44], "/var/www".into()));
        assert_eq!(
            find("web:5", &["wheel", "6"]),
            (33, 5, vec![5, 10, 6], "/var/www".into())
        );
        assert_eq!(find("1234", &[]), (1234, 0, vec![0], "/".into()));
        assert_eq!(find("4294967294", &[]).0, 4_294_967_294);
    }

    /// CVE-2016-3697: the image calls a user, or a group, by another's number.
    #[test]
    fn a_number_is_never_a_name() {
        let hostile = Accounts {
            passwd: "1000:x:0:0::/root:/bin/sh\n".to_owned(),
            group: "1000:x:0:\n".to_owned(),
        };
        for text in ["1000", "1000:1000"] {
            let user = hostile.resolve(text, &["1000".to_owned()]).unwrap();
            assert_eq!(user.uid, 1000, "{text}");
            assert_eq!(user.groups.last(), Some(&1000), "{text}");
        }
        assert_eq!(hostile.resolve("1000:1000", &[]).unwrap().gid, 1000);
    }

    #[test]
    fn what_is_no_user_is_refused() {
        for text in [
            "4294967295",
            "4294967296",
            "-1",
            "+0",
            "99999999999999999999",
            "0:-1",
        ] {
            let error = accounts().resolve(text, &[]).unwrap_err().to_string();
            assert!(
                error.starts_with("uids and gids must be in range"),
                "{text}: {error}"
            );
        }
        assert_eq!(
            accounts().resolve("nobody", &[]).unwrap_err().to_string(),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            accounts().resolve("web:none", &[]).unwrap_err().to_string(),
            "unable to find group none: no matching entries in group file"
        );
        for text in ["bad", "wrap"] {
            assert!(accounts().resolve(text, &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_fifo_in_place_of_a_file_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("etc/passwd"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        let root = RootFd::open(dir.path()).unwrap();
        assert!(
            Accounts::read(&root)
                .unwrap_err()
                .to_string()
                .contains("not a regular file")
        );
    }
}
