//! A Dockerfile becomes a graph, the graph layers, the layers an image digest.
//!
//! Begin with [`Builder::build`]. The way down: [`context`](Context) (what came in), `dockerfile`
//! (text to instructions), `graph` (instructions to content-addressed vertices, pure), `solve`
//! (vertices to layers, cache first), `op` (one file per kind of vertex).
//!
//! What it does not know: containers (a [`Executor`] runs processes), image names (the caller
//! tags), Docker's wire format (a face turns [`BuildEvent`]s into it), the environment.
#![forbid(unsafe_code)]

mod builder;
mod cache;
pub mod config_change;
mod context;
mod copy;
mod dockerfile;
mod error;
mod event;
mod executor;
mod glob;
mod graph;
mod ignore;
mod metadata;
mod op;
mod output;
mod policy;
mod request;
mod solve;
mod source;
mod variables;

pub use builder::{Builder, BuilderOptions, HostAccess, Pruned};
pub use cache::CacheRecord;
pub use context::Context;
pub use error::{Error, ErrorKind, Result};
pub use event::{BuildEvent, StdStream};
pub use executor::{Executor, RunStep, StepMount, StepOutput, StepTree};
pub use ignore::{IGNORE_FILE_MAX, Ignore};
pub use policy::CacheRule;
pub use request::{BuildRequest, Built, Limits, Ulimit};
