//! The load balancer in front of the nodes.

use std::net::IpAddr;

use super::Span;
use crate::lab::name::Name;

/// The machine that owns the addresses of Services outside the cluster: `load_balancer_ips` and
/// `external_ips`. It is on the nodes' LAN, as a router in front of them, and spreads connections
/// over the nodes that say that they are healthy.
#[derive(Debug, Clone)]
pub struct LoadBalancer {
    /// Its name, and that of its namespace: `lb`.
    pub name: Name,
    /// Its address on [`super::Cluster::node_subnet`].
    pub ip: IpAddr,
    /// How it spreads.
    pub engine: BalancerEngine,
    /// Where the file says so.
    pub at: Span,
}

/// How a load balancer spreads connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum BalancerEngine {
    /// In the kernel: an equal-cost multipath route per address, as a router that speaks BGP with
    /// the nodes has it. Packets arrive at a node as the client sent them.
    #[default]
    Builtin,
    /// The real HAProxy: connections end at it, and begin anew to a node port.
    Haproxy,
}

impl BalancerEngine {
    /// As the lab file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            BalancerEngine::Builtin => "builtin",
            BalancerEngine::Haproxy => "haproxy",
        }
    }
}
