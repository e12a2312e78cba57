//! Secrets that all replicas of a registry share.

use super::sql::{self, Transaction};

/// The secret `name`; `fresh` becomes it where there is none.
pub(crate) fn get_or_set(tx: &Transaction, name: &str, fresh: &[u8]) -> sql::Result<Vec<u8>> {
    tx.execute(
        "INSERT INTO secret (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &[&name, &fresh],
    )?;
    let found = tx.value("SELECT value FROM secret WHERE name = ?1", &[&name])?;
    Ok(found.unwrap_or_default())
}
