//! The lab as netlab understands it: checked, complete, every default filled in, every reference
//! an id. An `Option` means that the thing itself may be absent, not that a user left it out.
//!
//! A [`Lab`] is only ever made by [`crate::lab::load`]; whoever holds one may rely on all that
//! is checked there.

mod balancer;
mod common;
mod dns;
mod external;
mod node;
mod pod;
mod probe;
mod readiness;
mod service;

use std::{collections::BTreeMap, fmt, net::IpAddr, ops::Range};

use ipnet::IpNet;

use super::name::{Domain, IfName, LabelKey, LabelValue, Name};

pub use balancer::{BalancerEngine, LoadBalancer};
pub use common::Common;
pub use dns::{Dns, DnsEngine, DnsOption, DnsPolicy, ExternalNames, PodDns, PodRecords};
pub use external::{External, ExternalServer};
pub use node::NodeState;
pub use pod::{Container, ContainerPort, HostPort, Pod, Server};
pub use probe::{
    Asks, ConnectFailure, Endpoint, Host, HttpAsk, HttpMethod, UserDistribution, UserExpect, UserProbe, UserSource,
};
pub use readiness::{Handler, Readiness};
pub use service::{
    ManualEndpoint, Protocol, Service, ServiceKind, ServicePort, TargetPort, TrafficDistribution, TrafficPolicy,
};

/// A byte range of the lab file: where a thing was said.
pub type Span = Range<usize>;

/// Labels or a selector.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// A whole lab.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The lab's name; `netlab up --name` overrides it.
    pub name: Name,
    /// What holds for the cluster as a whole.
    pub cluster: Cluster,
    /// Nodes, in file order.
    pub nodes: Vec<Node>,
    /// Pods, in file order, replicas expanded.
    pub pods: Vec<Pod>,
    /// Services, in file order.
    pub services: Vec<Common<Service>>,
    /// Machines outside the cluster, in file order.
    pub clients: Vec<Client>,
    /// The machine in front of the nodes; there is one where a Service has an address for it.
    pub load_balancer: Option<LoadBalancer>,
    /// Machines on the lab's internet, in file order.
    pub externals: Vec<External>,
    /// The cluster's DNS; `None` for a lab without.
    pub dns: Option<Dns>,
    /// Probes of the user, besides the built-in suite.
    pub probes: Vec<UserProbe>,
}

/// Declares an index into one of the lab's lists.
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub usize);
    };
}

id_type! {
    /// Index into [`Lab::nodes`].
    NodeId
}
id_type! {
    /// Index into [`Lab::pods`].
    PodId
}
id_type! {
    /// Index into [`Lab::services`].
    ServiceId
}
id_type! {
    /// Index into [`Lab::clients`].
    ClientId
}
id_type! {
    /// Index into [`Lab::externals`].
    ExternalId
}

/// A place that has a network namespace of its own, and so a point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The lab's own outer namespace: the nodes' gateway, outside the cluster.
    Host,
    /// A node.
    Node(NodeId),
    /// A pod with a network namespace of its own (not a host-network pod).
    Pod(PodId),
    /// A machine outside the cluster.
    Client(ClientId),
    /// A machine on the lab's internet.
    External(ExternalId),
    /// The load balancer.
    LoadBalancer,
}

/// What holds for the cluster as a whole.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The LAN between the nodes; its first address is `host`.
    pub node_subnet: IpNet,
    /// The address of `host` on that LAN.
    pub gateway: IpAddr,
    /// One prefix that holds every pod subnet, and no other address of the lab.
    pub cluster_cidr: IpNet,
    /// The range of the ClusterIPs.
    pub service_cidr: IpNet,
    /// The cluster domain, `cluster.local`.
    pub domain: Domain,
    /// Which renderer writes the Service rules.
    pub proxy: ProxyMode,
    /// How a node tells that a packet comes from a local pod.
    pub detect_local: DetectLocal,
    /// Masquerade pod → ClusterIP as well.
    pub masquerade_all: bool,
    /// The `[cluster]` table, or the start of the file.
    pub at: Span,
}

/// The renderer of the Service rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyMode {
    /// kube-proxy's iptables mode.
    Iptables,
    /// kube-proxy's nftables mode.
    Nftables,
    /// The flat rules that a student types by hand.
    Ladder,
}

/// How a node tells that a packet comes from a local pod (kube-proxy's `detectLocalMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DetectLocal {
    /// By a source address in [`Cluster::cluster_cidr`].
    ClusterCidr,
    /// By a source address in the node's own pod subnet.
    NodeCidr,
    /// By the interface it came in: the bridge, or the prefix of the pods' veths.
    Bridge,
    /// Not at all.
    None,
}

/// A node: a network namespace with an address on the LAN and a subnet of pods.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name, and that of its namespace.
    pub name: Name,
    /// Its address on [`Cluster::node_subnet`].
    pub ip: IpAddr,
    /// The subnet of its pods.
    pub pod_subnet: IpNet,
    /// The pods' default gateway on this node: the first address of the subnet.
    pub pod_gateway: IpAddr,
    /// How pods are wired to it.
    pub attach: Attach,
    /// Topology zone.
    pub zone: Option<Name>,
    /// What a running lab was told of it.
    pub state: NodeState,
    /// Where the file says so.
    pub at: Span,
}

/// How pods are wired to their node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// The node ends of the veths are ports of a bridge, which holds the gateway address.
    Bridge(IfName),
    /// Each node end is routed on its own: it holds the gateway address, and a host route
    /// leads to the pod.
    Routed,
}

/// A machine outside the cluster, on a network of its own behind `host`.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its name, and that of its namespace.
    pub name: Name,
    /// Its address and the prefix of its network; the first address of that is `host`.
    pub ip: IpNet,
    /// Where the file says so.
    pub at: Span,
}

impl Lab {
    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The pod behind an id.
    pub fn pod(&self, id: PodId) -> &Pod {
        &self.pods[id.0]
    }

    /// The Service behind an id.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0]
    }

    /// The client behind an id.
    pub fn client(&self, id: ClientId) -> &Client {
        &self.clients[id.0]
    }

    /// All nodes with their ids.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// All pods with their ids.
    pub fn pod_ids(&self) -> impl Iterator<Item = PodId> + use<> {
        (0..self.pods.len()).map(PodId)
    }

    /// All Services with their ids.
    pub fn service_ids(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (0..self.services.len()).map(ServiceId)
    }

    /// The machine on the lab's internet behind an id.
    pub fn external(&self, id: ExternalId) -> &External {
        &self.externals[id.0]
    }

    /// All machines on the lab's internet with their ids.
    pub fn external_ids(&self) -> impl Iterator<Item = ExternalId> + use<> {
        (0..self.externals.len()).map(ExternalId)
    }

    /// All clients with their ids.
    pub fn client_ids(&self) -> impl Iterator<Item = ClientId> + use<> {
        (0..self.clients.len()).map(ClientId)
    }

    /// Every place, in the order `host`, nodes, pods, clients, load balancer, the lab's internet.
    pub fn places(&self) -> Vec<Place> {
        let pods = self.pod_ids().filter(|pod| !self.pod(*pod).host_network);
        std::iter::once(Place::Host)
            .chain(self.node_ids().map(Place::Node))
            .chain(pods.map(Place::Pod))
            .chain(self.client_ids().map(Place::Client))
            .chain(self.load_balancer.iter().map(|_| Place::LoadBalancer))
            .chain(self.external_ids().map(Place::External))
            .collect()
    }

    /// The places that there are at present: those of [`Lab::places`] whose machine is not powered off.
    pub fn present_places(&self) -> Vec<Place> {
        self.places().into_iter().filter(|place| !self.is_off(*place)).collect()
    }

    /// The place is a node that is powered off, or a pod there.
    pub fn is_off(&self, place: Place) -> bool {
        match place {
            Place::Node(id) => self.node(id).state.stopped,
            Place::Pod(id) => self.node(self.pod(id).node).state.stopped,
            Place::Host | Place::Client(_) | Place::External(_) | Place::LoadBalancer => false,
        }
    }

    /// The control plane takes a pod for ready: it is, and so is its node.
    pub fn is_ready(&self, pod: &Pod) -> bool {
        pod.ready && self.node(pod.node).state.is_ready()
    }

    /// The name of a place's network namespace below `/run/netns`, unique within the lab.
    ///
    /// A pod outside the namespace `default` is `NAME.NAMESPACE`, as its DNS name would begin;
    /// a dot cannot stand in any other name, so nothing clashes.
    pub fn netns(&self, place: Place) -> String {
        match place {
            Place::Host => "host".to_owned(),
            Place::Node(id) => self.node(id).name.to_string(),
            Place::Pod(id) => self.pod(id).full_name(),
            Place::Client(id) => self.client(id).name.to_string(),
            Place::External(id) => self.external(id).name.to_string(),
            Place::LoadBalancer => self.load_balancer.as_ref().map_or_else(String::new, |lb| lb.name.to_string()),
        }
    }

    /// The place that a pod's processes run in: its own, or its node's.
    pub fn pod_place(&self, id: PodId) -> Place {
        let pod = self.pod(id);
        if pod.host_network { Place::Node(pod.node) } else { Place::Pod(id) }
    }

    /// The place by the name of its network namespace, or by the name of a host-network pod.
    pub fn find(&self, name: &str) -> Option<Place> {
        // Big labs are asked this thousands of times: no name is built for it.
        let node = || self.node_ids().find(|id| self.node(*id).name.as_str() == name).map(Place::Node);
        let pod = || self.pod_ids().find(|id| self.pod(*id).is_called(name)).map(|id| self.pod_place(id));
        let client = || self.client_ids().find(|id| self.client(*id).name.as_str() == name).map(Place::Client);
        let balancer =
            || self.load_balancer.as_ref().filter(|it| it.name.as_str() == name).map(|_| Place::LoadBalancer);
        let external = || self.external_ids().find(|id| self.external(*id).name.as_str() == name).map(Place::External);
        let host = (name == "host").then_some(Place::Host);
        host.or_else(node).or_else(pod).or_else(client).or_else(balancer).or_else(external)
    }
}

impl ProxyMode {
    /// All of them, in the order of the documentation.
    pub const ALL: [ProxyMode; 3] = [ProxyMode::Iptables, ProxyMode::Nftables, ProxyMode::Ladder];

    /// As the lab file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Nftables => "nftables",
            ProxyMode::Ladder => "ladder",
        }
    }
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
