//! `netlab link`: pulls the cable between a node and the LAN, and plugs it in again.

use std::process::ExitCode;

use super::{args, node, output::Terminal};
use crate::{agent::protocol::NodeOrder, error::Result};

pub(super) fn link(verb: &args::Link, terminal: &Terminal) -> Result<ExitCode> {
    match verb {
        args::Link::Down(args) => {
            let notice = args.notice.map(|time| u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX));
            let words = "has no link to the LAN";
            node::carry_out(&args.nodes, NodeOrder::Unplug { notice }, words, terminal)
        }
        args::Link::Up(args) => node::carry_out(args, NodeOrder::Plug, "has its link to the LAN", terminal),
    }
}
