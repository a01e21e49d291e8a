//! How many of each → the text of a lab file: labs of any size that are all alike, to measure with.
//!
//! The same numbers give the same text, byte for byte.

use std::{
    fmt::{self, Write},
    net::Ipv4Addr,
};

use super::{
    check::{MOST_NODES, MOST_PODS, MOST_SERVICES},
    model::ProxyMode,
    pods::BRIDGE_PORTS,
    value::MOST_REPLICAS,
};

/// How many of each there shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Nodes.
    pub nodes: usize,
    /// Pods on each node.
    pub pods: usize,
    /// Services.
    pub services: usize,
    /// Endpoints of each Service; none is a Service that refuses.
    pub endpoints: usize,
    /// How many of the Services have a node port.
    pub node_ports: usize,
    /// Who writes the rules.
    pub proxy: ProxyMode,
}

/// Why there can be no such lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridError(String);

impl fmt::Display for GridError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GridError {}

/// The node ports of Kubernetes, 30000 to 32767.
const NODE_PORTS: usize = 2768;
/// The default node subnet, a /24, has addresses for so many nodes, with some to spare for the load
/// balancer and for nodes yet to come.
const NODES_OF_DEFAULT: usize = 200;
/// The default pod subnets, /24, have addresses for so many pods, with some to spare.
const PODS_OF_DEFAULT: usize = 200;
/// Where the pod subnets are that are not the default ones: it overlaps neither the nodes nor the Services.
const WIDE: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 128, 0, 0), 9);

impl Grid {
    /// The text of a lab file.
    ///
    /// # Errors
    ///
    /// When a lab cannot have so many.
    pub fn text(&self) -> Result<String, GridError> {
        self.check()?;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        Ok(text)
    }

    fn check(&self) -> Result<(), GridError> {
        let all = self.nodes.saturating_mul(self.pods);
        let most = [
            ("nodes", self.nodes, MOST_NODES),
            ("pods", all, MOST_PODS),
            ("services", self.services, MOST_SERVICES),
            ("endpoints of one service", self.endpoints, MOST_REPLICAS),
            ("services with a node port", self.node_ports, NODE_PORTS),
        ];
        let refuse = |why| Err(GridError(why));
        if let Some((what, count, most)) = most.into_iter().find(|(_, count, most)| count > most) {
            return refuse(format!("a lab has at most {most} {what}, not {count}"));
        }
        if self.nodes == 0 || all + self.services == 0 {
            return refuse("a lab has at least one node, and a pod or a service".to_owned());
        }
        if self.endpoints > all {
            return refuse(format!("a service cannot have {} endpoints among {all} pods", self.endpoints));
        }
        if self.node_ports > self.services {
            return refuse(format!("{} of {} services cannot have a node port", self.node_ports, self.services));
        }
        Ok(())
    }

    /// How many sets of pods there are, each the endpoints of one Service; if there are fewer sets than
    /// Services, these share them in turn.
    fn sets(&self) -> usize {
        (self.nodes * self.pods).checked_div(self.endpoints).unwrap_or(0).min(self.services)
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        let Grid { nodes, pods, services, endpoints, node_ports, proxy } = *self;
        let all = nodes * pods;
        let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let of_each = format!("{} of {} each", plural(services, "service"), plural(endpoints, "endpoint"));
        writeln!(text, "# {}, {} on each, {of_each}.", plural(nodes, "node"), plural(pods, "pod"))?;
        writeln!(text, "name = \"grid-{nodes}x{pods}\"\n\n[cluster]\nproxy = \"{proxy}\"")?;
        if nodes > NODES_OF_DEFAULT {
            writeln!(text, "node_subnet = \"10.30.0.0/16\"")?;
        }
        let wide = (nodes > NODES_OF_DEFAULT || pods > PODS_OF_DEFAULT).then(|| prefix_for(pods));
        if wide.is_some() {
            writeln!(text, "cluster_cidr = \"{}/{}\"", WIDE.0, WIDE.1)?;
        }
        for node in 0..nodes {
            writeln!(text, "\n[[node]]\nname = \"node{}\"", node + 1)?;
            if let Some(length) = wide {
                let subnet = Ipv4Addr::from_bits(WIDE.0.to_bits() + ((node as u32) << (32 - length)));
                writeln!(text, "pod_subnet = \"{subnet}/{length}\"")?;
            }
            // The cluster's DNS needs a port, too.
            if pods >= BRIDGE_PORTS {
                writeln!(text, "attach = \"routed\"")?;
            }
        }
        let sets = self.sets();
        for set in 1..=sets {
            writeln!(
                text,
                "\n[[pod]]\nname = \"web{set}\"\nreplicas = {endpoints}\nlabels = {{ app = \"web{set}\" }}"
            )?;
        }
        let idle = all - sets * endpoints;
        for (nth, begin) in (0..idle).step_by(MOST_REPLICAS).enumerate() {
            let replicas = (idle - begin).min(MOST_REPLICAS);
            writeln!(text, "\n[[pod]]\nname = \"idle{}\"\nreplicas = {replicas}", nth + 1)?;
        }
        for service in 0..services {
            writeln!(text, "\n[[service]]\nname = \"svc{}\"", service + 1)?;
            if service < node_ports {
                writeln!(text, "type = \"NodePort\"")?;
            }
            match service.checked_rem(sets) {
                Some(set) => writeln!(text, "selector = {{ app = \"web{}\" }}", set + 1)?,
                None => writeln!(text, "endpoints = []")?,
            }
            writeln!(text, "ports = [{{ port = 80 }}]")?;
        }
        Ok(())
    }
}

/// The longest prefix of a subnet with room for so many pods, for the DNS and for the gateway.
fn prefix_for(pods: usize) -> u8 {
    (0..=24).rev().find(|length| (1usize << (32 - length)) >= pods + 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{load, model::Attach};

    const SMALL: Grid =
        Grid { nodes: 2, pods: 3, services: 2, endpoints: 2, node_ports: 1, proxy: ProxyMode::Nftables };

    #[test]
    fn it_can_be_read() {
        let expected = "\
# 2 nodes, 3 pods on each, 2 services of 2 endpoints each.
name = \"grid-2x3\"

[cluster]
proxy = \"nftables\"

[[node]]
name = \"node1\"

[[node]]
name = \"node2\"

[[pod]]
name = \"web1\"
replicas = 2
labels = { app = \"web1\" }

[[pod]]
name = \"web2\"
replicas = 2
labels = { app = \"web2\" }

[[pod]]
name = \"idle1\"
replicas = 2

[[service]]
name = \"svc1\"
type = \"NodePort\"
selector = { app = \"web1\" }
ports = [{ port = 80 }]

[[service]]
name = \"svc2\"
selector = { app = \"web2\" }
ports = [{ port = 80 }]
";
        assert_eq!(SMALL.text().unwrap(), expected);
    }

    /// Whatever the size: a good lab, with as many of each as was asked for, and each Service with as
    /// many endpoints.
    #[test]
    fn every_size_is_a_good_lab() {
        for (nodes, pods, services, endpoints, node_ports) in [
            (1, 0, 1, 0, 0),
            (1, 1, 0, 0, 0),
            (1, 1000, 5, 7, 5),
            (1, 1100, 0, 0, 0),
            (2, 3, 2, 2, 1),
            (2, 3, 9, 4, 9),
            (10, 100, 100, 10, 100),
            (3, 250, 1, 750, 0),
            (300, 2, 10, 3, 1),
            (1000, 20, 0, 0, 0),
            (2, 2, 300, 0, 10),
        ] {
            let grid = Grid { nodes, pods, services, endpoints, node_ports, proxy: ProxyMode::Iptables };
            let lab = load(&grid.text().unwrap()).unwrap_or_else(|problems| panic!("{grid:?}: {problems:?}"));
            let ours = |labels: &super::super::model::Labels| !labels.keys().any(|key| key.as_str() == "k8s-app");
            let of_grid: Vec<_> = lab.pods.iter().filter(|pod| !pod.serves_dns()).collect();
            let services_of_grid: Vec<_> =
                lab.services.iter().filter(|it| it.name.as_str().starts_with("svc")).collect();
            assert_eq!((lab.nodes.len(), of_grid.len(), services_of_grid.len()), (nodes, nodes * pods, services));
            for id in lab.node_ids() {
                assert_eq!(of_grid.iter().filter(|pod| pod.node == id).count(), pods, "{grid:?}");
            }
            for service in &services_of_grid {
                let selected = |pod: &&&super::super::model::Pod| {
                    !service.selector.is_empty()
                        && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
                };
                assert_eq!(of_grid.iter().filter(selected).count(), endpoints, "{grid:?}");
                assert!(ours(&service.labels));
            }
            let with_port = services_of_grid.iter().filter(|it| it.ports[0].node_port.is_some());
            assert_eq!(with_port.count(), node_ports);
            assert_eq!(lab.nodes[0].attach == Attach::Routed, pods >= BRIDGE_PORTS);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (grid, why) in [
            (Grid { nodes: 1001, ..SMALL }, "a lab has at most 1000 nodes, not 1001"),
            (Grid { pods: 20_000, ..SMALL }, "a lab has at most 20000 pods, not 40000"),
            (Grid { services: 20_001, ..SMALL }, "a lab has at most 20000 services, not 20001"),
            (Grid { endpoints: 7, ..SMALL }, "a service cannot have 7 endpoints among 6 pods"),
            (Grid { node_ports: 3, ..SMALL }, "3 of 2 services cannot have a node port"),
            (
                Grid { services: 5000, node_ports: 3000, ..SMALL },
                "a lab has at most 2768 services with a node port, not 3000",
            ),
            (Grid { nodes: 0, endpoints: 0, ..SMALL }, "a lab has at least one node, and a pod or a service"),
        ] {
            assert_eq!(grid.text().unwrap_err().to_string(), why);
        }
    }
}
