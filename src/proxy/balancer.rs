//! What the load balancer does, from the lab alone: the addresses that it owns, the health checks
//! that decide which nodes get their connections, and, for HAProxy, where it listens.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::{
    endpoints::{self, Conditions},
    view::{self, proxied},
    ways,
};
use crate::lab::model::{BalancerEngine, Lab, NodeId, Pod, Protocol, ProxyMode, Service, ServiceId, Span};

/// The port on which a node says that its proxy is well: kube-proxy's `/healthz`.
pub const PROXY_HEALTH_PORT: u16 = 10256;

/// An address of the load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// The address.
    pub ip: IpAddr,
    /// The ports of the health checks that a node must pass to get its connections. Services that
    /// share an address have one each: a packet's way is chosen by its address alone.
    pub checks: BTreeSet<u16>,
    /// The first Service that has it.
    pub at: Span,
}

/// The addresses that the load balancer owns: those of all Services that no machine of the lab
/// has. Sorted.
pub fn vips(lab: &Lab) -> Vec<Vip> {
    if lab.load_balancer.is_none() {
        return Vec::new();
    }
    let mut vips: BTreeMap<IpAddr, Vip> = BTreeMap::new();
    for service in proxied(lab).map(|id| lab.service(id)) {
        for ip in service.external_ips.iter().chain(&service.load_balancer_ips) {
            let vip = || Vip { ip: *ip, checks: BTreeSet::new(), at: service.at.clone() };
            vips.entry(*ip).or_insert_with(vip).checks.insert(check_port(service));
        }
    }
    vips.into_values().filter(|vip| ways::holder(lab, vip.ip).is_none()).collect()
}

/// The load balancer owns the address.
pub(super) fn owns(lab: &Lab, ip: IpAddr) -> bool {
    let has = |id: ServiceId| {
        let service = lab.service(id);
        service.external_ips.contains(&ip) || service.load_balancer_ips.contains(&ip)
    };
    lab.load_balancer.is_some() && proxied(lab).any(has) && ways::holder(lab, ip).is_none()
}

/// The address that the load balancer itself connects from.
pub(super) fn source(lab: &Lab, to: IpAddr) -> IpAddr {
    match &lab.load_balancer {
        Some(balancer) if balancer.engine == BalancerEngine::Haproxy && owns(lab, to) => to,
        Some(balancer) => balancer.ip,
        None => to,
    }
}

/// The port of the check that decides about a Service's connections.
fn check_port(service: &Service) -> u16 {
    service.health_check_node_port.unwrap_or(PROXY_HEALTH_PORT)
}

/// The load balancer asks nodes whether they have this pod, or another one for the same Service.
pub fn asks_for(lab: &Lab, pod: &Pod) -> bool {
    let asks = |service: &Service| service.health_check_node_port.is_some() && endpoints::selects(service, pod);
    lab.load_balancer.is_some() && proxied(lab).any(|id| asks(lab.service(id)))
}

/// The ports on which each node answers health checks. The flat rules of a student come without
/// a proxy that would answer, so they have some only where a load balancer asks.
pub fn check_ports(lab: &Lab) -> BTreeSet<u16> {
    if lab.cluster.proxy == ProxyMode::Ladder && lab.load_balancer.is_none() {
        return BTreeSet::new();
    }
    let services = proxied(lab).filter_map(|id| lab.service(id).health_check_node_port);
    services.chain([PROXY_HEALTH_PORT]).collect()
}

/// Which nodes pass which checks.
#[derive(Debug, Clone)]
pub struct Health<'a> {
    lab: &'a Lab,
    /// By port, for the checks of Services; the proxies are well.
    passing: BTreeMap<u16, BTreeSet<NodeId>>,
    vips: Vec<Vip>,
}

impl<'a> Health<'a> {
    /// Given what is known of the pods.
    pub fn of(lab: &'a Lab, conditions: &Conditions) -> Health<'a> {
        let mut passing: BTreeMap<u16, BTreeSet<NodeId>> = BTreeMap::new();
        for (node, check) in view::all_health_checks(lab, conditions) {
            passing.entry(check.port).or_default().extend((check.local_endpoints > 0).then_some(node));
        }
        Health { lab, passing, vips: vips(lab) }
    }

    /// The node passes the check.
    pub fn passes(&self, node: NodeId, check: u16) -> bool {
        let passes = check == PROXY_HEALTH_PORT || self.passing.get(&check).is_some_and(|nodes| nodes.contains(&node));
        passes && !self.lab.node(node).state.stopped
    }

    /// The nodes that pass a check, in file order.
    pub fn passing(&self, check: u16) -> Vec<NodeId> {
        self.lab.node_ids().filter(|node| self.passes(*node, check)).collect()
    }

    /// The nodes that get the connections to an address of the load balancer, in file order.
    pub fn nodes(&self, ip: IpAddr) -> Vec<NodeId> {
        let vip = self.vips.iter().find(|vip| vip.ip == ip);
        vip.map_or_else(Vec::new, |vip| self.nodes_of(vip))
    }

    /// The same, of an address that is known already.
    pub fn nodes_of(&self, vip: &Vip) -> Vec<NodeId> {
        let passes_all = |node: &NodeId| vip.checks.iter().all(|check| self.passes(*node, *check));
        self.lab.node_ids().filter(passes_all).collect()
    }
}

/// Where HAProxy listens, and where it goes on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// The Service port, as kube-proxy prints it.
    pub label: String,
    /// Where it listens.
    pub at: SocketAddr,
    /// The port on the nodes.
    pub node_port: u16,
    /// The port of their health check.
    pub check: u16,
    /// Who may connect; empty for everyone.
    pub ranges: Vec<IpNet>,
}

impl Frontend {
    /// A client may connect. On a node port nobody asks any more who the client was.
    pub fn admits(&self, source: IpAddr) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|range| range.contains(&source))
    }
}

/// Every place where HAProxy listens: address by address.
pub fn frontends(lab: &Lab) -> Vec<Frontend> {
    let mut all = Vec::new();
    for vip in vips(lab) {
        for service in proxied(lab).map(|id| lab.service(id)) {
            let balanced = service.load_balancer_ips.contains(&vip.ip);
            if !balanced && !service.external_ips.contains(&vip.ip) {
                continue;
            }
            for port in service.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
                let Some(node_port) = port.node_port else { continue };
                let name = port.name.as_ref().map_or_else(String::new, |name| format!(":{name}"));
                all.push(Frontend {
                    label: format!("{}/{}{name}", service.namespace, service.name),
                    at: SocketAddr::new(vip.ip, port.port),
                    node_port,
                    check: check_port(service),
                    ranges: if balanced { service.source_ranges.clone() } else { Vec::new() },
                });
            }
        }
    }
    all
}

/// The one that listens at an address.
pub(super) fn frontend(lab: &Lab, at: SocketAddr, protocol: Protocol) -> Option<Frontend> {
    frontends(lab).into_iter().find(|frontend| frontend.at == at && protocol == Protocol::Tcp)
}
