//! berth-distribution
#![forbid(unsafe_code)]
