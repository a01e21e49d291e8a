//! The names of a lab: which there are, how questions about them are answered, and what pods are
//! told about them.
//!
//! Nothing here opens a socket: bytes come in, bytes go out.

pub mod environment;
pub mod hosts;
pub mod records;
pub mod resolv;
