//! The registry, asked over HTTP: what the specification says of every request, right and wrong.

mod auth;
mod blobs;
mod browser;
mod cache;
mod collection;
mod harness;
mod manifests;
mod policy;
mod replicas;
mod tls;
