//! berth-network
#![forbid(unsafe_code)]
