//! `[cluster]`, `[[node]]` and `[[client]]` → the lab's networks and the machines on them, with
//! the subnets and addresses that the file leaves out.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    address::{first, ip, net, overlap, reserved, unusable},
    alloc::{Pool, Subnets, cover},
    block::Block,
    file::{ClientTable, ClusterTable, LabFile, NodeTable},
    kept::Kept,
    model::{Attach, Client, Cluster, DetectLocal, Node, NodeState, ProxyMode, Span},
    name::{Domain, IfName, Name},
    range::{COVER, Range, apart, sized, subnets_apart},
    said::{At, Said},
    value::{AttachKind, invalid},
};
use crate::diag::{Diagnostic, Problems};

/// The networks of the lab; `None` stands for something that was refused.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) cluster: Option<Cluster>,
    pub(super) node_subnet: Option<Ipv4Net>,
    pub(super) service_cidr: Option<Ipv4Net>,
    pub(super) domain: Option<Domain>,
    pub(super) nodes: Vec<NodeDraft>,
    pub(super) clients: Vec<ClientDraft>,
    /// The load balancer's address, if there is to be one.
    pub(super) balancer_ip: Option<Ipv4Addr>,
    /// Every network of the lab that traffic is routed to by its prefix.
    pub(super) ranges: Vec<Range>,
    /// No node or client was refused so wholly that its name is not known.
    pub(super) names_known: bool,
}

/// A node on its way.
#[derive(Debug)]
pub(super) struct NodeDraft {
    pub(super) name: Option<Name>,
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) pod_subnet: Option<Ipv4Net>,
    pub(super) attach: Option<Attach>,
    zone: Option<Option<Name>>,
    pub(super) at: Span,
    /// Where to underline what concerns its subnet.
    pub(super) subnet_at: Span,
    pub(super) name_at: Span,
}

/// A client on its way.
#[derive(Debug)]
pub(super) struct ClientDraft {
    pub(super) name: Option<Name>,
    pub(super) ip: Option<Ipv4Net>,
    pub(super) at: Span,
    pub(super) name_at: Span,
}

const NODE_SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 30, 45, 0), 24);
const SERVICE_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16);
const CLUSTER_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);

/// Names of interfaces that nodes have anyway, or that mean something to sysctl.
const TAKEN_INTERFACES: [&str; 4] = ["all", "default", "eth0", "lo"];

impl Network {
    /// Reads them from the file.
    pub(super) fn of(file: &LabFile, kept: &Kept, problems: &mut Problems) -> Self {
        let table = file.cluster.get();
        let at = table.map_or(0..0, |table| table.at.clone());
        let mut ranges = Vec::new();
        let mut range = |said: Option<&Said<Ipv4Net>>, default, what: &str, key, longest, problems: &mut Problems| {
            let said = said.unwrap_or(&Said::Nothing);
            let net = said.or(default).filter(|net| sized(*net, longest, key, said.at(), problems))?;
            ranges.push(Range { what: format!("{what} {net}"), net, at: said.at().map(|said| said.at.clone()), key });
            Some(net)
        };

        let node_subnet =
            range(table.map(|t| &t.node_subnet), NODE_SUBNET, "the node subnet", "node_subnet", 8..=30, problems);
        let service_cidr =
            range(table.map(|t| &t.service_cidr), SERVICE_CIDR, "the service range", "service_cidr", 12..=30, problems);
        let tables = file.node.list();
        let subnets: Vec<Option<&At<Ipv4Net>>> = tables
            .iter()
            .map(|node| {
                node.pod_subnet.at().filter(|said| sized(said.value, 8..=30, "pod_subnet", Some(said), problems))
            })
            .collect();
        let given: Vec<&At<Ipv4Net>> = subnets.iter().copied().flatten().collect();
        let (default, origin) = default_cluster_cidr(&given);
        let said = table.map(|t| &t.cluster_cidr);
        let derived = origin.filter(|_| said.is_none_or(Said::is_nothing));
        let cluster_cidr = match (&derived, reserved(default)) {
            (Some(at), Some((what, other))) => {
                let problem = Diagnostic::new(at.clone(), format!("{COVER} ({default}) overlaps {what}, {other}"));
                problems.push(problem.hint("choose pod subnets nearer to each other, or leave them out"));
                None
            }
            _ => range(said, default, "the cluster's pod range", "cluster_cidr", 0..=30, problems),
        };
        if let (Some(at), Some(net), Some(last)) = (derived, cluster_cidr, ranges.last_mut()) {
            last.what = match given.as_slice() {
                [only] => format!("the pod subnet {}", only.value),
                _ => format!("{COVER} ({net})"),
            };
            last.at = Some(at);
        }

        let clients = clients(file.client.list(), &mut ranges, problems);
        apart(&ranges, problems);
        let given_cluster = table.and_then(|table| table.cluster_cidr.at());
        subnets_apart(&given, given_cluster, problems);

        let mut network = Network {
            cluster: None,
            node_subnet,
            service_cidr,
            domain: table.map_or_else(cluster_local, |table| table.domain.or(cluster_local()?)),
            nodes: nodes(tables, &subnets, table, problems),
            clients,
            balancer_ip: None,
            ranges,
            names_known: !file.node.is_nonsense() && !file.client.is_nonsense(),
        };
        network.names_known &= network.nodes.iter().all(|node| node.name.is_some());
        network.names_known &= network.clients.iter().all(|client| client.name.is_some());
        network.address_nodes(file, kept, problems);
        network.allocate_subnets(tables, cluster_cidr, kept, problems);
        network.cluster = network.finish_cluster(table, cluster_cidr, at);
        network
    }

    fn finish_cluster(&self, table: Option<&ClusterTable>, cluster_cidr: Option<Ipv4Net>, at: Span) -> Option<Cluster> {
        let node_subnet = self.node_subnet?;
        Some(Cluster {
            node_subnet: net(node_subnet),
            gateway: ip(first(node_subnet)),
            cluster_cidr: net(cluster_cidr?),
            service_cidr: net(self.service_cidr?),
            domain: self.domain.clone()?,
            proxy: table.map_or(Some(ProxyMode::Iptables), |table| table.proxy.or(ProxyMode::Iptables))?,
            detect_local: table
                .map_or(Some(DetectLocal::ClusterCidr), |table| table.detect_local.or(DetectLocal::ClusterCidr))?,
            masquerade_all: table.map_or(Some(false), |table| table.masquerade_all.or(false))?,
            at,
        })
    }

    /// Checks the given addresses of nodes and of the load balancer, and allocates the others.
    fn address_nodes(&mut self, file: &LabFile, kept: &Kept, problems: &mut Problems) {
        let tables = file.node.list();
        let balancer = file.load_balancer.get().map_or(&Said::Nothing, |table| &table.ip);
        let Some(subnet) = self.node_subnet else { return };
        let mut block = Block::new(subnet, format!("the node subnet {subnet}"), Pool::nodes(subnet));
        for said in tables.iter().filter_map(|table| table.ip.at()).chain(balancer.at()) {
            let hint = "choose an address of `node_subnet`, or set `node_subnet` in `[cluster]`";
            block.claim(said, hint, problems);
        }
        let unsaid = |nth: usize| tables.get(nth).is_none_or(|table| table.ip.is_nothing());
        for (_, node) in self.nodes.iter_mut().enumerate().filter(|(nth, _)| unsaid(*nth)) {
            let had = node.name.as_ref().and_then(|name| kept.node_ip(name.as_str()));
            node.ip = had.filter(|address| block.keep(*address));
        }
        let kept_balancer = kept.balancer().filter(|address| balancer.is_nothing() && block.keep(*address));
        for nth in 0..self.nodes.len() {
            let said = tables.get(nth).map_or(&Said::Nothing, |table| &table.ip);
            self.nodes[nth].ip = match said {
                Said::Nothing => self.nodes[nth].ip.or_else(|| block.next()),
                _ => said.get().copied(),
            };
            if said.is_nothing() && self.nodes[nth].ip.is_none() {
                let message = format!("the node subnet {subnet} has no free address left for this node");
                let hint = "set a larger `node_subnet` in `[cluster]`";
                problems.push(Diagnostic::new(self.nodes[nth].at.clone(), message).hint(hint));
            }
        }
        self.balancer_ip = match balancer {
            Said::Nothing if kept_balancer.is_some() => kept_balancer,
            // An external IP may be of this subnet, too.
            Said::Nothing => block.last(
                file.service
                    .list()
                    .iter()
                    .flat_map(|service| service.external_ips.list().iter().map(|said| said.value)),
            ),
            _ => balancer.get().copied(),
        };
    }

    /// Gives a /24 to every node without a pod subnet.
    fn allocate_subnets(
        &mut self,
        tables: &[NodeTable],
        cluster: Option<Ipv4Net>,
        kept: &Kept,
        problems: &mut Problems,
    ) {
        let Some(cluster) = cluster else { return };
        let mut given: Vec<Ipv4Net> = tables.iter().filter_map(|table| table.pod_subnet.get().copied()).collect();
        for (nth, node) in self.nodes.iter_mut().enumerate() {
            if tables.get(nth).is_some_and(|table| !table.pod_subnet.is_nothing()) {
                continue;
            }
            let had = node.name.as_ref().and_then(|name| kept.pod_subnet(name.as_str()));
            let free = |net: &Ipv4Net| cluster.contains(net) && !given.iter().any(|other| overlap(*other, *net));
            node.pod_subnet = had.filter(free);
            given.extend(node.pod_subnet);
        }
        let mut subnets = Subnets::new(cluster, given);
        for nth in 0..self.nodes.len() {
            let said = tables.get(nth).map_or(&Said::Nothing, |table| &table.pod_subnet);
            if !said.is_nothing() || self.nodes[nth].pod_subnet.is_some() {
                continue;
            }
            self.nodes[nth].pod_subnet = subnets.next();
            if self.nodes[nth].pod_subnet.is_none() {
                let message = format!("{cluster} has no free /24 left for the pods of this node");
                let hint = "give the node a `pod_subnet`, or set a larger `cluster_cidr` in `[cluster]`";
                problems.push(Diagnostic::new(self.nodes[nth].at.clone(), message).hint(hint));
            }
        }
    }
}

impl NodeDraft {
    /// The node, if nothing of it was refused.
    pub(super) fn finish(self) -> Option<Node> {
        let pod_subnet = self.pod_subnet?;
        Some(Node {
            name: self.name?,
            ip: ip(self.ip?),
            pod_subnet: net(pod_subnet),
            pod_gateway: ip(first(pod_subnet)),
            attach: self.attach?,
            zone: self.zone?,
            state: NodeState::default(),
            at: self.at,
        })
    }
}

impl ClientDraft {
    /// The client, if nothing of it was refused.
    pub(super) fn finish(self) -> Option<Client> {
        Some(Client { name: self.name?, ip: net(self.ip?), at: self.at })
    }
}

fn cluster_local() -> Option<Domain> {
    "cluster.local".parse().ok()
}

/// The pod range if the file gives none, and, if it was derived from pod subnets, where from.
fn default_cluster_cidr(given: &[&At<Ipv4Net>]) -> (Ipv4Net, Option<Span>) {
    let nets: Vec<Ipv4Net> = given.iter().map(|said| said.value).collect();
    if nets.iter().all(|net| CLUSTER_CIDR.contains(net)) {
        return (CLUSTER_CIDR, None);
    }
    (cover(&nets).unwrap_or(CLUSTER_CIDR), given.first().map(|said| said.at.clone()))
}

fn clients(tables: &[ClientTable], ranges: &mut Vec<Range>, problems: &mut Problems) -> Vec<ClientDraft> {
    let mut clients = Vec::new();
    for table in tables {
        let ip = table.ip.at().and_then(|said| {
            let ip = said.value.0;
            let network = At { value: ip.trunc(), at: said.at.clone() };
            if !sized(network.value, 8..=30, "ip", Some(&network), problems) {
                return None;
            }
            if let Some(why) = unusable(network.value, ip.addr()) {
                let hint = "choose another address of that network, for example the tenth";
                problems.push(invalid("ip", ip, said.at.clone(), format!("{why} its network")).hint(hint));
                return None;
            }
            let name = table.name.get().map_or_else(String::new, |name| format!(" `{name}`"));
            let what = format!("the network {} of the client{name}", network.value);
            ranges.push(Range { what, net: network.value, at: Some(network.at), key: "ip" });
            Some(ip)
        });
        let name_at = table.name.span(&table.at);
        clients.push(ClientDraft { name: table.name.get().cloned(), ip, at: table.at.clone(), name_at });
    }
    clients
}

fn nodes(
    tables: &[NodeTable],
    subnets: &[Option<&At<Ipv4Net>>],
    cluster: Option<&ClusterTable>,
    problems: &mut Problems,
) -> Vec<NodeDraft> {
    // What is wrong with a node that nobody wrote can only be the cluster's fault.
    let nowhere = cluster.map_or(0..0, |table| table.node_subnet.span(&table.at));
    if tables.is_empty() {
        return ["node1", "node2"]
            .into_iter()
            .map(|name| NodeDraft {
                name: name.parse().ok(),
                ip: None,
                pod_subnet: None,
                attach: br0().map(Attach::Bridge),
                zone: Some(None),
                at: nowhere.clone(),
                subnet_at: nowhere.clone(),
                name_at: nowhere.clone(),
            })
            .collect();
    }
    tables
        .iter()
        .zip(subnets)
        .map(|(table, subnet)| NodeDraft {
            name: table.name.get().cloned(),
            ip: None,
            pod_subnet: subnet.map(|said| said.value),
            attach: attach(table, problems),
            zone: table.zone.maybe(),
            at: table.at.clone(),
            subnet_at: table.pod_subnet.span(&table.at),
            name_at: table.name.span(&table.at),
        })
        .collect()
}

fn br0() -> Option<IfName> {
    "br0".parse().ok()
}

fn attach(table: &NodeTable, problems: &mut Problems) -> Option<Attach> {
    let kind = table.attach.or(AttachKind::Bridge)?;
    if let Some(bridge) = table.bridge.at() {
        if kind == AttachKind::Routed {
            let message = "a node with `attach = \"routed\"` has no bridge";
            problems.push(Diagnostic::new(bridge.at.clone(), message).hint("leave `bridge` out"));
            return None;
        }
        if TAKEN_INTERFACES.contains(&bridge.value.as_str()) {
            let why = "is the name of another interface, or means something else to the kernel";
            let problem = invalid("bridge", format!("\"{}\"", bridge.value), bridge.at.clone(), why);
            problems.push(problem.hint("choose another name, such as \"br0\""));
            return None;
        }
    }
    match kind {
        AttachKind::Routed => Some(Attach::Routed),
        AttachKind::Bridge => table.bridge.or(br0()?).map(Attach::Bridge),
    }
}
