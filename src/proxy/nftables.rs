//! From a [`NodeView`] to the input of `nft -f -`, as kube-proxy's nftables mode has it.
//!
//! Sets, maps, chains and their names are kube-proxy's, in the layout that checks for endpoints
//! after DNAT, translates straight from a map of endpoints, and has a chain for an endpoint only
//! if it must remember its clients. The table `netlab` is what a CNI plugin would add: the
//! pods' way out, and their host ports.
//!
//! Both tables are deleted and made anew in the one transaction, so a second load replaces the first.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    endpoints::Endpoint,
    hash,
    view::{LocalTraffic, NodeView, PortView},
};

/// A node's complete rules.
pub fn render(view: &NodeView) -> String {
    let family = Family::of(view);
    let mut text = String::new();
    for table in [kube_proxy(view, family), netlab(view, family)] {
        let head = format!("table {} {}", family.ip, table.name);
        // Writing to a string cannot fail.
        let _ = write!(text, "add {head}\ndelete {head}\n{head} {{\n{table}}}\n");
    }
    text
}

/// The words that differ between the families.
#[derive(Debug, Clone, Copy)]
struct Family {
    /// The table's family, and the name of its header in matches.
    ip: &'static str,
    /// The type of an address.
    addr: &'static str,
    loopback: &'static str,
    multicast: &'static str,
}

impl Family {
    fn of(view: &NodeView) -> Family {
        if view.ip.is_ipv4() {
            Family { ip: "ip", addr: "ipv4_addr", loopback: "127.0.0.0/8", multicast: "224.0.0.0/4" }
        } else {
            Family { ip: "ip6", addr: "ipv6_addr", loopback: "::1", multicast: "ff00::/8" }
        }
    }
}

/// Marks a connection that is to be masqueraded.
const MARK: &str = "meta mark set meta mark | 0x4000";
/// The longest comment that the kernel takes.
const COMMENT_LIMIT: usize = 128;

/// Chain, type, hook, priority; then what each of its rules matches and where that goes.
type BaseChain = (&'static str, &'static str, &'static str, i32, &'static [(&'static str, &'static str)]);

/// The filter chains come after DNAT, except for those that say otherwise.
const BASE_CHAINS: [BaseChain; 8] = [
    ("filter-prerouting-pre-dnat", "filter", "prerouting", -110, &[(NEW, "firewall-check")]),
    ("filter-output-pre-dnat", "filter", "output", -110, &[(NEW, "firewall-check")]),
    ("filter-input", "filter", "input", 0, &[(NEW, "nodeport-endpoints-check"), (NEW, "service-endpoints-check")]),
    ("filter-forward", "filter", "forward", 0, &[(NEW, "service-endpoints-check"), (NEW, "cluster-ips-check")]),
    ("filter-output", "filter", "output", 0, &[(NEW, "service-endpoints-check"), (NEW, "cluster-ips-check")]),
    ("nat-prerouting", "nat", "prerouting", -100, &[("", "services")]),
    ("nat-output", "nat", "output", -100, &[("", "services")]),
    ("nat-postrouting", "nat", "postrouting", 100, &[("", "masquerading")]),
];

const NEW: &str = "ct state new ";

fn kube_proxy(view: &NodeView, family: Family) -> Table {
    let mut table = Table::new("kube-proxy");
    table.objects.extend(lookups(view, family));
    for (name, kind, hook, priority, jumps) in BASE_CHAINS {
        let mut chain = Object::chain(name, "what a packet meets here, in this order");
        chain.line(format!("type {kind} hook {hook} priority {priority}; policy accept;"));
        for (matches, to) in jumps {
            chain.line(format!("{matches}jump {to}"));
        }
        table.objects.push(chain);
    }
    table.objects.extend(fixed_chains(view, family));
    table.objects.extend(view.ports.iter().flat_map(|port| port_chains(view, family, port)));
    table
}

/// The sets and maps in which a packet is looked up.
fn lookups(view: &NodeView, family: Family) -> Vec<Object> {
    let (addr, key) = (family.addr, format!("{} . inet_proto . inet_service", family.addr));
    let mut cluster_ips = Object::set("cluster-ips", "active ClusterIPs", addr);
    let mut nodeport_ips = Object::set("nodeport-ips", "IPs that accept NodePort traffic", addr);
    let mut service_ips = Object::map("service-ips", "ClusterIP, ExternalIP and LoadBalancer IP traffic", &key);
    let mut nodeports = Object::map("service-nodeports", "NodePort traffic", "inet_proto . inet_service");
    let mut no_services =
        Object::map("no-endpoint-services", "vmap to drop or reject packets to services with no endpoints", &key);
    let mut no_nodeports = Object::map(
        "no-endpoint-nodeports",
        "vmap to drop or reject packets to service nodeports with no endpoints",
        "inet_proto . inet_service",
    );
    let mut firewall = Object::map("firewall-ips", "destinations that are subject to LoadBalancerSourceRanges", &key);
    let pair = format!("{addr} . {addr} . inet_proto . inet_service");
    let mut hairpin = Object::set("hairpin-connections", "endpoints of this node that come to themselves", &pair);

    nodeport_ips.element(view.ip.to_string());
    for port in view.ports.iter() {
        let (base, proto, number, label) = (chain_base(port), port.protocol.lower(), port.port, comment(&port.label()));
        let internal = if port.internal_is_local() { "local" } else { "service" };
        let cluster_ip = port.cluster_ip;
        cluster_ips.element(cluster_ip.to_string());
        if port.endpoints.has_internal {
            service_ips.element(format!("{cluster_ip} . {proto} . {number} {label} : goto {internal}-{base}"));
        } else {
            no_services.element(format!("{cluster_ip} . {proto} . {number} {label} : {}", absence(port)));
        }
        for ip in port.outer_ips() {
            if port.endpoints.has_endpoints {
                service_ips.element(format!("{ip} . {proto} . {number} {label} : goto external-{base}"));
            }
            if !port.endpoints.has_external {
                no_services.element(format!("{ip} . {proto} . {number} {label} : {}", absence(port)));
            }
        }
        for ip in port.load_balancer_ips.iter().filter(|_| has_firewall(port)) {
            firewall.element(format!("{ip} . {proto} . {number} {label} : goto firewall-{base}"));
        }
        if let Some(node_port) = port.node_port {
            if port.endpoints.has_endpoints {
                nodeports.element(format!("{proto} . {node_port} {label} : goto external-{base}"));
            }
            if !port.endpoints.has_external {
                no_nodeports.element(format!("{proto} . {node_port} {label} : {}", absence(port)));
            }
        }
        for endpoint in port.endpoints.reachable() {
            if endpoint.node == Some(view.node) {
                let (ip, port) = (endpoint.addr.ip(), endpoint.addr.port());
                hairpin.element(format!("{ip} . {ip} . {proto} . {port}"));
            }
        }
    }
    vec![cluster_ips, nodeport_ips, service_ips, nodeports, no_services, no_nodeports, firewall, hairpin]
}

/// The chains that every node has.
fn fixed_chains(view: &NodeView, family: Family) -> Vec<Object> {
    let ip = family.ip;
    let mut services = Object::chain("services", "which Service a packet is for");
    match &view.local_traffic {
        _ if view.masquerade_all => services.line(format!("{ip} daddr @cluster-ips {MARK}")),
        Some(local) => services.line(format!("{ip} daddr @cluster-ips {} {MARK}", from(family, local, "!= "))),
        None => {}
    }
    services.line(format!("{ip} daddr . meta l4proto . th dport vmap @service-ips"));
    services.line(format!("{ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports"));

    let mut masquerading = Object::chain("masquerading", "masquerade what is marked, and what comes to itself");
    masquerading.line("meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random");
    let pair = format!("{ip} saddr . {ip} daddr . meta l4proto . th dport");
    masquerading.line(format!("ct status dnat {pair} @hairpin-connections masquerade fully-random"));

    let mut service_check = Object::chain("service-endpoints-check", "addresses that have no endpoint to lead to");
    service_check.line(format!("{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services"));
    let mut nodeport_check = Object::chain("nodeport-endpoints-check", "node ports that have no endpoint to lead to");
    nodeport_check.line(format!("{ip} daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports"));
    let mut firewall_check = Object::chain("firewall-check", "load balancer addresses that are not for everyone");
    firewall_check.line(format!("{ip} daddr . meta l4proto . th dport vmap @firewall-ips"));
    let mut cluster_ips_check = Object::chain("cluster-ips-check", "what no Service has taken");
    let (rejects, drops) =
        (comment("Reject traffic to invalid ports of ClusterIPs"), comment("Drop traffic to unallocated ClusterIPs"));
    cluster_ips_check.line(format!("{ip} daddr @cluster-ips reject {rejects}"));
    cluster_ips_check.line(format!("{ip} daddr {{ {} }} drop {drops}", view.service_cidr));
    let mut reject = Object::chain("reject-chain", "a map can lead to a chain, but cannot say reject");
    reject.line("reject");
    vec![services, masquerading, service_check, nodeport_check, firewall_check, cluster_ips_check, reject]
}

/// The chains of one Service port, in the order in which a packet may pass them.
fn port_chains(view: &NodeView, family: Family, port: &PortView) -> Vec<Object> {
    let mut objects = Vec::new();
    if has_firewall(port) {
        objects.push(firewall(view, family, port));
    }
    if port.has_external_rules() {
        objects.push(external(view, family, port));
    }
    let policies = [
        ("service", port.policy.uses_cluster(), &port.endpoints.cluster),
        ("local", port.policy.uses_local(), &port.endpoints.local),
    ];
    for (prefix, used, endpoints) in policies {
        if used && !endpoints.is_empty() {
            objects.push(balance(family, port, prefix, endpoints));
        }
    }
    if let Some(timeout) = port.affinity {
        let endpoints = port.endpoints.reachable();
        objects.extend(endpoints.into_iter().flat_map(|endpoint| remember(family, port, endpoint, timeout)));
    }
    objects
}

fn firewall(view: &NodeView, family: Family, port: &PortView) -> Object {
    let about = format!("who may use the load balancer of {}", port.label());
    let mut chain = Object::chain(&format!("firewall-{}", chain_base(port)), &about);
    let mut admitted = port.source_ranges.clone();
    // A node that answers for the load balancer itself may send from its address.
    if port.source_ranges.iter().any(|range| range.contains(&view.ip)) {
        admitted.extend(port.load_balancer_ips.iter().map(|ip| IpNet::from(*ip)));
    }
    chain.line(format!("{} saddr != {{ {} }} drop", family.ip, listed(&admitted)));
    chain
}

/// Prefixes for an anonymous set, which must not overlap.
fn listed(prefixes: &[IpNet]) -> String {
    let v4: Vec<Ipv4Net> =
        prefixes.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(net.trunc()) } else { None }).collect();
    let v6: Vec<Ipv6Net> =
        prefixes.iter().filter_map(|net| if let IpNet::V6(net) = net { Some(net.trunc()) } else { None }).collect();
    let v4 = Ipv4Net::aggregate(&v4).into_iter().map(|net| net.to_string());
    let v6 = Ipv6Net::aggregate(&v6).into_iter().map(|net| net.to_string());
    v4.chain(v6).collect::<Vec<_>>().join(", ")
}

fn external(view: &NodeView, family: Family, port: &PortView) -> Object {
    let base = chain_base(port);
    let about = format!("{} from outside, or as if from outside", port.label());
    let mut chain = Object::chain(&format!("external-{base}"), &about);
    if !port.external_is_local() {
        chain.line(MARK);
        chain.line(format!("goto service-{base}"));
        return chain;
    }
    if let Some(local) = &view.local_traffic {
        let what = comment("short-circuit pod traffic");
        chain.line(format!("{} goto service-{base} {what}", from(family, local, "")));
    }
    chain.line(format!("fib saddr type local {MARK} {}", comment("masquerade local traffic")));
    chain.line(format!("fib saddr type local goto service-{base} {}", comment("short-circuit local traffic")));
    if !port.endpoints.local.is_empty() {
        chain.line(format!("goto local-{base}"));
    }
    chain
}

/// The chain that chooses one of the endpoints.
fn balance(family: Family, port: &PortView, prefix: &str, endpoints: &[Endpoint]) -> Object {
    let (count, proto) = (endpoints.len(), port.protocol.lower());
    let about = format!("one of the {count} endpoints of {}", port.label());
    let mut chain = Object::chain(&format!("{prefix}-{}", chain_base(port)), &about);
    if port.affinity.is_some() {
        for endpoint in endpoints {
            let base = endpoint_base(port, endpoint);
            chain.line(format!("{} saddr @affinity-{base} goto endpoint-{base}", family.ip));
        }
        let to = numbered(endpoints, |endpoint| format!("goto endpoint-{}", endpoint_base(port, endpoint)));
        chain.line(format!("numgen random mod {count} vmap {{ {to} }}"));
        return chain;
    }
    match endpoints {
        [only] => chain.line(format!("meta l4proto {proto} dnat to {}", only.addr)),
        _ => {
            let to = numbered(endpoints, |endpoint| format!("{} . {}", endpoint.addr.ip(), endpoint.addr.port()));
            let random = format!("numgen random mod {count} map {{ {to} }}");
            chain.line(format!("meta l4proto {proto} dnat {} addr . port to {random}", family.ip));
        }
    }
    chain
}

/// `0 : …, 1 : …`
fn numbered(endpoints: &[Endpoint], value: impl Fn(&Endpoint) -> String) -> String {
    let entries = endpoints.iter().enumerate().map(|(i, endpoint)| format!("{i} : {}", value(endpoint)));
    entries.collect::<Vec<_>>().join(", ")
}

/// An endpoint's clients, and the chain that adds to them.
fn remember(family: Family, port: &PortView, endpoint: &Endpoint, timeout: u32) -> [Object; 2] {
    let (base, at) = (endpoint_base(port, endpoint), format!("{} at {}", port.label(), endpoint.addr));
    let mut clients = Object::set(&format!("affinity-{base}"), &format!("the clients of {at}"), family.addr);
    clients.line("flags dynamic,timeout");
    clients.line(format!("timeout {timeout}s"));
    let mut chain = Object::chain(&format!("endpoint-{base}"), &at);
    chain.line(format!("update @affinity-{base} {{ {} saddr }}", family.ip));
    chain.line(format!("meta l4proto {} dnat to {}", port.protocol.lower(), endpoint.addr));
    [clients, chain]
}

/// What is not kube-proxy's.
fn netlab(view: &NodeView, family: Family) -> Table {
    let Family { ip, loopback, multicast, .. } = family;
    let mut table = Table::new("netlab");
    let mut postrouting = Object::chain("postrouting", "after the Services, the way out of this node's pods");
    postrouting.line("type nat hook postrouting priority 110; policy accept;");
    postrouting.line(format!("{ip} saddr {} goto egress {}", view.pod_subnet, comment("pods on their way out")));
    let mut egress = Object::chain("egress", "a pod keeps its address towards pods and nodes, and nowhere else");
    let nodes: Vec<String> = view.node_ips.iter().map(ToString::to_string).collect();
    egress.line(format!("{ip} daddr {} return {}", view.cluster_cidr, comment("to a pod")));
    egress.line(format!("{ip} daddr {{ {} }} return {}", nodes.join(", "), comment("to a node")));
    egress.line(format!("{ip} daddr {multicast} return {}", comment("to a group")));
    egress.line(format!("masquerade fully-random {}", comment("out of the cluster")));
    table.objects.extend([postrouting, egress]);

    if view.host_ports.is_empty() {
        return table;
    }
    for hook in ["prerouting", "output"] {
        let mut chain = Object::chain(hook, "after the Services, the host ports of pods");
        chain.line(format!("type nat hook {hook} priority -90; policy accept;"));
        chain.line(format!("fib daddr type local {ip} daddr != {loopback} jump host-ports"));
        table.objects.push(chain);
    }
    let mut ports = Object::chain("host-ports", "which pod a port of this node is for");
    for port in &view.host_ports {
        let (proto, number, what) = (port.protocol.lower(), port.port, comment(&format!("host port of {}", port.pod)));
        let on = port.ip.map(|address| format!("{ip} daddr {address} ")).unwrap_or_default();
        // A pod that comes to itself must not see its own address.
        ports.line(format!("{on}{proto} dport {number} {ip} saddr {} {MARK} {what}", view.pod_subnet));
        ports.line(format!("{on}{proto} dport {number} dnat to {} {what}", port.to));
    }
    table.objects.push(ports);
    table
}

/// The match for a local pod's traffic, or with `!= ` for all other. By name, because an
/// interface need not exist when the rules are loaded.
fn from(family: Family, local: &LocalTraffic, not: &str) -> String {
    match local {
        LocalTraffic::Source(cidr) => format!("{} saddr {not}{cidr}", family.ip),
        LocalTraffic::Interface(name) => format!("iifname {not}\"{name}\""),
        LocalTraffic::InterfacePrefix(prefix) => format!("iifname {not}\"{prefix}*\""),
    }
}

fn comment(text: &str) -> String {
    let mut end = text.len().min(COMMENT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("comment \"{}\"", &text[..end])
}

fn absence(port: &PortView) -> &'static str {
    if port.endpoints.has_endpoints { "drop" } else { "goto reject-chain" }
}

/// Unlike iptables mode, this one drops whom the ranges do not name even where nobody would answer.
fn has_firewall(port: &PortView) -> bool {
    !port.load_balancer_ips.is_empty() && !port.source_ranges.is_empty()
}

fn chain_base(port: &PortView) -> String {
    hash::nft_name(&port.nft_base())
}

fn endpoint_base(port: &PortView, endpoint: &Endpoint) -> String {
    hash::nft_name(&hash::nft_endpoint(&port.nft_base(), endpoint.addr))
}

/// A table and what is in it.
#[derive(Debug)]
struct Table {
    name: &'static str,
    objects: Vec<Object>,
}

/// A set, a map or a chain.
#[derive(Debug)]
struct Object {
    /// `set NAME`, `map NAME`, `chain NAME`.
    head: String,
    /// A sentence for the reader of the rules.
    about: String,
    lines: Vec<String>,
    /// Sorted, and each once: a ClusterIP has several ports.
    elements: BTreeSet<String>,
}

impl Table {
    fn new(name: &'static str) -> Table {
        Table { name, objects: Vec::new() }
    }
}

impl Object {
    fn chain(name: &str, about: &str) -> Object {
        Object { head: format!("chain {name}"), about: about.to_owned(), lines: Vec::new(), elements: BTreeSet::new() }
    }

    fn set(name: &str, about: &str, key: &str) -> Object {
        let mut set = Object { head: format!("set {name}"), ..Object::chain(name, about) };
        set.line(format!("type {key}"));
        set
    }

    fn map(name: &str, about: &str, key: &str) -> Object {
        let mut map = Object { head: format!("map {name}"), ..Object::chain(name, about) };
        map.line(format!("type {key} : verdict"));
        map
    }

    fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    fn element(&mut self, text: String) {
        self.elements.insert(text);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in &self.objects {
            writeln!(f, "    # {}\n    {} {{", object.about, object.head)?;
            for line in &object.lines {
                writeln!(f, "        {line}")?;
            }
            // nft has no way to write down that there are no elements.
            if !object.elements.is_empty() {
                writeln!(f, "        elements = {{")?;
                for element in &object.elements {
                    writeln!(f, "            {element},")?;
                }
                writeln!(f, "        }}")?;
            }
            writeln!(f, "    }}")?;
        }
        Ok(())
    }
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
        sample::golden("book.node1.nftables", &render(&view(&sample::book(), NodeId(0))));
    }

    #[test]
    fn every_kind_of_service() {
        for (i, node) in ["node1", "node2"].iter().enumerate() {
            let text = render(&view(&sample::everything(), NodeId(i)));
            sample::golden(&format!("everything.{node}.nftables"), &text);
        }
    }
}
