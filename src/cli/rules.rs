//! `netlab rules NODE`: what a node got, or what another proxy would give it.

use std::process::ExitCode;

use super::{
    args, labs,
    output::{Terminal, print},
    source::Source,
};
use crate::{
    error::{Error, Result},
    lab::model::Lab,
    proxy,
};

pub(super) fn rules(args: &args::Rules, terminal: &Terminal) -> Result<ExitCode> {
    let lab = match &args.file {
        Some(file) => Source::read(Some(file))?.load(terminal)?,
        None => labs::load(&labs::choose(args.lab.lab.as_deref())?)?,
    };
    let node = lab.node_ids().find(|id| lab.node(*id).name.as_str() == args.node);
    let node = node.ok_or_else(|| {
        let error = Error::usage(format!("there is no node {} in {}", args.node, lab.name));
        error.hint(format!("the nodes are: {}", node_names(&lab)))
    })?;
    let mode = args.proxy.unwrap_or(lab.cluster.proxy);
    print(&proxy::render(mode, &proxy::view::view(&lab, node)));
    Ok(ExitCode::SUCCESS)
}

fn node_names(lab: &Lab) -> String {
    let names: Vec<&str> = lab.nodes.iter().map(|node| node.name.as_str()).collect();
    names.join(", ")
}
