//! The remote client against registries: a real one, and one that misbehaves.

mod bench;
mod places;
mod quirks;
mod quirky;
mod ranges;
mod registry;
mod tls;
