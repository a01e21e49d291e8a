//! The rules that make the kernel tell of one connection, and what is told: what the CLI and the
//! agent say to each other when the kernel is to be listened to.

use std::{collections::BTreeSet, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::probe::order::{Order, Try};

/// The table that the rules are in; no proxy has one of that name.
pub const TABLE: &str = "netlab-trace";

/// A connection to make, and to listen to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapOrder {
    /// The connection; it is made once.
    pub order: Order,
    /// The network namespaces to listen in.
    pub nodes: Vec<String>,
    /// Where a rule may lead it.
    pub endpoints: Vec<SocketAddr>,
}

/// What came of a [`TapOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tapped {
    /// The port that the connection came from.
    pub port: u16,
    /// What the client saw.
    pub result: Try,
    /// What was heard, by network namespace: lines of `nft monitor trace`.
    pub heard: Vec<(String, Vec<String>)>,
}

/// What the rules are to tell of.
#[derive(Debug, Clone)]
pub struct Tap<'a> {
    /// `tcp` or `udp`.
    pub protocol: &'a str,
    /// Where the connection comes from.
    pub port: u16,
    /// Where it goes.
    pub to: SocketAddr,
    /// Where a rule may lead it.
    pub endpoints: &'a [SocketAddr],
    /// Datagrams from these ports are told of as well: they mark the beginning and the end.
    pub marks: &'a [u16],
}

/// The input of `nft -f -`.
///
/// Before all other chains a packet of the connection is picked out: on its way there by its own
/// addresses, and by an endpoint's once another node has translated them; on its way back by
/// where it comes from. The last two may pick out a stranger's, which [`super::live`] leaves out
/// again. Of TCP only the first packet of each direction is told of. After all other chains,
/// two chains without rules show the addresses that the packet has in the end.
pub fn rules(tap: &Tap<'_>) -> String {
    let Tap { protocol, port, to, endpoints, marks } = tap;
    let (first, answer) = match *protocol {
        "tcp" => (" tcp flags & (fin | syn | rst | ack) == syn", " tcp flags & (syn | rst) != 0 tcp flags & ack != 0"),
        _ => ("", ""),
    };
    let list = |addresses: &BTreeSet<SocketAddr>| {
        let elements = addresses.iter().map(|address| format!("{} . {}", address.ip(), address.port()));
        elements.collect::<Vec<_>>().join(", ")
    };
    let endpoints: BTreeSet<SocketAddr> = endpoints.iter().copied().collect();
    let mut all = endpoints.clone();
    all.insert(*to);
    let mut picks = vec![format!("{protocol} sport {port} ip daddr {} {protocol} dport {}{first}", to.ip(), to.port())];
    if !endpoints.is_empty() {
        picks.push(format!("ip daddr . {protocol} dport {{ {} }}{first}", list(&endpoints)));
    }
    picks.push(format!("ip saddr . {protocol} sport {{ {} }}{answer}", list(&all)));
    picks.extend(marks.iter().map(|mark| format!("ip saddr 127.0.0.1 udp sport {mark}")));
    let mut text = format!("add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n");
    let mut line = |line: String| text.push_str(&format!("    {line}\n"));
    // What is told of a packet begins in the chain whose rule asks for it: that must be a base
    // chain, which names the hook.
    for hook in ["prerouting", "output"] {
        line(format!("chain {hook} {{"));
        line(format!("    type filter hook {hook} priority -350; policy accept;"));
        for pick in &picks {
            line(format!("    {pick} meta nftrace set 1"));
        }
        line("}".to_owned());
    }
    for hook in ["input", "postrouting"] {
        line(format!("chain {hook} {{ type filter hook {hook} priority 350; policy accept; }}"));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_pick_out_one_connection() {
        let endpoints = ["192.168.1.10:80".parse().unwrap(), "192.168.2.20:80".parse().unwrap()];
        let to = "10.30.45.100:30080".parse().unwrap();
        let text = rules(&Tap { protocol: "tcp", port: 40000, to, endpoints: &endpoints, marks: &[41000, 42000] });
        assert_eq!(
            text,
            "add table ip netlab-trace
delete table ip netlab-trace
table ip netlab-trace {
    chain prerouting {
        type filter hook prerouting priority -350; policy accept;
        tcp sport 40000 ip daddr 10.30.45.100 tcp dport 30080 tcp flags & (fin | syn | rst | ack) == syn meta nftrace set 1
        ip daddr . tcp dport { 192.168.1.10 . 80, 192.168.2.20 . 80 } tcp flags & (fin | syn | rst | ack) == syn meta nftrace set 1
        ip saddr . tcp sport { 10.30.45.100 . 30080, 192.168.1.10 . 80, 192.168.2.20 . 80 } tcp flags & (syn | rst) != 0 tcp flags & ack != 0 meta nftrace set 1
        ip saddr 127.0.0.1 udp sport 41000 meta nftrace set 1
        ip saddr 127.0.0.1 udp sport 42000 meta nftrace set 1
    }
    chain output {
        type filter hook output priority -350; policy accept;
        tcp sport 40000 ip daddr 10.30.45.100 tcp dport 30080 tcp flags & (fin | syn | rst | ack) == syn meta nftrace set 1
        ip daddr . tcp dport { 192.168.1.10 . 80, 192.168.2.20 . 80 } tcp flags & (fin | syn | rst | ack) == syn meta nftrace set 1
        ip saddr . tcp sport { 10.30.45.100 . 30080, 192.168.1.10 . 80, 192.168.2.20 . 80 } tcp flags & (syn | rst) != 0 tcp flags & ack != 0 meta nftrace set 1
        ip saddr 127.0.0.1 udp sport 41000 meta nftrace set 1
        ip saddr 127.0.0.1 udp sport 42000 meta nftrace set 1
    }
    chain input { type filter hook input priority 350; policy accept; }
    chain postrouting { type filter hook postrouting priority 350; policy accept; }
}
"
        );
    }
}
