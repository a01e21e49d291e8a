//! `netlab node`: takes the power from a node, and gives it back.

use std::{process::ExitCode, time::Instant};

use super::{args, cordon, labs, output::Terminal};
use crate::{
    agent::{
        link,
        protocol::{NodeOrder, Reply, Request},
    },
    error::{Error, Result},
};

pub(super) fn node(verb: &args::Node, terminal: &Terminal) -> Result<ExitCode> {
    match verb {
        args::Node::Stop(args) => carry_out(args, NodeOrder::Stop, "is stopped", terminal),
        args::Node::Start(args) => carry_out(args, NodeOrder::Start, "runs", terminal),
    }
}

/// Has something done to nodes, and says of each what it is or does then, and whether that was news.
pub(super) fn carry_out(args: &args::Nodes, order: NodeOrder, done: &str, terminal: &Terminal) -> Result<ExitCode> {
    let directory = labs::choose(args.of_lab.lab.as_deref())?;
    let began = Instant::now();
    let request = Request::Node { nodes: args.nodes.clone(), order };
    let Reply::Applied(applied) = link::ask_once(&directory, &request)? else {
        return Err(Error::bug("a change was asked for, and something else was given"));
    };
    let time = began.elapsed().as_millis();
    for node in &args.nodes {
        let changed = applied.differences.iter().any(|it| it.kind == "node" && it.name == *node);
        match changed {
            true => terminal.say(format!("{node} {} ({time} ms)", done)),
            false => terminal.say(format!("{node} {} already", done)),
        }
    }
    applied.differences.iter().filter(|it| cordon::has_moved(it)).for_each(|it| terminal.say(it));
    Ok(ExitCode::SUCCESS)
}
