//! berth-engine
#![forbid(unsafe_code)]
