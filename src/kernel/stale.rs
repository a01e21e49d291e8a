//! Forgets the conntrack entries of nodes that lead to where nobody serves any more. It comes after
//! the rules: earlier, the old rules could make the same entries again.

use tokio::runtime;

use super::{
    conntrack::{Conntrack, Which},
    events::Events,
};
use crate::{
    error::Result,
    lab::model::Lab,
    proxy::{flow::Transport, stale::Stale, view},
};

/// Forgets what a change from one lab to another has made stale, on the nodes of both.
///
/// # Errors
///
/// When a kernel refuses.
pub async fn forget(old: &Lab, new: &Lab, events: &Events) -> Result<()> {
    let runtime = runtime::Handle::current();
    for id in new.node_ids() {
        let node = new.node(id);
        let Some(had) = old.node_ids().find(|old_id| old.node(*old_id).name == node.name) else { continue };
        if new.node(id).state.stopped || old.node(had).state.stopped {
            // What it remembered is gone.
            continue;
        }
        let stale = Stale::of(&view::view(old, had), &view::view(new, id));
        if stale.is_nothing() {
            continue;
        }
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
