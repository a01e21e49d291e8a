//! Services: from the lab's text to the rules of each node, and what a client must see.
//!
//! [`view`] says what one node must do; a renderer per [`ProxyMode`] says it in rules; [`truth`] says
//! from the specification alone what a client must see, and [`trace`] from the rendered rules alone.
//! [`sync`] goes from one set of rules to another, and [`nfnetlink`] says that as the kernel hears it.
//! [`balancer`] says what stands in front of the nodes, and [`haproxy`] how HAProxy is told so.
//! [`flow`] is a connection as a node's conntrack knows it, and [`stale`] says which of these must go
//! when Services change.

mod atlas;
pub mod balancer;
#[cfg(test)]
mod counts;
pub mod endpoints;
pub mod flow;
pub mod handover;
pub mod haproxy;
pub mod hash;
pub mod iptables;
pub mod ladder;
pub mod nfnetlink;
pub mod nftables;
mod rules;
#[cfg(test)]
mod sample;
pub mod stale;
pub mod sync;
mod table;
pub mod trace;
pub mod truth;
pub mod view;
mod ways;

use crate::lab::model::ProxyMode;
pub use rules::Rules;
use view::NodeView;

/// A node's complete rules: the input of `iptables-restore --noflush`, or of `nft -f -`.
///
/// It has lines that begin with `#`, which say what each chain is for; both tools skip them.
pub fn render(mode: ProxyMode, view: &NodeView) -> String {
    match mode {
        ProxyMode::Iptables => iptables::render(view),
        ProxyMode::Ladder => ladder::render(view),
        ProxyMode::Nftables => nftables::render(view),
    }
}
