//! `RUN --mount=type=…,key=value`.

use crate::{Error, Result};

/// One `--mount`. Values may hold variables, except in `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) kind: MountKind,
    pub(crate) from: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) target: Option<String>,
    /// As said, or the kind's default.
    pub(crate) read_only: bool,
    pub(crate) id: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) required: bool,
    pub(crate) sharing: Sharing,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// Bytes of a tmpfs.
    pub(crate) size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountKind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
}

/// Who may have a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Private,
    Locked,
}

const KEYS: [&str; 14] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "readwrite",
    "id",
    "env",
    "required",
    "sharing",
    "mode",
    "uid",
    "gid",
    "size",
];

impl Mount {
    /// Reads the flag's value.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let fields = fields(text);
        let kind = match value_of(&fields, "type") {
            None | Some("bind") => MountKind::Bind,
            Some("cache") => MountKind::Cache,
            Some("tmpfs") => MountKind::Tmpfs,
            Some("secret") => MountKind::Secret,
            Some("ssh") => {
                return Err(Error::invalid(
                    "RUN --mount=type=ssh needs a BuildKit session, which the classic build API has none of",
                ));
            }
            Some(other) => {
                return Err(Error::invalid(format!("unsupported mount type {other:?}")));
            }
        };
        let mut mount = Mount {
            kind,
            from: None,
            source: None,
            target: None,
            read_only: kind == MountKind::Bind,
            id: None,
            env: None,
            required: false,
            sharing: Sharing::Shared,
            mode: None,
            uid: None,
            gid: None,
            size: None,
        };
        for (key, value) in &fields {
            mount.set(key, value.as_deref(), text)?;
        }
        mount.check()?;
        Ok(mount)
    }

    fn set(&mut self, key: &str, value: Option<&str>, text: &str) -> Result<()> {
        let lower = key.to_ascii_lowercase();
        let switch = || match value.unwrap_or("true").to_ascii_lowercase().as_str() {
            "true" | "1" | "t" => Ok(true),
            "false" | "0" | "f" => Ok(false),
            other => Err(Error::invalid(format!("invalid value for {key}: {other}"))),
        };
        match lower.as_str() {
            "readonly" | "ro" => {
                self.read_only = switch()?;
                return Ok(());
            }
            "readwrite" | "rw" => {
                self.read_only = !switch()?;
                return Ok(());
            }
            "required" => {
                self.required = switch()?;
                return Ok(());
            }
            _ => {}
        }
        let Some(value) = value else {
            return Err(Error::invalid(format!(
                "invalid field '{key}' must be a key=value pair"
            )));
        };
        let number = |radix| {
            u32::from_str_radix(value, radix)
                .map_err(|_| Error::invalid(format!("invalid value {value:?} for {lower}")))
        };
        match lower.as_str() {
            "type" => {}
            "from" => self.from = Some(value.into()),
            "source" | "src" => self.source = Some(value.into()),
            "target" | "dst" | "destination" => self.target = Some(value.into()),
            "id" => self.id = Some(value.into()),
            "env" => self.env = Some(value.into()),
            "mode" => self.mode = Some(number(8)?),
            "uid" => self.uid = Some(number(10)?),
            "gid" => self.gid = Some(number(10)?),
            "size" => self.size = Some(bytes(value)?),
            "sharing" => {
                self.sharing = match value {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    other => {
                        return Err(Error::invalid(format!(
                            "unsupported sharing value {other:?}"
                        )));
                    }
                };
            }
            other => {
                let hint = super::suggest(other, KEYS.into_iter())
                    .map(|name| format!(" (did you mean {name}?)"))
                    .unwrap_or_default();
                return Err(Error::invalid(format!(
                    "unexpected key '{other}' in '{text}'{hint}"
                )));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let fail = |text: &str| Err(Error::invalid(text));
        let owned = self.mode.is_some() || self.uid.is_some() || self.gid.is_some();
        if owned && !matches!(self.kind, MountKind::Cache | MountKind::Secret) {
            return fail("mode, uid and gid are allowed for mounts of type cache and secret only");
        }
        match self.kind {
            MountKind::Secret if self.from.is_some() => fail("secret mount should not have a from"),
            MountKind::Secret
                if self.id.is_none() && self.source.is_none() && self.target.is_none() =>
            {
                fail("invalid secret mount. one of source, target required")
            }
            MountKind::Bind | MountKind::Cache | MountKind::Tmpfs if self.target.is_none() => {
                fail("target is required")
            }
            _ => Ok(()),
        }
    }
}

/// One line of CSV: fields by commas, quoted where a comma stands in them; each `key[=value]`.
fn fields(text: &str) -> Vec<(String, Option<String>)> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().into_iter().for_each(|f| f.push(c)),
        }
    }
    fields
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (field, None),
        })
        .collect()
}

fn value_of<'a>(fields: &'a [(String, Option<String>)], name: &str) -> Option<&'a str> {
    let found = fields
        .iter()
        .rev()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.and_then(|(_, value)| value.as_deref())
}

/// `64m`, `1g`, `4096`.
fn bytes(text: &str) -> Result<u64> {
    let bad = || Error::invalid(format!("invalid size: '{text}'"));
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match lower[digits.len()..]
        .trim_end_matches("ib")
        .trim_end_matches('b')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(bad()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| bad())?;
    number.checked_mul(1 << unit).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let cache =
            Mount::parse("type=cache,id=pip,target=/root/.cache,sharing=locked,mode=0700,uid=1")
                .unwrap();
        assert_eq!(cache.kind, MountKind::Cache);
        assert_eq!(cache.id.as_deref(), Some("pip"));
        assert_eq!(cache.sharing, Sharing::Locked);
        assert_eq!((cache.mode, cache.uid), (Some(0o700), Some(1)));
        assert!(!cache.read_only);
        let bind = Mount::parse("dst=/src,src=.,\"from=a,b\"").unwrap();
        assert_eq!((bind.kind, bind.read_only), (MountKind::Bind, true));
        assert_eq!(bind.from.as_deref(), Some("a,b"));
        assert!(!Mount::parse("target=/x,rw").unwrap().read_only);
        assert!(!Mount::parse("target=/x,ro=false").unwrap().read_only);
        assert_eq!(
            Mount::parse("type=tmpfs,target=/t,size=64m").unwrap().size,
            Some(64 << 20)
        );
        let secret = Mount::parse("type=secret,id=token,env=TOKEN,required").unwrap();
        assert!(secret.required);
    }

    #[test]
    fn bad_mounts() {
        for (text, error) in [
            ("type=bind", "target is required"),
            ("type=nfs,target=/x", "unsupported mount type \"nfs\""),
            (
                "target=/x,sorce=y",
                "unexpected key 'sorce' in 'target=/x,sorce=y' (did you mean source?)",
            ),
            ("target", "invalid field 'target' must be a key=value pair"),
            (
                "target=/x,mode=0700",
                "mode, uid and gid are allowed for mounts of type cache and secret only",
            ),
            (
                "type=cache,target=/x,sharing=odd",
                "unsupported sharing value \"odd\"",
            ),
            (
                "type=cache,target=/x,uid=-1",
                "invalid value \"-1\" for uid",
            ),
            ("type=tmpfs,target=/x,size=1q", "invalid size: '1q'"),
        ] {
            assert_eq!(Mount::parse(text).unwrap_err().to_string(), error, "{text}");
        }
        assert!(Mount::parse("type=ssh").is_err());
    }
}
