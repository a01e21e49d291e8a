//! `netlab cordon`, `uncordon` and `drain`: which nodes of a running lab take new pods.

use std::process::ExitCode;

use super::{args, labs, node, output::Terminal};
use crate::{
    agent::protocol::NodeOrder,
    error::Result,
    lab::difference::{Difference, How},
};

pub(super) fn cordon(args: &args::Nodes, terminal: &Terminal) -> Result<ExitCode> {
    node::carry_out(args, NodeOrder::Cordon, "is cordoned", terminal)
}

pub(super) fn uncordon(args: &args::Nodes, terminal: &Terminal) -> Result<ExitCode> {
    node::carry_out(args, NodeOrder::Uncordon, "takes pods again", terminal)
}

/// Says as well which pods have moved, and which have stayed because the file wants them there.
pub(super) fn drain(args: &args::Nodes, terminal: &Terminal) -> Result<ExitCode> {
    let code = node::carry_out(args, NodeOrder::Drain, "is cordoned", terminal)?;
    let lab = labs::load(&labs::choose(args.of_lab.lab.as_deref())?)?;
    for pod in &lab.pods {
        let node = lab.node(pod.node).name.as_str();
        if args.nodes.iter().any(|name| name == node) {
            terminal.say(format!("pod {} stays on {node}: its [[pod]] names the node", pod.full_name()));
        }
    }
    Ok(code)
}

/// A pod that went to another node.
pub(super) fn has_moved(difference: &Difference) -> bool {
    difference.kind == "pod" && matches!(difference.how, How::Replaced(_))
}
