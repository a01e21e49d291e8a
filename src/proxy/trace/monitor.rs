//! From what `nft monitor trace` prints to what a packet met, base chain by base chain.
//!
//! The text is a tool's for people, and grows from version to version: a line that is not
//! understood is left out.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// A packet's visit to a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// The kernel's mark of the packet; the same at all chains of one hook.
    pub id: String,
    /// The chain, as `TABLE CHAIN`.
    pub chain: String,
    /// The packet, as it came there.
    pub header: Header,
    /// The rules that matched.
    pub hits: Vec<Seen>,
    /// The chain's policy, if no rule decided.
    pub policy: Option<String>,
}

/// What the kernel says of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The device that it came in by.
    pub came_in: Option<String>,
    /// The device that it goes out by.
    pub goes_out: Option<String>,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its chain, as `TABLE CHAIN`.
    pub chain: String,
    /// The rule, without its counters.
    pub text: String,
    /// What it did: `jump CHAIN`, `goto CHAIN`, `return`, `accept`, `drop`, `continue`.
    pub verdict: String,
}

/// Reads what was printed, in its order.
pub fn visits<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Visit> {
    let mut visits: Vec<Visit> = Vec::new();
    // The visit that each packet is on.
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines.into_iter().filter_map(line) {
        let Line { id, chain, what } = line;
        match what {
            What::Packet(header) => {
                open.insert(id.clone(), visits.len());
                visits.push(Visit { id, chain, header, hits: Vec::new(), policy: None });
            }
            What::Rule { text, verdict } => {
                if let Some(visit) = open.get(&id).and_then(|index| visits.get_mut(*index)) {
                    visit.hits.push(Seen { chain, text, verdict });
                }
            }
            What::Policy(policy) => {
                if let Some(visit) = open.get(&id).and_then(|index| visits.get_mut(*index)) {
                    visit.policy = Some(policy);
                }
            }
        }
    }
    visits
}

struct Line {
    id: String,
    chain: String,
    what: What,
}

enum What {
    Packet(Header),
    Rule { text: String, verdict: String },
    Policy(String),
}

/// `trace id ID FAMILY TABLE CHAIN packet: …`, `… rule TEXT (verdict VERDICT)`, `… policy POLICY`
fn line(line: &str) -> Option<Line> {
    let mut words = line.strip_prefix("trace id ")?.splitn(5, ' ');
    let (id, _family, table, chain) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (kind, rest) = words.next()?.split_once(' ')?;
    let what = match kind {
        "packet:" => What::Packet(header(rest)?),
        "rule" => {
            let (text, verdict) = rest.rsplit_once("(verdict ")?;
            What::Rule { text: without_counters(text), verdict: verdict.trim_end().trim_end_matches(')').to_owned() }
        }
        "policy" => What::Policy(rest.split_whitespace().next()?.to_owned()),
        _ => return None,
    };
    Some(Line { id: id.to_owned(), chain: format!("{table} {chain}"), what })
}

fn header(text: &str) -> Option<Header> {
    // The frame has addresses as well, before the packet's.
    let packet = text.find("ip saddr ").or_else(|| text.find("ip6 saddr "))?;
    let words = |text: &'_ str, key: &str| {
        let mut words = text.split_whitespace().skip_while(|word| *word != key);
        words.nth(1).map(|word| word.trim_matches('"').to_owned())
    };
    let ip = |key| words(&text[packet..], key)?.parse::<IpAddr>().ok();
    // What has no ports (ICMP) has none here either.
    let port = |key| words(&text[packet..], key).map_or(Some(0), |port| port.parse::<u16>().ok());
    Some(Header {
        came_in: words(&text[..packet], "iif"),
        goes_out: words(&text[..packet], "oif"),
        source: SocketAddr::new(ip("saddr")?, port("sport")?),
        to: SocketAddr::new(ip("daddr")?, port("dport")?),
    })
}

/// `counter packets 3 bytes 180` says nothing of the one packet.
fn without_counters(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut kept = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if *word == "counter" && words.get(at + 1) == Some(&"packets") {
            at += 5;
        } else {
            kept.push(*word);
            at += 1;
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_trace_of_iptables() {
        let visits = visits(include_str!("recorded/laptop-node-port.iptables.node1.txt").lines());
        let chains: Vec<&str> = visits.iter().map(|visit| visit.chain.as_str()).collect();
        assert_eq!(
            chains,
            [
                "netlab-trace prerouting",
                "nat PREROUTING",
                "filter FORWARD",
                "nat POSTROUTING",
                "netlab-trace postrouting",
                "netlab-trace prerouting",
                "filter FORWARD",
                "netlab-trace postrouting",
            ]
        );
        let nat = &visits[1];
        assert_eq!(nat.header.came_in.as_deref(), Some("eth0"));
        assert_eq!(nat.header.to, "10.30.45.100:30080".parse().unwrap());
        assert_eq!(nat.hits[0].text, "jump KUBE-SERVICES");
        assert_eq!(nat.hits[1].text, "fib daddr type local jump KUBE-NODEPORTS");
        assert_eq!(nat.hits[1].verdict, "jump KUBE-NODEPORTS");
        assert_eq!(nat.hits.last().unwrap().verdict, "accept");
        assert_eq!(visits[4].policy.as_deref(), Some("accept"));
    }

    #[test]
    fn a_recorded_trace_of_nftables_has_verdicts_of_maps() {
        let visits = visits(include_str!("recorded/laptop-node-port.nftables.node1.txt").lines());
        let nat = visits.iter().find(|visit| visit.chain == "kube-proxy nat-prerouting").unwrap();
        assert_eq!(nat.hits[1].verdict, "goto external-YIJHRN2W-default/http-server-svc/tcp/");
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        for text in [
            "",
            "trace id",
            "trace id 1 ip t c",
            "trace id 1 ip t c unknown x",
            "add table ip x",
            "trace id 1 ip t c packet: arp",
        ] {
            assert_eq!(visits([text]), [], "{text:?}");
        }
    }
}
