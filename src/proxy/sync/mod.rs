//! From the rules that a node has to the rules it shall have: what to tell the tool, and no more.
//!
//! [`transaction`] goes from one rendered set to another, [`removal`] takes a rendered set away, and
//! [`repair`] goes from what the kernel has to what it shall have. All three are the input of
//! `iptables-restore --noflush`, or of `nft -f -`: one transaction (iptables has one per table, in
//! the one input). What did not change is not named in it, so it keeps its counters, its handles,
//! and the clients that it has learned.
//!
//! To change the proxy mode of a running node, load the new mode's rules, and then the removal of
//! the old mode's. Meanwhile both hold, and lead to the same endpoints: the kernel translates a
//! connection once, by whichever rule comes first, and the mark that asks for a masquerade is taken
//! off by whoever honours it.
//!
//! Rules of others in the same built-in chains, and whatever others have made in the same
//! tables, is never touched; [`ours`] says what is ours where only the kernel can be asked.

mod difference;
mod husks;
mod iptables;
pub(crate) mod nft_text;
mod nftables;
pub mod ours;
mod place;
mod reduced;

use super::{Rules, nftables as rendered};
use crate::lab::model::ProxyMode;
pub use husks::husks;
pub use reduced::Memo;

/// From one set of rules to another; `None` if there is nothing to do.
///
/// `old` and `new` are complete, as [`render`](super::render) gives them, and `old` is loaded.
///
/// - iptables: chains that changed are declared, which empties them, and written again; chains that
///   nothing leads to any more are emptied and deleted. In a built-in chain the rules up to the first
///   new one stay, and those after it are deleted one by one and appended again: so ours are in their
///   order, and a rule of others is now before those of ours that were appended. Where that matters,
///   [`repair`] knows what is between, and moves nothing that need not move.
/// - nftables: maps and sets change by element, chains are flushed and written again, and everything
///   is there before something refers to it, and is deleted after nothing does.
///
/// This is linear in the length of the texts, and what did not change costs one comparison.
///
/// ```
/// use netlab::{lab::model::ProxyMode, proxy::sync::transaction};
///
/// let old = "*nat\n:KUBE-SVC-A - [0:0]\n-A KUBE-SVC-A -j KUBE-SEP-X\nCOMMIT\n";
/// let new = "*nat\n:KUBE-SVC-A - [0:0]\n-A KUBE-SVC-A -j KUBE-SEP-Y\nCOMMIT\n";
/// assert_eq!(transaction(ProxyMode::Iptables, old, new).as_deref(), Some(new));
/// assert_eq!(transaction(ProxyMode::Iptables, new, new), None);
/// ```
pub fn transaction(mode: ProxyMode, old: &str, new: &str) -> Option<String> {
    match mode {
        ProxyMode::Iptables | ProxyMode::Ladder => iptables::transaction(old, new),
        ProxyMode::Nftables => nftables::transaction(old, new),
    }
}

/// From the rules that a node has to those that it shall have, both of one mode: what [`transaction`]
/// says of their texts. `memo` is for all nodes of one change.
///
/// nftables has no order among Services, so of those that stay as they are nothing is even written down:
/// one that comes costs about as much among ten thousand as among a hundred.
pub fn change(old: &Rules, new: &Rules, memo: &mut Memo) -> Option<String> {
    match new.mode() {
        ProxyMode::Nftables if new.view().is_in_place_of(old.view()) => {
            let (old, new) = memo.reduce(old.view(), new.view());
            nftables::transaction(&rendered::render(&old), &rendered::render(&new))
        }
        mode => transaction(mode, old, new),
    }
}

/// A rendered set of nftables rules, one statement a line: it does what the set does as it stands.
pub fn first(rules: &str) -> String {
    nftables::first(rules)
}

/// Takes a loaded set of rules away, with their chains, and the jumps to them; `old` is as
/// [`render`](super::render) gave it. Empty if there are none.
///
/// Where something of it may be missing already, [`repair`] to no rules at all does the same from
/// what there is.
pub fn removal(mode: ProxyMode, old: &str) -> String {
    transaction(mode, old, "").unwrap_or_default()
}

/// From what the kernel has to what it shall have; `None` if there is nothing to do.
///
/// Both are as the tool prints them, `iptables-save` or `nft -s list ruleset`: `wanted` is what it
/// prints where nothing but the rendered set is loaded, so that neither rounding nor spelling
/// differs. An empty `wanted` stands for no rules of this mode.
///
/// Of what others have made, only rules in our own chains go, and those that lead to a chain of ours
/// that is no more. In a built-in chain, each rule that is put back stands where it stood among ours.
/// What a dynamic set has learned stays.
pub fn repair(mode: ProxyMode, found: &str, wanted: &str) -> Option<String> {
    match mode {
        ProxyMode::Iptables | ProxyMode::Ladder => iptables::repair(mode, found, wanted),
        ProxyMode::Nftables => nftables::repair(found, wanted),
    }
}

#[cfg(test)]
mod staying;
#[cfg(test)]
mod tests;
