//! Values of flags: Docker's notations, read into the API's types.

pub mod csv;
pub mod device;
pub mod filter;
pub mod gpu;
pub mod key_value;
pub mod limit;
pub mod mount;
pub mod network;
pub mod port;
pub mod security;
pub mod value;
pub mod volume;
