//! berth-server
#![forbid(unsafe_code)]
