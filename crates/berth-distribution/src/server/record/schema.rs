//! The tables, and how an older record becomes a current one.
//!
//! They are written as SQLite has them; [`for_postgres`] says the same to PostgreSQL.

use rusqlite::Connection;

/// Each step brings the record from the version of its place to the next.
pub(super) const STEPS: [&str; 2] = ["
CREATE TABLE repository (name TEXT PRIMARY KEY, created INTEGER NOT NULL) WITHOUT ROWID;

-- Bytes that are on disk, each once, whoever has them. `touched` is when somebody last had a new use for them.
CREATE TABLE blob (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, touched INTEGER NOT NULL) WITHOUT ROWID;

-- Which repository has which blob.
CREATE TABLE link (
    repository TEXT NOT NULL, digest TEXT NOT NULL, touched INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)) WITHOUT ROWID;
CREATE INDEX link_by_digest ON link (digest);

CREATE TABLE manifest (
    repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    subject TEXT, artifact_type TEXT NOT NULL, annotations TEXT NOT NULL,
    pushed INTEGER NOT NULL, pushed_by TEXT NOT NULL, pulled INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (repository, digest));
CREATE INDEX manifest_by_subject ON manifest (repository, subject, digest) WHERE subject IS NOT NULL;

-- What a manifest needs to be whole: blobs (kind 0) and manifests (kind 1).
CREATE TABLE needs (
    repository TEXT NOT NULL, manifest TEXT NOT NULL, digest TEXT NOT NULL, kind INTEGER NOT NULL,
    PRIMARY KEY (repository, manifest, digest)) WITHOUT ROWID;
CREATE INDEX needs_by_digest ON needs (repository, digest);

CREATE TABLE tag (
    repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, moved INTEGER NOT NULL,
    checked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (repository, name)) WITHOUT ROWID;
CREATE INDEX tag_by_digest ON tag (repository, digest);
", "
-- The object of an object store that has the bytes; empty where they are in a file.
ALTER TABLE blob ADD COLUMN key TEXT NOT NULL DEFAULT '';

-- Uploads on their way into an object store. `parts` is a JSON array of what the store calls them.
CREATE TABLE upload (
    id TEXT PRIMARY KEY, repository TEXT NOT NULL, key TEXT NOT NULL, multipart TEXT NOT NULL,
    size INTEGER NOT NULL, parts TEXT NOT NULL, tail TEXT NOT NULL, digest TEXT NOT NULL,
    version INTEGER NOT NULL, touched INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX upload_by_touched ON upload (touched);

-- Objects that are to go.
CREATE TABLE doomed (key TEXT NOT NULL, multipart TEXT NOT NULL, PRIMARY KEY (key, multipart)) WITHOUT ROWID;

CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"];

/// Brings the record to the version this program writes.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? as usize;
    for (number, step) in STEPS.iter().enumerate().skip(version) {
        let tx = connection.transaction()?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", (number + 1) as i64)?;
        tx.commit()?;
    }
    Ok(())
}

/// A step in PostgreSQL's words: numbers of 64 bits, texts that compare byte by byte.
pub(super) fn for_postgres(step: &str) -> String {
    step.replace("INTEGER", "BIGINT")
        .replace("BLOB", "BYTEA")
        .replace(" TEXT", " TEXT COLLATE \"C\"")
        .replace(" WITHOUT ROWID", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_record_keeps_what_it_has() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(STEPS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection
            .execute("INSERT INTO blob VALUES ('sha256:aa', 7, 1)", [])
            .unwrap();
        for _ in 0..2 {
            migrate(&mut connection).unwrap();
            let sql = "SELECT size, key FROM blob";
            let row = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
            assert_eq!(row.unwrap(), (7, String::new()));
        }
    }

    #[test]
    fn postgres_is_told_in_its_own_words() {
        for step in STEPS {
            let told = for_postgres(step);
            for foreign in ["INTEGER", "BLOB", "ROWID"] {
                assert!(!told.contains(foreign), "{foreign} in {told}");
            }
        }
    }
}
