//! Where a PostgreSQL server is: libpq's URLs.

use std::path::PathBuf;

use reqwest::Url;

/// A server, a database, and who asks.
pub(super) struct Address {
    pub(super) host: Host,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) database: String,
    /// Encrypt, and verify the server's certificate.
    pub(super) tls: bool,
}

pub(super) enum Host {
    Tcp(String, u16),
    /// The socket's path.
    Unix(PathBuf),
}

impl Address {
    /// Reads `postgres://user[:password]@host[:port]/database[?sslmode=require]`; a socket's directory
    /// stands in `host=` (`postgres:///database?host=/run/postgresql&user=berth`).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|e| e.to_string())?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err("it begins with postgres://".into());
        }
        let mut host = url.host_str().unwrap_or_default().to_owned();
        let mut port = url.port().unwrap_or(5432);
        let mut user = decoded(url.username());
        let mut password = decoded(url.password().unwrap_or_default());
        let mut database = decoded(url.path().trim_start_matches('/'));
        let mut tls = false;
        for (name, value) in url.query_pairs() {
            match &*name {
                "host" => host = value.into_owned(),
                "port" => {
                    port = value
                        .parse()
                        .map_err(|_| format!("invalid port {value:?}"))?
                }
                "user" => user = value.into_owned(),
                "password" => password = value.into_owned(),
                "dbname" => database = value.into_owned(),
                "sslmode" => tls = encrypts(&value)?,
                // Others say how libpq behaves; here they would be promises that nobody keeps.
                _ => return Err(format!("unknown parameter {name:?}")),
            }
        }
        if user.is_empty() {
            return Err("it names no user".into());
        }
        if database.is_empty() {
            database.clone_from(&user);
        }
        let host = match host.strip_prefix('/') {
            Some(_) => Host::Unix(format!("{host}/.s.PGSQL.{port}").into()),
            None if host.is_empty() => return Err("it names no host".into()),
            None => Host::Tcp(host.trim_matches(['[', ']']).to_owned(), port),
        };
        if tls && matches!(host, Host::Unix(_)) {
            return Err("a socket has no TLS".into());
        }
        Ok(Self {
            host,
            user,
            password,
            database,
            tls,
        })
    }
}

/// What encrypts always verifies as well. What libpq tries "if possible" is neither: it stands for no.
fn encrypts(mode: &str) -> Result<bool, String> {
    match mode {
        "require" | "verify-ca" | "verify-full" => Ok(true),
        "disable" | "allow" | "prefer" => Ok(false),
        _ => Err(format!("unknown sslmode {mode:?}")),
    }
}

/// Without the `%XX` of URLs.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_who() {
        let it =
            Address::parse("postgres://berth:p%40ss@db.example:5433/reg?sslmode=require").unwrap();
        assert!(matches!(&it.host, Host::Tcp(host, 5433) if host == "db.example"));
        assert_eq!(
            (&*it.user, &*it.password, &*it.database, it.tls),
            ("berth", "p@ss", "reg", true)
        );
        let it = Address::parse("postgresql:///?host=/run/postgresql&user=berth").unwrap();
        assert!(matches!(&it.host, Host::Unix(path) if path.ends_with("postgresql/.s.PGSQL.5432")));
        assert_eq!(it.database, "berth");
        for wrong in [
            "http://a@b/c",
            "postgres://host/db",
            "postgres://u@h/d?sslmode=maybe",
            "postgres://u@h/d?target_session_attrs=any",
            "nothing",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
