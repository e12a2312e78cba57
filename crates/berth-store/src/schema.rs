//! The tables, as steps from one version of the database to the next.
//!
//! Times are nanoseconds since 1970 (UTC). Digests are texts, `sha256:…`. Names are normalized
//! (`docker.io/library/python:3`). Blobs have no table: a file under `content/` is the blob.

/// Step N brings a database of version N to version N+1. A step that has been released never
/// changes.
pub(crate) const MIGRATIONS: [&str; 1] = [FIRST];

const FIRST: &str = "
-- An image, by the digest of its config.
CREATE TABLE image (
    id                  TEXT NOT NULL PRIMARY KEY,
    manifest_media_type TEXT,
    manifest_digest     TEXT,
    manifest_size       INTEGER,
    parent              TEXT,
    added               INTEGER NOT NULL,
    last_tagged         INTEGER
) STRICT;

-- The layers that an image needs, lowest first.
CREATE TABLE image_layer (
    image    TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id  TEXT NOT NULL,
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layer_by_diff ON image_layer (diff_id);

-- Names of images: NAME:TAG and NAME@DIGEST.
CREATE TABLE image_name (
    name  TEXT NOT NULL PRIMARY KEY,
    kind  TEXT NOT NULL CHECK (kind IN ('tag', 'digest')),
    image TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX image_name_by_image ON image_name (image);

-- A layer, by its diff ID.
CREATE TABLE layer (
    diff_id TEXT NOT NULL PRIMARY KEY,
    size    INTEGER NOT NULL, -- bytes of the tar
    form    TEXT NOT NULL,
    bytes   INTEGER NOT NULL, -- on disk
    stacking TEXT NOT NULL,   -- JSON: what has to be known to put it on others
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The blobs that a layer came from or was sent as.
CREATE TABLE layer_blob (
    diff_id    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest)
) STRICT, WITHOUT ROWID;

-- Where a blob is known to lie: a push may mount it from there.
CREATE TABLE blob_source (
    digest     TEXT NOT NULL,
    domain     TEXT NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (digest, domain, repository)
) STRICT, WITHOUT ROWID;

-- Writable overlays.
CREATE TABLE snapshot (
    key     TEXT NOT NULL PRIMARY KEY,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshot_layer (
    key      TEXT NOT NULL REFERENCES snapshot (key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id  TEXT NOT NULL,
    PRIMARY KEY (key, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_layer_by_diff ON snapshot_layer (diff_id);

-- Small things that other crates keep here (the build cache), and what they need kept with them.
CREATE TABLE record (
    scope TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    used  INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE record_holds (
    scope  TEXT NOT NULL,
    key    TEXT NOT NULL,
    kind   TEXT NOT NULL CHECK (kind IN ('blob', 'layer')),
    digest TEXT NOT NULL,
    PRIMARY KEY (scope, key, kind, digest),
    FOREIGN KEY (scope, key) REFERENCES record (scope, key) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
";
