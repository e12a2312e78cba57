//! Kernel calls as safe functions: the only crate with `unsafe`.

pub mod netns;
pub mod root;
