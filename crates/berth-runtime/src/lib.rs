//! berth-runtime
#![forbid(unsafe_code)]
