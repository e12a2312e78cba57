//! One way to ask the record, whichever database holds it.
//!
//! Statements are written once, in what SQLite and PostgreSQL have in common, with SQLite's numbered
//! parameters (`?1`). Numbers are 64 bits wide, texts compare byte by byte in both.

use std::ops::Deref;

use data_encoding::HEXLOWER;

use super::postgres::{Session, Values};

/// What a statement may be given.
pub(crate) trait Value: rusqlite::ToSql {
    /// The same for PostgreSQL.
    fn parameter(&self) -> Parameter<'_>;
}

/// A value on its way to PostgreSQL.
pub(crate) enum Parameter<'v> {
    Null,
    Number(i64),
    Text(&'v str),
    Bytes(&'v [u8]),
}

impl Value for i64 {
    fn parameter(&self) -> Parameter<'_> {
        Parameter::Number(*self)
    }
}

impl Value for str {
    fn parameter(&self) -> Parameter<'_> {
        Parameter::Text(self)
    }
}

impl Value for String {
    fn parameter(&self) -> Parameter<'_> {
        Parameter::Text(self)
    }
}

impl Value for [u8] {
    fn parameter(&self) -> Parameter<'_> {
        Parameter::Bytes(self)
    }
}

impl<T: Value> Value for Option<T> {
    fn parameter(&self) -> Parameter<'_> {
        self.as_ref().map_or(Parameter::Null, T::parameter)
    }
}

impl<T: Value + ?Sized> Value for &T {
    fn parameter(&self) -> Parameter<'_> {
        (**self).parameter()
    }
}

/// What a column may be read as.
pub(crate) trait Column: rusqlite::types::FromSql {
    /// Reads PostgreSQL's text of it.
    fn read(text: &[u8]) -> Option<Self>;
}

impl Column for i64 {
    fn read(text: &[u8]) -> Option<Self> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }
}

impl Column for bool {
    fn read(text: &[u8]) -> Option<Self> {
        Some(text == b"t")
    }
}

impl Column for String {
    fn read(text: &[u8]) -> Option<Self> {
        String::from_utf8(text.to_vec()).ok()
    }
}

impl Column for Vec<u8> {
    fn read(text: &[u8]) -> Option<Self> {
        HEXLOWER.decode(text.strip_prefix(b"\\x")?).ok()
    }
}

/// Why the record did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// SQLite's words.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL's words, with its five letters for the kind.
    #[error("{code}: {message}")]
    Postgres { code: String, message: String },
    /// A column that is not what this program wrote.
    #[error("unexpected value in column {0}")]
    Column(usize),
    /// No server answers, or not in time.
    #[error("{0}")]
    Unreachable(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The row that a statement found.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r Values),
}

impl Row<'_> {
    /// The column at `place`, from 0.
    pub(crate) fn get<T: Column>(&self, place: usize) -> Result<T> {
        Ok(match self {
            Row::Sqlite(row) => row.get(place)?,
            Row::Postgres(row) => row
                .get(place)
                .and_then(|value| T::read(value.as_deref()?))
                .ok_or(Error::Column(place))?,
        })
    }
}

/// A connection to the record, to look.
pub(crate) enum Connection<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres(&'c Session),
}

impl Connection<'_> {
    /// Runs `sql`; how many rows it changed.
    pub(crate) fn execute(&self, sql: &'static str, values: &[&dyn Value]) -> Result<usize> {
        match self {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement.execute(&*for_sqlite(values))?)
            }
            Connection::Postgres(session) => session.execute(sql, &parameters(values)),
        }
    }

    /// All rows that `sql` finds, as `read` understands them.
    pub(crate) fn all<T>(
        &self,
        sql: &'static str,
        values: &[&dyn Value],
        mut read: impl FnMut(&Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        match self {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query(&*for_sqlite(values))?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push(read(&Row::Sqlite(row))?);
                }
                Ok(found)
            }
            Connection::Postgres(session) => session
                .query(sql, &parameters(values))?
                .iter()
                .map(|row| read(&Row::Postgres(row)))
                .collect(),
        }
    }

    /// The first row that `sql` finds, if any.
    pub(crate) fn first<T>(
        &self,
        sql: &'static str,
        values: &[&dyn Value],
        read: impl FnOnce(&Row) -> Result<T>,
    ) -> Result<Option<T>> {
        match self {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query(&*for_sqlite(values))?;
                match rows.next()? {
                    Some(row) => read(&Row::Sqlite(row)).map(Some),
                    None => Ok(None),
                }
            }
            Connection::Postgres(session) => session
                .query(sql, &parameters(values))?
                .first()
                .map(|row| read(&Row::Postgres(row)))
                .transpose(),
        }
    }

    /// The one value of the first row, if there is a row.
    pub(crate) fn value<T: Column>(
        &self,
        sql: &'static str,
        values: &[&dyn Value],
    ) -> Result<Option<T>> {
        self.first(sql, values, |row| row.get(0))
    }

    /// Whether `sql` finds anything.
    pub(crate) fn any(&self, sql: &'static str, values: &[&dyn Value]) -> Result<bool> {
        self.first(sql, values, |_| Ok(()))
            .map(|found| found.is_some())
    }
}

/// A connection to the record, to change it: all of it happens, or nothing.
pub(crate) struct Transaction<'c>(pub(super) Connection<'c>);

impl<'c> Deref for Transaction<'c> {
    type Target = Connection<'c>;

    fn deref(&self) -> &Connection<'c> {
        &self.0
    }
}

fn for_sqlite<'v>(values: &[&'v dyn Value]) -> Vec<&'v dyn rusqlite::ToSql> {
    values.iter().map(|v| *v as &dyn rusqlite::ToSql).collect()
}

fn parameters<'v>(values: &'v [&dyn Value]) -> Vec<Parameter<'v>> {
    values.iter().map(|v| v.parameter()).collect()
}
