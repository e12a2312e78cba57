//! berth-build
#![forbid(unsafe_code)]
