//! Forgets the conntrack entries of nodes that lead to where nobody serves any more. It comes after
//! the rules: earlier, the old rules could make the same entries again.

use std::collections::BTreeMap;

use tokio::runtime;

use super::{
    conntrack::{Conntrack, Which},
    events::Events,
};
use crate::{
    error::Result,
    lab::{model::Lab, name::Name},
    plan::step::Plan,
    proxy::{
        flow::Transport,
        stale::Stale,
        view::{self, NodeView},
    },
};

/// Forgets what a change from one lab to another, each with its plan, has made stale on the nodes of both.
///
/// # Errors
///
/// When a kernel refuses.
pub async fn forget((old, before): (&Lab, &Plan), (new, after): (&Lab, &Plan), events: &Events) -> Result<()> {
    let runtime = runtime::Handle::current();
    let had: BTreeMap<&Name, &NodeView> = before.views().map(|view| (&old.node(view.node).name, view)).collect();
    for now in after.views() {
        let node = new.node(now.node);
        // A node without power has no rules, and what it remembered is gone.
        let Some(had) = had.get(&node.name) else { continue };
        // The kernel looks through all of its table to find those of UDP.
        let Some(stale) = Stale::after_change(had, now) else { continue };
        let conntrack = Conntrack::open_in(node.name.as_str(), &runtime)?;
        let gone = conntrack.delete_if(Which::Of(Transport::Udp), |it| stale.is_stale(&it.flow)).await?;
        if gone > 0 {
            let message = format!("conntrack has forgotten {gone} entries that led nowhere");
            events.normal(format!("node/{}", node.name), "Forgotten", message);
            eprintln!("{}: conntrack has forgotten {gone} entries that led nowhere", node.name);
        }
    }
    Ok(())
}

/// Forgets, on all nodes, what could not be as it should while something was wrong: connections that nobody
/// has answered, which would lead later ones from the same port to the same nowhere, and those of UDP
/// that lead where nobody serves.
///
/// # Errors
///
/// When a kernel refuses.
pub async fn forget_what_broke(lab: &Lab, events: &Events) -> Result<()> {
    let runtime = runtime::Handle::current();
    for id in lab.node_ids().filter(|id| !lab.node(*id).state.stopped) {
        let (name, view) = (&lab.node(id).name, view::view(lab, id));
        let stale = Stale::of(&view, &view);
        let conntrack = Conntrack::open_in(name.as_str(), &runtime)?;
        let unanswered = conntrack.delete_if(Which::Unanswered, |_| true).await?;
        let gone = conntrack.delete_if(Which::Of(Transport::Udp), |it| stale.is_stale(&it.flow)).await?;
        if unanswered + gone > 0 {
            let message = format!("conntrack has forgotten {} entries that led nowhere", unanswered + gone);
            events.normal(format!("node/{name}"), "Forgotten", message);
        }
    }
    Ok(())
}
