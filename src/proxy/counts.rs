//! How many rules, chains and elements a lab has, as formulas in its size: whatever makes a set grow
//! faster than that fails here, and no stopwatch is needed to see it.

use super::render;
use crate::{
    lab::{Grid, load, model::ProxyMode},
    proxy::{endpoints::conditions, view::views_under},
};

/// A grid, and how many ports each Service has.
#[derive(Debug, Clone, Copy)]
struct Size {
    nodes: usize,
    pods: usize,
    services: usize,
    endpoints: usize,
    node_ports: usize,
    ports: usize,
}

const SIZES: [Size; 8] = [
    size(1, 1, 0, 0, 0, 1),
    size(2, 3, 1, 2, 0, 1),
    size(2, 3, 4, 6, 4, 1),
    size(3, 10, 7, 3, 2, 1),
    size(3, 10, 7, 0, 2, 1),
    size(5, 20, 40, 5, 10, 1),
    size(5, 20, 40, 5, 10, 3),
    size(10, 10, 300, 1, 0, 2),
];

const fn size(nodes: usize, pods: usize, services: usize, endpoints: usize, node_ports: usize, ports: usize) -> Size {
    Size { nodes, pods, services, endpoints, node_ports, ports }
}

/// What is counted in the rules of all nodes together.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    chains: usize,
    rules: usize,
    elements: usize,
}

impl Size {
    /// The rules of all nodes.
    fn texts(&self, proxy: ProxyMode) -> Vec<String> {
        let Size { nodes, pods, services, endpoints, node_ports, ports } = *self;
        let grid = Grid { nodes, pods, services, endpoints, node_ports, proxy };
        let port = |nth: usize| format!("{{ name = \"p{nth}\", port = {}, target_port = 80 }}", 80 + nth);
        let ports: Vec<String> = (0..ports).map(port).collect();
        let text = grid.text().expect("a lab can have so many");
        let text = text.replace("{ port = 80 }", &ports.join(", "));
        let lab = load(&format!("{text}\n[dns]\nengine = \"none\"\n")).expect("a grid is a good lab");
        views_under(&lab, &conditions(&lab)).iter().map(|view| render(proxy, view)).collect()
    }

    /// Service ports.
    fn all_ports(&self) -> usize {
        self.services * self.ports
    }

    /// Service ports with a node port.
    fn all_node_ports(&self) -> usize {
        self.node_ports * self.ports
    }

    /// Endpoints that some Service has, each counted once: Services share them where pods are few.
    fn distinct_endpoints(&self) -> usize {
        let sets = (self.nodes * self.pods).checked_div(self.endpoints).unwrap_or(0).min(self.services);
        sets * self.endpoints
    }
}

fn check(proxy: ProxyMode, count: fn(&str) -> Counts, formula: fn(&Size) -> Counts) {
    for size in SIZES {
        let mut sum = Counts { chains: 0, rules: 0, elements: 0 };
        for text in size.texts(proxy) {
            let Counts { chains, rules, elements } = count(&text);
            sum.chains += chains;
            sum.rules += rules;
            sum.elements += elements;
        }
        assert_eq!(sum, formula(&size), "{size:?}");
    }
}

/// Lines that begin so.
fn lines(text: &str, begin: &str) -> usize {
    text.lines().filter(|line| line.starts_with(begin)).count()
}

fn of_nft(text: &str) -> Counts {
    let (mut rules, mut elements, mut in_chain) = (0, 0, false);
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        match depth {
            4 => in_chain = line.trim_start().starts_with("chain "),
            8 if in_chain => rules += usize::from(!line.trim_start().starts_with("type ")),
            12 => elements += 1,
            _ => {}
        }
    }
    Counts { chains: lines(text, "    chain "), rules, elements }
}

fn of_iptables(text: &str) -> Counts {
    Counts { chains: lines(text, ":"), rules: lines(text, "-A "), elements: 0 }
}

#[test]
fn nftables() {
    check(ProxyMode::Nftables, of_nft, |size| {
        let (nodes, ports, node_ports) = (size.nodes, size.all_ports(), size.all_node_ports());
        // One without endpoints is only in a map, which says refuse.
        let (with, external) = if size.endpoints > 0 { (ports, node_ports) } else { (0, 0) };
        Counts {
            chains: nodes * (17 + with + external),
            rules: nodes * (27 + with + 2 * external),
            // ClusterIPs, the node's own address, a map for each of ClusterIPs and node ports; and on
            // each node the endpoints that are there, which may come to themselves.
            elements: nodes * (size.services + 1 + ports + node_ports) + size.distinct_endpoints(),
        }
    });
}

#[test]
fn iptables() {
    check(ProxyMode::Iptables, of_iptables, |size| {
        let (nodes, ports, node_ports) = (size.nodes, size.all_ports(), size.all_node_ports());
        let endpoints = size.endpoints;
        let per_node = if endpoints > 0 {
            // One in KUBE-SERVICES, the mark, a jump and two rules for each endpoint; for a node port one
            // in KUBE-NODEPORTS, and two in its own chain.
            (ports * (1 + endpoints) + node_ports, ports * (2 + 3 * endpoints) + 3 * node_ports)
        } else {
            (0, ports + node_ports)
        };
        Counts {
            chains: nodes * (FIXED_CHAINS + per_node.0),
            // The way out names every node.
            rules: nodes * (FIXED_RULES + nodes + per_node.1),
            elements: 0,
        }
    });
}

const FIXED_CHAINS: usize = 14;
const FIXED_RULES: usize = 27;

#[test]
fn ladder() {
    check(ProxyMode::Ladder, of_iptables, |size| {
        let Size { nodes, endpoints, .. } = *size;
        let (ports, node_ports) = (size.all_ports(), size.all_node_ports());
        // Rules 1 to 3 and 6 to 8: every endpoint for each address, in two chains; the loopback in one.
        let rungs = endpoints * (2 * ports + 3 * node_ports);
        // Rules 5 and 10: every endpoint that is elsewhere.
        let elsewhere = 2 * size.distinct_endpoints() * (nodes - 1);
        Counts { chains: 0, rules: nodes * (rungs + nodes + 2) + elsewhere, elements: 0 }
    });
}
