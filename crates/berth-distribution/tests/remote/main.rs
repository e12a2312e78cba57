//! The remote client against registries: a real one, and one that misbehaves.

mod bench;
mod places;
mod quirks;
mod quirky;
mod registry;
mod tls;
