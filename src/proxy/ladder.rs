//! From a [`NodeView`] to the flat rules of the book chapter: what a student types by hand.
//!
//! There are no chains of our own and no marks. A ladder of DNAT rules stands in PREROUTING for
//! whoever comes to the node or passes it, and again in OUTPUT for the node itself; POSTROUTING
//! masquerades what was translated, so that replies come back the same way. The order is the
//! chapter's. Three things differ, each because the chapter's rule would break something else
//! that holds in a cluster:
//!
//! - the probabilities are exact, so the last endpoint gets no more than its share;
//! - rules 4, 5 and 9 spare packets between pods and nodes that no Service has touched;
//! - rule 5 leaves 127.0.0.1 to rule 10, which would otherwise never match.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{
    iptables::one_in,
    table::{Chain, Table, note, rule},
    view::{NodeView, PortView, view},
};
use crate::{
    diag::{Diagnostic, Diagnostics},
    lab::model::{Lab, Protocol, ProxyMode, Server, Span, TrafficPolicy},
};

/// A packet of a connection that a rule above has translated.
const TRANSLATED: &str = "-m conntrack --ctstate DNAT";
/// A packet of one that none has.
const UNTOUCHED: &str = "-m conntrack ! --ctstate DNAT";

/// A node's complete rules.
pub fn render(view: &NodeView) -> String {
    let nat = Table::new(
        "nat",
        [
            prerouting(view),
            masquerade_local(view),
            masquerade_remote(view),
            output(view),
            masquerade_internal(view),
            translate_loopback(view),
        ],
    );
    nat.to_string()
}

/// Rules 1 to 3.
fn prerouting(view: &NodeView) -> Chain {
    let mut chain = Chain::built_in("PREROUTING", "rules 1 to 3, share out what comes to this node or passes it");
    for port in view.ports.iter() {
        for (ip, number, what) in addresses(view, port) {
            ladder(&mut chain, port, ip, number, what);
        }
    }
    chain
}

/// Rule 4.
fn masquerade_local(view: &NodeView) -> Chain {
    let mut chain = Chain::built_in("POSTROUTING", "rule 4, this node's pods leave the cluster with its address");
    let (pods, cluster) = (view.pod_subnet, view.cluster_cidr);
    for ip in &view.node_ips {
        rule!(chain, "-s {pods} -d {ip} {UNTOUCHED} {} -j ACCEPT", note("pod to node, as it is"));
    }
    rule!(chain, "-s {pods} ! -d {cluster} {} -j MASQUERADE", note("rule 4: pods on their way out"));
    chain
}

/// Rule 5: one for each endpoint on another machine.
fn masquerade_remote(view: &NodeView) -> Chain {
    let about = "rule 5, a remote endpoint must answer through this node, which undoes the translation";
    let mut chain = Chain::built_in("POSTROUTING", about);
    let spared = if view.ip.is_ipv4() { "! -s 127.0.0.1 " } else { "" };
    for ((protocol, endpoint), label) in remote_endpoints(view) {
        let (p, ip, port) = (protocol.lower(), endpoint.ip(), endpoint.port());
        let what = note(&format!("rule 5: {label} at a remote endpoint"));
        rule!(chain, "{spared}-d {ip} -p {p} -m {p} --dport {port} {TRANSLATED} {what} -j MASQUERADE");
    }
    chain
}

/// Rules 6 to 8.
fn output(view: &NodeView) -> Chain {
    let mut chain = Chain::built_in("OUTPUT", "rules 6 to 8, the same for the node itself, and for 127.0.0.1");
    for port in view.ports.iter() {
        for (ip, number, what) in addresses(view, port) {
            ladder(&mut chain, port, ip, number, what);
        }
        if let Some(node_port) = port.node_port.filter(|_| view.localhost_node_ports) {
            ladder(&mut chain, port, Ipv4Addr::LOCALHOST.into(), node_port, "localhost");
        }
    }
    chain
}

/// Rule 9.
fn masquerade_internal(view: &NodeView) -> Chain {
    let about = "rule 9, a local endpoint must answer the bridge: no client, not itself, and not 127.0.0.1";
    let mut chain = Chain::built_in("POSTROUTING", about);
    let what = note("rule 9: a Service at a local endpoint");
    rule!(chain, "-d {} {TRANSLATED} {what} -j MASQUERADE", view.pod_subnet);
    chain
}

/// Rule 10: one for each endpoint on another machine.
fn translate_loopback(view: &NodeView) -> Chain {
    let about = "rule 10, no other machine can answer 127.0.0.1";
    let mut chain = Chain::built_in("POSTROUTING", about);
    if view.localhost_node_ports {
        for ((protocol, endpoint), label) in remote_endpoints(view) {
            let (p, ip, port) = (protocol.lower(), endpoint.ip(), endpoint.port());
            let what = note(&format!("rule 10: {label} from localhost"));
            rule!(chain, "-s 127.0.0.1 -d {ip} -p {p} -m {p} --dport {port} {what} -j SNAT --to-source {}", view.ip);
        }
    }
    chain
}

/// The addresses that are a Service port's wherever a packet for them is seen.
fn addresses(view: &NodeView, port: &PortView) -> Vec<(IpAddr, u16, &'static str)> {
    let mut all = vec![(port.cluster_ip, port.port, "ClusterIP")];
    all.extend(port.outer_ips().map(|ip| (*ip, port.port, "outer address")));
    all.extend(port.node_port.map(|node_port| (view.ip, node_port, "node port")));
    all
}

/// One rule per endpoint: 1/n, then 1/(n-1) of the rest, …, and all that is left.
fn ladder(chain: &mut Chain, port: &PortView, ip: IpAddr, number: u16, what: &str) {
    let (p, count) = (port.protocol.lower(), port.usable.len());
    let what = note(&format!("{} {what}", port.label()));
    for (i, endpoint) in port.usable.iter().enumerate() {
        let to = format!("-j DNAT --to-destination {}", endpoint.addr);
        match count - i {
            1 => rule!(chain, "-d {ip} -p {p} -m {p} --dport {number} {what} {to}"),
            left => rule!(chain, "-d {ip} -p {p} -m {p} --dport {number} {} {what} {to}", one_in(left)),
        }
    }
}

/// The endpoints that are neither this node's pods nor this node, each with the first Service
/// port that it is for.
fn remote_endpoints(view: &NodeView) -> BTreeMap<(Protocol, SocketAddr), String> {
    let mut all = BTreeMap::new();
    for port in view.ports.iter() {
        for endpoint in port.usable.iter().map(|endpoint| endpoint.addr) {
            if !view.pod_subnet.contains(&endpoint.ip()) && endpoint.ip() != view.ip {
                all.entry((port.protocol, endpoint)).or_insert_with(|| port.label());
            }
        }
    }
    all
}

/// Refuses a lab whose nodes shall get these rules, and that asks for more than they can do.
///
/// # Errors
///
/// Everything that it asks for so, with its place in the lab file.
pub fn check(lab: Lab) -> Result<Lab, Diagnostics> {
    let found = match lab.cluster.proxy {
        ProxyMode::Ladder => cannot_express(&lab),
        ProxyMode::Iptables | ProxyMode::Nftables => Vec::new(),
    };
    if found.is_empty() {
        return Ok(lab);
    }
    let hint = "choose `proxy = \"iptables\"` or `proxy = \"nftables\"` in [cluster]";
    Err(Diagnostics(found.into_iter().map(|(at, message)| Diagnostic::new(at, message).hint(hint)).collect()))
}

/// What a lab asks for that flat rules cannot do, each with its place in the lab file: one
/// lowercase sentence without a full stop.
pub fn cannot_express(lab: &Lab) -> Vec<(Span, String)> {
    let mut found = Vec::new();
    let mut say = |at: &Span, what: &str| found.push((at.clone(), format!("the ladder proxy cannot express {what}")));
    for service in &lab.services {
        let asks = [
            (service.session_affinity.is_some(), "session affinity: every connection is balanced anew"),
            (
                service.internal_traffic_policy == TrafficPolicy::Local,
                "`internal_traffic_policy = \"Local\"`: every node uses every endpoint",
            ),
            (
                service.external_traffic_policy == TrafficPolicy::Local,
                "`external_traffic_policy = \"Local\"`: every node uses every endpoint, and the client's address is lost",
            ),
            (!service.source_ranges.is_empty(), "`load_balancer_source_ranges`: everyone is let through"),
            (service.traffic_distribution.is_some(), "`traffic_distribution`: every node uses every endpoint"),
        ];
        for (_, what) in asks.iter().filter(|(asked, _)| *asked) {
            say(&service.at, what);
        }
    }
    // One view tells whether a Service has endpoints; which node's makes no difference.
    let ports = lab.node_ids().next().map(|node| view(lab, node).ports);
    for port in ports.iter().flat_map(|ports| ports.iter()) {
        if port.usable.is_empty() {
            say(&port.at, "that a Service without endpoints refuses: it has no rule for one at all");
        }
    }
    for pod in &lab.pods {
        let ports =
            pod.containers.iter().flat_map(|container| container.ports.iter().map(move |port| (container, port)));
        for (container, _) in ports.filter(|(_, port)| port.host_port.is_some() && !pod.host_network) {
            // The place of a command is no place for its ports.
            let at = if matches!(container.server, Server::Command(_)) { &pod.at } else { &container.at };
            say(at, "`host_port`");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::NodeId,
        proxy::sample::{self, book, parsed},
    };

    #[test]
    fn the_books_lab() {
        sample::golden("book.node1.ladder", &render(&view(&book(), NodeId(0))));
    }

    #[test]
    fn every_kind_of_service() {
        sample::golden("everything.node1.ladder", &render(&view(&sample::everything(), NodeId(0))));
    }

    #[test]
    fn a_third_a_half_and_the_rest() {
        let text = render(&view(&book(), NodeId(1)));
        let rungs: Vec<&str> =
            text.lines().filter(|line| line.contains("PREROUTING -d 10.96.1.100")).map(probability).collect();
        assert_eq!(rungs, ["0.3333333333", "0.5000000000", "the rest"]);
    }

    fn probability(line: &str) -> &str {
        let after = line.split_once("--probability ").map(|(_, after)| after);
        after.and_then(|after| after.split(' ').next()).unwrap_or("the rest")
    }

    #[test]
    fn it_says_what_it_cannot_do() {
        let mut lab = book();
        assert_eq!(cannot_express(&lab), []);
        let service = &mut lab.services[0];
        service.at = 7..9;
        service.session_affinity = Some(10800);
        service.external_traffic_policy = TrafficPolicy::Local;
        lab.pods[0].containers[0].ports[0].host_port = Some(crate::lab::model::HostPort { port: 8080, ip: None });
        lab.services[0].selector = [(parsed("app"), parsed("none"))].into();
        let found: Vec<(Span, String)> = cannot_express(&lab);
        let starts =
            ["session affinity", "`external_traffic_policy", "that a Service without endpoints", "`host_port`"];
        assert_eq!(found.len(), starts.len());
        for ((_, what), start) in found.iter().zip(starts) {
            assert!(what.starts_with(&format!("the ladder proxy cannot express {start}")), "{what}");
        }
        assert_eq!(found[0].0, 7..9);
    }
}
