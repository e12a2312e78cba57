//! berth-client
#![forbid(unsafe_code)]
