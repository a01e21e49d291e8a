//! The lab as netlab understands it: checked, complete, every default filled in, every reference
//! an id. An `Option` means that the thing itself may be absent, not that a user left it out.
//!
//! A [`Lab`] is only ever made by [`crate::lab::load`]; whoever holds one may rely on all that
//! is checked there.

mod balancer;

use std::{collections::BTreeMap, fmt, net::IpAddr, ops::Range, time::Duration};

use ipnet::IpNet;

use super::name::{Domain, IfName, LabelKey, LabelValue, Name, PortName, ServiceName, ServicePortName};

pub use balancer::{BalancerEngine, LoadBalancer};

/// A byte range of the lab file: where a thing was said.
pub type Span = Range<usize>;

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
    pub services: Vec<Service>,
    /// Machines outside the cluster, in file order.
    pub clients: Vec<Client>,
    /// The machine in front of the nodes; there is one where a Service has an address for it.
    pub load_balancer: Option<LoadBalancer>,
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

/// A pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name, unique within its namespace.
    pub name: Name,
    /// Its Kubernetes namespace.
    pub namespace: Name,
    /// The node that it runs on.
    pub node: NodeId,
    /// Its address (its node's, if it uses the host network).
    pub ip: IpAddr,
    /// It runs in its node's network namespace.
    pub host_network: bool,
    /// What selectors match.
    pub labels: Labels,
    /// What runs in it.
    pub containers: Vec<Container>,
    /// When it counts as ready; without it, when its servers listen.
    pub readiness: Option<Readiness>,
    /// The `[[pod]]` table.
    pub at: Span,
}

/// Labels or a selector.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// A container: one server and its ports.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name, unique within the pod.
    pub name: Name,
    /// What it runs.
    pub server: Server,
    /// The ports it declares; `python` and `echo` listen on exactly these.
    pub ports: Vec<ContainerPort>,
    /// Additional environment of `python` and `command`.
    pub env: BTreeMap<String, String>,
    /// The container's table, or the pod's.
    pub at: Span,
}

/// What a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// The lesson's HTTP server, run by the host's python3.
    Python,
    /// Built into netlab: HTTP on TCP ports, a datagram echo on UDP ports.
    Echo,
    /// A program of the host: an argument vector, never empty.
    Command(Vec<String>),
}

/// A declared container port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// The name by which a Service may refer to it.
    pub name: Option<PortName>,
    /// The port number.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// A port of the node that leads here.
    pub host_port: Option<HostPort>,
}

/// A port of the node that leads to a container port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The port number on the node.
    pub port: u16,
    /// Only on this address of the node; `None` for all.
    pub ip: Option<IpAddr>,
}

/// When a pod counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The path to GET; `None` means that a TCP connection is enough.
    pub http_get: Option<String>,
    /// The port to ask.
    pub port: u16,
    /// How often to ask.
    pub period: Duration,
}

/// A transport protocol of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A Service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name, unique within its namespace.
    pub name: ServiceName,
    /// Its Kubernetes namespace.
    pub namespace: Name,
    /// Its type.
    pub kind: ServiceKind,
    /// Its labels (`service.kubernetes.io/service-proxy-name` and `…/headless` mean something).
    pub labels: Labels,
    /// Its ClusterIP; `None` for a headless or ExternalName Service.
    pub cluster_ip: Option<IpAddr>,
    /// Which pods are behind it; empty for a selectorless Service.
    pub selector: Labels,
    /// Endpoints given by hand (only without a selector).
    pub endpoints: Vec<ManualEndpoint>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `ClientIP` affinity with its timeout in seconds; `None` for no affinity.
    pub session_affinity: Option<u32>,
    /// `internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `externalTrafficPolicy`.
    pub external_traffic_policy: TrafficPolicy,
    /// `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses (`status.loadBalancer.ingress[].ip`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// `loadBalancerSourceRanges`.
    pub source_ranges: Vec<IpNet>,
    /// `healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready_addresses: bool,
    /// `trafficDistribution`.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// The `[[service]]` table.
    pub at: Span,
}

/// The type of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// A virtual address inside the cluster (or none: headless).
    ClusterIp,
    /// That, and a port on every node.
    NodePort,
    /// That, and an address on a load balancer outside.
    LoadBalancer,
    /// Only a DNS alias.
    ExternalName(Domain),
}

/// One port of a Service.
#[derive(Debug, Clone)]
pub struct ServicePort {
    /// Its name; required when there are several.
    pub name: Option<ServicePortName>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the ClusterIP.
    pub port: u16,
    /// The port of the pods.
    pub target_port: TargetPort,
    /// The port on every node, for a NodePort or LoadBalancer Service.
    pub node_port: Option<u16>,
    /// The port's table.
    pub at: Span,
}

/// The port of the pods that a Service port leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container port, resolved pod by pod.
    Name(PortName),
}

/// An endpoint given by hand.
#[derive(Debug, Clone)]
pub struct ManualEndpoint {
    /// Its address.
    pub ip: IpAddr,
    /// The node it counts as local to, if any.
    pub node: Option<NodeId>,
    /// Where the file says so.
    pub at: Span,
}

/// `Cluster` (all endpoints) or `Local` (those on the node that the packet came to).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TrafficPolicy {
    /// All endpoints.
    #[default]
    Cluster,
    /// Those on this node.
    Local,
}

/// Which endpoints are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficDistribution {
    /// Those in the client's zone (also spelled `PreferClose`).
    PreferSameZone,
    /// Those on the client's node, then in its zone.
    PreferSameNode,
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

/// A probe of the user.
#[derive(Debug, Clone)]
pub struct UserProbe {
    /// What it shows; free text, for the report.
    pub name: String,
    /// Where it asks from.
    pub from: Place,
    /// What it asks, with names of nodes, pods and Services already replaced by addresses.
    pub url: String,
    /// The URL as the user wrote it.
    pub written: String,
    /// What must come back.
    pub expect: UserExpect,
    /// The `[[probe]]` table.
    pub at: Span,
}

/// What must come back to a probe of the user.
#[derive(Debug, Clone, Default)]
pub struct UserExpect {
    /// The HTTP status; `None` for any.
    pub status: Option<u16>,
    /// The pods of which each must answer at least once, and no other may; empty for any.
    pub backends: Vec<PodId>,
    /// A text that the body must contain.
    pub body_contains: Option<String>,
    /// Nothing may answer: the connection must be `refused` or must `timeout`.
    pub failure: Option<ConnectFailure>,
}

/// How a connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectFailure {
    /// ECONNREFUSED, at once.
    Refused,
    /// Nothing comes back.
    Timeout,
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

    /// All clients with their ids.
    pub fn client_ids(&self) -> impl Iterator<Item = ClientId> + use<> {
        (0..self.clients.len()).map(ClientId)
    }

    /// Every place, in the order `host`, nodes, pods, clients, load balancer.
    pub fn places(&self) -> Vec<Place> {
        let pods = self.pod_ids().filter(|pod| !self.pod(*pod).host_network);
        std::iter::once(Place::Host)
            .chain(self.node_ids().map(Place::Node))
            .chain(pods.map(Place::Pod))
            .chain(self.client_ids().map(Place::Client))
            .chain(self.load_balancer.iter().map(|_| Place::LoadBalancer))
            .collect()
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
        self.places().into_iter().find(|place| self.netns(*place) == name).or_else(|| {
            let pod = self.pod_ids().find(|id| self.pod(*id).full_name() == name)?;
            Some(self.pod_place(pod))
        })
    }
}

impl Pod {
    /// `NAME`, or `NAME.NAMESPACE` outside the namespace `default`.
    pub fn full_name(&self) -> String {
        match self.namespace.as_str() {
            "default" => self.name.to_string(),
            namespace => format!("{}.{namespace}", self.name),
        }
    }
}

impl Service {
    /// `NAME`, or `NAME.NAMESPACE` outside the namespace `default`.
    pub fn full_name(&self) -> String {
        match self.namespace.as_str() {
            "default" => self.name.to_string(),
            namespace => format!("{}.{namespace}", self.name),
        }
    }

    /// It is reachable at addresses that are not cluster-internal.
    pub fn externally_accessible(&self) -> bool {
        matches!(self.kind, ServiceKind::NodePort | ServiceKind::LoadBalancer) || !self.external_ips.is_empty()
    }
}

impl Protocol {
    /// As Kubernetes spells it: `TCP`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }

    /// As rules spell it: `tcp`.
    pub fn lower(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
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

impl ServiceKind {
    /// As Kubernetes spells it.
    pub fn as_str(&self) -> &'static str {
        match self {
            ServiceKind::ClusterIp => "ClusterIP",
            ServiceKind::NodePort => "NodePort",
            ServiceKind::LoadBalancer => "LoadBalancer",
            ServiceKind::ExternalName(_) => "ExternalName",
        }
    }
}

impl TargetPort {
    /// The number it stands for on a pod, by container port name and protocol.
    pub fn resolve(&self, pod: &Pod, protocol: Protocol) -> Option<u16> {
        match self {
            TargetPort::Number(port) => Some(*port),
            TargetPort::Name(name) => pod
                .containers
                .iter()
                .flat_map(|container| &container.ports)
                .find(|port| port.protocol == protocol && port.name.as_ref() == Some(name))
                .map(|port| port.container_port),
        }
    }
}

impl fmt::Display for TargetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetPort::Number(port) => port.fmt(f),
            TargetPort::Name(name) => name.fmt(f),
        }
    }
}
