//! `[load_balancer]` → the machine in front of the nodes: there is one where a Service has an
//! address for it.

use std::net::Ipv4Addr;

use super::{
    address::ip,
    file::{LabFile, ServiceTable},
    model::{BalancerEngine, Lab, LoadBalancer, Protocol, Span},
    name::Name,
    network::Network,
    value::ServiceType,
};
use crate::{
    diag::{Diagnostic, Problems},
    proxy::balancer,
};

/// The load balancer on its way.
#[derive(Debug)]
pub(super) struct BalancerDraft {
    pub(super) name: Option<Name>,
    pub(super) ip: Option<Ipv4Addr>,
    engine: Option<BalancerEngine>,
    at: Span,
    pub(super) name_at: Span,
}

/// Reads it from the file; `None` if there is none.
pub(super) fn balancer(file: &LabFile, network: &Network, problems: &mut Problems) -> Option<BalancerDraft> {
    let table = file.load_balancer.get();
    let Some(service) = file.service.list().iter().find(|service| has_outer_address(service)) else {
        if let Some(table) = table.filter(|_| !file.service.is_nonsense()) {
            let message = "there is nothing to balance: no service has an address outside the cluster";
            let problem = Diagnostic::new(table.at.clone(), message);
            problems.push(problem.hint("give a service `type = \"LoadBalancer\"`, or leave `[load_balancer]` out"));
        }
        return None;
    };
    let at = table.map_or(&service.at, |table| &table.at).clone();
    let said_ip = table.is_some_and(|table| !table.ip.is_nothing());
    if let (None, Some(subnet), false) = (network.balancer_ip, network.node_subnet, said_ip) {
        let message = format!("the node subnet {subnet} has no free address left for the load balancer");
        problems.push(Diagnostic::new(at.clone(), message).hint("set a larger `node_subnet` in `[cluster]`"));
    }
    let name = "lb".parse().ok().and_then(|lb| table.map_or(Some(Name::clone(&lb)), |table| table.name.or(lb)));
    Some(BalancerDraft {
        name,
        ip: network.balancer_ip,
        engine: table.map_or(Some(BalancerEngine::Builtin), |table| table.engine.or(BalancerEngine::Builtin)),
        name_at: table.map_or(at.clone(), |table| table.name.span(&table.at)),
        at,
    })
}

impl BalancerDraft {
    /// The load balancer, if nothing of it was refused.
    pub(super) fn finish(self) -> Option<LoadBalancer> {
        Some(LoadBalancer { name: self.name?, ip: ip(self.ip?), engine: self.engine?, at: self.at })
    }
}

/// One of its addresses is outside the cluster.
fn has_outer_address(service: &ServiceTable) -> bool {
    let balanced = service.r#type.get() == Some(&ServiceType::LoadBalancer);
    let given = !service.load_balancer_ips.list().is_empty();
    !service.external_ips.list().is_empty() || (balanced && (given || service.load_balancer_ips.is_nothing()))
}

/// HAProxy carries TCP, and carries it to node ports.
pub(super) fn check_engine(lab: &Lab, problems: &mut Problems) {
    let Some(load_balancer) = &lab.load_balancer else { return };
    if load_balancer.engine != BalancerEngine::Haproxy {
        return;
    }
    let vips = balancer::vips(lab);
    for service in &lab.services {
        let balanced = service.external_ips.iter().chain(&service.load_balancer_ips);
        if !balanced.into_iter().any(|ip| vips.iter().any(|vip| vip.ip == *ip)) {
            continue;
        }
        for port in &service.ports {
            let message = match (port.protocol, port.node_port) {
                (Protocol::Tcp, Some(_)) => continue,
                (Protocol::Tcp, None) => {
                    format!("haproxy forwards to node ports, and port {} of `{}` has none", port.port, service.name)
                }
                (protocol, _) => format!("haproxy does not balance {protocol}"),
            };
            let problem = Diagnostic::new(port.at.clone(), message).also(load_balancer.at.clone(), "the engine");
            problems.push(problem.hint("set `engine = \"builtin\"` in `[load_balancer]`, which takes anything"));
        }
    }
}
