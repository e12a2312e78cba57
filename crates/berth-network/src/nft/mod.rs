//! nftables without the `nft` program: messages, expressions, and [`ruleset`], which says what the rules are.

pub(crate) mod expression;
pub(crate) mod listing;
pub(crate) mod message;
pub(crate) mod ruleset;

pub(crate) use message::{Batch, Nft};
