//! HTTP as the registry speaks it: connections, bodies, answers.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod file;
pub(crate) mod query;
pub(crate) mod wire;

/// A request as it comes from a connection.
pub(crate) type Request = http::Request<hyper::body::Incoming>;
/// What goes back.
pub(crate) type Response = http::Response<body::Body>;
