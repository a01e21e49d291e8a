//! What keeps a connection with the node that has it, in the namespace of the load balancer that is built
//! in, whatever becomes of the routes for new ones.
//!
//! Answers do not come back this way, so conntrack cannot follow the connections. A map of nftables
//! remembers the next hop of each, and marks its packets; for each node, a rule of policy routing leads
//! what has its mark there. All of it goes with the namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use super::{netlink::Netlink, process::Processes, rules};
use crate::{
    error::Result,
    lab::model::ProxyMode,
    plan::step::{Link, Watched},
};

/// Remembers connections until they have been idle for three minutes. What it has forgotten, or had no room for,
/// goes by the routes. What begins a connection goes by them in any case, and has an old one forgotten that
/// had the same ports: `update` alone would leave it where it led.
const TABLE: &str = "\
add table ip netlab-lb
add map ip netlab-lb nodes { type ipv4_addr : mark; }
add map ip netlab-lb flows { type ipv4_addr . inet_service . ipv4_addr . inet_service : mark; size 524288; flags dynamic,timeout; timeout 3m; }
add chain ip netlab-lb prerouting { type filter hook prerouting priority mangle; }
add chain ip netlab-lb forward { type filter hook forward priority mangle; }
flush map ip netlab-lb nodes
flush chain ip netlab-lb prerouting
flush chain ip netlab-lb forward
add rule ip netlab-lb prerouting tcp flags & (syn | ack) != syn meta mark set ip saddr . tcp sport . ip daddr . tcp dport map @flows
add rule ip netlab-lb forward meta l4proto tcp meta mark set rt ip nexthop map @nodes
add rule ip netlab-lb forward tcp flags & (syn | ack) == syn delete @flows { ip saddr . tcp sport . ip daddr . tcp dport : meta mark }
add rule ip netlab-lb forward meta mark != 0 update @flows { ip saddr . tcp sport . ip daddr . tcp dport : meta mark }
";

/// The connections of a load balancer.
pub(super) struct Flows {
    netns: String,
    processes: Processes,
    /// The nodes that the table knows.
    known: BTreeSet<Ipv4Addr>,
    /// Those of them to which their mark leads.
    kept: BTreeMap<Ipv4Addr, Link>,
}

impl Flows {
    pub(super) fn new(netns: &str, processes: &Processes) -> Self {
        Flows { netns: netns.to_owned(), processes: processes.clone(), known: BTreeSet::new(), kept: BTreeMap::new() }
    }

    /// Connections that go to one of these nodes stay with it; those of others go by the routes.
    ///
    /// # Errors
    ///
    /// When nft is missing, or the kernel refuses.
    pub(super) async fn stay_with(
        &mut self,
        netlink: &Netlink,
        watched: &[Watched],
        stays: impl Fn(IpAddr) -> bool,
    ) -> Result<()> {
        let mut known = BTreeSet::new();
        let mut kept = BTreeMap::new();
        for (address, node) in watched.iter().flat_map(|it| it.nodes.iter().map(move |(node, _)| (it, *node))) {
            let IpAddr::V4(ip) = node else { continue };
            known.insert(ip);
            if stays(node) {
                kept.insert(ip, address.link.clone());
            }
        }
        if known != self.known {
            rules::change_in(&self.netns, ProxyMode::Nftables, 0, table(&known), &self.processes).await?;
            self.known = known;
        }
        for (node, link) in &kept {
            if self.kept.get(node) != Some(link) {
                netlink.lead_marked(mark(*node), link, *node).await?;
                self.kept.insert(*node, link.clone());
            }
        }
        let gone: Vec<Ipv4Addr> = self.kept.keys().filter(|node| !kept.contains_key(node)).copied().collect();
        for node in gone {
            netlink.lead_marked_no_more(mark(node)).await?;
            self.kept.remove(&node);
        }
        Ok(())
    }
}

/// The mark of a connection to a node, and the number of the table that leads there.
fn mark(node: Ipv4Addr) -> u32 {
    node.into()
}

/// The table, in one transaction that keeps the connections that it knows already.
fn table(nodes: &BTreeSet<Ipv4Addr>) -> String {
    let mut text = TABLE.to_owned();
    if !nodes.is_empty() {
        let elements: Vec<String> = nodes.iter().map(|node| format!("{node} : {:#010x}", mark(*node))).collect();
        // Writing to a text does not fail.
        let _ = writeln!(text, "add element ip netlab-lb nodes {{ {} }}", elements.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_their_address_as_a_mark() {
        let nodes = ["10.30.45.100", "10.30.45.200"].map(|ip| ip.parse().expect("an address"));
        let text = table(&nodes.into());
        assert!(text.starts_with(TABLE));
        assert!(
            text.ends_with("add element ip netlab-lb nodes { 10.30.45.100 : 0x0a1e2d64, 10.30.45.200 : 0x0a1e2dc8 }\n")
        );
        assert_eq!(table(&BTreeSet::new()), TABLE);
    }
}
