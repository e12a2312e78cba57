//! The record in PostgreSQL, shared by any number of replicas.
//!
//! A few connections are kept. Transactions that write take one lock of the database first, whichever
//! replica they come from: they happen one after the other, as SQLite's do, so that all that is
//! true of those (a manifest's blobs are there, quotas hold, the collector takes nothing that is in use)
//! is true here. The lock ends with its transaction, and a transaction with its connection: a replica
//! that dies leaves nothing behind. No transaction waits for anything but the database.
//!
//! The protocol is spoken here ([`wire`], [`session`], [`scram`]): the record asks from threads that may
//! block, and needs a dozen of its messages.

mod address;
mod scram;
mod session;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use address::Address;
pub(crate) use session::{Session, Values};

use super::schema;
use super::sql::{self, Connection, Error, Transaction};
use crate::Secret;
use crate::server::fault::{Code, Fault, Reply};

/// Opens a transaction that writes. The lock's number is arbitrary, and the registry's.
const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(5501447703)";
/// How long a request waits for a connection that others use.
const PATIENCE: Duration = Duration::from_secs(30);

/// A PostgreSQL server that keeps the record.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PostgresSettings {
    /// `postgres://user[:password]@host[:port]/database[?sslmode=require]`
    pub url: Secret,
    /// A file with the password, where the URL has none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// With `sslmode=require`: a PEM file of the authorities that may have signed the server's
    /// certificate. The system's where absent.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Connections at once.
    #[serde(default = "connections")]
    pub connections: usize,
}

fn connections() -> usize {
    8
}

/// The shared record.
pub(crate) struct Postgres {
    address: Address,
    tls: Option<Arc<ClientConfig>>,
    pool: Mutex<Pool>,
    freed: Condvar,
    most: usize,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Session>,
    lent: usize,
}

/// A place among the connections that may be in use at once.
struct Loan<'p> {
    from: &'p Postgres,
    session: Option<Session>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut pool = self.from.lock();
        pool.lent -= 1;
        // With something undone on it, it is of no use to others.
        if let Some(session) = self.session.take()
            && session.is_clean()
        {
            pool.idle.push(session);
        }
        drop(pool);
        self.from.freed.notify_one();
    }
}

impl Postgres {
    /// Connects to the database and brings its tables up to date.
    pub(crate) fn open(settings: &PostgresSettings) -> Reply<Self> {
        let mut address = Address::parse(settings.url.expose())
            .map_err(|why| unusable(format!("invalid url: {why}")))?;
        if let Some(path) = &settings.password_file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| unusable(format!("cannot read {}: {e}", path.display())))?;
            address.password = text.trim_end_matches(['\r', '\n']).to_owned();
        }
        let tls = address
            .tls
            .then(|| tls_config(settings.ca.as_deref()).map(Arc::new))
            .transpose()
            .map_err(unusable)?;
        let record = Self {
            address,
            tls,
            pool: Mutex::default(),
            freed: Condvar::new(),
            most: settings.connections.max(2),
        };
        // By itself: whoever starts a registry must see what is wrong.
        record
            .with(|_| Ok::<_, Error>(()))
            .map_err(|e| unusable(e.to_string()))?;
        record.migrate()?;
        Ok(record)
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a connection, waiting for one that others have.
    fn with<T, E: From<Error>>(&self, work: impl FnOnce(&Session) -> Result<T, E>) -> Result<T, E> {
        let mut loan = {
            let (mut pool, waited) = self
                .freed
                .wait_timeout_while(self.lock(), PATIENCE, |pool| pool.lent >= self.most)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                let why = format!("all {} connections to PostgreSQL are in use", self.most);
                return Err(Error::Unreachable(why).into());
            }
            // Those that broke meanwhile go.
            pool.idle.retain(|session| !session.is_closed());
            pool.lent += 1;
            Loan {
                from: self,
                session: pool.idle.pop(),
            }
        };
        let session = match loan.session.take() {
            Some(session) => session,
            None => Session::connect(&self.address, self.tls.as_ref())?,
        };
        work(loan.session.insert(session))
    }

    /// Runs `read`, each of whose statements sees the last committed state.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> sql::Result<T>,
    ) -> sql::Result<T> {
        self.with(|session| read(&Connection::Postgres(session)))
    }

    /// Runs `write` as one transaction, after and before those of all replicas.
    pub(super) fn write<T>(&self, write: impl FnOnce(&Transaction) -> Reply<T>) -> Reply<T> {
        self.with(|session| {
            session.begin(BEGIN)?;
            let written = write(&Transaction(Connection::Postgres(session)));
            match &written {
                Ok(_) => session.end("COMMIT")?,
                // If that fails, the connection goes, and the transaction with it.
                Err(_) => drop(session.end("ROLLBACK")),
            }
            written
        })
    }

    fn migrate(&self) -> Reply<()> {
        self.write(|tx| {
            let Connection::Postgres(session) = &**tx else {
                return Ok(());
            };
            session.batch("CREATE TABLE IF NOT EXISTS record_version (version BIGINT NOT NULL)")?;
            let version: Option<i64> = tx.value("SELECT version FROM record_version", &[])?;
            let known = usize::try_from(version.unwrap_or(0)).unwrap_or(usize::MAX);
            if known > schema::STEPS.len() {
                return Err(unusable(
                    "the record was written by a newer version of this program".into(),
                ));
            }
            if version.is_none() {
                session.batch("INSERT INTO record_version VALUES (0)")?;
            }
            for step in &schema::STEPS[known..] {
                session.batch(&schema::for_postgres(step))?;
            }
            let reached = i64::try_from(schema::STEPS.len()).unwrap_or(i64::MAX);
            tx.execute("UPDATE record_version SET version = ?1", &[&reached])?;
            Ok(())
        })
    }
}

fn unusable(why: String) -> Fault {
    Fault::new(Code::Unknown, format!("postgres: {why}"))
}

/// Trusts the authorities in the PEM file `ca`, or the system's.
fn tls_config(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let unusable = |e: &dyn std::fmt::Display| {
                format!("cannot use the authorities in {}: {e}", path.display())
            };
            let found: Vec<_> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|e| unusable(&e))?;
            for certificate in found {
                roots.add(certificate).map_err(|e| unusable(&e))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}
