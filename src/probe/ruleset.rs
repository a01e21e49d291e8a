//! Compares two rule sets as their tool prints them.

use std::collections::{BTreeMap, BTreeSet};

use super::drift::{Drift, DriftKind};
use crate::lab::model::ProxyMode;

/// More differences than this in one namespace are counted, not listed.
const LISTED: usize = 12;

/// What of `wanted` is not in `found`, what is there that nobody wanted, and what is in
/// another order, of the rules of one namespace.
pub fn compare(netns: &str, proxy: ProxyMode, wanted: &str, found: &str) -> Vec<Drift> {
    let drift = |text, mend| Drift { netns: netns.to_owned(), kind: DriftKind::Rule, text, mend };
    let (wanted, found) = match proxy {
        ProxyMode::Iptables | ProxyMode::Ladder => (iptables(wanted), iptables(found)),
        ProxyMode::Nftables => (nftables(wanted), nftables(found)),
    };
    let mut drifts = Vec::new();
    let mut replaced: Vec<&String> = Vec::new();
    for (place, rules) in &wanted {
        let there = found.get(place).map_or(&[][..], Vec::as_slice);
        let missing: Vec<&String> = rules.iter().filter(|rule| !there.contains(rule)).collect();
        if missing.len() == rules.len() && rules.len() > 1 {
            drifts.push(drift(format!("all {} rules of {place} are missing", rules.len()), None));
            continue;
        }
        if let ([rule], [instead]) = (&missing[..], &foreign(there, rules)[..])
            && there.len() == rules.len()
        {
            let position = there.iter().position(|it| it == *instead).map_or(0, |index| index + 1);
            let mend = place.command(netns, "-R", &format!("{position} {rule}"));
            drifts.push(drift(format!("the rule `{instead}` in {place} should be `{rule}`"), mend));
            replaced.push(*instead);
            continue;
        }
        for rule in missing {
            let position = rules.iter().position(|it| it == rule).map_or(0, |index| index + 1);
            let mend = place.insertion(netns, position, rule);
            drifts.push(drift(format!("the rule `{rule}` is missing from {place}"), mend));
        }
        let kept: Vec<&String> = there.iter().filter(|rule| rules.contains(rule)).collect();
        let in_order: Vec<&String> = rules.iter().filter(|rule| there.contains(rule)).collect();
        if kept != in_order && kept.len() == in_order.len() {
            drifts.push(drift(format!("the rules of {place} are in another order"), None));
        }
    }
    let nothing = Vec::new();
    for (place, rules) in found.iter().filter(|(place, rules)| wanted.contains_key(place) || !does_nothing(rules)) {
        let ours = wanted.get(place).unwrap_or(&nothing);
        for rule in foreign(rules, ours).into_iter().filter(|rule| !replaced.contains(rule)) {
            let mend = place.deletion(netns, rule);
            drifts.push(drift(format!("the rule `{rule}` in {place} is not netlab's"), mend));
        }
    }
    let more = drifts.len().saturating_sub(LISTED);
    if more > 0 {
        drifts.truncate(LISTED);
        drifts.push(drift(format!("{more} more rules differ"), None));
    }
    drifts
}

/// A base chain without rules that lets everything pass: iptables leaves such chains behind.
fn does_nothing(rules: &[String]) -> bool {
    matches!(rules, [only] if only.starts_with("type ") && only.ends_with("policy accept;"))
}

fn foreign<'a>(there: &'a [String], ours: &[String]) -> Vec<&'a String> {
    there.iter().filter(|rule| !ours.contains(rule)).collect()
}

/// A chain: where rules have an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Chain {
    table: String,
    chain: String,
    tool: Tool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tool {
    Iptables,
    Nft,
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (table {})", self.chain, self.table)
    }
}

impl Chain {
    fn command(&self, netns: &str, verb: &str, rest: &str) -> Option<String> {
        let Chain { table, chain, tool } = self;
        match tool {
            Tool::Iptables => Some(format!("ip netns exec {netns} iptables -t {table} {verb} {chain} {rest}")),
            // A rule is deleted by its handle, and an element belongs into its map: there is
            // no command to print that would be right in every case.
            Tool::Nft => None,
        }
    }

    fn insertion(&self, netns: &str, position: usize, rule: &str) -> Option<String> {
        self.command(netns, "-I", &format!("{position} {rule}"))
    }

    fn deletion(&self, netns: &str, rule: &str) -> Option<String> {
        self.command(netns, "-D", rule)
    }
}

/// `iptables-save`: `*table`, `:CHAIN POLICY [counters]`, `-A CHAIN rule`.
fn iptables(text: &str) -> BTreeMap<Chain, Vec<String>> {
    let mut chains: BTreeMap<Chain, Vec<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            let chain = Chain { table: table.clone(), chain: chain.to_owned(), tool: Tool::Iptables };
            chains.entry(chain).or_default().push(rule.to_owned());
        }
    }
    chains
}

/// `nft list ruleset`: every line belongs to the innermost `table` and `chain`, `set` or `map`
/// that is open. The elements of a set come in no particular order, several a line; those of a
/// dynamic one were learned from packets, and are left out.
fn nftables(text: &str) -> BTreeMap<Chain, Vec<String>> {
    let mut chains: BTreeMap<Chain, Vec<String>> = BTreeMap::new();
    let (mut table, mut block) = (String::new(), None::<String>);
    let (mut elements, mut dynamic) = (None::<String>, false);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(open) = &mut elements {
            open.push(' ');
            open.push_str(line);
        } else if line.starts_with("elements = {") {
            elements = Some(line.to_owned());
        }
        if let Some(text) = &elements {
            if text.ends_with('}') {
                let chain = Chain { table: table.clone(), chain: block.clone().unwrap_or_default(), tool: Tool::Nft };
                let inner = text.trim_start_matches("elements = {").trim_end_matches('}');
                let inner: BTreeSet<String> = inner.split(',').map(|element| element.trim().to_owned()).collect();
                chains.entry(chain).or_default().extend(inner.into_iter().filter(|_| !dynamic));
                elements = None;
            }
            continue;
        }
        match line.strip_suffix(" {") {
            Some(opened) if opened.starts_with("table ") => opened.trim_start_matches("table ").clone_into(&mut table),
            Some(opened) => (block, dynamic) = (Some(opened.to_owned()), false),
            None if line == "}" || line.is_empty() => {}
            None => {
                dynamic |= line.starts_with("flags ") && line.contains("dynamic");
                let chain = Chain { table: table.clone(), chain: block.clone().unwrap_or_default(), tool: Tool::Nft };
                chains.entry(chain).or_default().push(line.to_owned());
            }
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &str = "# Generated\n*nat\n:PREROUTING ACCEPT [1:2]\n:KUBE-SERVICES - [0:0]\n\
        -A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -d 10.96.0.1/32 -j A\n-A KUBE-SERVICES -d 10.96.0.2/32 -j B\nCOMMIT\n";

    fn texts(found: &str) -> Vec<String> {
        compare("node1", ProxyMode::Iptables, WANTED, found).into_iter().map(|drift| drift.text).collect()
    }

    #[test]
    fn equal_but_for_counters_and_comments() {
        assert_eq!(texts(&WANTED.replace("[1:2]", "[9:9]").replace("Generated", "Later")), [""; 0]);
    }

    #[test]
    fn a_missing_rule_can_be_put_back_where_it_was() {
        let found = WANTED.replace("-A KUBE-SERVICES -d 10.96.0.1/32 -j A\n", "");
        let drifts = compare("node1", ProxyMode::Iptables, WANTED, &found);
        assert_eq!(drifts[0].text, "the rule `-d 10.96.0.1/32 -j A` is missing from KUBE-SERVICES (table nat)");
        let mend = "ip netns exec node1 iptables -t nat -I KUBE-SERVICES 1 -d 10.96.0.1/32 -j A";
        assert_eq!(drifts[0].mend.as_deref(), Some(mend));
    }

    #[test]
    fn a_rule_that_was_changed_is_one_finding() {
        let found = WANTED.replace("-d 10.96.0.1/32 -j A", "-d 10.96.0.1/32 -j Z");
        let drifts = compare("node1", ProxyMode::Iptables, WANTED, &found);
        let texts: Vec<&str> = drifts.iter().map(|drift| drift.text.as_str()).collect();
        let text = "the rule `-d 10.96.0.1/32 -j Z` in KUBE-SERVICES (table nat) should be `-d 10.96.0.1/32 -j A`";
        assert_eq!(texts, [text]);
        let mend = "ip netns exec node1 iptables -t nat -R KUBE-SERVICES 1 -d 10.96.0.1/32 -j A";
        assert_eq!(drifts[0].mend.as_deref(), Some(mend));
    }

    #[test]
    fn a_flushed_chain_is_one_finding() {
        assert_eq!(
            texts("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n"),
            ["all 2 rules of KUBE-SERVICES (table nat) are missing"]
        );
    }

    #[test]
    fn a_foreign_rule_and_another_order() {
        let found = WANTED.replace(
            "-A KUBE-SERVICES -d 10.96.0.1/32 -j A\n-A KUBE-SERVICES -d 10.96.0.2/32 -j B\n",
            "-A KUBE-SERVICES -d 10.96.0.2/32 -j B\n-A KUBE-SERVICES -d 10.96.0.1/32 -j A\n-A KUBE-SERVICES -j DROP\n",
        );
        assert_eq!(
            texts(&found),
            [
                "the rules of KUBE-SERVICES (table nat) are in another order",
                "the rule `-j DROP` in KUBE-SERVICES (table nat) is not netlab's"
            ]
        );
    }

    #[test]
    fn sets_have_no_order() {
        let wanted = "table ip kube-proxy {\n\tset a {\n\t\ttype ipv4_addr\n\t\telements = { 1.1.1.1, 2.2.2.2,\n\t\t\t     3.3.3.3 }\n\t}\n}\n";
        let found = wanted.replace("1.1.1.1, 2.2.2.2", "2.2.2.2, 1.1.1.1");
        assert_eq!(compare("node1", ProxyMode::Nftables, wanted, &found), []);
        let found = wanted.replace(" 2.2.2.2,", "");
        let drifts = compare("node1", ProxyMode::Nftables, wanted, &found);
        assert_eq!(drifts[0].text, "the rule `2.2.2.2` is missing from set a (table ip kube-proxy)");
    }
    #[test]
    fn what_a_set_has_learned_is_no_difference_and_a_chain_that_does_nothing_is_none() {
        let wanted = "table ip kube-proxy {\n\tset a {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t}\n}\n";
        let learned = wanted.replace("timeout\n", "timeout\n\t\telements = { 1.1.1.1,\n\t\t\t     2.2.2.2 }\n");
        let husk = |policy| {
            format!(
                "# Warning: table ip nat is managed by iptables-nft, do not touch!\ntable ip nat {{\n\tchain INPUT {{\n\t\t\
                 type nat hook input priority 100; policy {policy};\n\t}}\n}}\n"
            )
        };
        let found = |policy| format!("{}{learned}", husk(policy));
        assert_eq!(compare("node1", ProxyMode::Nftables, wanted, &found("accept")), []);
        assert_eq!(compare("node1", ProxyMode::Nftables, wanted, &found("drop")).len(), 1);
        let dynamic_no_more = found("accept").replace("dynamic,", "");
        assert_ne!(compare("node1", ProxyMode::Nftables, wanted, &dynamic_no_more), []);
    }
}
