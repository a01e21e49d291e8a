//! Which chains and rules are netlab's, where only the kernel can be asked.
//!
//! Our own chains are known by their names. In a built-in chain, which is everybody's, a rule
//! is ours if it leads to a chain of ours, or, of the ladder, by its comment.

use crate::lab::model::ProxyMode;

/// The chains of iptables mode that a node has once.
const CHAINS: [&str; 11] = [
    "KUBE-PROXY-CANARY",
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
    "KUBE-FORWARD",
    "KUBE-FIREWALL",
    "KUBE-MARK-MASQ",
    "KUBE-POSTROUTING",
    "NETLAB-HOSTPORTS",
    "NETLAB-EGRESS",
];
/// How the chains begin that each Service port or endpoint has.
const PREFIXES: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];
/// The chains that come with a table of iptables, in any of them.
const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// How the comments of the ladder's rules 4, 5, 9 and 10 begin.
const LADDER: [&str; 5] = ["rule 4: ", "rule 5: ", "rule 9: ", "rule 10: ", "pod to node, as it is"];
/// How those of the rungs end, after the name of a Service port.
const RUNGS: [&str; 4] = [" ClusterIP", " outer address", " node port", " localhost"];
/// The tables of nftables mode, in either family.
const TABLES: [&str; 4] = ["ip kube-proxy", "ip netlab", "ip6 kube-proxy", "ip6 netlab"];
/// What a node of nftables mode has only if one of its pods has a host port.
const AT_TIMES: [&str; 3] = ["chain prerouting", "chain output", "chain host-ports"];

/// Whether a chain of iptables comes with its table.
pub fn is_built_in(chain: &str) -> bool {
    BUILT_IN.contains(&chain)
}

/// Whether a chain of iptables is of iptables mode; the ladder has none.
pub fn chain(mode: ProxyMode, name: &str) -> bool {
    mode == ProxyMode::Iptables
        && (CHAINS.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len()))
}

/// Whether a rule in a built-in chain, as `iptables-save` prints it after `-A CHAIN `, is of this mode.
pub fn rule(mode: ProxyMode, rule: &str) -> bool {
    match mode {
        ProxyMode::Iptables => target(rule).is_some_and(|to| chain(mode, to)),
        ProxyMode::Ladder => value(rule, "--comment").is_some_and(is_ladders),
        ProxyMode::Nftables => false,
    }
}

/// Whether a table of nftables is of nftables mode.
pub fn table(head: &str) -> bool {
    TABLES.contains(&head)
}

/// Whether a chain, set or map in such a table, as `chain NAME`, is one that a Service port
/// has, or that only some nodes have. The others are on every node of this mode.
pub fn comes_and_goes(head: &str) -> bool {
    head.contains('/') || AT_TIMES.contains(&head)
}

fn is_ladders(comment: &str) -> bool {
    let is_rung = || RUNGS.iter().any(|end| comment.strip_suffix(end).is_some_and(|port| port.contains('/')));
    LADDER.iter().any(|start| comment.starts_with(start)) || is_rung()
}

/// Where a rule leads.
pub(super) fn target(rule: &str) -> Option<&str> {
    value(rule, "-j").or_else(|| value(rule, "-g"))
}

/// The word after this one, without its quotes.
fn value<'a>(rule: &'a str, option: &str) -> Option<&'a str> {
    let mut words = words(rule);
    words.find(|word| *word == option)?;
    words.next()
}

/// The words of a rule; one in quotes may have spaces, and backslashes before quotes.
fn words(rule: &str) -> impl Iterator<Item = &str> {
    let mut rest = rule;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(' ').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            return (!word.is_empty()).then_some(word);
        };
        let mut escaped = false;
        let end = quoted.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let end = end.unwrap_or(quoted.len());
        rest = quoted.get(end + 1..).unwrap_or_default();
        Some(&quoted[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::NodeId,
        proxy::{render, sample, view::view},
    };

    /// The rules of a text that are in built-in chains, and the chains that are not.
    fn parts(text: &str) -> (Vec<&str>, Vec<&str>) {
        let rules = text.lines().filter_map(|line| line.strip_prefix("-A ")?.split_once(' '));
        let rules = rules.filter(|(chain, _)| is_built_in(chain)).map(|(_, rule)| rule).collect();
        let chains = text.lines().filter_map(|line| line.strip_prefix(':')?.split(' ').next()).collect();
        (rules, chains)
    }

    #[test]
    fn everything_that_is_rendered_is_recognized() {
        for mode in [ProxyMode::Iptables, ProxyMode::Ladder] {
            let text = render(mode, &view(&sample::everything(), NodeId(0)));
            let (rules, chains) = parts(&text);
            assert!(rules.len() >= 14, "{mode}");
            assert!(rules.iter().all(|it| rule(mode, it)), "{mode}: {rules:#?}");
            assert!(chains.iter().all(|it| chain(mode, it)), "{mode}: {chains:#?}");
        }
    }

    #[test]
    fn what_others_write_is_not() {
        let (ipt, ladder) = (ProxyMode::Iptables, ProxyMode::Ladder);
        assert!(!rule(ipt, "-d 10.0.0.1/32 -j DNAT --to-destination 10.0.0.2:80"));
        assert!(!rule(ipt, "-m comment --comment \"see -j KUBE-SERVICES\" -j ACCEPT"));
        assert!(!rule(ipt, "-m comment --comment \"a \\\" -j KUBE-SERVICES\" -j ACCEPT"));
        assert!(rule(ipt, "-m comment --comment \"a \\\" b\" -j KUBE-SERVICES"));
        assert!(rule(ipt, "-g KUBE-SVC-XPGD46QRK7WJZT7O"));
        assert!(!rule(ladder, "-j KUBE-SERVICES"));
        assert!(!rule(ladder, "-d 10.0.0.1/32 -j DNAT --to-destination 10.0.0.2:80"));
        assert!(!rule(ladder, "-m comment --comment \"my ClusterIP\" -j ACCEPT"));
        for name in ["THEIRS", "KUBE-SVC-", "KUBE-KUBELET-CANARY", "CNI-HOSTPORT-DNAT"] {
            assert!(!chain(ipt, name), "{name}");
        }
        assert!(!chain(ladder, "KUBE-SERVICES"));
    }
}
