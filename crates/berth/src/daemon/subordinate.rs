//! `--userns-remap`: whose subordinate IDs (subuid(5)) containers use. The rules and words are dockerd's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use berth_engine::{IdMaps, IdRange};

/// The user that `default` stands for; made where there is none.
const REMAP: &str = "dockremap";
/// Whose ranges `--userns=auto` takes; as podman has it.
const CONTAINERS: &str = "containers";
/// IDs of a new user's range, and where the first such range begins.
const COUNT: u32 = 65_536;
const FIRST: u32 = 100_000;
/// Bytes of a file of users or ranges that are read.
const FILE_MAX: u64 = 4 << 20;

/// The files of a machine that tell of users.
#[derive(Debug, Clone)]
pub struct Users {
    etc: PathBuf,
}

/// A user whose ranges are used, with the group, by their names.
#[derive(Debug, PartialEq, Eq)]
struct Remapped {
    user: String,
    uid: u32,
    group: String,
}

impl Users {
    pub fn of_this_machine() -> Self {
        Self { etc: "/etc".into() }
    }

    /// What `--userns-remap` asks for: the IDs of containers, or nothing where they are the host's.
    pub fn remap(&self, asked: &str) -> anyhow::Result<Option<IdMaps>> {
        if asked.is_empty() {
            return Ok(None);
        }
        let found = self.parse(asked)?;
        if found.user == "root" {
            tracing::warn!(
                "User namespaces: root cannot be remapped with itself; user namespaces are OFF"
            );
            return Ok(None);
        }
        tracing::info!(
            "User namespaces: ID ranges will be mapped to subuid/subgid ranges of: {}",
            found.user
        );
        let ranges = |file: &str| {
            let ranges = self.ranges(file, &found.user, Some(found.uid))?;
            if ranges.is_empty() {
                bail!(
                    "Can't create ID mappings: no {file} ranges found for user {:?}",
                    found.user
                );
            }
            Ok(ranges)
        };
        Ok(Some(IdMaps::stacked(
            &ranges("subuid")?,
            &ranges("subgid")?,
        )))
    }

    /// Where `--userns=auto` takes IDs from: nothing is an answer, too.
    pub fn auto(&self) -> (Vec<IdRange>, Vec<IdRange>) {
        let ranges = |file| self.ranges(file, CONTAINERS, None).unwrap_or_default();
        (ranges("subuid"), ranges("subgid"))
    }

    fn parse(&self, asked: &str) -> anyhow::Result<Remapped> {
        let mut parts = asked.split(':');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            bail!("Invalid user/group specification in --userns-remap: {asked:?}");
        }
        let (user, uid, own_group) = match first.parse::<i32>() {
            Ok(number) => {
                let uid = u32::try_from(number).ok();
                let user = uid.and_then(|uid| self.named("passwd", uid));
                let user =
                    user.with_context(|| format!("Uid {number} has no entry in /etc/passwd"))?;
                // A number without a group is the group's number, too.
                (user, uid.unwrap_or(0), Err(number))
            }
            Err(_) => {
                let name = if first == "default" { REMAP } else { first };
                let uid = match self.number("passwd", name) {
                    Some(uid) => uid,
                    None if first == "default" => self.make_user()?,
                    None => bail!(
                        "Error during uid lookup for {name:?}: unable to find user {name}: no matching entries in passwd file"
                    ),
                };
                (name.to_owned(), uid, Ok(name.to_owned()))
            }
        };
        let group = match (second, own_group) {
            (Some(text), _) => match text.parse::<i32>() {
                Ok(number) => self.group(number)?,
                Err(_) => self.known_group(text, "groupname")?,
            },
            (None, Ok(name)) => self.known_group(&name, "gid")?,
            (None, Err(number)) => self.group(number)?,
        };
        Ok(Remapped { user, uid, group })
    }

    fn group(&self, number: i32) -> anyhow::Result<String> {
        u32::try_from(number)
            .ok()
            .and_then(|gid| self.named("group", gid))
            .with_context(|| format!("Gid {number} has no entry in /etc/group"))
    }

    fn known_group(&self, name: &str, what: &str) -> anyhow::Result<String> {
        self.number("group", name).with_context(|| {
            format!(
                "Error during {what} lookup for {name:?}: unable to find group {name}: no matching entries in group file"
            )
        })?;
        Ok(name.to_owned())
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        use std::io::Read;
        let path = self.etc.join(file);
        let mut text = String::new();
        let read = std::fs::File::open(&path)
            .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        match read {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot read {}", path.display()))
            }
            _ => Ok(text),
        }
    }

    /// The number of a name in `passwd` or `group`.
    fn number(&self, file: &str, name: &str) -> Option<u32> {
        let text = self.read(file).ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        })
    }

    fn named(&self, file: &str, number: u32) -> Option<String> {
        let text = self.read(file).ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
        })
    }

    /// A user's ranges: those of lines with the number, else those with the name.
    fn ranges(&self, file: &str, user: &str, uid: Option<u32>) -> anyhow::Result<Vec<IdRange>> {
        let text = self.read(file)?;
        let by = |who: &str| -> anyhow::Result<Vec<IdRange>> {
            text.lines()
                .map(str::trim)
                .filter(|line| line.split(':').next() == Some(who))
                .map(|line| {
                    range(line).with_context(|| format!("Cannot parse {file} line {line:?}"))
                })
                .collect()
        };
        let found = match uid {
            Some(uid) => by(&uid.to_string())?,
            None => Vec::new(),
        };
        match found.is_empty() {
            true => by(user),
            false => Ok(found),
        }
    }

    /// Makes the user that `default` stands for, with its group and ranges.
    fn make_user(&self) -> anyhow::Result<u32> {
        let failed = || format!("Error during {REMAP:?} user creation");
        let adduser = [
            "--system",
            "--shell",
            "/bin/false",
            "--disabled-login",
            "--disabled-password",
            "--no-create-home",
            "--group",
            REMAP,
        ];
        let useradd = ["--system", "--user-group", "--shell", "/bin/false", REMAP];
        let made = run("adduser", &adduser).or_else(|_| run("useradd", &useradd));
        if let Err(error) = made
            && self.number("passwd", REMAP).is_none()
        {
            return Err(error.context(failed()));
        }
        let uid = self.number("passwd", REMAP);
        let uid = uid.with_context(|| format!("{}: it is not in /etc/passwd", failed()))?;
        for (file, flag) in [("subuid", "-v"), ("subgid", "-w")] {
            if self.ranges(file, REMAP, Some(uid))?.is_empty() {
                let first = free(&self.read(file)?);
                let range = format!("{first}-{}", first + COUNT - 1);
                run("usermod", &[flag, &range, REMAP]).with_context(failed)?;
            }
        }
        Ok(uid)
    }
}

fn range(line: &str) -> Option<IdRange> {
    let mut fields = line.split(':').skip(1);
    let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    fields.next().is_none().then_some(IdRange { first, count })
}

/// Where a new range goes: behind all others.
fn free(text: &str) -> u32 {
    text.lines()
        .filter_map(|line| range(line.trim()))
        .map(|range| range.first.saturating_add(range.count))
        .fold(FIRST, u32::max)
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let path = ["/usr/sbin", "/sbin", "/usr/bin"]
        .into_iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("there is no {program} on this machine"))?;
    let output = Command::new(&path)
        .args(args)
        .output()
        .with_context(|| format!("cannot run {}", path.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Users) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let etc = dir.path().to_owned();
        (dir, Users { etc })
    }

    const FILES: [(&str, &str); 4] = [
        (
            "passwd",
            "root:x:0:0::/:\nann:x:1000:1000::/:\nbob:x:1001:7::/:\n",
        ),
        ("group", "root:x:0:\nann:x:1000:\nstaff:x:50:bob\n"),
        (
            "subuid",
            "ann:100000:65536\nann:500000:10\n1001:300000:65536\nbob:1:1\ncontainers:1000000:131072\n",
        ),
        ("subgid", "ann:200000:65536\n"),
    ];

    #[test]
    fn users_and_groups_are_found_as_dockerd_does() {
        let (_dir, users) = machine(&FILES);
        let parse = |asked: &str| {
            users
                .parse(asked)
                .map(|found| format!("{}/{}/{}", found.user, found.uid, found.group))
                .map_err(|e| format!("{e:#}"))
        };
        for (asked, expected) in [
            ("ann", "ann/1000/ann"),
            ("ann:staff", "ann/1000/staff"),
            ("1000", "ann/1000/ann"),
            ("1001:50", "bob/1001/staff"),
            ("root", "root/0/root"),
        ] {
            assert_eq!(parse(asked), Ok(expected.to_owned()), "{asked}");
        }
        for (asked, expected) in [
            ("a:b:c", "Invalid user/group specification"),
            ("zoe", "Error during uid lookup for \"zoe\""),
            ("bob", "Error during gid lookup for \"bob\""),
            ("ann:zoo", "Error during groupname lookup for \"zoo\""),
            ("4711", "Uid 4711 has no entry in /etc/passwd"),
            ("1001", "Gid 1001 has no entry in /etc/group"),
            ("-1", "Uid -1 has no entry"),
        ] {
            let error = parse(asked).unwrap_err();
            assert!(error.starts_with(expected), "{asked}: {error}");
        }
    }

    #[test]
    fn ranges_become_maps() {
        let (_dir, users) = machine(&FILES);
        let maps = users.remap("ann").unwrap().unwrap();
        let lines = |mappings: &[berth_spec::oci::runtime::IdMapping]| -> Vec<(u32, u32, u32)> {
            let line =
                |m: &berth_spec::oci::runtime::IdMapping| (m.container_id, m.host_id, m.size);
            mappings.iter().map(line).collect()
        };
        assert_eq!(
            lines(&maps.uids),
            [(0, 100_000, 65_536), (65_536, 500_000, 10)]
        );
        assert_eq!(lines(&maps.gids), [(0, 200_000, 65_536)]);
        let error = users.remap("1001:50").unwrap_err().to_string();
        assert_eq!(
            error,
            "Can't create ID mappings: no subgid ranges found for user \"bob\""
        );
        assert!(users.remap("root").unwrap().is_none());
        assert!(users.remap("").unwrap().is_none());
        let (uids, gids) = users.auto();
        assert_eq!((uids.len(), gids.len()), (1, 0));
        assert_eq!(free(FILES[2].1), 1_131_072);
        assert_eq!(free(""), FIRST);
    }
}
