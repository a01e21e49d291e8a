//! From a lab to what one node must do for its Services: everything a renderer needs, typed, and
//! nothing of any renderer's language.

mod after;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    endpoints::{self, Chosen, Condition, Conditions, Endpoint, Policy},
    hash,
};
use crate::lab::model::{
    Attach, DetectLocal, Lab, NodeId, Protocol, Service, ServiceId, ServiceKind, ServicePort, Span, TrafficPolicy,
};
use crate::lab::name::{Name, ServiceName};
use crate::plan::VETH_PREFIX;

pub use after::views_after;

/// The port on which `host` and the clients answer HTTP.
pub const OUTSIDE_PORT: u16 = 80;

/// What one node must do.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// Its address on the LAN.
    pub ip: IpAddr,
    /// The subnet of its pods.
    pub pod_subnet: IpNet,
    /// Its address in that subnet.
    pub pod_gateway: IpAddr,
    /// The prefix that holds all pod subnets.
    pub cluster_cidr: IpNet,
    /// The range of the ClusterIPs.
    pub service_cidr: IpNet,
    /// The addresses of all nodes, in file order; this one's as well, for what it sends itself.
    pub node_ips: Vec<IpAddr>,
    /// How it tells that a packet comes from a local pod; `None` if it does not.
    pub local_traffic: Option<LocalTraffic>,
    /// Masquerade all traffic to a ClusterIP.
    pub masquerade_all: bool,
    /// Answer node ports on the loopback network, where the renderer can.
    pub localhost_node_ports: bool,
    /// The Service ports, sorted by name. Nodes for which they are the same share them.
    pub ports: Arc<[Arc<PortView>]>,
    /// The ports of this node that lead to a container of a pod here.
    pub host_ports: Vec<HostPortView>,
    /// The health checks that this node answers.
    pub health_checks: Vec<HealthCheck>,
}

/// What tells packets of local pods from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalTraffic {
    /// A source address in this prefix.
    Source(IpNet),
    /// This interface.
    Interface(String),
    /// An interface whose name begins so.
    InterfacePrefix(String),
}

/// One port of one Service, with what this node does for it.
#[derive(Debug, Clone)]
pub struct PortView {
    /// The Service.
    pub service: ServiceId,
    /// Its Kubernetes namespace.
    pub namespace: Name,
    /// Its name.
    pub name: ServiceName,
    /// The name of the port; empty if it has none.
    pub port_name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The ClusterIP.
    pub cluster_ip: IpAddr,
    /// The port on the ClusterIP, the external and the load balancer's addresses.
    pub port: u16,
    /// The port on the nodes.
    pub node_port: Option<u16>,
    /// `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use these; empty for everyone.
    pub source_ranges: Vec<IpNet>,
    /// `ClientIP` affinity with its timeout in seconds.
    pub affinity: Option<u32>,
    /// The health check's port, which is open whatever becomes of the Service.
    pub health_check_node_port: Option<u16>,
    /// What the Service asks of the choice of endpoints.
    pub policy: Policy,
    /// The endpoints that this node uses.
    pub endpoints: Chosen,
    /// The endpoints it would use if the Service had no policies: for rules that know none.
    pub usable: Vec<Endpoint>,
    /// Where the endpoints are that answer, whether or not they get new connections: those that
    /// some client is connected to already keep it.
    pub serving: Vec<SocketAddr>,
    /// The port's table in the lab file.
    pub at: Span,
}

/// A port of the node that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPortView {
    /// The pod's name, for comments.
    pub pod: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the node.
    pub port: u16,
    /// Only on this address; `None` for all of the node's.
    pub ip: Option<IpAddr>,
    /// Where it leads.
    pub to: SocketAddr,
}

/// A health check that a node answers for a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service.
    pub service: ServiceId,
    /// The port to answer on.
    pub port: u16,
    /// Ready endpoints on this node, counted by address; none means 503.
    pub local_endpoints: usize,
}

/// As kube-proxy prints a Service port.
fn label(namespace: &Name, name: &ServiceName, port: &str) -> String {
    match port {
        "" => format!("{namespace}/{name}"),
        port => format!("{namespace}/{name}:{port}"),
    }
}

impl NodeView {
    /// The rules are the same; places in the file may not be.
    pub fn is_like(&self, other: &NodeView) -> bool {
        let alike = |(one, other): (&Arc<PortView>, &Arc<PortView>)| Arc::ptr_eq(one, other) || one.is_like(other);
        self.is_in_place_of(other)
            && self.ports.len() == other.ports.len()
            && (Arc::ptr_eq(&self.ports, &other.ports) || self.ports.iter().zip(other.ports.iter()).all(alike))
    }

    /// A Service that is the same on both has the same rules on both.
    pub fn is_in_place_of(&self, other: &NodeView) -> bool {
        let NodeView {
            node,
            name,
            ip,
            pod_subnet,
            pod_gateway,
            cluster_cidr,
            service_cidr,
            node_ips,
            local_traffic,
            masquerade_all,
            localhost_node_ports,
            ports: _,
            host_ports,
            // Others answer these.
            health_checks: _,
        } = self;
        // Which endpoints are here is told by ids.
        *node == other.node
            && *name == other.name
            && *ip == other.ip
            && *pod_subnet == other.pod_subnet
            && *pod_gateway == other.pod_gateway
            && *cluster_cidr == other.cluster_cidr
            && *service_cidr == other.service_cidr
            && *node_ips == other.node_ips
            && *local_traffic == other.local_traffic
            && *masquerade_all == other.masquerade_all
            && *localhost_node_ports == other.localhost_node_ports
            && *host_ports == other.host_ports
    }
}

impl PortView {
    /// As kube-proxy prints a Service port: `ns/name:port`, or `ns/name` for an unnamed port.
    pub fn label(&self) -> String {
        label(&self.namespace, &self.name, &self.port_name)
    }

    /// The rules are the same; ids and places in the file may not be.
    pub fn is_like(&self, other: &PortView) -> bool {
        let PortView {
            service: _,
            namespace,
            name,
            port_name,
            protocol,
            cluster_ip,
            port,
            node_port,
            external_ips,
            load_balancer_ips,
            source_ranges,
            affinity,
            health_check_node_port,
            policy,
            endpoints,
            usable,
            serving,
            at: _,
        } = self;
        *namespace == other.namespace
            && *name == other.name
            && *port_name == other.port_name
            && *protocol == other.protocol
            && *cluster_ip == other.cluster_ip
            && *port == other.port
            && *node_port == other.node_port
            && *external_ips == other.external_ips
            && *load_balancer_ips == other.load_balancer_ips
            && *source_ranges == other.source_ranges
            && *affinity == other.affinity
            && *health_check_node_port == other.health_check_node_port
            && *policy == other.policy
            && *endpoints == other.endpoints
            && *usable == other.usable
            && *serving == other.serving
    }

    /// As nftables names begin: `ns/name/proto/port`.
    pub fn nft_base(&self) -> String {
        hash::nft_service(self.namespace.as_str(), self.name.as_str(), self.protocol, &self.port_name)
    }

    /// Its rules for addresses other than the ClusterIP are needed.
    pub fn has_external_rules(&self) -> bool {
        self.endpoints.has_endpoints && self.policy.externally_accessible
    }

    /// Traffic to its ClusterIP must stay on the node.
    pub fn internal_is_local(&self) -> bool {
        self.policy.internal == TrafficPolicy::Local
    }

    /// Traffic to its other addresses must stay on the node.
    pub fn external_is_local(&self) -> bool {
        self.policy.external == TrafficPolicy::Local
    }

    /// The external and the load balancer's addresses.
    pub fn outer_ips(&self) -> impl Iterator<Item = &IpAddr> {
        self.external_ips.iter().chain(&self.load_balancer_ips)
    }
}

/// What `node` must do while the pods are as the lab file says.
pub fn view(lab: &Lab, node: NodeId) -> NodeView {
    view_under(lab, node, &endpoints::conditions(lab))
}

/// What `node` must do, given what is known of the pods.
pub fn view_under(lab: &Lab, node: NodeId, conditions: &Conditions) -> NodeView {
    view_told(lab, node, believed(lab, node, conditions).as_ref().unwrap_or(conditions))
}

/// What every node must do, in file order; the endpoints are looked for only once.
pub fn views_under(lab: &Lab, conditions: &Conditions) -> Vec<NodeView> {
    let ports = all_ports(lab, conditions);
    let shared = shared(lab, &ports);
    let view = |node| match believed(lab, node, conditions) {
        None => view_of(lab, node, &ports, &shared),
        Some(believed) => view_told(lab, node, &believed),
    };
    lab.node_ids().map(view).collect()
}

fn view_told(lab: &Lab, node: NodeId, conditions: &Conditions) -> NodeView {
    let ports = all_ports(lab, conditions);
    view_of(lab, node, &ports, &shared(lab, &ports))
}

/// What a node goes on to believe of its own pods when its link is down and the control plane has
/// given them up: nobody can tell it so.
fn believed(lab: &Lab, node: NodeId, conditions: &Conditions) -> Option<Conditions> {
    let state = lab.node(node).state;
    let own = lab.pod_ids().filter(|id| lab.pod(*id).node == node);
    (state.unplugged && state.unheard && !state.stopped).then(|| {
        let mut believed = conditions.clone();
        believed.extend(own.map(|id| {
            let pod = lab.pod(id);
            (id, Condition { ready: pod.ready, terminating: pod.terminating })
        }));
        believed
    })
}

/// The same as [`view`], with nothing that is shared with other nodes.
#[cfg(test)]
pub(super) fn alone(lab: &Lab, node: NodeId) -> NodeView {
    let known = endpoints::conditions(lab);
    let known = believed(lab, node, &known).unwrap_or(known);
    let ports = all_ports(lab, &known);
    let nothing = Shared { ports: ports.iter().map(|_| None).collect(), all: None };
    view_of(lab, node, &ports, &nothing)
}

/// A Service port and all of its endpoints.
#[derive(Debug)]
struct Port<'a> {
    service: ServiceId,
    port: &'a ServicePort,
    endpoints: Vec<Endpoint>,
}

/// The ports of all Services that a proxy cares for, with their endpoints, sorted by name.
fn all_ports<'a>(lab: &'a Lab, conditions: &Conditions) -> Vec<Port<'a>> {
    ports_of(lab, conditions, |_| true)
}

/// Those of some Services.
fn ports_of<'a>(lab: &'a Lab, conditions: &Conditions, takes: impl Fn(&ServiceId) -> bool) -> Vec<Port<'a>> {
    let index = endpoints::Index::of(lab, conditions);
    let ports = proxied(lab).filter(takes).flat_map(|id| lab.service(id).ports.iter().map(move |port| (id, port)));
    let with_endpoints = |(service, port)| {
        let endpoints = index.endpoints(lab.service(service), port);
        Port { service, port, endpoints }
    };
    let mut ports: Vec<Port<'_>> = ports.map(with_endpoints).collect();
    ports.sort_by_cached_key(|it| {
        let (service, name) = (lab.service(it.service), it.port.name.as_ref().map(AsRef::as_ref));
        (label(&service.namespace, &service.name, name.unwrap_or_default()), it.port.protocol)
    });
    ports
}

/// What is the same on every node.
struct Shared {
    /// One for each port, and none for one that is not the same.
    ports: Vec<Option<Arc<PortView>>>,
    /// All of them, if all are the same.
    all: Option<Arc<[Arc<PortView>]>>,
}

fn shared(lab: &Lab, ports: &[Port<'_>]) -> Shared {
    let families: BTreeSet<bool> = lab.nodes.iter().map(|node| node.ip.is_ipv4()).collect();
    let shared = |it: &Port<'_>| {
        let policy = policy(lab.service(it.service), it.port);
        let depends = families.len() > 1 || policy.uses_local() || policy.distribution.is_some();
        lab.node_ids().next().filter(|_| !depends).and_then(|node| port_view(lab, node, it)).map(Arc::new)
    };
    let ports: Vec<Option<Arc<PortView>>> = ports.iter().map(shared).collect();
    let all = ports.iter().cloned().collect::<Option<Arc<[_]>>>();
    Shared { ports, all }
}

fn view_of(lab: &Lab, id: NodeId, all: &[Port<'_>], shared: &Shared) -> NodeView {
    let node = lab.node(id);
    let own = all.iter().zip(&shared.ports).filter_map(|(port, shared)| match shared {
        Some(shared) => Some(Arc::clone(shared)),
        None => port_view(lab, id, port).map(Arc::new),
    });
    let ports = shared.all.clone().unwrap_or_else(|| own.collect());
    let of_family = |ip: &IpAddr| ip.is_ipv4() == node.ip.is_ipv4();
    NodeView {
        node: id,
        name: node.name.clone(),
        ip: node.ip,
        pod_subnet: node.pod_subnet,
        pod_gateway: node.pod_gateway,
        cluster_cidr: lab.cluster.cluster_cidr,
        service_cidr: lab.cluster.service_cidr,
        node_ips: lab.nodes.iter().map(|node| node.ip).filter(of_family).collect(),
        local_traffic: local_traffic(lab, id),
        masquerade_all: lab.cluster.masquerade_all,
        // The kernel has no route_localnet for IPv6.
        localhost_node_ports: node.ip.is_ipv4(),
        ports,
        host_ports: host_ports(lab, id),
        health_checks: health_checks(lab, id, all),
    }
}

/// The Services that a proxy cares for: those with a ClusterIP, and no label that says
/// that someone else does.
pub fn proxied(lab: &Lab) -> impl Iterator<Item = ServiceId> {
    const NOT_OURS: [&str; 2] = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];
    lab.service_ids().filter(|id| {
        let service = lab.service(*id);
        !matches!(service.kind, ServiceKind::ExternalName(_))
            && service.cluster_ip.is_some()
            && !NOT_OURS.iter().any(|label| service.labels.contains_key(*label))
    })
}

/// One Service port as one node sees it; `None` if its ClusterIP is of the other family.
fn port_view(lab: &Lab, node: NodeId, it: &Port<'_>) -> Option<PortView> {
    let Port { service: id, port, endpoints } = it;
    let service = lab.service(*id);
    let of_family = |ip: &IpAddr| ip.is_ipv4() == lab.node(node).ip.is_ipv4();
    let cluster_ip = service.cluster_ip.filter(of_family)?;
    let policy = policy(service, port);
    let mut all = endpoints.clone();
    all.retain(|endpoint| of_family(&endpoint.addr.ip()));
    Some(PortView {
        service: *id,
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        port_name: port.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        protocol: port.protocol,
        cluster_ip,
        port: port.port,
        node_port: port.node_port,
        external_ips: service.external_ips.iter().copied().filter(of_family).collect(),
        load_balancer_ips: service.load_balancer_ips.iter().copied().filter(of_family).collect(),
        source_ranges: service.source_ranges.iter().copied().filter(|range| of_family(&range.addr())).collect(),
        affinity: service.session_affinity,
        health_check_node_port: service.health_check_node_port,
        policy,
        endpoints: endpoints::choose(&all, policy, node, lab.node(node).zone.as_ref()),
        usable: endpoints::choose(&all, policy.without_wishes(), node, None).cluster,
        // One that is ready only because the Service publishes it unready is used as well.
        serving: all.iter().filter(|it| it.serving || it.ready).map(|endpoint| endpoint.addr).collect(),
        at: port.at.clone(),
    })
}

/// What a Service asks of the choice of endpoints for one of its ports.
pub fn policy(service: &Service, port: &ServicePort) -> Policy {
    Policy {
        internal: service.internal_traffic_policy,
        external: service.external_traffic_policy,
        externally_accessible: port.node_port.is_some()
            || !service.external_ips.is_empty()
            || !service.load_balancer_ips.is_empty(),
        distribution: service.traffic_distribution,
    }
}

fn local_traffic(lab: &Lab, id: NodeId) -> Option<LocalTraffic> {
    let node = lab.node(id);
    Some(match (lab.cluster.detect_local, &node.attach) {
        (DetectLocal::ClusterCidr, _) => LocalTraffic::Source(lab.cluster.cluster_cidr),
        (DetectLocal::NodeCidr, _) => LocalTraffic::Source(node.pod_subnet),
        (DetectLocal::Bridge, Attach::Bridge(bridge)) => LocalTraffic::Interface(bridge.to_string()),
        (DetectLocal::Bridge, Attach::Routed) => LocalTraffic::InterfacePrefix(VETH_PREFIX.to_owned()),
        (DetectLocal::None, _) => return None,
    })
}

/// The host ports of a node's pods; a host-network pod's own ports are the node's already.
fn host_ports(lab: &Lab, id: NodeId) -> Vec<HostPortView> {
    let pods = lab.pods.iter().filter(|pod| pod.node == id && !pod.host_network);
    pods.flat_map(|pod| {
        let ports = pod.containers.iter().flat_map(|container| &container.ports);
        ports.filter_map(|port| {
            let host_port = port.host_port.as_ref()?;
            Some(HostPortView {
                pod: pod.full_name(),
                protocol: port.protocol,
                port: host_port.port,
                ip: host_port.ip,
                to: SocketAddr::new(pod.ip, port.container_port),
            })
        })
    })
    .collect()
}

/// The health checks that the nodes answer, node by node in file order.
pub fn all_health_checks(lab: &Lab, conditions: &Conditions) -> Vec<(NodeId, HealthCheck)> {
    if !lab.services.iter().any(|service| service.health_check_node_port.is_some()) {
        return Vec::new();
    }
    let ports = all_ports(lab, conditions);
    let of_node = |node| health_checks(lab, node, &ports).into_iter().map(move |check| (node, check));
    lab.node_ids().flat_map(of_node).collect()
}

fn health_checks(lab: &Lab, node: NodeId, ports: &[Port<'_>]) -> Vec<HealthCheck> {
    // An address counts once, however many ports it serves.
    let mut local: BTreeMap<ServiceId, BTreeSet<IpAddr>> = BTreeMap::new();
    for it in ports.iter().filter(|it| lab.service(it.service).health_check_node_port.is_some()) {
        let ready = it.endpoints.iter().filter(|endpoint| endpoint.ready && endpoint.node == Some(node));
        local.entry(it.service).or_default().extend(ready.map(|endpoint| endpoint.addr.ip()));
    }
    let check = |(service, local): (ServiceId, BTreeSet<IpAddr>)| {
        let port = lab.service(service).health_check_node_port?;
        Some(HealthCheck { service, port, local_endpoints: local.len() })
    };
    local.into_iter().filter_map(check).collect()
}
