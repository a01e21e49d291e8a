//! Which servers have to run where.

use super::step::{Check, PlannedStep, Step};
use crate::{
    lab::model::{Container, DnsEngine, ExternalServer, Lab, Place, Protocol, Server},
    proxy::{
        balancer::{self, PROXY_HEALTH_PORT},
        endpoints::conditions,
        view::{self, HealthCheck, OUTSIDE_PORT},
    },
};

/// One step per container, one per machine outside the cluster, and one per health check of a node.
pub(super) fn serve(lab: &Lab) -> impl Iterator<Item = PlannedStep> + '_ {
    let present = lab.pod_ids().filter(|id| !lab.is_off(lab.pod_place(*id)));
    let containers = present.flat_map(move |id| {
        let pod = lab.pod(id);
        pod.containers.iter().enumerate().map(move |(container, it)| PlannedStep {
            step: Step::Serve { netns: lab.netns(lab.pod_place(id)), pod: id, container, argv: argv(lab, it) },
            at: it.at.clone(),
        })
    });
    let outside = std::iter::once((Place::Host, &lab.cluster.at))
        .chain(lab.client_ids().map(|id| (Place::Client(id), &lab.client(id).at)))
        .map(move |(place, at)| PlannedStep {
            step: Step::ServeOutside { netns: lab.netns(place), port: OUTSIDE_PORT, server: ExternalServer::Echo },
            at: at.clone(),
        });
    let externals = lab.externals.iter().flat_map(|external| {
        let (netns, server) = (external.name.to_string(), external.server);
        external.ports.iter().map(move |port| PlannedStep {
            step: Step::ServeOutside { netns: netns.clone(), port: *port, server },
            at: external.at.clone(),
        })
    });
    let upstream = knows_names(lab).then(|| PlannedStep {
        step: Step::ServeNames { netns: lab.netns(Place::Host) },
        at: lab.dns.as_ref().map_or(0..0, |dns| dns.at.clone()),
    });
    containers.chain(outside).chain(externals).chain(upstream).chain(health(lab))
}

/// `host` is the name server of the lab's internet: where there is any, and where the cluster's DNS
/// asks it.
pub fn knows_names(lab: &Lab) -> bool {
    !lab.externals.is_empty() || lab.dns.is_some()
}

/// The program that is the cluster's DNS.
pub fn dns_program(lab: &Lab) -> &'static str {
    match lab.dns.as_ref().map(|dns| dns.engine) {
        Some(DnsEngine::Coredns) => "coredns",
        _ => "netlab-dns",
    }
}

/// Every node answers for its proxy, and for the Services whose traffic stays on a node.
fn health(lab: &Lab) -> impl Iterator<Item = PlannedStep> + '_ {
    let ports = balancer::check_ports(lab);
    let proxies = lab.node_ids().map(|node| (node, PROXY_HEALTH_PORT, Check::Proxy, &lab.node(node).at));
    let services = view::all_health_checks(lab, &conditions(lab)).into_iter().map(|(node, check)| {
        let HealthCheck { service, port, local_endpoints } = check;
        (node, port, Check::Service { service, local_endpoints }, &lab.service(service).at)
    });
    let all = proxies.chain(services).filter(move |(_, port, ..)| ports.contains(port));
    let all = all.filter(|(node, ..)| !lab.is_off(Place::Node(*node)));
    all.map(|(node, port, check, at)| PlannedStep {
        step: Step::ServeHealth { netns: lab.node(node).name.to_string(), port, check },
        at: at.clone(),
    })
}

/// The command line of a container's server, as a person would read it.
fn argv(lab: &Lab, container: &Container) -> Vec<String> {
    let ports = |protocol| {
        let of_protocol = container.ports.iter().filter(move |port| port.protocol == protocol);
        of_protocol.map(|port| port.container_port.to_string())
    };
    match &container.server {
        Server::Python => {
            let head = ["python3", "http_server.py"].map(str::to_owned);
            head.into_iter().chain(ports(Protocol::Tcp)).collect()
        }
        Server::Echo => {
            let udp = ports(Protocol::Udp).map(|port| format!("{port}/udp"));
            std::iter::once("netlab-echo".to_owned()).chain(ports(Protocol::Tcp)).chain(udp).collect()
        }
        Server::Command(argv) => argv.clone(),
        Server::Dns => vec![dns_program(lab).to_owned()],
    }
}
