//! Machines on the lab's internet.

use std::net::IpAddr;

use super::Span;
use crate::lab::name::Domain;

/// A machine on the lab's internet: the upstream name server knows its name, and nodes reach its
/// addresses by way of `host`.
#[derive(Debug, Clone)]
pub struct External {
    /// Its DNS name, and that of its namespace.
    pub name: Domain,
    /// Its addresses, at least one.
    pub ips: Vec<IpAddr>,
    /// What it runs.
    pub server: ExternalServer,
    /// The TCP ports that it listens on.
    pub ports: Vec<u16>,
    /// The `[[external]]` table.
    pub at: Span,
}

/// What a machine on the lab's internet runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExternalServer {
    /// The built-in server.
    Echo,
    /// It answers every request with the client's address and nothing else, as such services do.
    MyIp,
}
