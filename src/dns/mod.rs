//! The names of a lab: which there are, and how questions about them are answered.
//!
//! Nothing here opens a socket: bytes come in, bytes go out.

pub mod records;
