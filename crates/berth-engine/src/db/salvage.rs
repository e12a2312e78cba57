//! Records out of a damaged database: as many as can still be read.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Row};

/// A row of `record` as it is found: kind, ID, value, digest.
pub(super) type Found = (String, String, Vec<u8>, String);

/// Reads the rows of the database at `path` from both ends, each time as far as it goes: a damaged
/// page costs what is on it. Whether a row is whole its digest tells.
pub(super) fn rows(path: &Path) -> Vec<Found> {
    let mut found = BTreeMap::new();
    for order in ["ASC", "DESC"] {
        let read = Connection::open(path).and_then(|connection| {
            let query = format!(
                "SELECT kind, id, value, digest FROM record ORDER BY kind {order}, id {order}"
            );
            let mut statement = connection.prepare(&query)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                // One whose texts are none is lost alone.
                if let Ok((kind, id, value, digest)) = columns(row) {
                    found.insert((kind, id), (value, digest));
                }
            }
            Ok(())
        });
        if let Err(error) = read {
            tracing::warn!(path = %path.display(), %error, "records are read up to a damaged place");
        }
    }
    found
        .into_iter()
        .map(|((kind, id), (value, digest))| (kind, id, value, digest))
        .collect()
}

/// The columns of a row.
pub(super) fn columns(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}
