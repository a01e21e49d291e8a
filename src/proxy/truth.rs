//! What a client must see, from the specification alone: the first of the three opinions.
//!
//! A connection may be translated at two nodes only: the client's own, which its packets always
//! pass, and the one whose address it is for. [`Truth::sight`] asks the one and then the other
//! whether the address is a Service's (or a host port's) there; if it is at neither, the
//! connection goes to whoever holds the address.
//!
//! What the specification says about masquerading holds for packets that leave a node; one that
//! is delivered to the node itself keeps its source, because POSTROUTING never sees it.
//! Replies must come back through the node that translated: [`Fate::Lost`] is where they do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{
    atlas::Atlas,
    balancer::{self, Frontend, Health},
    endpoints::{Conditions, Endpoint, conditions},
    view::{LocalTraffic, NodeView, PortView, proxied, views_under},
    ways::{self, End, Listener},
};
use crate::lab::model::{BalancerEngine, Lab, NodeId, Place, PodId, Protocol, ProxyMode, ServiceId};

pub use super::view::OUTSIDE_PORT;

/// What a client sees who opens a connection (or sends a datagram).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// One of these answers; with the same probability each, unless the Service has affinity or the
    /// connection comes by way of the load balancer, which gives the same share to each node.
    Served(Vec<Choice>),
    /// An ICMP port-unreachable comes back at once: ECONNREFUSED.
    Refused,
    /// Nothing comes back.
    Dropped,
    /// The client itself has no way there, or a router says so: ENETUNREACH or EHOSTUNREACH.
    Unreachable,
    /// It depends on the endpoint, of which each has the same probability: a known hole of the
    /// contract, or endpoints on whose port nothing listens.
    Mixed {
        /// These answer.
        served: Vec<Choice>,
        /// These refuse.
        refused: Vec<SocketAddr>,
        /// From these nothing comes back, or only word that they cannot be reached.
        lost: Vec<SocketAddr>,
    },
}

/// One of the endpoints that may answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    /// Its address.
    pub endpoint: SocketAddr,
    /// The pod behind it, if it is one.
    pub pod: Option<PodId>,
    /// The client addresses that it may see; several where the contract leaves it open.
    pub sources: BTreeSet<IpAddr>,
}

/// What `from` must see at `to`, in a lab whose nodes run `mode`.
///
/// Whoever asks more than once should keep a [`Truth`].
pub fn sight(lab: &Lab, mode: ProxyMode, from: Place, to: SocketAddr, protocol: Protocol) -> Sight {
    Truth::new(lab, mode).sight(from, to, protocol)
}

/// What must be seen in one lab under one proxy, with all that follows from the lab worked out.
#[derive(Debug)]
pub struct Truth<'a> {
    lab: &'a Lab,
    mode: ProxyMode,
    views: Vec<NodeView>,
    health: Health<'a>,
    atlas: Atlas<'a>,
    /// What is looked for in each view, in their order.
    indices: Vec<Index>,
    /// Where HAProxy listens.
    frontends: BTreeMap<SocketAddr, Frontend>,
}

/// What would otherwise be searched for in a view, again and again.
#[derive(Debug)]
struct Index {
    /// The Service ports by their numbers, on the ClusterIP and on the nodes, in their order.
    ports: BTreeMap<(Protocol, u16), Vec<usize>>,
    cluster_ips: BTreeSet<IpAddr>,
    /// The endpoints on this node, of any Service.
    own: BTreeSet<(Protocol, SocketAddr)>,
}

impl<'a> Truth<'a> {
    /// While the pods are as the lab file says.
    pub fn new(lab: &'a Lab, mode: ProxyMode) -> Truth<'a> {
        Truth::under(lab, mode, &conditions(lab))
    }

    /// Given what is known of the pods.
    pub fn under(lab: &'a Lab, mode: ProxyMode, conditions: &Conditions) -> Truth<'a> {
        let views = views_under(lab, conditions);
        let indices = views.iter().map(Index::of).collect();
        let frontends = balancer::frontends(lab).into_iter().rev().map(|it| (it.at, it)).collect();
        let (health, atlas) = (Health::of(lab, conditions), Atlas::new(lab));
        Truth { lab, mode, views, health, atlas, indices, frontends }
    }

    /// What `from` must see at `to`.
    pub fn sight(&self, from: Place, to: SocketAddr, protocol: Protocol) -> Sight {
        sum(self.branches(from, to, protocol).concat())
    }

    /// Who answers `from` at `to`, each with its share of the connections; `None` if not all of them
    /// are answered. It is that of a Service without affinity.
    pub fn shares(&self, from: Place, to: SocketAddr, protocol: Protocol) -> Option<Vec<(Choice, f64)>> {
        let branches = self.branches(from, to, protocol);
        let mut known: BTreeMap<(SocketAddr, Option<PodId>), (BTreeSet<IpAddr>, f64)> = BTreeMap::new();
        for fates in &branches {
            let share = 1.0 / (branches.len() * fates.len()) as f64;
            for fate in fates {
                let Fate::Served(Choice { endpoint, pod, sources }) = fate else { return None };
                let (seen, sum) = known.entry((*endpoint, *pod)).or_default();
                seen.extend(sources);
                *sum += share;
            }
        }
        let share = |((endpoint, pod), (sources, share))| (Choice { endpoint, pod, sources }, share);
        (!known.is_empty()).then(|| known.into_iter().map(share).collect())
    }

    /// What may become of a connection: ways of the same probability, each with fates of the same
    /// probability. There is more than one way only behind the load balancer, one for each node.
    fn branches(&self, from: Place, to: SocketAddr, protocol: Protocol) -> Vec<Vec<Fate>> {
        let flow = self.flow(from, to, protocol);
        let end = self.atlas.end(from, to.ip());
        let own = ways::node_of(self.lab, from);
        // A pod's own addresses are never seen by its node.
        let passed = own.filter(|_| !matches!(from, Place::Pod(_)) || end != End::At(from));
        if let Some(fates) = passed.and_then(|node| self.at_node(&flow, node)) {
            return vec![fates];
        }
        match end {
            End::At(Place::Node(node)) if own != Some(node) => {
                vec![self.at_node(&flow, node).unwrap_or_else(|| self.direct(&flow, end))]
            }
            End::Balanced => self.balanced(&flow),
            _ => vec![self.direct(&flow, end)],
        }
    }

    /// What a machine outside must see if its packets to `to` are routed to the node `entry`,
    /// as a load balancer does with its addresses.
    pub fn sight_via(&self, from: Place, entry: NodeId, to: SocketAddr, protocol: Protocol) -> Sight {
        sum(self.via(&self.flow(from, to, protocol), entry))
    }

    fn via(&self, flow: &Flow, entry: NodeId) -> Vec<Fate> {
        // What the node does not take, it sends to its default gateway, as its own packets.
        self.at_node(flow, entry).unwrap_or_else(|| self.direct(flow, self.atlas.end(Place::Node(entry), flow.to.ip())))
    }

    fn flow(&self, from: Place, to: SocketAddr, protocol: Protocol) -> Flow {
        Flow { from, source: self.atlas.source(from, to.ip()), to, protocol }
    }

    /// What becomes of a connection to an address of the load balancer: whatever each of the
    /// healthy nodes makes of it, node by node. Without one, nothing comes back.
    fn balanced(&self, flow: &Flow) -> Vec<Vec<Fate>> {
        match self.lab.load_balancer.as_ref().map(|balancer| balancer.engine) {
            None => vec![vec![Fate::Unreachable(flow.to)]],
            Some(BalancerEngine::Builtin) => {
                self.health.nodes(flow.to.ip()).into_iter().map(|node| self.via(flow, node)).collect()
            }
            Some(BalancerEngine::Haproxy) => {
                let frontend = self.frontends.get(&flow.to).filter(|_| flow.protocol == Protocol::Tcp);
                let Some(frontend) = frontend else {
                    return vec![vec![Fate::Refused(flow.to)]];
                };
                if !frontend.admits(flow.source) {
                    return vec![vec![Fate::Lost(flow.to)]];
                }
                let by_node = |node| {
                    let to = SocketAddr::new(self.lab.node(node).ip, frontend.node_port);
                    let fates = self.via(&self.flow(Place::LoadBalancer, to, flow.protocol), node);
                    fates.into_iter().map(Fate::behind_a_proxy).collect()
                };
                self.health.passing(frontend.check).into_iter().map(by_node).collect()
            }
        }
    }

    /// What a node makes of a connection that passes it; `None` if it lets it pass.
    fn at_node(&self, flow: &Flow, node: NodeId) -> Option<Vec<Fate>> {
        let (view, index) = (&self.views[node.0], &self.indices[node.0]);
        for port in index.ports.get(&(flow.protocol, flow.to.port())).into_iter().flatten() {
            let port = &view.ports[*port];
            if let Some(address) = self.matches(flow, view, port) {
                let fates = match self.mode {
                    ProxyMode::Ladder => self.ladder(flow, view, port),
                    ProxyMode::Iptables | ProxyMode::Nftables => self.kube_proxy(flow, view, port, address),
                };
                if fates.is_some() {
                    return fates;
                }
            }
        }
        self.host_port(flow, view).or_else(|| self.cluster_ip_check(flow, view))
    }

    /// The sort of address that the flow is for, if it is one of this Service port's here.
    fn matches(&self, flow: &Flow, view: &NodeView, port: &PortView) -> Option<AddressKind> {
        let (ip, number) = (flow.to.ip(), flow.to.port());
        if number == port.port {
            if ip == port.cluster_ip {
                return Some(AddressKind::ClusterIp);
            }
            if port.external_ips.contains(&ip) {
                return Some(AddressKind::External);
            }
            if port.load_balancer_ips.contains(&ip) {
                return Some(AddressKind::LoadBalancer);
            }
        }
        let local = self.is_local(flow, view.node);
        let here = match self.mode {
            ProxyMode::Iptables => local && (view.localhost_node_ports || !ip.is_loopback()),
            ProxyMode::Nftables => ip == view.ip,
            ProxyMode::Ladder => ip == view.ip || (local && ip == IpAddr::from(Ipv4Addr::LOCALHOST)),
        };
        (here && port.node_port == Some(number)).then_some(AddressKind::NodePort(view.node))
    }

    /// The flow is for an address that the node itself holds.
    fn is_local(&self, flow: &Flow, node: NodeId) -> bool {
        self.atlas.end(flow.from, flow.to.ip()) == End::At(Place::Node(node))
    }

    /// The master truth table: who gets which endpoints, and who is masqueraded.
    ///
    /// `None` where iptables mode lets a connection pass that it cannot serve.
    fn kube_proxy(&self, flow: &Flow, view: &NodeView, port: &PortView, address: AddressKind) -> Option<Vec<Fate>> {
        let chosen = &port.endpoints;
        let from_node = flow.from == Place::Node(view.node);
        let from_local_pod = self.is_local_traffic(flow, view);
        let fenced = address == AddressKind::LoadBalancer && !admitted(flow, view, port);
        // nftables mode looks at the source ranges first, iptables mode at the endpoints.
        if fenced && (chosen.has_endpoints || self.mode == ProxyMode::Nftables) {
            return Some(vec![Fate::Lost(flow.to)]);
        }
        if !chosen.has_endpoints {
            // filter OUTPUT does not lead to KUBE-EXTERNAL-SERVICES.
            let outer = matches!(address, AddressKind::External | AddressKind::LoadBalancer);
            let unseen = outer && from_node && self.mode == ProxyMode::Iptables && !self.is_local(flow, view.node);
            return (!unseen).then(|| vec![Fate::Refused(flow.to)]);
        }
        let (endpoints, masquerade) = if address == AddressKind::ClusterIp {
            let endpoints = if port.internal_is_local() { &chosen.local } else { &chosen.cluster };
            (endpoints, view.masquerade_all || (view.local_traffic.is_some() && !from_local_pod))
        } else if !port.external_is_local() {
            (&chosen.cluster, true)
        } else if from_local_pod {
            (&chosen.cluster, false)
        } else if from_node {
            (&chosen.cluster, true)
        } else {
            (&chosen.local, false)
        };
        if endpoints.is_empty() {
            return Some(vec![Fate::Lost(flow.to)]);
        }
        let fate = |endpoint: &Endpoint| {
            // nftables mode knows the endpoints on its own node alone, by address.
            let own = &self.indices[view.node.0].own;
            let known = self.mode == ProxyMode::Iptables || own.contains(&(port.protocol, endpoint.addr));
            let hairpin = known && endpoint.addr.ip() == flow.source;
            self.fate(flow, view, endpoint.addr, masquerade || hairpin)
        };
        Some(endpoints.iter().map(fate).collect())
    }

    /// The flat rules know no policy, and masquerade whatever they translate.
    fn ladder(&self, flow: &Flow, view: &NodeView, port: &PortView) -> Option<Vec<Fate>> {
        let itself = |endpoint: &Endpoint| self.atlas.holder(endpoint.addr.ip()) == Some(Place::Node(view.node));
        let fate = |endpoint: &Endpoint| self.fate(flow, view, endpoint.addr, !itself(endpoint));
        (!port.usable.is_empty()).then(|| port.usable.iter().map(fate).collect())
    }

    /// The node takes the packet for one that comes from a local pod.
    fn is_local_traffic(&self, flow: &Flow, view: &NodeView) -> bool {
        match &view.local_traffic {
            None => false,
            Some(LocalTraffic::Source(cidr)) => cidr.contains(&flow.source),
            Some(LocalTraffic::Interface(_) | LocalTraffic::InterfacePrefix(_)) => {
                matches!(flow.from, Place::Pod(pod) if self.lab.pod(pod).node == view.node)
            }
        }
    }

    /// A port of the node that leads to a pod: the pods of this node are masqueraded, so that
    /// one may come to itself, and so is the node's loopback address.
    fn host_port(&self, flow: &Flow, view: &NodeView) -> Option<Vec<Fate>> {
        let loopback = flow.to.ip().is_loopback();
        let reachable = match self.mode {
            ProxyMode::Iptables => !loopback || view.localhost_node_ports,
            ProxyMode::Nftables => !loopback,
            ProxyMode::Ladder => false,
        };
        if !reachable || !self.is_local(flow, view.node) {
            return None;
        }
        let port = view.host_ports.iter().find(|port| {
            port.port == flow.to.port() && port.protocol == flow.protocol && port.ip.is_none_or(|ip| ip == flow.to.ip())
        })?;
        let masquerade = loopback || view.pod_subnet.contains(&flow.source);
        Some(vec![self.fate(flow, view, port.to, masquerade)])
    }

    /// nftables mode looks after the ClusterIPs' other ports, and the addresses that no Service has.
    fn cluster_ip_check(&self, flow: &Flow, view: &NodeView) -> Option<Vec<Fate>> {
        if self.mode != ProxyMode::Nftables {
            return None;
        }
        let live = self.indices[view.node.0].cluster_ips.contains(&flow.to.ip());
        let ours = view.service_cidr.contains(&flow.to.ip());
        live.then(|| vec![Fate::Refused(flow.to)]).or(ours.then(|| vec![Fate::Lost(flow.to)]))
    }

    /// What becomes of a connection that no rule has touched, or only the pods' way out.
    fn direct(&self, flow: &Flow, end: End) -> Vec<Fate> {
        let place = match end {
            End::Blackhole => return vec![Fate::Lost(flow.to)],
            End::Nowhere => return vec![Fate::Unreachable(flow.to)],
            End::Balanced => return self.balanced(flow).concat(),
            End::At(place) => place,
        };
        let source = match flow.from {
            Place::Pod(pod) if place != flow.from => {
                self.way_out(&self.views[self.lab.pod(pod).node.0], flow.source, flow.to.ip())
            }
            _ => flow.source,
        };
        vec![self.arrive(place, flow.to, flow.protocol, [source].into())]
    }

    /// The source of a packet that leaves a node unmasqueraded by the Service rules: pods that
    /// leave the cluster have their node's address.
    fn way_out(&self, view: &NodeView, source: IpAddr, to: IpAddr) -> IpAddr {
        let within = view.cluster_cidr.contains(&to) || view.node_ips.contains(&to);
        if view.pod_subnet.contains(&source) && !within {
            ways::egress_address(self.lab, view.node, to)
        } else {
            source
        }
    }

    /// What becomes of a connection that a node translates to an endpoint.
    fn fate(&self, flow: &Flow, view: &NodeView, endpoint: SocketAddr, masquerade: bool) -> Fate {
        let here = Place::Node(view.node);
        let place = match self.atlas.end(here, endpoint.ip()) {
            End::At(place) => place,
            End::Blackhole => return Fate::Lost(endpoint),
            End::Nowhere | End::Balanced => return Fate::Unreachable(endpoint),
        };
        let sources: BTreeSet<IpAddr> = if place == here {
            if masquerade && flow.from == here {
                // It leaves by `lo`, which has no address to give; the kernel takes that of the
                // first device that has one.
                [view.ip, self.lab.node(view.node).pod_gateway].into()
            } else {
                [flow.source].into()
            }
        } else if masquerade {
            [ways::egress_address(self.lab, view.node, endpoint.ip())].into()
        } else {
            [self.way_out(view, flow.source, endpoint.ip())].into()
        };
        let translated = !sources.contains(&flow.source);
        let at_client = ways::node_of(self.lab, flow.from) == Some(view.node);
        let at_endpoint = ways::node_of(self.lab, place) == Some(view.node);
        let to_itself = place == flow.from && place != here;
        if !translated && (to_itself || !(at_client || at_endpoint)) {
            return Fate::Lost(endpoint);
        }
        self.arrive(place, endpoint, flow.protocol, sources)
    }

    /// Something listens there, or it refuses.
    fn arrive(&self, place: Place, to: SocketAddr, protocol: Protocol, sources: BTreeSet<IpAddr>) -> Fate {
        match self.atlas.listener(place, to.port(), protocol) {
            None => Fate::Refused(to),
            Some(Listener::Outside | Listener::Health) => Fate::Served(Choice { endpoint: to, pod: None, sources }),
            Some(Listener::Pod(pod)) => Fate::Served(Choice { endpoint: to, pod: Some(pod), sources }),
        }
    }
}

impl Index {
    fn of(view: &NodeView) -> Self {
        let mut index = Index { ports: BTreeMap::new(), cluster_ips: BTreeSet::new(), own: BTreeSet::new() };
        for (nth, port) in view.ports.iter().enumerate() {
            // The two numbers may be one and the same.
            for number in [Some(port.port), port.node_port.filter(|it| *it != port.port)].into_iter().flatten() {
                index.ports.entry((port.protocol, number)).or_default().push(nth);
            }
            index.cluster_ips.insert(port.cluster_ip);
            let endpoints = port.endpoints.cluster.iter().chain(&port.endpoints.local);
            let own = endpoints.filter(|endpoint| endpoint.node == Some(view.node));
            index.own.extend(own.map(|endpoint| (port.protocol, endpoint.addr)));
        }
        index
    }
}

/// A client that opens a connection.
#[derive(Debug)]
struct Flow {
    from: Place,
    source: IpAddr,
    to: SocketAddr,
    protocol: Protocol,
}

/// What becomes of a connection to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It answers.
    Served(Choice),
    /// It, or a rule, refuses.
    Refused(SocketAddr),
    /// The reply does not come back through the node that translated the address, or nothing
    /// answers at all.
    Lost(SocketAddr),
    /// There is no way there.
    Unreachable(SocketAddr),
}

impl Fate {
    /// The same, for the client of a proxy that has taken the client's connection before it tries to
    /// make its own: nobody can refuse that any more.
    pub(super) fn behind_a_proxy(self) -> Fate {
        match self {
            Fate::Refused(at) | Fate::Unreachable(at) => Fate::Lost(at),
            Fate::Served(_) | Fate::Lost(_) => self,
        }
    }
}

/// What a client sees of endpoints that are chosen at random. One that several nodes may choose is
/// one all the same, and may see the client under several addresses.
pub(super) fn sum(fates: Vec<Fate>) -> Sight {
    let (mut served, mut refused, mut lost, mut unreachable) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for fate in fates {
        match fate {
            Fate::Served(choice) => served.push(choice),
            Fate::Refused(at) => refused.push(at),
            Fate::Lost(at) => lost.push(at),
            Fate::Unreachable(at) => unreachable.push(at),
        }
    }
    let mut known: BTreeMap<(SocketAddr, Option<PodId>), BTreeSet<IpAddr>> = BTreeMap::new();
    for Choice { endpoint, pod, sources } in served {
        known.entry((endpoint, pod)).or_default().extend(sources);
    }
    let served: Vec<Choice> =
        known.into_iter().map(|((endpoint, pod), sources)| Choice { endpoint, pod, sources }).collect();
    match (served.is_empty(), refused.is_empty(), lost.is_empty(), unreachable.is_empty()) {
        (false, true, true, true) => Sight::Served(served),
        (true, false, true, true) => Sight::Refused,
        (true, true, _, true) => Sight::Dropped,
        (true, true, true, false) => Sight::Unreachable,
        _ => {
            lost.extend(unreachable);
            for addresses in [&mut refused, &mut lost] {
                addresses.sort();
                addresses.dedup();
            }
            Sight::Mixed { served, refused, lost }
        }
    }
}

/// `loadBalancerSourceRanges` lets the client through. A node in the ranges may also send from
/// the load balancer's addresses.
fn admitted(flow: &Flow, view: &NodeView, port: &PortView) -> bool {
    let in_ranges = |ip: IpAddr| port.source_ranges.iter().any(|range| range.contains(&ip));
    port.source_ranges.is_empty()
        || in_ranges(flow.source)
        || (in_ranges(view.ip) && port.load_balancer_ips.contains(&flow.source))
}

/// The address that a connection of `from` to `to` starts with.
pub fn source(lab: &Lab, from: Place, to: IpAddr) -> IpAddr {
    ways::source(lab, from, to)
}

/// An address at which a Service is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub to: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// Index into the Service's ports.
    pub port: usize,
    /// What sort of address it is.
    pub kind: AddressKind,
}

/// The sorts of addresses that a Service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressKind {
    /// The ClusterIP.
    ClusterIp,
    /// A node port on the address of this node.
    NodePort(NodeId),
    /// A node port on 127.0.0.1, for the nodes themselves.
    LocalhostNodePort,
    /// One of `externalIPs`.
    External,
    /// One of the load balancer's addresses.
    LoadBalancer,
}

/// All addresses of a Service: port by port, from the ClusterIP outwards. None for a Service
/// that no proxy cares for.
pub fn addresses(lab: &Lab, id: ServiceId) -> Vec<Address> {
    let service = lab.service(id);
    let Some(cluster_ip) = service.cluster_ip.filter(|_| proxied(lab).any(|proxied| proxied == id)) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for (index, port) in service.ports.iter().enumerate() {
        let mut add = |ip: IpAddr, number: u16, kind: AddressKind| {
            all.push(Address { to: SocketAddr::new(ip, number), protocol: port.protocol, port: index, kind });
        };
        add(cluster_ip, port.port, AddressKind::ClusterIp);
        if let Some(node_port) = port.node_port {
            for node in lab.node_ids() {
                add(lab.node(node).ip, node_port, AddressKind::NodePort(node));
            }
            if cluster_ip.is_ipv4() {
                add(Ipv4Addr::LOCALHOST.into(), node_port, AddressKind::LocalhostNodePort);
            }
        }
        for ip in &service.external_ips {
            add(*ip, port.port, AddressKind::External);
        }
        for ip in &service.load_balancer_ips {
            add(*ip, port.port, AddressKind::LoadBalancer);
        }
    }
    all
}

#[cfg(test)]
mod tests;
