//! What a client must see, from the specification alone: the first of the three opinions.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use crate::lab::model::{Lab, Place, PodId, Protocol, ProxyMode};

/// What a client sees who opens a connection (or sends a datagram).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// One of these answers; with the same probability each, unless the Service has affinity.
    Served(Vec<Choice>),
    /// An ICMP port-unreachable comes back at once: ECONNREFUSED.
    Refused,
    /// Nothing comes back.
    Dropped,
    /// The client itself has no way there, or a router says so: ENETUNREACH or EHOSTUNREACH.
    Unreachable,
}

/// One of the endpoints that may answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    /// Its address.
    pub endpoint: SocketAddr,
    /// The pod behind it, if it is one.
    pub pod: Option<PodId>,
    /// The client addresses that it may see; several where the contract leaves it open.
    pub sources: BTreeSet<IpAddr>,
}

/// What `from` must see at `to`, in a lab whose nodes run `mode`.
pub fn sight(_lab: &Lab, _mode: ProxyMode, _from: Place, _to: SocketAddr, _protocol: Protocol) -> Sight {
    unimplemented!("being written")
}
