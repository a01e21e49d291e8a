//! From a [`NodeView`] to the input of `iptables-restore --noflush`, as kube-proxy writes it.
//!
//! Chains, names, comments and their order are kube-proxy's; the lines that begin with `#` say
//! what each chain is for, and iptables skips them. The pods' way out (NETLAB-EGRESS) and
//! their host ports (NETLAB-HOSTPORT…) are what a CNI plugin would add.
//!
//! The jumps from the built-in chains are appended to a namespace that has no rules yet; the
//! built-in chains themselves are never declared, so never emptied.

use super::{
    endpoints::Endpoint,
    hash,
    table::{Chain, Table, note, rule},
    view::{LocalTraffic, NodeView, PortView},
};

/// A node's complete rules.
pub fn render(view: &NodeView) -> String {
    let canary = || Chain::new("KUBE-PROXY-CANARY", "empty; when it is gone, someone flushed the table");
    let mut filter = Table::new("filter", [canary()]);
    filter.add(jumps("filter"));
    filter.add(filter_chains(view));
    let mut nat = Table::new("nat", [canary()]);
    nat.add(jumps("nat"));
    nat.add(nat_chains(view));
    nat.add(view.ports.iter().flat_map(|port| port_chains(view, port)));
    nat.add(host_port_chains(view));
    nat.add(egress_chains(view));
    format!("{}{filter}{nat}", Table::new("mangle", [canary()]))
}

/// The jumps from the built-in chains, in the order in which a packet meets them: table, chain,
/// match, target, comment.
///
/// kube-proxy prepends its jumps one after the other; this is what comes out.
const JUMPS: [(&str, &str, &str, &str, &str); 14] = [
    ("filter", "INPUT", "", "KUBE-FIREWALL", ""),
    ("filter", "INPUT", NEW, "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall"),
    ("filter", "INPUT", "", "KUBE-NODEPORTS", "kubernetes health check service ports"),
    ("filter", "INPUT", NEW, "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals"),
    ("filter", "FORWARD", NEW, "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall"),
    ("filter", "FORWARD", "", "KUBE-FORWARD", "kubernetes forwarding rules"),
    ("filter", "FORWARD", NEW, "KUBE-SERVICES", "kubernetes service portals"),
    ("filter", "FORWARD", NEW, "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals"),
    ("filter", "OUTPUT", "", "KUBE-FIREWALL", ""),
    ("filter", "OUTPUT", NEW, "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall"),
    ("filter", "OUTPUT", NEW, "KUBE-SERVICES", "kubernetes service portals"),
    ("nat", "PREROUTING", "", "KUBE-SERVICES", "kubernetes service portals"),
    ("nat", "OUTPUT", "", "KUBE-SERVICES", "kubernetes service portals"),
    ("nat", "POSTROUTING", "", "KUBE-POSTROUTING", "kubernetes postrouting rules"),
];

const NEW: &str = "-m conntrack --ctstate NEW";

/// The mark, and its mask, of a connection that is to be masqueraded.
const MASQ: &str = "0x4000/0x4000";

fn jumps(table: &str) -> Vec<Chain> {
    let mut chains: Vec<(&str, Chain)> = Vec::new();
    for (_, from, matches, to, comment) in JUMPS.iter().filter(|jump| jump.0 == table) {
        if chains.last().is_none_or(|(last, _)| last != from) {
            chains.push((from, Chain::built_in(*from, "what a packet meets here, in this order")));
        }
        let comment = if comment.is_empty() { String::new() } else { note(comment) };
        let parts = [*matches, &comment, "-j", to];
        let text: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if let Some((_, chain)) = chains.last_mut() {
            rule!(chain, "{}", text.join(" "));
        }
    }
    chains.into_iter().map(|(_, chain)| chain).collect()
}

fn filter_chains(view: &NodeView) -> Vec<Chain> {
    let mut services = Chain::new("KUBE-SERVICES", "ClusterIPs that have no endpoint to lead to");
    let mut external = Chain::new("KUBE-EXTERNAL-SERVICES", "outer addresses and node ports without an endpoint");
    let mut node_ports = Chain::new("KUBE-NODEPORTS", "health check ports stay open");
    let mut firewall = Chain::new("KUBE-PROXY-FIREWALL", "what a KUBE-FW- chain did not let through");
    for port in view.ports.iter() {
        let (label, p, number) = (port.label(), proto(port), port.port);
        if !port.endpoints.has_internal {
            let (why, verdict) = absence(port);
            let why = note(&format!("{label} has {why}"));
            rule!(services, "{why} {p} -d {} --dport {number} -j {verdict}", port.cluster_ip);
        }
        if !port.endpoints.has_external {
            let (why, verdict) = absence(port);
            let why = note(&format!("{label} has {why}"));
            for ip in port.outer_ips() {
                rule!(external, "{why} {p} -d {ip} --dport {number} -j {verdict}");
            }
            if let Some(node_port) = port.node_port {
                rule!(external, "{why} -m addrtype --dst-type LOCAL {p} --dport {node_port} -j {verdict}");
            }
        }
        if has_firewall(port) {
            let why = note(&format!("{label} traffic not accepted by KUBE-FW-{}", suffix(port)));
            for ip in &port.load_balancer_ips {
                rule!(firewall, "{why} {p} -d {ip} --dport {number} -j DROP");
            }
        }
        if let Some(check) = port.health_check_node_port {
            let what = note(&format!("{label} health check node port"));
            rule!(node_ports, "{what} -m tcp -p tcp --dport {check} -j ACCEPT");
        }
    }

    let mut forward = Chain::new("KUBE-FORWARD", "masqueraded and established connections may pass any policy");
    rule!(forward, "-m conntrack --ctstate INVALID -j DROP");
    rule!(forward, "{} -m mark --mark {MASQ} -j ACCEPT", note("kubernetes forwarding rules"));
    let established = note("kubernetes forwarding conntrack rule");
    rule!(forward, "{established} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");

    let mut martians = Chain::new("KUBE-FIREWALL", "the loopback network is no one else's, route_localnet or not");
    if view.localhost_node_ports {
        let what = note("block incoming localnet connections");
        let state = "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT";
        rule!(martians, "{what} -d 127.0.0.0/8 ! -s 127.0.0.0/8 {state} -j DROP");
    }
    vec![services, external, node_ports, firewall, forward, martians]
}

fn nat_chains(view: &NodeView) -> Vec<Chain> {
    let mut services = Chain::new("KUBE-SERVICES", "which Service a packet is for");
    let mut node_ports = Chain::new("KUBE-NODEPORTS", "which Service a port of this node is for");
    for port in view.ports.iter() {
        let (label, p, number, suffix) = (port.label(), proto(port), port.port, suffix(port));
        if port.endpoints.has_internal {
            let what = note(&format!("{label} cluster IP"));
            rule!(services, "{what} {p} -d {} --dport {number} -j {}", port.cluster_ip, internal(port));
        }
        if port.has_external_rules() {
            for ip in &port.external_ips {
                let what = note(&format!("{label} external IP"));
                rule!(services, "{what} {p} -d {ip} --dport {number} -j KUBE-EXT-{suffix}");
            }
            for ip in &port.load_balancer_ips {
                let what = note(&format!("{label} loadbalancer IP"));
                let to = if has_firewall(port) { "FW" } else { "EXT" };
                rule!(services, "{what} {p} -d {ip} --dport {number} -j KUBE-{to}-{suffix}");
            }
            if let Some(node_port) = port.node_port {
                rule!(node_ports, "{} {p} --dport {node_port} -j KUBE-EXT-{suffix}", note(&label));
            }
        }
    }
    let last = note("kubernetes service nodeports; NOTE: this must be the last rule in this chain");
    let loopback = if view.localhost_node_ports { "" } else { loopback_excluded(view) };
    rule!(services, "{last} {loopback}-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS");

    let mut mark = Chain::new("KUBE-MARK-MASQ", "this connection is to be masqueraded");
    rule!(mark, "-j MARK --or-mark 0x4000");

    let mut postrouting = Chain::new("KUBE-POSTROUTING", "masquerade what is marked, and take the mark off");
    rule!(postrouting, "-m mark ! --mark {MASQ} -j RETURN");
    rule!(postrouting, "-j MARK --xor-mark 0x4000");
    let what = note("kubernetes service traffic requiring SNAT");
    rule!(postrouting, "{what} -j MASQUERADE --random-fully");
    vec![services, node_ports, mark, postrouting]
}

/// The match that keeps the loopback network away from the node ports.
fn loopback_excluded(view: &NodeView) -> &'static str {
    if view.ip.is_ipv4() { "! -d 127.0.0.0/8 " } else { "! -d ::1/128 " }
}

/// The chains of one Service port, in the order in which a packet may pass them.
fn port_chains(view: &NodeView, port: &PortView) -> Vec<Chain> {
    let mut chains = Vec::new();
    if has_firewall(port) {
        chains.push(firewall(view, port));
    }
    if port.has_external_rules() {
        chains.push(external(view, port));
    }
    let policies = [
        ("SVC", port.policy.uses_cluster(), &port.endpoints.cluster),
        ("SVL", port.policy.uses_local(), &port.endpoints.local),
    ];
    for (prefix, used, endpoints) in policies {
        if used && !endpoints.is_empty() {
            chains.push(balance(view, port, &format!("KUBE-{prefix}-{}", suffix(port)), endpoints));
        }
    }
    chains.extend(port.endpoints.reachable().into_iter().map(|endpoint| endpoint_chain(port, endpoint)));
    chains
}

fn firewall(view: &NodeView, port: &PortView) -> Chain {
    let (label, suffix) = (port.label(), suffix(port));
    let mut chain = Chain::new(format!("KUBE-FW-{suffix}"), format!("who may use the load balancer of {label}"));
    let what = note(&format!("{label} loadbalancer IP"));
    for range in &port.source_ranges {
        rule!(chain, "{what} -s {range} -j KUBE-EXT-{suffix}");
    }
    // A node that answers for the load balancer itself may send from its address.
    if port.source_ranges.iter().any(|range| range.contains(&view.ip)) {
        for ip in &port.load_balancer_ips {
            rule!(chain, "{what} -s {ip} -j KUBE-EXT-{suffix}");
        }
    }
    rule!(chain, "{}", note(&format!("other traffic to {label} will be dropped by KUBE-PROXY-FIREWALL")));
    chain
}

fn external(view: &NodeView, port: &PortView) -> Chain {
    let (label, suffix) = (port.label(), suffix(port));
    let mut chain = Chain::new(format!("KUBE-EXT-{suffix}"), format!("{label} from outside, or as if from outside"));
    if !port.external_is_local() {
        let what = note(&format!("masquerade traffic for {label} external destinations"));
        rule!(chain, "{what} -j KUBE-MARK-MASQ");
        rule!(chain, "-j KUBE-SVC-{suffix}");
        return chain;
    }
    if let Some(local) = &view.local_traffic {
        let what = note(&format!("pod traffic for {label} external destinations"));
        rule!(chain, "{what} {} -j KUBE-SVC-{suffix}", from(local));
    }
    let what = note(&format!("masquerade LOCAL traffic for {label} external destinations"));
    rule!(chain, "{what} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ");
    let what = note(&format!("route LOCAL traffic for {label} external destinations"));
    rule!(chain, "{what} -m addrtype --src-type LOCAL -j KUBE-SVC-{suffix}");
    if !port.endpoints.local.is_empty() {
        rule!(chain, "-j KUBE-SVL-{suffix}");
    }
    chain
}

/// The chain that chooses one of the endpoints.
fn balance(view: &NodeView, port: &PortView, name: &str, endpoints: &[Endpoint]) -> Chain {
    let (label, p) = (port.label(), proto(port));
    let mut chain = Chain::new(name, format!("one of the {} endpoints of {label}", endpoints.len()));
    if name == internal(port) {
        let what = note(&format!("{label} cluster IP"));
        let to = format!("{p} -d {} --dport {}", port.cluster_ip, port.port);
        match &view.local_traffic {
            _ if view.masquerade_all => rule!(chain, "{what} {to} -j KUBE-MARK-MASQ"),
            Some(local) => rule!(chain, "{what} {to} ! {} -j KUBE-MARK-MASQ", from(local)),
            None => {}
        }
    }
    if let Some(timeout) = port.affinity {
        for endpoint in endpoints {
            let (what, sep) = (note(&format!("{label} -> {}", endpoint.addr)), sep(port, endpoint));
            rule!(chain, "{what} -m recent --name {sep} --rcheck --seconds {timeout} --reap -j {sep}");
        }
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let (what, sep) = (note(&format!("{label} -> {}", endpoint.addr)), sep(port, endpoint));
        match endpoints.len() - i {
            1 => rule!(chain, "{what} -j {sep}"),
            left => rule!(chain, "{what} {} -j {sep}", one_in(left)),
        }
    }
    chain
}

fn endpoint_chain(port: &PortView, endpoint: &Endpoint) -> Chain {
    let (label, p, sep) = (port.label(), proto(port), sep(port, endpoint));
    let mut chain = Chain::new(&sep, format!("{label} at {}", endpoint.addr));
    let what = note(&label);
    let remember = if port.affinity.is_some() { format!("-m recent --name {sep} --set ") } else { String::new() };
    rule!(chain, "{what} -s {} -j KUBE-MARK-MASQ", endpoint.addr.ip());
    rule!(chain, "{what} {remember}{p} -j DNAT --to-destination {}", endpoint.addr);
    chain
}

fn host_port_chains(view: &NodeView) -> Vec<Chain> {
    if view.host_ports.is_empty() {
        return Vec::new();
    }
    let mut chains = Vec::new();
    for hook in ["PREROUTING", "OUTPUT"] {
        let mut chain = Chain::built_in(hook, "after the Services, the host ports of pods");
        rule!(chain, "{} -m addrtype --dst-type LOCAL -j NETLAB-HOSTPORTS", note("host ports of pods"));
        chains.push(chain);
    }
    let mut ports = Chain::new("NETLAB-HOSTPORTS", "which pod a port of this node is for");
    for port in &view.host_ports {
        let (what, p) = (note(&format!("host port of {}", port.pod)), protocol(port.protocol.lower()));
        let on = port.ip.map(|ip| format!("-d {ip} ")).unwrap_or_default();
        // A pod that comes to itself must not see its own address, and no pod can answer 127.0.0.1.
        rule!(ports, "{what} {p} {on}--dport {} -s {} -j KUBE-MARK-MASQ", port.port, view.pod_subnet);
        if view.localhost_node_ports {
            rule!(ports, "{what} {p} {on}--dport {} -s 127.0.0.0/8 -j KUBE-MARK-MASQ", port.port);
        }
        rule!(ports, "{what} {p} {on}--dport {} -j DNAT --to-destination {}", port.port, port.to);
    }
    chains.push(ports);
    chains
}

/// Pods leave the cluster with their node's address, and keep their own within it.
fn egress_chains(view: &NodeView) -> [Chain; 2] {
    let mut postrouting = Chain::built_in("POSTROUTING", "after the Services, the way out of this node's pods");
    rule!(postrouting, "{} -s {} -j NETLAB-EGRESS", note("pods on their way out"), view.pod_subnet);
    let mut egress = Chain::new("NETLAB-EGRESS", "a pod keeps its address towards pods and nodes, and nowhere else");
    rule!(egress, "{} -d {} -j RETURN", note("to a pod"), view.cluster_cidr);
    for ip in &view.node_ips {
        rule!(egress, "{} -d {ip} -j RETURN", note("to a node"));
    }
    rule!(egress, "{} -d {} -j RETURN", note("to a group"), if view.ip.is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" });
    rule!(egress, "{} -j MASQUERADE --random-fully", note("out of the cluster"));
    [postrouting, egress]
}

/// The match for a local pod's traffic; `! ` before it matches all other.
fn from(local: &LocalTraffic) -> String {
    match local {
        LocalTraffic::Source(cidr) => format!("-s {cidr}"),
        LocalTraffic::Interface(name) => format!("-i {name}"),
        LocalTraffic::InterfacePrefix(prefix) => format!("-i {prefix}+"),
    }
}

/// One of `left`, as often as not the others.
pub(super) fn one_in(left: usize) -> String {
    format!("-m statistic --mode random --probability {:.10}", 1.0 / left as f64)
}

/// Why a Service port has no way in, and what then becomes of its packets.
fn absence(port: &PortView) -> (&'static str, &'static str) {
    if port.endpoints.has_endpoints { ("no local endpoints", "DROP") } else { ("no endpoints", "REJECT") }
}

fn has_firewall(port: &PortView) -> bool {
    port.endpoints.has_endpoints && !port.load_balancer_ips.is_empty() && !port.source_ranges.is_empty()
}

fn proto(port: &PortView) -> String {
    protocol(port.protocol.lower())
}

fn protocol(name: &str) -> String {
    format!("-m {name} -p {name}")
}

fn suffix(port: &PortView) -> String {
    hash::service_chain(&port.label(), port.protocol)
}

fn sep(port: &PortView, endpoint: &Endpoint) -> String {
    format!("KUBE-SEP-{}", hash::endpoint_chain(&port.label(), port.protocol, endpoint.addr))
}

/// The chain that traffic to the ClusterIP goes to.
fn internal(port: &PortView) -> String {
    format!("KUBE-{}-{}", if port.internal_is_local() { "SVL" } else { "SVC" }, suffix(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::NodeId,
        proxy::{sample, view::view},
    };

    #[test]
    fn the_books_lab() {
        sample::golden("book.node1.iptables", &render(&view(&sample::book(), NodeId(0))));
    }

    #[test]
    fn every_kind_of_service() {
        for (i, node) in ["node1", "node2"].iter().enumerate() {
            let text = render(&view(&sample::everything(), NodeId(i)));
            sample::golden(&format!("everything.{node}.iptables"), &text);
        }
    }

    /// What a Service costs, which is what makes iptables mode slow: one rule in KUBE-SERVICES and
    /// one in its own chain for the ClusterIP, and one of three rules and a chain for an endpoint.
    #[test]
    fn rules_grow_with_services_and_endpoints_and_nothing_else() {
        let count = |services: usize, pods: usize| {
            let mut lab = sample::cluster();
            sample::node(&mut lab, "node1", "10.30.45.100", "192.168.1.0/24");
            for i in 0..pods {
                sample::pod(&mut lab, &format!("pod{i}"), 0, &format!("192.168.1.{}", i + 2), "app");
            }
            for i in 0..services {
                let service = sample::service(&mut lab, &format!("svc{i}"), &format!("10.96.1.{i}"), "app");
                service.ports = vec![sample::port(None, crate::lab::model::Protocol::Tcp, 80, 80, None)];
            }
            let text = render(&view(&lab, NodeId(0)));
            let lines = |start| text.lines().filter(|line| line.starts_with(start)).count();
            (lines("-A "), lines(":"))
        };
        let (rules, chains) = count(0, 0);
        for (services, pods) in [(1, 1), (1, 5), (10, 2), (50, 10)] {
            let expected = (rules + services * (2 + 3 * pods), chains + services * (1 + pods));
            assert_eq!(count(services, pods), expected, "{services} Services, {pods} endpoints each");
        }
    }
}
