//! Drives any Docker-compatible engine from outside, over a Unix socket, TCP, TLS or ssh.
//!
//! [`Client`] makes [`Request`]s; an answer that is an error becomes [`Error::Engine`] with
//! the engine's own words. Answers come whole ([`Request::json`], [`Request::bytes`]), as a
//! byte stream ([`Request::send`]), as JSON lines ([`Lines`]) or as a raw two-way connection
//! ([`Request::hijack`]). Nothing here reads the environment: the caller says where the
//! engine is ([`Options`]).
#![forbid(unsafe_code)]

mod client;
mod error;
mod frames;
mod hijack;
mod host;
mod lines;
mod path;
mod request;
mod ssh;
mod tls;
mod transport;

pub use client::{Client, Options, Ping};
pub use error::{Error, Result};
pub use frames::demultiplex;
pub use hijack::Hijacked;
pub use host::{Host, HostError};
pub use lines::Lines;
pub use path::escape;
pub use request::{Body, Request, Response};
pub use tls::TlsFiles;
pub use transport::Stream;
