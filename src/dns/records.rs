//! From a lab to the DNS records of its cluster domain, as Kubernetes' DNS specification has them.

use std::net::IpAddr;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its name: absolute, in lower case, without a dot at its end.
    pub name: String,
    /// Its time to live in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(String),
    /// SRV.
    Service {
        /// The lower, the sooner.
        priority: u16,
        /// The higher, the more.
        weight: u16,
        /// The port.
        port: u16,
        /// The machine.
        target: String,
    },
    /// PTR.
    Pointer(String),
    /// TXT.
    Text(String),
}
