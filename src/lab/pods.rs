//! `[[pod]]` → pods with their nodes, addresses and containers, replicas expanded.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use super::{
    address::ip,
    alloc::{Pool, room},
    block::Block,
    containers::containers,
    file::{LabFile, PodTable},
    kept::Kept,
    model::{Attach, Container, Labels, NodeId, Pod, PodDns, Protocol, Span},
    name::Name,
    network::{Network, NodeDraft},
    resolver::pod_dns,
    said::{At, Said},
    value::{Period, Replicas},
};
use crate::diag::{Diagnostic, Problems, quoted};

/// The pods of the lab.
#[derive(Debug)]
pub(super) struct Pods {
    /// One for each `[[pod]]`.
    pub(super) templates: Vec<Template>,
    /// The pods in file order; a [`super::model::PodId`] is an index into this.
    pub(super) drafts: Vec<PodDraft>,
}

/// What all replicas of a `[[pod]]` have in common; `None` stands for something refused.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) name: Option<Name>,
    pub(super) namespace: Option<Name>,
    pub(super) labels: Option<Labels>,
    pub(super) containers: Option<Vec<Container>>,
    pub(super) host_network: bool,
    manners: Option<Manners>,
    pub(super) name_at: Span,
    pub(super) at: Span,
    /// Its pods, as a range of [`Pods::drafts`].
    pub(super) pods: std::ops::Range<usize>,
}

/// What a `[[pod]]` says of its pods' state, names and environment.
#[derive(Debug, Clone)]
struct Manners {
    ready: bool,
    terminating: bool,
    termination_grace_period: Duration,
    hostname: Option<Name>,
    subdomain: Option<Name>,
    dns: PodDns,
    enable_service_links: bool,
}

impl Manners {
    fn of(table: &PodTable, problems: &mut Problems) -> Option<Self> {
        Some(Manners {
            dns: pod_dns(table, problems)?,
            ready: table.ready.or(true)?,
            terminating: table.terminating.or(false)?,
            termination_grace_period: table.termination_grace_period.or(Period(GRACE))?.0,
            hostname: table.hostname.maybe()?,
            subdomain: table.subdomain.maybe()?,
            enable_service_links: table.enable_service_links.or(true)?,
        })
    }
}

/// A pod on its way.
#[derive(Debug)]
pub(super) struct PodDraft {
    pub(super) template: usize,
    pub(super) name: Option<Name>,
    pub(super) node: Option<usize>,
    pub(super) ip: Option<Ipv4Addr>,
}

/// How long a pod has to end, as in Kubernetes.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// A bridge of Linux has at most so many ports (`BR_MAX_PORTS` in the kernel is 1 << 10, and
/// number 0 is not used).
pub(super) const BRIDGE_PORTS: usize = 1023;

impl Pods {
    /// Reads them from the file.
    pub(super) fn of(file: &LabFile, network: &Network, kept: &Kept, problems: &mut Problems) -> Self {
        let tables = file.pod.list();
        let mut pods = Pods { templates: Vec::new(), drafts: Vec::new() };
        for (template, table) in tables.iter().enumerate() {
            let start = pods.drafts.len();
            for name in names(table, problems) {
                pods.drafts.push(PodDraft { template, name, node: None, ip: None });
            }
            let containers = containers(table, problems);
            pods.templates.push(Template {
                name: table.name.get().cloned(),
                namespace: "default".parse().ok().and_then(|default| table.namespace.or(default)),
                labels: table.labels.or(Labels::new()),
                host_network: table.host_network.get().copied().unwrap_or(false),
                containers,
                manners: Manners::of(table, problems),
                name_at: table.name.span(&table.at),
                at: table.at.clone(),
                pods: start..pods.drafts.len(),
            });
        }
        pods.place(tables, network, kept, problems);
        pods.address(tables, network, kept, problems);
        check_room(&pods, network, problems);
        check_node_ports(&pods, tables, network, problems);
        pods
    }

    /// All pods, if nothing of any was refused.
    pub(super) fn finish(self) -> Option<Vec<Pod>> {
        let templates = &self.templates;
        self.drafts.into_iter().map(|draft| draft.finish(templates)).collect()
    }

    /// Every pod's name below `/run/netns` (or what it would be there), with its index.
    pub(super) fn full_name(&self, pod: usize) -> Option<String> {
        let draft = &self.drafts[pod];
        full_name(draft.name.as_ref()?, self.templates[draft.template].namespace.as_ref()?)
    }

    /// Chooses the node of every pod: the given one; that of its given address; or the one with
    /// the fewest pods, the pods of given places counted first.
    fn place(&mut self, tables: &[PodTable], network: &Network, kept: &Kept, problems: &mut Problems) {
        let nodes = &network.nodes;
        let by_name: BTreeMap<&str, usize> = nodes
            .iter()
            .enumerate()
            .rev()
            .filter_map(|(nth, node)| Some((node.name.as_ref()?.as_str(), nth)))
            .collect();
        let mut load = vec![0usize; nodes.len()];
        let mut spread = Vec::new();
        for (template, table) in self.templates.iter().zip(tables) {
            let node = match (&table.node, table.ip.at()) {
                (Said::Nonsense, _) => None,
                (Said::Value(said), _) => find_node(said, &by_name, network, problems),
                (Said::Nothing, Some(said)) if !template.host_network => node_of_ip(said, nodes, problems),
                (Said::Nothing, _) if table.ip.is_nonsense() => None,
                (Said::Nothing, _) => {
                    spread.push(template.pods.clone());
                    None
                }
            };
            for pod in template.pods.clone() {
                self.drafts[pod].node = node;
                node.into_iter().for_each(|node| load[node] += 1);
            }
        }
        let spread: Vec<usize> = spread.into_iter().flatten().collect();
        for pod in &spread {
            let had = self.full_name(*pod).and_then(|name| by_name.get(kept.pod_node(&name)?).copied());
            self.drafts[*pod].node = had;
            had.into_iter().for_each(|node| load[node] += 1);
        }
        for pod in spread.into_iter().filter(|pod| self.drafts[*pod].node.is_none()).collect::<Vec<_>>() {
            let closed = |node: &usize| nodes[*node].name.as_ref().is_some_and(|name| kept.is_closed(name.as_str()));
            let least = (0..nodes.len()).filter(|node| !closed(node)).min_by_key(|node| load[*node]);
            if least.is_none() && !nodes.is_empty() {
                let name = self.full_name(pod).unwrap_or_default();
                let message = format!("no node takes the pod {}: each is cordoned or not ready", quoted(&name));
                let problem = Diagnostic::new(self.templates[self.drafts[pod].template].at.clone(), message);
                problems.push(problem.hint("netlab uncordon NODE, or say on which `node` it shall be"));
                break;
            }
            self.drafts[pod].node = least;
            least.into_iter().for_each(|node| load[node] += 1);
        }
    }

    /// Checks the given addresses and allocates the others.
    fn address(&mut self, tables: &[PodTable], network: &Network, kept: &Kept, problems: &mut Problems) {
        let mut blocks: Vec<Option<Block>> = network.nodes.iter().map(block).collect();
        for (template, table) in self.templates.iter().zip(tables) {
            let Some(said) = table.ip.at() else { continue };
            if let Some(refusal) = unfit(template, table, said) {
                problems.push(refusal);
                continue;
            }
            for pod in template.pods.clone() {
                let Some(node) = self.drafts[pod].node else { continue };
                let hint = "choose an address of that subnet, or another `node`, or leave `ip` out";
                blocks[node].as_mut().into_iter().for_each(|block| block.claim(said, hint, problems));
                self.drafts[pod].ip = Some(said.value);
            }
        }
        let names: Vec<Option<String>> = (0..self.drafts.len()).map(|pod| self.full_name(pod)).collect();
        for (draft, name) in self.drafts.iter_mut().zip(names) {
            let unsaid = !self.templates[draft.template].host_network && tables[draft.template].ip.is_nothing();
            let (true, Some(node), Some(name)) = (unsaid, draft.node, name) else { continue };
            let had = network.nodes[node].name.as_ref().and_then(|node| kept.pod_ip(&name, node.as_str()));
            draft.ip = had.filter(|address| blocks[node].as_mut().is_some_and(|block| block.keep(*address)));
        }
        for (block, node) in blocks.iter_mut().zip(&network.nodes) {
            if let (Some(block), Some(name)) = (block, &node.name) {
                block.put_off(kept.pod_ips(name.as_str()));
            }
        }
        for draft in &mut self.drafts {
            let Some(node) = draft.node else { continue };
            if self.templates[draft.template].host_network {
                draft.ip = network.nodes[node].ip;
            } else if tables[draft.template].ip.is_nothing() && draft.ip.is_none() {
                // A subnet without room is reported as a whole, by `check_room`.
                draft.ip = blocks[node].as_mut().and_then(Block::next);
            }
        }
    }
}

impl PodDraft {
    fn finish(self, templates: &[Template]) -> Option<Pod> {
        let template = &templates[self.template];
        let manners = template.manners.clone()?;
        Some(Pod {
            name: self.name?,
            namespace: template.namespace.clone()?,
            node: NodeId(self.node?),
            ip: ip(self.ip?),
            host_network: template.host_network,
            labels: template.labels.clone()?,
            containers: template.containers.clone()?,
            ready: manners.ready,
            unproven: false,
            terminating: manners.terminating,
            termination_grace_period: manners.termination_grace_period,
            hostname: manners.hostname,
            subdomain: manners.subdomain,
            dns: manners.dns,
            enable_service_links: manners.enable_service_links,
            at: template.at.clone(),
        })
    }
}

/// The addresses of a node's pods.
fn block(node: &NodeDraft) -> Option<Block> {
    let subnet = node.pod_subnet?;
    let name = node.name.as_ref().map_or_else(String::new, |name| format!(" of `{name}`"));
    Some(Block::new(subnet, format!("the pod subnet {subnet}{name}"), Pool::pods(subnet)))
}

/// `NAME`, or `NAME.NAMESPACE` outside the namespace `default`.
pub(super) fn full_name(name: impl AsRef<str>, namespace: &Name) -> Option<String> {
    Some(match namespace.as_str() {
        "default" => name.as_ref().to_owned(),
        namespace => format!("{}.{namespace}", name.as_ref()),
    })
}

/// Finds a node by its name, or says that there is none.
pub(super) fn find_node(
    said: &At<String>,
    by_name: &BTreeMap<&str, usize>,
    network: &Network,
    problems: &mut Problems,
) -> Option<usize> {
    let found = by_name.get(said.value.as_str()).copied();
    if found.is_none() && network.names_known {
        let problem = Diagnostic::new(said.at.clone(), format!("there is no node {}", quoted(&said.value)));
        problems.push_nearest(problem, &said.value, by_name.keys().copied(), || {
            let names: Vec<&str> = by_name.keys().copied().take(5).collect();
            Some(format!("the nodes are {}", super::value::listed(&names).replace(" or ", " and ")))
        });
    }
    found
}

fn node_of_ip(said: &At<Ipv4Addr>, nodes: &[NodeDraft], problems: &mut Problems) -> Option<usize> {
    let node = nodes.iter().position(|node| node.pod_subnet.is_some_and(|subnet| subnet.contains(&said.value)));
    if node.is_none() && nodes.iter().all(|node| node.pod_subnet.is_some()) {
        let subnets: Vec<String> = nodes.iter().filter_map(|node| node.pod_subnet).map(|net| net.to_string()).collect();
        let message = format!("{} is in no node's pod subnet", said.value);
        let hint = match subnets.as_slice() {
            few if !few.is_empty() && few.len() <= 4 => format!("the pod subnets are {}", few.join(", ")),
            [first, ..] => format!("the pod subnets are {first} and {} more", subnets.len() - 1),
            [] => "leave `ip` out".to_owned(),
        };
        problems.push(Diagnostic::new(said.at.clone(), message).hint(hint));
    }
    node
}

/// Why a `[[pod]]` cannot have an `ip` at all.
fn unfit(template: &Template, table: &PodTable, said: &At<Ipv4Addr>) -> Option<Diagnostic> {
    if template.host_network {
        let message = "a pod on the host network has its node's address";
        return Some(Diagnostic::new(said.at.clone(), message).hint("leave `ip` out"));
    }
    if template.pods.len() > 1 {
        let message = format!("{} pods cannot share one address", template.pods.len());
        let problem = Diagnostic::new(said.at.clone(), message).also(table.replicas.span(&table.at), "so many pods");
        return Some(problem.hint("leave `ip` out, or write one `[[pod]]` for each"));
    }
    None
}

/// The names of a table's pods.
fn names(table: &PodTable, problems: &mut Problems) -> Vec<Option<Name>> {
    let Some(Replicas(replicas)) = table.replicas.get().copied() else {
        return vec![table.name.get().cloned()];
    };
    let Some(name) = table.name.at() else { return vec![None; replicas] };
    let names: Vec<Option<Name>> = (0..replicas).map(|n| format!("{}-{n}", name.value).parse().ok()).collect();
    // The number at its end can only make a good name too long.
    if names.last().is_some_and(Option::is_none) {
        let last = format!("{}-{}", name.value, replicas - 1);
        let message = format!("with its number the name of a replica has {} characters; 63 are allowed", last.len());
        problems.push(Diagnostic::new(name.at.clone(), message).hint("choose a shorter name"));
    }
    names
}

/// Every node has room for its pods: addresses, and ports of its bridge.
fn check_room(pods: &Pods, network: &Network, problems: &mut Problems) {
    let mut count = vec![0usize; network.nodes.len()];
    for draft in pods.drafts.iter().filter(|draft| !pods.templates[draft.template].host_network) {
        draft.node.into_iter().for_each(|node| count[node] += 1);
    }
    for (node, count) in network.nodes.iter().zip(count) {
        let name = node.name.as_ref().map_or("?", Name::as_str);
        if let Some(subnet) = node.pod_subnet.filter(|subnet| room(subnet.prefix_len()) < count) {
            let message = format!(
                "the pod subnet {subnet} of `{name}` has room for {} pods, and {count} run there",
                room(subnet.prefix_len())
            );
            // A lab has fewer pods than a /8 has addresses.
            let length = (8..=30).rev().find(|length| room(*length) >= count).unwrap_or(8);
            let hint = format!("give the node a larger `pod_subnet` (a /{length} is enough), or spread the pods");
            problems.push(Diagnostic::new(node.subnet_at.clone(), message).hint(hint));
        }
        if matches!(node.attach, Some(Attach::Bridge(_))) && count > BRIDGE_PORTS {
            let message = format!("{count} pods run on `{name}`, and a bridge has at most {BRIDGE_PORTS} ports");
            let hint = "set `attach = \"routed\"` for this node, or spread the pods over more nodes";
            problems.push(Diagnostic::new(node.at.clone(), message).hint(hint));
        }
    }
}

/// No two pods want the same port of the same node.
fn check_node_ports(pods: &Pods, tables: &[PodTable], network: &Network, problems: &mut Problems) {
    type Users = Vec<(Option<std::net::IpAddr>, Span)>;
    let mut used: BTreeMap<(usize, u16, Protocol), Users> = BTreeMap::new();
    for draft in &pods.drafts {
        let template = &pods.templates[draft.template];
        let (Some(node), Some(containers)) = (draft.node, &template.containers) else { continue };
        let written = tables[draft.template].written_ports();
        for (nth, port) in containers.iter().flat_map(|container| &container.ports).enumerate() {
            // Ports that nobody wrote have the place of their pod.
            let said = written.get(nth);
            let at = said.map_or_else(|| template.at.clone(), |table| table.at.clone());
            let (number, address) = match (&port.host_port, template.host_network) {
                (Some(host), false) => (host.port, host.ip),
                (_, true) => (port.container_port, None),
                (None, false) => continue,
            };
            let node_draft = &network.nodes[node];
            let foreign = address.filter(|address| !address.is_loopback() && node_draft.ip.map(ip) != Some(*address));
            if let (Some(address), Some(name), Some(_)) = (foreign, &node_draft.name, node_draft.ip) {
                let message = format!("`host_ip` {address} is not an address of `{name}`, where this pod runs");
                let at = said.map_or_else(|| at.clone(), |table| table.host_ip.span(&at));
                problems.push(Diagnostic::new(at, message).hint("leave `host_ip` out for all addresses"));
            }
            let users = used.entry((node, number, port.protocol)).or_default();
            let clash = users.iter().find(|(other, _)| other.is_none() || address.is_none() || *other == address);
            if let (Some((_, other)), Some(name)) = (clash, &node_draft.name) {
                let message = format!("port {number}/{} of `{name}` is used twice", port.protocol);
                let problem = Diagnostic::new(at.clone(), message);
                problems.push(if *other == at {
                    problem.hint("replicas with a port of the node need a node each")
                } else {
                    problem.also(other.clone(), "first used here").hint("choose another port or another node")
                });
            } else {
                users.push((address, at));
            }
        }
    }
}
