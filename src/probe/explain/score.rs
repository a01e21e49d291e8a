//! How well one difference explains one failure: a sum of small pieces of evidence.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::probe::{
    drift::{Drift, DriftKind},
    judge::{Fault, FaultKind},
    suite::{
        Expect, Group, Probe, TargetKind,
        way::{Hop, Role},
    },
};

/// More is better; nothing at all if it is 0 or less.
pub(super) fn score(probe: &Probe, fault: &Fault, drift: &Drift) -> i32 {
    let Some(hop) = probe.way.iter().find(|hop| hop.netns == drift.netns) else { return 0 };
    // Who asks may also be one of those who may answer.
    let asks = drift.kind == DriftKind::File && probe.way.first().is_some_and(|first| first.netns == drift.netns);
    let place = by_place(if asks { Role::Sender } else { hop.role }, drift.kind);
    if place == 0 {
        return 0;
    }
    let suspect = if fault.suspects.contains(&hop.netns) { 15 } else { 0 };
    let words = match drift.kind {
        DriftKind::Rule => rule(probe, fault, hop, &drift.text),
        DriftKind::Sysctl => sysctl(probe, &drift.text),
        DriftKind::Route => route(probe, &drift.text),
        DriftKind::Neighbour => route(probe, &drift.text),
        DriftKind::Namespace | DriftKind::Link | DriftKind::Address | DriftKind::Server | DriftKind::File => 0,
    };
    place + by_fault(fault.kind, drift.kind) + suspect + words
}

/// What matters in a namespace depends on what it does; 0 does not matter at all.
fn by_place(role: Role, kind: DriftKind) -> i32 {
    match (role, kind) {
        // A file is for the programs that ask; who routes has no need of names.
        (Role::Sender, DriftKind::File) => 30,
        (_, DriftKind::File) => 0,
        (Role::Router, DriftKind::Server) => 30,
        (Role::Router, _) => 50,
        (
            Role::Sender,
            DriftKind::Namespace | DriftKind::Link | DriftKind::Address | DriftKind::Neighbour | DriftKind::Route,
        ) => 60,
        (Role::Sender, DriftKind::Sysctl | DriftKind::Rule) => 30,
        (Role::Sender, DriftKind::Server) => 0,
        (
            Role::Answerer,
            DriftKind::Namespace
            | DriftKind::Link
            | DriftKind::Address
            | DriftKind::Neighbour
            | DriftKind::Route
            | DriftKind::Server,
        ) => 55,
        (Role::Answerer, DriftKind::Sysctl | DriftKind::Rule) => 30,
        // Bridged frames meet the host's rules only where bridge netfilter is on.
        (Role::Wire, DriftKind::Namespace | DriftKind::Link) => 45,
        (Role::Wire, DriftKind::Sysctl | DriftKind::Rule) => 20,
        (Role::Wire, DriftKind::Address | DriftKind::Neighbour | DriftKind::Route | DriftKind::Server) => 0,
    }
}

/// What brings about which failure. A lost link or route is silence, or no way at all; a dead
/// server is a refusal by its kernel; rules can do anything.
fn by_fault(fault: FaultKind, kind: DriftKind) -> i32 {
    match (fault, kind) {
        // A link that goes down takes its routes with it, so it is the cause of both.
        (FaultKind::Timeout, DriftKind::Namespace | DriftKind::Link | DriftKind::Address) => 40,
        (FaultKind::Timeout, DriftKind::Neighbour) => 30,
        (FaultKind::Timeout, DriftKind::Route | DriftKind::Sysctl | DriftKind::Rule) => 15,
        (FaultKind::Timeout, DriftKind::Server) => -30,
        (FaultKind::Refused | FaultKind::Broken, DriftKind::Server) => 40,
        (FaultKind::Refused, DriftKind::Rule) => 20,
        (FaultKind::Refused | FaultKind::Broken, DriftKind::Link | DriftKind::Route) => -30,
        (FaultKind::Unreachable, DriftKind::Namespace | DriftKind::Link | DriftKind::Address) => 55,
        (FaultKind::Unreachable, DriftKind::Route) => 30,
        (FaultKind::Unreachable, DriftKind::Server) => -50,
        (FaultKind::WrongSource | FaultKind::WrongShares | FaultKind::NotSticky, DriftKind::Rule) => 40,
        (FaultKind::WrongShares | FaultKind::NotSticky, _) => -100,
        (FaultKind::WrongSource, DriftKind::Server | DriftKind::Link) => -100,
        (FaultKind::Answered | FaultKind::WrongAnswerer, DriftKind::Rule) => 30,
        (FaultKind::Answered, DriftKind::Server | DriftKind::Link) => -100,
        (FaultKind::WrongAnswerer | FaultKind::WrongContent | FaultKind::Unnamed, DriftKind::Server) => 30,
        (FaultKind::Unnamed | FaultKind::WrongContent, DriftKind::File) => 60,
        (_, DriftKind::File) => -100,
        // Nothing comes back to the resolver, or it is refused.
        (FaultKind::Unnamed, DriftKind::Link | DriftKind::Address) => 40,
        (FaultKind::Unnamed, DriftKind::Route | DriftKind::Sysctl | DriftKind::Rule) => 15,
        // Had it been tried, it might have worked.
        (FaultKind::NotTried, _) => -100,
        _ => 0,
    }
}

/// A rule says in its text whom it is about.
fn rule(probe: &Probe, fault: &Fault, hop: &Hop, text: &str) -> i32 {
    let mut score = 0;
    let masquerades = contains_any(text, &["MASQ", "masquerade", "SNAT", "--or-mark", "--xor-mark", "0x4000"]);
    let balances = contains_any(text, &["statistic", "--probability", "numgen"]);
    let ends_it = contains_any(text, &["-j DROP", "-j REJECT", "drop", "reject"]);
    let forwards = contains_any(text, &["FORWARD", "forward"]);
    let hairpin = matches!(probe.expect, Expect::Itself(_));
    let about_service = probe.target.service.is_some() || fault.kind == FaultKind::Unnamed;
    match fault.kind {
        FaultKind::WrongShares => score += if balances { 20 } else { -20 },
        FaultKind::WrongSource => score += if masquerades { 20 } else { -20 },
        FaultKind::Timeout if ends_it => score += 25,
        FaultKind::Refused if ends_it => score += 10,
        FaultKind::Timeout if masquerades => score += if hairpin || probe.group == Group::Egress { 20 } else { 10 },
        _ => {}
    }
    if forwards && probe.way.first().is_some_and(|first| first.netns == hop.netns) {
        // What a node sends itself meets no FORWARD chain on it.
        score -= 25;
    }
    if contains_any(text, &["OUTPUT"])
        && probe.way.iter().all(|other| other.netns != hop.netns || other.role != Role::Router)
    {
        score -= 20;
    }
    // A rule with this Service's name, address or port is about it; one with an address of the
    // way may be; one that names another Service is not.
    let mine = match fault.kind {
        FaultKind::Unnamed => probe.resolver.as_deref(),
        _ => probe.target.service.as_deref(),
    };
    let named = named_service(text);
    match (mine, named) {
        (Some(mine), Some(named)) if named == mine => score += 20,
        (_, Some(_)) => return -1000,
        _ => {}
    }
    let ours = |ip: &IpAddr| probe.target.ips().contains(ip);
    let backend = |ip: &IpAddr| probe.expect.answerers().iter().any(|answerer| answerer.endpoint.ip() == *ip);
    let ips = addresses(text);
    if ips.iter().any(ours) || probe.target.ports().iter().any(|port| mentions_port(text, *port)) {
        score += 10;
    }
    if ips.iter().any(backend) {
        let me = probe.expect.answerers().first().map(|answerer| answerer.endpoint.ip());
        score += if hairpin && ips.iter().any(|ip| Some(*ip) == me) { 20 } else { 5 };
    }
    if !about_service && (balances || contains_any(text, &["KUBE-SVC", "KUBE-SEP", "KUBE-NODEPORTS", "DNAT"])) {
        // Service rules do not touch what is sent to a pod or a machine itself.
        score -= 100;
    }
    score
}

/// Most settings matter to all packets; these only to some.
fn sysctl(probe: &Probe, text: &str) -> i32 {
    let localhost = probe.target.kind == TargetKind::Localhost;
    if text.contains("route_localnet") {
        return if localhost { 40 } else { -1000 };
    }
    if text.contains("ip_forward") || text.contains("forwarding") {
        return 15;
    }
    if text.contains("bridge-nf") && probe.target.service.is_none() {
        return -1000;
    }
    0
}

/// A route is about the addresses inside its prefix.
fn route(probe: &Probe, text: &str) -> i32 {
    let prefixes: Vec<IpNet> = tokens(text).filter_map(|token| token.parse::<IpNet>().ok()).collect();
    let hosts = addresses(text);
    let hops = probe.way.iter().filter(|hop| hop.role != Role::Wire).flat_map(|hop| hop.ips.iter().copied());
    // Nobody has an address of the load balancer, and there are routes to it all the same.
    let mut ends = hops.chain(probe.target.ips());
    if text.contains("default") || (prefixes.is_empty() && hosts.is_empty()) {
        return 0;
    }
    let inside = |ip: IpAddr| {
        if prefixes.is_empty() { hosts.contains(&ip) } else { prefixes.iter().any(|prefix| prefix.contains(&ip)) }
    };
    if ends.any(inside) { 20 } else { -1000 }
}

/// The Service that a rule names: kube-proxy's comments begin with `NAMESPACE/NAME`, then perhaps
/// `:PORT`, and its nftables chains are called `KIND-HASH-NAMESPACE/NAME/PROTOCOL/PORT`.
fn named_service(text: &str) -> Option<String> {
    let comment = text.split_once("--comment ").or_else(|| text.split_once("comment ")).map(|(_, comment)| comment);
    let comment = comment.map(|comment| comment.trim_start_matches(['"', '\'', '\\']));
    let word = comment.and_then(|comment| comment.split([' ', '"', '\'', '`', '\\']).next());
    let word = word.filter(|word| word.contains('/')).or_else(|| {
        let chain = |word: &str| {
            ["service-", "external-", "cluster-", "local-", "endpoint-"]
                .iter()
                .find_map(|kind| word.strip_prefix(kind)?.split_once('-'))
                .is_some_and(|(hash, name)| hash.len() == 8 && name.contains('/'))
        };
        let name = tokens(text).find(|word| chain(word))?;
        name.splitn(3, '-').nth(2)
    })?;
    let (namespace, rest) = word.split_once('/')?;
    let service = rest.split([':', '/']).next()?;
    (!namespace.is_empty() && !service.is_empty()).then(|| format!("{namespace}/{service}"))
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '`' | '"' | '\'' | '(' | ')' | '{' | '}'))
}

fn addresses(text: &str) -> Vec<IpAddr> {
    tokens(text)
        .filter_map(|token| {
            let host = token.strip_suffix("/32").or_else(|| token.strip_suffix("/128")).unwrap_or(token);
            host.parse().ok().or_else(|| host.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        })
        .collect()
}

fn mentions_port(text: &str, port: u16) -> bool {
    let port = port.to_string();
    let mut words = tokens(text);
    while let Some(word) = words.next() {
        if word == "--dport" || word == "dport" {
            return words.next() == Some(port.as_str());
        }
    }
    false
}

fn contains_any(text: &str, needles: &[&str]) -> bool {
    needles.iter().any(|needle| text.contains(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_its_service() {
        let name = |text| named_service(text);
        assert_eq!(
            name(r#"-A KUBE-SERVICES -m comment --comment "default/shop:http cluster IP" -j X"#).as_deref(),
            Some("default/shop")
        );
        assert_eq!(name("-A X -m comment --comment default/shop -j Y").as_deref(), Some("default/shop"));
        assert_eq!(name(r#"-A X -m comment --comment "kubernetes service portals" -j Y"#), None);
        assert_eq!(name("-A X -j Y"), None);
        assert_eq!(name("-s 192.168.1.0/24 -m comment --comment \"rule 5: default/shop\" -j MASQUERADE"), None);
        assert_eq!(
            name("all 2 rules of chain external-E3YSUNHF-default/my-shop/udp/echo (table ip kube-proxy) are missing")
                .as_deref(),
            Some("default/my-shop")
        );
        assert_eq!(
            name("`10.96.1.100 . tcp . 8080 comment \"default/shop:http\" : goto x`").as_deref(),
            Some("default/shop")
        );
    }

    #[test]
    fn addresses_and_ports_of_a_rule() {
        let text = "the rule `-A X -d 10.96.1.100/32 -p tcp --dport 8080 -j DNAT --to-destination 192.168.1.10:80`";
        assert_eq!(
            addresses(text),
            ["10.96.1.100".parse::<IpAddr>().unwrap(), "192.168.1.10".parse::<IpAddr>().unwrap()]
        );
        assert!(mentions_port(text, 8080));
        assert!(!mentions_port(text, 80));
    }
}
