//! Services, their ports and their endpoints given by hand.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{Labels, NodeId, Pod, Span};
use crate::lab::name::{Domain, Name, PortName, ServiceName, ServicePortName};

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

impl ServicePort {
    /// The same but for where the file says so.
    fn is_like(&self, other: &ServicePort) -> bool {
        let ServicePort { name, protocol, port, target_port, node_port, at: _ } = self;
        *name == other.name
            && *protocol == other.protocol
            && *port == other.port
            && *target_port == other.target_port
            && *node_port == other.node_port
    }
}

impl Service {
    /// One of the type ClusterIP that says nothing else yet: neither an address nor a port.
    pub(crate) fn new(name: ServiceName, namespace: Name, at: Span) -> Self {
        Service {
            name,
            namespace,
            kind: ServiceKind::ClusterIp,
            labels: Labels::new(),
            cluster_ip: None,
            selector: Labels::new(),
            endpoints: Vec::new(),
            ports: Vec::new(),
            session_affinity: None,
            internal_traffic_policy: TrafficPolicy::Cluster,
            external_traffic_policy: TrafficPolicy::Cluster,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            health_check_node_port: None,
            publish_not_ready_addresses: false,
            traffic_distribution: None,
            at,
        }
    }

    /// The same but for where the file says so. Nodes are compared by their ids.
    pub fn is_like(&self, other: &Service) -> bool {
        let Service {
            name,
            namespace,
            kind,
            labels,
            cluster_ip,
            selector,
            endpoints,
            ports,
            session_affinity,
            internal_traffic_policy,
            external_traffic_policy,
            external_ips,
            load_balancer_ips,
            source_ranges,
            health_check_node_port,
            publish_not_ready_addresses,
            traffic_distribution,
            at: _,
        } = self;
        let alike = |(one, other): (&ManualEndpoint, &ManualEndpoint)| one.ip == other.ip && one.node == other.node;
        *name == other.name
            && *namespace == other.namespace
            && *kind == other.kind
            && *labels == other.labels
            && *cluster_ip == other.cluster_ip
            && *selector == other.selector
            && endpoints.len() == other.endpoints.len()
            && endpoints.iter().zip(&other.endpoints).all(alike)
            && ports.len() == other.ports.len()
            && ports.iter().zip(&other.ports).all(|(one, other)| one.is_like(other))
            && *session_affinity == other.session_affinity
            && *internal_traffic_policy == other.internal_traffic_policy
            && *external_traffic_policy == other.external_traffic_policy
            && *external_ips == other.external_ips
            && *load_balancer_ips == other.load_balancer_ips
            && *source_ranges == other.source_ranges
            && *health_check_node_port == other.health_check_node_port
            && *publish_not_ready_addresses == other.publish_not_ready_addresses
            && *traffic_distribution == other.traffic_distribution
    }

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
