//! berth-store
#![forbid(unsafe_code)]
