//! The labs that are measured: their files, their plans, and the rules of their nodes.

use std::path::PathBuf;

/// A lab in files.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The lab file.
    pub(crate) file: PathBuf,
    /// What `netlab plan` prints of it.
    pub(crate) plan: PathBuf,
    /// A directory with a file of rules for each node, for the tool that has its name.
    pub(crate) rules: PathBuf,
}

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
}

/// The grids, the small ones first.
pub(crate) const GRIDS: [Grid; 4] = [
    Grid { name: "10x10", nodes: 10, pods: 10, services: 10, endpoints: 10 },
    Grid { name: "10x100", nodes: 10, pods: 100, services: 100, endpoints: 10 },
    Grid { name: "50x40", nodes: 50, pods: 40, services: 100, endpoints: 10 },
    Grid { name: "1x1000", nodes: 1, pods: 1000, services: 10, endpoints: 10 },
];

/// Labs to which a Service is added.
pub(crate) const CROWDS: [Grid; 4] = [
    Grid { name: "100", nodes: 10, pods: 10, services: 100, endpoints: 0 },
    Grid { name: "1000", nodes: 10, pods: 10, services: 1_000, endpoints: 0 },
    Grid { name: "5000", nodes: 10, pods: 10, services: 5_000, endpoints: 0 },
    Grid { name: "10000", nodes: 10, pods: 10, services: 10_000, endpoints: 0 },
];

impl Grid {
    /// For people.
    pub(crate) fn title(&self) -> String {
        let Grid { nodes, pods, services, endpoints, .. } = self;
        format!("{nodes} nodes x {pods} pods, {services} services x {endpoints} endpoints")
    }

    /// The words after `netlab new grid -`.
    pub(crate) fn words(&self, proxy: &str) -> Vec<String> {
        let numbers = [
            ("--nodes", self.nodes),
            ("--pods", self.pods),
            ("--services", self.services),
            ("--endpoints", self.endpoints),
            ("--node-ports", self.services.min(if self.endpoints > 0 { 100 } else { 0 })),
        ];
        let words = numbers.into_iter().flat_map(|(option, number)| [option.to_owned(), number.to_string()]);
        words.chain(["--proxy".to_owned(), proxy.to_owned()]).collect()
    }
}
