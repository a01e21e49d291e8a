//! What was allocated to the things of a lab, so that they keep it when the lab file changes around
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::model::{Lab, Protocol};

/// What was allocated, by name. Whatever the file says goes before it, and what is not free (any
/// more) is allocated anew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    nodes: BTreeMap<String, KeptNode>,
    pods: BTreeMap<String, KeptPod>,
    services: BTreeMap<String, KeptService>,
    load_balancer: Option<Ipv4Addr>,
    /// Nodes that no pod is placed on which could be elsewhere.
    #[serde(skip)]
    closed: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptNode {
    ip: Ipv4Addr,
    pod_subnet: Ipv4Net,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptPod {
    node: String,
    /// Its own; one on the host network has none.
    ip: Option<Ipv4Addr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct KeptService {
    cluster_ip: Option<Ipv4Addr>,
    /// By `80/TCP`.
    node_ports: BTreeMap<String, u16>,
    health_check_node_port: Option<u16>,
    load_balancer_ips: Vec<Ipv4Addr>,
}

impl Kept {
    /// What the things of a lab have.
    pub fn of(lab: &Lab) -> Self {
        let nodes = lab.nodes.iter().filter_map(|node| {
            let (IpAddr::V4(ip), IpNet::V4(pod_subnet)) = (node.ip, node.pod_subnet) else { return None };
            Some((node.name.to_string(), KeptNode { ip, pod_subnet }))
        });
        let pods = lab.pods.iter().map(|pod| {
            let node = lab.node(pod.node).name.to_string();
            let ip = if pod.host_network { None } else { v4(pod.ip) };
            (pod.full_name(), KeptPod { node, ip })
        });
        let services = lab.services.iter().map(|service| {
            let node_port = |port: &super::model::ServicePort| Some((key(port.port, port.protocol), port.node_port?));
            let kept = KeptService {
                cluster_ip: service.cluster_ip.and_then(v4),
                node_ports: service.ports.iter().filter_map(node_port).collect(),
                health_check_node_port: service.health_check_node_port,
                load_balancer_ips: service.load_balancer_ips.iter().copied().filter_map(v4).collect(),
            };
            (service.full_name(), kept)
        });
        Kept {
            nodes: nodes.collect(),
            pods: pods.collect(),
            services: services.collect(),
            load_balancer: lab.load_balancer.as_ref().and_then(|balancer| v4(balancer.ip)),
            closed: BTreeSet::new(),
        }
    }

    /// The same, where no pod is placed on these nodes that could be elsewhere.
    #[must_use]
    pub fn closing(mut self, nodes: BTreeSet<String>) -> Self {
        self.closed = nodes;
        self
    }

    /// The same, but some of the pods on closed nodes have nothing there any more.
    #[must_use]
    pub fn evicting(mut self, mut evicted: impl FnMut(&str) -> bool) -> Self {
        let closed = &self.closed;
        self.pods.retain(|pod, kept| !closed.contains(&kept.node) || !evicted(pod));
        self
    }

    /// No pod is placed on the node that could be elsewhere.
    pub(super) fn is_closed(&self, node: &str) -> bool {
        self.closed.contains(node)
    }

    /// The same, and what pods of another lab have besides: nobody else gets it as long as there is more.
    #[must_use]
    pub fn besides(mut self, other: &Lab) -> Self {
        // What is on a closed node may come again elsewhere; nobody new gets anything there.
        for (name, pod) in Kept::of(other).pods.into_iter().filter(|(_, pod)| !self.closed.contains(&pod.node)) {
            self.pods.entry(name).or_insert(pod);
        }
        self
    }

    pub(super) fn node_ip(&self, name: &str) -> Option<Ipv4Addr> {
        self.nodes.get(name).map(|node| node.ip)
    }

    pub(super) fn pod_subnet(&self, name: &str) -> Option<Ipv4Net> {
        self.nodes.get(name).map(|node| node.pod_subnet)
    }

    pub(super) fn pod_node(&self, full_name: &str) -> Option<&str> {
        self.pods.get(full_name).map(|pod| pod.node.as_str())
    }

    /// A pod's address, if it had that on this node.
    pub(super) fn pod_ip(&self, full_name: &str, node: &str) -> Option<Ipv4Addr> {
        self.pods.get(full_name).filter(|pod| pod.node == node)?.ip
    }

    /// The addresses of a node's pods.
    pub(super) fn pod_ips(&self, node: &str) -> impl Iterator<Item = Ipv4Addr> {
        self.pods.values().filter(move |pod| pod.node == node).filter_map(|pod| pod.ip)
    }

    pub(super) fn cluster_ip(&self, full_name: &str) -> Option<Ipv4Addr> {
        self.services.get(full_name)?.cluster_ip
    }

    pub(super) fn node_port(&self, full_name: &str, port: u16, protocol: Protocol) -> Option<u16> {
        self.services.get(full_name)?.node_ports.get(&key(port, protocol)).copied()
    }

    pub(super) fn health_check_node_port(&self, full_name: &str) -> Option<u16> {
        self.services.get(full_name)?.health_check_node_port
    }

    pub(super) fn load_balancer_ip(&self, full_name: &str) -> Option<Ipv4Addr> {
        self.services.get(full_name)?.load_balancer_ips.first().copied()
    }

    pub(super) fn balancer(&self) -> Option<Ipv4Addr> {
        self.load_balancer
    }
}

fn key(port: u16, protocol: Protocol) -> String {
    format!("{port}/{protocol}")
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::lab::{Kept, load, load_after, model::Lab};

    fn good(lab: Result<Lab, crate::diag::Diagnostics>) -> Lab {
        lab.unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn all(lab: &Lab) -> Vec<String> {
        let nodes = lab.nodes.iter().map(|it| format!("{} {} {}", it.name, it.ip, it.pod_subnet));
        let pods = lab.pods.iter().map(|it| format!("{} {} {}", it.full_name(), lab.node(it.node).name, it.ip));
        let services = lab.services.iter().map(|it| {
            let ports: Vec<_> = it.ports.iter().map(|port| port.node_port).collect();
            format!(
                "{} {:?} {ports:?} {:?} {:?}",
                it.name, it.cluster_ip, it.health_check_node_port, it.load_balancer_ips
            )
        });
        nodes.chain(pods).chain(services).collect()
    }

    const LAB: &str = r#"
        [[node]]
        name = "node1"
        [[node]]
        name = "node2"
        [[pod]]
        name = "web"
        replicas = 3
        labels = { app = "web" }
        [[service]]
        name = "shop"
        type = "LoadBalancer"
        external_traffic_policy = "Local"
        selector = { app = "web" }
        ports = [{ port = 80 }]
        [dns]
        engine = "embedded"
    "#;

    #[test]
    fn what_is_there_keeps_what_it_has() {
        let first = good(load(LAB));
        // In front of everything, so that everything would get something else.
        let more = format!(
            r#"
            [[node]]
            name = "node0"
            [[pod]]
            name = "api"
            replicas = 4
            labels = {{ app = "api" }}
            [[service]]
            name = "api"
            type = "LoadBalancer"
            external_traffic_policy = "Local"
            selector = {{ app = "api" }}
            ports = [{{ port = 80 }}]
            {LAB}"#
        );
        let second = good(load_after(&more, &"lab".parse().unwrap(), &Kept::of(&first)));
        let (before, after) = (all(&first), all(&second));
        let lost: Vec<&String> = before.iter().filter(|line| !after.contains(line)).collect();
        assert!(lost.is_empty(), "{lost:#?}\n{after:#?}");
        assert_ne!(all(&good(load(&more))), after);
        // And nothing is given twice, nor differently the second time.
        let again = good(load_after(&more, &"lab".parse().unwrap(), &Kept::of(&second)));
        assert_eq!(all(&again), after);
        let mut ips: Vec<_> = second.pods.iter().map(|pod| pod.ip).collect();
        ips.sort();
        ips.dedup();
        assert_eq!(ips.len(), second.pods.len());
    }

    #[test]
    fn what_the_file_says_goes_first() {
        let first = good(load(LAB));
        let taken = format!("{LAB}\n[[pod]]\nname = \"thief\"\nip = \"10.244.0.2\"\n");
        let second = good(load_after(&taken, &"lab".parse().unwrap(), &Kept::of(&first)));
        let ip = |name: &str| second.pods.iter().find(|pod| pod.full_name() == name).map(|pod| pod.ip.to_string());
        assert_eq!(ip("thief").as_deref(), Some("10.244.0.2"));
        assert_ne!(ip("web-0").as_deref(), Some("10.244.0.2"));
    }
}
