//! The labs of any size that are measured.

/// What is asked of `netlab new grid`, but for the proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// What `--case` calls it.
    pub(crate) name: &'static str,
    /// Nodes.
    pub(crate) nodes: u32,
    /// Pods on each.
    pub(crate) pods: u32,
    /// Services.
    pub(crate) services: u32,
    /// Endpoints of each.
    pub(crate) endpoints: u32,
    /// How many of them have a node port.
    pub(crate) node_ports: u32,
}

/// The proxies that kube-proxy has, too.
pub(crate) const PROXIES: [&str; 2] = ["nftables", "iptables"];
/// And the one for learners, where a lab is small.
pub(crate) const ALL_PROXIES: [&str; 3] = ["nftables", "iptables", "ladder"];

/// The grids, the small ones first.
pub(crate) const GRIDS: [Grid; 5] = [
    Grid { name: "10x10", nodes: 10, pods: 10, services: 10, endpoints: 10, node_ports: 10 },
    Grid { name: "10x100", nodes: 10, pods: 100, services: 100, endpoints: 10, node_ports: 100 },
    Grid { name: "50x40", nodes: 50, pods: 40, services: 100, endpoints: 10, node_ports: 100 },
    Grid { name: "1x1000", nodes: 1, pods: 1000, services: 10, endpoints: 10, node_ports: 10 },
    Grid { name: "30x100", nodes: 30, pods: 100, services: 100, endpoints: 10, node_ports: 100 },
];

/// Labs to which a Service is added. A Service of several endpoints would have a map of its own on each
/// node, and the kernel takes longer for each the more there are.
pub(crate) const CROWDS: [Grid; 4] =
    [crowd("100", 100), crowd("1000", 1_000), crowd("5000", 5_000), crowd("10000", 10_000)];

const fn crowd(name: &'static str, services: u32) -> Grid {
    Grid { name, nodes: 10, pods: 10, services, endpoints: 1, node_ports: 10 }
}

/// Labs whose Services are called: all pods are on one node, and the first and the last Service have the
/// same kind of endpoint, so what differs is how many Services there are.
pub(crate) const PATHS: [Grid; 5] =
    [path("10", 10), path("100", 100), path("1000", 1_000), path("5000", 5_000), path("10000", 10_000)];

const fn path(name: &'static str, services: u32) -> Grid {
    Grid { name, nodes: 1, pods: 10, services, endpoints: 1, node_ports: 10 }
}

/// A lab with a Service whose load balancing `netlab verify` tests, through its ClusterIP.
pub(crate) const PROBED: Grid = Grid { name: "probed", nodes: 1, pods: 3, services: 1, endpoints: 3, node_ports: 0 };

/// A hundred pods and a thousand that have nothing to do: what a pod takes is the difference.
pub(crate) const IDLE: [Grid; 2] = [
    Grid { name: "idle-100", nodes: 10, pods: 10, services: 1, endpoints: 1, node_ports: 0 },
    Grid { name: "idle-1000", nodes: 10, pods: 100, services: 1, endpoints: 1, node_ports: 0 },
];

impl Grid {
    /// For people.
    pub(crate) fn title(&self, proxy: &str) -> String {
        let Grid { nodes, pods, services, endpoints, .. } = self;
        format!("{nodes} nodes × {pods} pods, {services} Services × {endpoints} endpoints, {proxy}")
    }

    /// How many pods it has.
    pub(crate) fn size(&self) -> u32 {
        self.nodes * self.pods
    }

    /// The words after `netlab new grid -`.
    pub(crate) fn words(&self, proxy: &str) -> Vec<String> {
        let numbers = [
            ("--nodes", self.nodes),
            ("--pods", self.pods),
            ("--services", self.services),
            ("--endpoints", self.endpoints),
            ("--node-ports", self.node_ports),
        ];
        let words = numbers.into_iter().flat_map(|(option, number)| [option.to_owned(), number.to_string()]);
        words.chain(["--proxy".to_owned(), proxy.to_owned()]).collect()
    }
}
