//! The options of `netlab new grid`: how many of each.

use super::args;
use crate::{
    error::{Error, Result},
    lab::{Grid, model::ProxyMode},
};

/// The template that is not a lab of this repository.
pub(super) const NAME: &str = "grid";
/// What it is, in the list of templates.
pub(super) const ABOUT: &str = "a lab of any size: --nodes, --pods, --services, --endpoints, --node-ports, --proxy";

/// How many of each a grid has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of `new grid`")]
pub(super) struct Options {
    /// Nodes [default: 2]
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Pods on each node [default: 3]
    #[arg(long, value_name = "N")]
    pods: Option<usize>,
    /// Services [default: 1]
    #[arg(long, value_name = "N")]
    services: Option<usize>,
    /// Endpoints of each Service; with 0 it has none, and refuses [default: all pods, 10 at most]
    #[arg(long, value_name = "N")]
    endpoints: Option<usize>,
    /// How many of the Services have a node port [default: 0]
    #[arg(long, value_name = "N")]
    node_ports: Option<usize>,
    /// Who writes the Service rules [default: iptables]
    #[arg(long, value_name = "PROXY", value_parser = args::proxy)]
    proxy: Option<ProxyMode>,
}

impl Options {
    /// Refuses what was said of a grid where none is made.
    pub(super) fn check_unused(&self) -> Result<()> {
        let Options { nodes, pods, services, endpoints, node_ports, proxy } = self;
        let numbers = [
            ("--nodes", nodes.is_some()),
            ("--pods", pods.is_some()),
            ("--services", services.is_some()),
            ("--endpoints", endpoints.is_some()),
            ("--node-ports", node_ports.is_some()),
            ("--proxy", proxy.is_some()),
        ];
        match numbers.into_iter().find(|(_, said)| *said) {
            Some((option, _)) => Err(Error::usage(format!("{option} is for `netlab new {NAME}`"))
                .hint("the other templates are files of a fixed size; change the file")),
            None => Ok(()),
        }
    }

    /// The text of the lab file.
    pub(super) fn text(&self) -> Result<String> {
        const FEW: usize = 10;
        let (nodes, pods) = (self.nodes.unwrap_or(2), self.pods.unwrap_or(3));
        let grid = Grid {
            nodes,
            pods,
            services: self.services.unwrap_or(1),
            endpoints: self.endpoints.unwrap_or_else(|| nodes.saturating_mul(pods).min(FEW)),
            node_ports: self.node_ports.unwrap_or(0),
            proxy: self.proxy.unwrap_or(ProxyMode::Iptables),
        };
        grid.text().map_err(|error| Error::usage(error.to_string()).hint("make it smaller, or make several labs of it"))
    }
}
