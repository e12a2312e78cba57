//! One connection to PostgreSQL: logging in, and statements with values.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;

use super::super::sql::{Error, Parameter, Result};
use super::address::Address;
use super::scram::Scram;
use super::wire::{Message, Wire, bad};
use crate::server::storage::files::unique_name;

/// What the server must know of us: a replica that hangs keeps others waiting no longer than this.
const SETUP: &str = "SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '30s'; \
     SET synchronous_commit = on; SET client_encoding = 'UTF8'";
/// Version 3.0 of the protocol.
const VERSION: i32 = 3 << 16;

/// A row's values as text, nothing for NULL.
pub(crate) type Values = Vec<Option<Vec<u8>>>;

/// A connection with the statements that were prepared on it.
pub(crate) struct Session(RefCell<State>);

struct State {
    wire: Wire,
    /// Names of prepared statements.
    prepared: HashMap<&'static str, String>,
    /// Whether a transaction is open, or something went wrong in the middle of an exchange.
    busy: bool,
    broken: bool,
}

/// What one statement has brought.
#[derive(Default)]
struct Outcome {
    rows: Vec<Values>,
    changed: usize,
    parsed: bool,
}

impl Session {
    /// Connects and logs in.
    pub(super) fn connect(address: &Address, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let unreachable = |e| Error::Unreachable(format!("cannot connect to PostgreSQL: {e}"));
        let wire = Wire::connect(&address.host, tls).map_err(unreachable)?;
        let mut state = State {
            wire,
            prepared: HashMap::new(),
            busy: false,
            broken: false,
        };
        // Whatever the reason: nothing was begun, and the client may come again.
        state.log_in(address).map_err(|e| match e {
            Error::Postgres { message, .. } => {
                Error::Unreachable(format!("PostgreSQL refuses: {message}"))
            }
            e => e,
        })?;
        state.batch(SETUP)?;
        Ok(Self(RefCell::new(state)))
    }

    /// Whether the next one can have it.
    pub(super) fn is_clean(&self) -> bool {
        let state = self.0.borrow();
        !state.busy && !state.broken
    }

    /// Whether the server has ended it.
    pub(super) fn is_closed(&self) -> bool {
        self.0.borrow().wire.is_disturbed()
    }

    /// Opens a transaction with `words`.
    pub(super) fn begin(&self, words: &str) -> Result<()> {
        let mut state = self.0.borrow_mut();
        state.busy = true;
        state.batch(words)
    }

    /// Ends it.
    pub(super) fn end(&self, words: &str) -> Result<()> {
        let mut state = self.0.borrow_mut();
        state.batch(words)?;
        state.busy = false;
        Ok(())
    }

    /// Runs several statements without values.
    pub(super) fn batch(&self, words: &str) -> Result<()> {
        self.0.borrow_mut().batch(words)
    }

    /// Runs `sql`; the rows that it found.
    pub(in super::super) fn query(
        &self,
        sql: &'static str,
        values: &[Parameter],
    ) -> Result<Vec<Values>> {
        let outcome = self.0.borrow_mut().run(sql, values)?;
        Ok(outcome.rows)
    }

    /// Runs `sql`; how many rows it changed.
    pub(in super::super) fn execute(
        &self,
        sql: &'static str,
        values: &[Parameter],
    ) -> Result<usize> {
        let outcome = self.0.borrow_mut().run(sql, values)?;
        Ok(outcome.changed)
    }
}

impl State {
    /// What breaks in the middle leaves nobody knowing where the exchange stands.
    fn broke(&mut self, error: io::Error) -> Error {
        self.broken = true;
        Error::Unreachable(format!("the connection to PostgreSQL broke: {error}"))
    }

    fn log_in(&mut self, address: &Address) -> Result<()> {
        self.wire.put(0, |out| {
            out.extend(VERSION.to_be_bytes());
            for text in [
                "user",
                &address.user,
                "database",
                &address.database,
                "application_name",
                "berth-registry",
            ] {
                put_text(out, text);
            }
            out.push(0);
        });
        self.wire.flush().map_err(|e| self.broke(e))?;
        let nonce = unique_name().map_err(|e| Error::Unreachable(e.to_string()))?;
        let mut scram = Scram::new(&address.password, &nonce);
        loop {
            let mut message = self.wire.next().map_err(|e| self.broke(e))?;
            match message.kind {
                b'R' => self
                    .authenticate(&mut message, address, &mut scram)
                    .map_err(|e| self.broke(e))?,
                b'E' => return Err(refusal(&mut message)),
                b'Z' => return Ok(()),
                // Parameters, the key for cancelling, notices.
                _ => {}
            }
        }
    }

    fn authenticate(
        &mut self,
        message: &mut Message,
        address: &Address,
        scram: &mut Scram,
    ) -> io::Result<()> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned());
        match message.i32()? {
            // Let in.
            0 => return Ok(()),
            // The password itself: only where nobody else can read it.
            3 if address.tls || matches!(address.host, super::address::Host::Unix(_)) => {
                self.wire.put(b'p', |out| put_text(out, &address.password));
            }
            10 => {
                let first = scram.first();
                self.wire.put(b'p', |out| {
                    put_text(out, "SCRAM-SHA-256");
                    put_bytes(out, first.as_bytes());
                });
            }
            11 => {
                let server = String::from_utf8_lossy(message.rest()).into_owned();
                let proof = scram.prove(&server).map_err(wrong)?;
                self.wire
                    .put(b'p', |out| out.extend_from_slice(proof.as_bytes()));
            }
            12 => {
                let server = String::from_utf8_lossy(message.rest()).into_owned();
                return match scram.is_known(&server) {
                    true => Ok(()),
                    false => Err(wrong("the server does not know the password itself")),
                };
            }
            _ => {
                return Err(wrong(
                    "the server wants a way of logging in other than scram-sha-256",
                ));
            }
        }
        self.wire.flush()
    }

    fn batch(&mut self, words: &str) -> Result<()> {
        self.wire.put(b'Q', |out| put_text(out, words));
        self.exchange().map(drop)
    }

    fn run(&mut self, sql: &'static str, values: &[Parameter]) -> Result<Outcome> {
        let known = self.prepared.get(sql).cloned();
        let name = known
            .clone()
            .unwrap_or_else(|| format!("s{}", self.prepared.len()));
        let wire = &mut self.wire;
        if known.is_none() {
            wire.put(b'P', |out| {
                put_text(out, &name);
                // `?` stands for nothing else in the record's statements.
                put_text(out, &sql.replace('?', "$"));
                out.extend([0, 0]);
            });
        }
        wire.put(b'B', |out| bind(out, &name, values));
        wire.put(b'E', |out| out.extend([0; 5]));
        wire.put(b'S', |_| {});
        let outcome = self.exchange();
        if known.is_none() {
            let parsed = outcome.as_ref().is_ok_and(|o| o.parsed);
            match parsed {
                true => drop(self.prepared.insert(sql, name)),
                // The server may know the name or not: the connection does not go back.
                false => self.broken = true,
            }
        }
        outcome
    }

    /// Sends what was put together and reads until the server is ready for more.
    fn exchange(&mut self) -> Result<Outcome> {
        self.try_exchange().map_err(|e| self.broke(e))?
    }

    fn try_exchange(&mut self) -> io::Result<Result<Outcome>> {
        self.wire.flush()?;
        let mut outcome = Outcome::default();
        let mut refused = None;
        loop {
            let mut message = self.wire.next()?;
            match message.kind {
                b'D' => outcome.rows.push(message.values()?),
                b'C' => outcome.changed = changed(&message.text()?),
                b'1' => outcome.parsed = true,
                b'E' => refused = Some(refusal(&mut message)),
                b'Z' => {
                    return Ok(match refused {
                        Some(error) => Err(error),
                        None => Ok(outcome),
                    });
                }
                b'G' | b'H' | b'W' => return Err(bad("a wish to copy")),
                // Bound, no data, notices, parameters.
                _ => {}
            }
        }
    }
}

/// Values for a prepared statement: bytes as they are, all else as text.
fn bind(out: &mut Vec<u8>, name: &str, values: &[Parameter]) {
    out.push(0);
    put_text(out, name);
    let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
    out.extend(count.to_be_bytes());
    for value in values {
        let binary = u16::from(matches!(value, Parameter::Bytes(_)));
        out.extend(binary.to_be_bytes());
    }
    out.extend(count.to_be_bytes());
    for value in values {
        match value {
            Parameter::Null => out.extend((-1_i32).to_be_bytes()),
            Parameter::Number(number) => put_bytes(out, number.to_string().as_bytes()),
            Parameter::Text(text) => put_bytes(out, text.as_bytes()),
            Parameter::Bytes(bytes) => put_bytes(out, bytes),
        }
    }
    // All results as text.
    out.extend([0, 0]);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // A zero ends it; there is none in what we send.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// `INSERT 0 3`, `DELETE 3`
fn changed(tag: &str) -> usize {
    let number = tag.rsplit(' ').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

fn refusal(message: &mut Message) -> Error {
    let (mut code, mut text) = (String::new(), String::new());
    while let Ok(&[field, ..]) = message.take(1) {
        match (field, message.text()) {
            (b'C', Ok(value)) => code = value,
            (b'M', Ok(value)) => text = value,
            (0, _) | (_, Err(_)) => break,
            _ => {}
        }
    }
    Error::Postgres {
        code,
        message: text,
    }
}
