//! From a lab to what one node must do for its Services: everything a renderer needs, typed, and
//! nothing of any renderer's language.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
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
    /// The Service ports, sorted by name.
    pub ports: Vec<PortView>,
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

impl PortView {
    /// As kube-proxy prints a Service port: `ns/name:port`, or `ns/name` for an unnamed port.
    pub fn label(&self) -> String {
        match self.port_name.as_str() {
            "" => format!("{}/{}", self.namespace, self.name),
            port => format!("{}/{}:{port}", self.namespace, self.name),
        }
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
    let believed = believed(lab, node, conditions);
    view_of(lab, node, &all_endpoints(lab, believed.as_ref().unwrap_or(conditions)))
}

/// What every node must do, in file order; the endpoints are looked for only once.
pub fn views_under(lab: &Lab, conditions: &Conditions) -> Vec<NodeView> {
    let endpoints = all_endpoints(lab, conditions);
    let view = |node| match believed(lab, node, conditions) {
        None => view_of(lab, node, &endpoints),
        Some(believed) => view_of(lab, node, &all_endpoints(lab, &believed)),
    };
    lab.node_ids().map(view).collect()
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

/// A Service port and all of its endpoints.
type PortEndpoints<'a> = (ServiceId, &'a ServicePort, Vec<Endpoint>);

/// The ports of all Services that a proxy cares for, with their endpoints.
fn all_endpoints<'a>(lab: &'a Lab, conditions: &Conditions) -> Vec<PortEndpoints<'a>> {
    let ports = proxied(lab).flat_map(|id| lab.service(id).ports.iter().map(move |port| (id, port)));
    ports.map(|(id, port)| (id, port, endpoints::endpoints(lab, lab.service(id), port, conditions))).collect()
}

fn view_of(lab: &Lab, id: NodeId, endpoints: &[PortEndpoints<'_>]) -> NodeView {
    let node = lab.node(id);
    let mut ports: Vec<PortView> =
        endpoints.iter().filter_map(|(service, port, all)| port_view(lab, id, *service, port, all)).collect();
    ports.sort_by_cached_key(|port| (port.label(), port.protocol));
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
        health_checks: health_checks(lab, id, endpoints),
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
fn port_view(lab: &Lab, node: NodeId, id: ServiceId, port: &ServicePort, all: &[Endpoint]) -> Option<PortView> {
    let service = lab.service(id);
    let of_family = |ip: &IpAddr| ip.is_ipv4() == lab.node(node).ip.is_ipv4();
    let cluster_ip = service.cluster_ip.filter(of_family)?;
    let policy = policy(service, port);
    let mut all = all.to_vec();
    all.retain(|endpoint| of_family(&endpoint.addr.ip()));
    Some(PortView {
        service: id,
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
    let endpoints = all_endpoints(lab, conditions);
    let of_node = |node| health_checks(lab, node, &endpoints).into_iter().map(move |check| (node, check));
    lab.node_ids().flat_map(of_node).collect()
}

fn health_checks(lab: &Lab, node: NodeId, endpoints: &[PortEndpoints<'_>]) -> Vec<HealthCheck> {
    let checks = proxied(lab).filter_map(|id| {
        let port = lab.service(id).health_check_node_port?;
        // An address counts once, however many ports it serves.
        let local: BTreeSet<IpAddr> = endpoints
            .iter()
            .filter(|(service, ..)| *service == id)
            .flat_map(|(.., all)| all)
            .filter(|endpoint| endpoint.ready && endpoint.node == Some(node))
            .map(|endpoint| endpoint.addr.ip())
            .collect();
        Some(HealthCheck { service: id, port, local_endpoints: local.len() })
    });
    checks.collect()
}
