//! Compares two rule sets as their tool prints them.
//!
//! What it finds is what [`proxy::sync::repair`](crate::proxy::sync::repair) would change, and what others have
//! made besides, which is theirs: it may explain a failure, and is not for netlab to take away unasked.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use super::drift::{Drift, DriftKind};
use crate::{
    lab::model::ProxyMode,
    proxy::sync::{nft_text, ours},
};

/// More differences than this in one namespace are counted, not listed.
const LISTED: usize = 12;
/// A chain with more rules than this is not for typing.
const TYPED: usize = 20;

/// What of `wanted` is not in `found`, what is there that nobody wanted, and what is in
/// another order, of the rules of one namespace; what is netlab's first.
pub fn compare(netns: &str, proxy: ProxyMode, wanted: &str, found: &str) -> Vec<Drift> {
    let (wanted, found) = match proxy {
        ProxyMode::Iptables | ProxyMode::Ladder => (iptables(wanted), iptables(found)),
        ProxyMode::Nftables => (nftables(wanted), nftables(found)),
    };
    let mut comparison = Comparison { netns, proxy, wanted: &wanted, drifts: Vec::new() };
    let emptied = emptied(&wanted, &found);
    for (table, rules) in &emptied {
        comparison.say(Whose::Ours, format!("all {rules} rules of the table {table} are missing"), None);
    }
    for (place, block) in &wanted {
        match found.get(place) {
            Some(there) if emptied.contains_key(place.table) => comparison.foreign(place, block, there),
            None if emptied.contains_key(place.table) => {}
            Some(there) => comparison.block(place, block, there),
            None => comparison.absent(place, block),
        }
    }
    for (place, block) in found.iter().filter(|(place, _)| !wanted.contains_key(place)) {
        comparison.unwanted(place, block);
    }
    let (ours, theirs): (Vec<Drift>, Vec<Drift>) = comparison.drifts.into_iter().partition(|it| !it.foreign);
    [ours, theirs].into_iter().flat_map(|drifts| cut(drifts, netns)).collect()
}

/// The tables that should have rules in several chains, and have none of them, with how many there should be.
fn emptied<'a>(wanted: &Blocks<'a>, found: &Blocks<'_>) -> BTreeMap<&'a str, usize> {
    let mut chains: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for (place, block) in wanted.iter().filter(|(place, block)| place.has_order() && !block.items.is_empty()) {
        let left = found.get(place).map_or(0, |there| block.items.len() - surplus(&block.items, &there.items).len());
        chains.entry(place.table).or_default().push((block.items.len(), left));
    }
    let is_empty = |chains: &[(usize, usize)]| chains.len() > 2 && chains.iter().all(|(_, left)| *left == 0);
    let emptied = chains.into_iter().filter(|(_, chains)| is_empty(chains));
    emptied.map(|(table, chains)| (table, chains.iter().map(|(count, _)| count).sum())).collect()
}

/// The first of them, and how many more there are.
fn cut(mut drifts: Vec<Drift>, netns: &str) -> Vec<Drift> {
    let more = drifts.len().saturating_sub(LISTED);
    if let (1.., Some(last)) = (more, drifts.last()) {
        let (text, foreign) = (format!("{more} more rules differ"), last.foreign);
        drifts.truncate(LISTED);
        drifts.push(Drift { netns: netns.to_owned(), kind: DriftKind::Rule, text, mend: None, foreign });
    }
    drifts
}

/// Who has made something, and may take it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Theirs,
}

/// A comparison on its way.
struct Comparison<'a> {
    netns: &'a str,
    proxy: ProxyMode,
    wanted: &'a Blocks<'a>,
    drifts: Vec<Drift>,
}

impl Comparison<'_> {
    fn say(&mut self, whose: Whose, text: String, mend: Option<String>) {
        let foreign = whose == Whose::Theirs;
        self.drifts.push(Drift { netns: self.netns.to_owned(), kind: DriftKind::Rule, text, mend, foreign });
    }

    /// A chain, set or map that is not there at all.
    fn absent(&mut self, place: &Place<'_>, block: &Block<'_>) {
        match block.items[..] {
            [] if place.is_built_in() => {}
            [] => self.say(Whose::Ours, format!("{place} is missing"), None),
            [_] => self.block(place, block, &Block::default()),
            _ => {
                let text = format!("all {} {}s of {place} are missing", block.items.len(), place.item());
                self.say(Whose::Ours, text, None);
            }
        }
    }

    fn block(&mut self, place: &Place<'_>, block: &Block<'_>, there: &Block<'_>) {
        if let (Some(is), Some(should)) = (there.policy, block.policy)
            && is != should
        {
            let mend = place.iptables(self.netns, "-P", should);
            self.say(Whose::Theirs, format!("the policy of {place} is {is}, and should be {should}"), mend);
        }
        if !there.properties.is_empty() && there.properties != block.properties {
            let (is, should) = (there.properties.join("; "), block.properties.join("; "));
            self.say(Whose::Ours, format!("{place} is `{is}`, and should be `{should}`"), None);
        }
        let (missing, extra) = (surplus(&block.items, &there.items), surplus(&there.items, &block.items));
        if missing.len() == block.items.len() && missing.len() > 1 {
            let text = format!("all {} {}s of {place} are missing", missing.len(), place.item());
            self.say(Whose::Ours, text, place.rewriting(self.netns, block));
            return self.foreign(place, block, there);
        }
        if let ([at], [instead]) = (&missing[..], &extra[..])
            && there.items.len() == block.items.len()
            && self.whose(place, there.items[*instead]) == Whose::Ours
        {
            return self.replaced(place, (block, *at), (there, *instead));
        }
        // What is typed after the other stands where it should at last.
        let mut now = there.items.clone();
        for at in missing {
            let rule = block.items[at];
            let before = block.items[..at].iter().rev().find_map(|it| now.iter().position(|other| other == it));
            let position = before.map_or(0, |before| before + 1);
            now.insert(position, rule);
            let mend = place.addition(self.netns, position + 1, rule).or_else(|| place.rewriting(self.netns, block));
            self.say(Whose::Ours, format!("the {} `{rule}` is missing from {place}", place.item()), mend);
        }
        let common = |of: &Block<'_>, other: &[usize]| -> Vec<String> {
            let gone: HashSet<&usize> = other.iter().collect();
            of.items.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, it)| (*it).to_owned()).collect()
        };
        let missing = surplus(&block.items, &there.items);
        if place.has_order() && common(block, &missing) != common(there, &extra) {
            let mend = place.rewriting(self.netns, block);
            self.say(Whose::Ours, format!("the rules of {place} are in another order"), mend);
        }
        self.foreign(place, block, there);
    }

    fn replaced(&mut self, place: &Place<'_>, should: (&Block<'_>, usize), is: (&Block<'_>, usize)) {
        let (rule, instead) = (should.0.items[should.1], is.0.items[is.1]);
        let replacement = format!("{} {rule}", is.1 + 1);
        let mend = match place.has_order() {
            true => place.iptables(self.netns, "-R", &replacement).or_else(|| place.rewriting(self.netns, should.0)),
            false => place.exchange(self.netns, instead, rule),
        };
        self.say(Whose::Ours, format!("the {} `{instead}` in {place} should be `{rule}`", place.item()), mend);
    }

    /// A chain, set or map that nobody wanted.
    fn unwanted(&mut self, place: &Place<'_>, block: &Block<'_>) {
        if self.is_ours(place) && block.items.is_empty() {
            self.say(Whose::Ours, format!("{place} is not netlab's"), None);
        } else if block.drops() {
            let text = format!("{place} is not netlab's, and drops what it does not know");
            self.say(Whose::Theirs, text, place.removal(self.netns));
        }
        self.foreign(place, &Block::default(), block);
    }

    /// What nobody wanted in a place.
    fn foreign(&mut self, place: &Place<'_>, block: &Block<'_>, there: &Block<'_>) {
        let wanted: HashSet<&str> = block.items.iter().copied().collect();
        for at in surplus(&there.items, &block.items) {
            let rule = there.items[at];
            let text = match wanted.contains(rule) {
                true => format!("the {} `{rule}` is in {place} once too often", place.item()),
                false => format!("the {} `{rule}` in {place} is not netlab's", place.item()),
            };
            let mend = match self.wanted.contains_key(place) {
                true => place.deletion(self.netns, rule).or_else(|| place.rewriting(self.netns, block)),
                false => place.deletion(self.netns, rule),
            };
            self.say(self.whose(place, rule), text, mend);
        }
    }

    /// Who has made what is there though nobody wants it.
    fn whose(&self, place: &Place<'_>, rule: &str) -> Whose {
        let ours = match place.is_built_in() {
            true => ours::rule(self.proxy, rule),
            false => self.is_ours(place),
        };
        if ours { Whose::Ours } else { Whose::Theirs }
    }

    /// A chain, set or map that is netlab's to empty.
    fn is_ours(&self, place: &Place<'_>) -> bool {
        match place.tool {
            Tool::Iptables => !place.is_built_in() && ours::chain(self.proxy, place.name),
            Tool::Nft => {
                ours::table(place.table) && (self.wanted.contains_key(place) || ours::comes_and_goes(place.name))
            }
        }
    }
}

/// The places in `one` of what it has more often than `other`, the last first to be left over.
fn surplus(one: &[&str], other: &[&str]) -> Vec<usize> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    other.iter().for_each(|it| *counts.entry(it).or_default() += 1);
    let mut is_more = |it: &str| match counts.get_mut(it) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    (0..one.len()).filter(|at| is_more(one[*at])).collect()
}

/// Everything that a tool prints, by its places.
type Blocks<'a> = BTreeMap<Place<'a>, Block<'a>>;

/// A chain, or a set or map of nftables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    table: &'a str,
    /// `KUBE-SERVICES`; `chain services`, `map service-ips`.
    name: &'a str,
    tool: Tool,
}

/// What is in a place.
#[derive(Debug, Default)]
struct Block<'a> {
    /// Of a built-in chain of iptables.
    policy: Option<&'a str>,
    /// What a chain of nftables is hooked to; what a set is.
    properties: Vec<&'a str>,
    /// Rules, in order; elements, sorted.
    items: Vec<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tool {
    Iptables,
    Nft,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (table {})", self.name, self.table)
    }
}

impl Block<'_> {
    /// A chain of nftables that lets nothing pass but what a rule accepts.
    fn drops(&self) -> bool {
        self.properties.iter().any(|line| line.starts_with("type ") && line.ends_with("policy drop;"))
    }
}

/// Commands for `netlab shell`. A rule of nftables is deleted by a number that the kernel gives it,
/// so its chain is written again, as one transaction.
impl Place<'_> {
    fn item(&self) -> &'static str {
        if self.has_order() { "rule" } else { "element" }
    }

    fn has_order(&self) -> bool {
        self.tool == Tool::Iptables || self.name.starts_with("chain ")
    }

    /// A chain that comes with its table, and is everybody's.
    fn is_built_in(&self) -> bool {
        self.tool == Tool::Iptables && ours::is_built_in(self.name)
    }

    /// Without its kind.
    fn own_name(&self) -> &str {
        self.name.split_once(' ').map_or(self.name, |(_, name)| name)
    }

    fn iptables(&self, netns: &str, verb: &str, rest: &str) -> Option<String> {
        let Place { table, name, tool } = self;
        (*tool == Tool::Iptables).then(|| format!("ip netns exec {netns} iptables -t {table} {verb} {name} {rest}"))
    }

    /// A transaction of nft, none with a quote that the shell would take for its own.
    fn nft(&self, netns: &str, commands: &str) -> Option<String> {
        let can = self.tool == Tool::Nft && !commands.contains('\'');
        can.then(|| format!("ip netns exec {netns} nft '{commands}'"))
    }

    /// Puts a rule at a position, or an element into its set.
    fn addition(&self, netns: &str, position: usize, item: &str) -> Option<String> {
        if self.has_order() {
            return self.iptables(netns, "-I", &format!("{position} {item}"));
        }
        self.nft(netns, &format!("add element {} {} {{ {item} }}", self.table, self.own_name()))
    }

    fn deletion(&self, netns: &str, item: &str) -> Option<String> {
        if self.has_order() {
            return self.iptables(netns, "-D", item);
        }
        self.nft(netns, &format!("delete element {} {} {{ {} }}", self.table, self.own_name(), key(item)))
    }

    fn exchange(&self, netns: &str, item: &str, by: &str) -> Option<String> {
        let (table, name) = (self.table, self.own_name());
        self.nft(
            netns,
            &format!("delete element {table} {name} {{ {} }}; add element {table} {name} {{ {by} }}", key(item)),
        )
    }

    fn removal(&self, netns: &str) -> Option<String> {
        let (table, name) = (self.table, self.own_name());
        self.nft(netns, &format!("flush chain {table} {name}; delete chain {table} {name}"))
    }

    fn rewriting(&self, netns: &str, block: &Block<'_>) -> Option<String> {
        if !self.has_order() || block.items.len() > TYPED {
            return None;
        }
        let (table, name) = (self.table, self.own_name());
        let rules = block.items.iter().map(|rule| format!("; add rule {table} {name} {rule}"));
        self.nft(netns, &format!("flush chain {table} {name}{}", rules.collect::<String>()))
    }
}

/// What an element is found by.
fn key(element: &str) -> &str {
    nft_text::Element::new(element).key
}

/// `iptables-save`: `*table`, `:CHAIN POLICY [counters]`, `-A CHAIN rule`.
fn iptables(text: &str) -> Blocks<'_> {
    let mut blocks = Blocks::new();
    let mut table = "";
    for line in text.lines() {
        let place = |name| Place { table, name, tool: Tool::Iptables };
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some((name, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            blocks.entry(place(name)).or_default().items.push(rule);
        } else if let Some((name, rest)) = line.strip_prefix(':').and_then(|rest| rest.split_once(' ')) {
            let policy = rest.split(' ').next().filter(|policy| *policy != "-");
            blocks.entry(place(name)).or_default().policy = policy;
        }
    }
    blocks
}

/// `nft list ruleset`. What a dynamic set holds it has learned from packets, and is left out.
fn nftables(text: &str) -> Blocks<'_> {
    let mut blocks = Blocks::new();
    for table in nft_text::parse(text) {
        for object in table.objects {
            let mut block = Block::default();
            if object.is_chain() {
                block.properties.extend(object.hook());
                block.items.extend(object.rules());
            } else {
                block.properties.extend(object.properties());
                if !object.is_dynamic() {
                    block.items.extend(object.elements().into_iter().map(|element| element.text));
                    block.items.sort_unstable();
                }
            }
            blocks.insert(Place { table: table.head, name: object.head, tool: Tool::Nft }, block);
        }
    }
    blocks
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
    fn an_emptied_table_is_one_finding() {
        let wanted = WANTED.replace("COMMIT", "-A OUTPUT -j KUBE-SERVICES\nCOMMIT");
        let drifts =
            compare("node1", ProxyMode::Iptables, &wanted, "*nat\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -j LOG\nCOMMIT\n");
        let texts: Vec<(&str, bool)> = drifts.iter().map(|drift| (drift.text.as_str(), drift.foreign)).collect();
        assert_eq!(
            texts,
            [
                ("all 4 rules of the table nat are missing", false),
                ("the rule `-j LOG` in OUTPUT (table nat) is not netlab's", true)
            ]
        );
    }

    #[test]
    fn of_copies_one_is_too_many() {
        let found = WANTED.replace(
            "-A KUBE-SERVICES -d 10.96.0.1",
            "-A KUBE-SERVICES -d 10.96.0.1/32 -j A\n-A KUBE-SERVICES -d 10.96.0.1",
        );
        assert_eq!(texts(&found), ["the rule `-d 10.96.0.1/32 -j A` is in KUBE-SERVICES (table nat) once too often"]);
    }

    #[test]
    fn whose_it_is() {
        let foreign = |found: &str| -> Vec<bool> {
            compare("node1", ProxyMode::Iptables, WANTED, found).iter().map(|drift| drift.foreign).collect()
        };
        assert_eq!(foreign(&WANTED.replace("COMMIT", "-A PREROUTING -j LOG\nCOMMIT")), [true]);
        assert_eq!(foreign(&WANTED.replace("COMMIT", "-A PREROUTING -j KUBE-SERVICES\nCOMMIT")), [false]);
        assert_eq!(foreign(&WANTED.replace("COMMIT", "-A KUBE-SERVICES -j LOG\nCOMMIT")), [false]);
        assert_eq!(foreign(&WANTED.replace("COMMIT", "-A THEIRS -j LOG\nCOMMIT")), [true]);
        assert_eq!(foreign(&WANTED.replace("PREROUTING ACCEPT", "PREROUTING DROP")), [true]);
        assert_eq!(foreign(&WANTED.replace(":KUBE-SERVICES", ":KUBE-SVC-OLD - [0:0]\n:KUBE-SERVICES")), [false]);
        assert_eq!(foreign(&WANTED.replace(":KUBE-SERVICES", ":THEIRS - [0:0]\n:KUBE-SERVICES")), [false; 0]);
    }

    #[test]
    fn what_is_typed_for_nft() {
        let wanted = "table ip kube-proxy {\n\tmap m {\n\t\ttype ipv4_addr : verdict\n\t\telements = { 1.1.1.1 : drop }\n\t}\n\n\t\
                      chain services {\n\t\tip daddr vmap @m\n\t\tdrop\n\t}\n}\n";
        let mend = |found: &str| compare("n", ProxyMode::Nftables, wanted, found)[0].mend.clone().unwrap_or_default();
        assert_eq!(
            mend(&wanted.replace("\t\tdrop\n", "")),
            "ip netns exec n nft 'flush chain ip kube-proxy services; add rule ip kube-proxy services ip daddr vmap @m; \
             add rule ip kube-proxy services drop'"
        );
        assert_eq!(
            mend(&wanted.replace("1.1.1.1 : drop", "2.2.2.2 : drop, 1.1.1.1 : drop")),
            "ip netns exec n nft 'delete element ip kube-proxy m { 2.2.2.2 }'"
        );
        assert_eq!(
            mend(&wanted.replace("1.1.1.1 : drop", "1.1.1.1 : accept")),
            "ip netns exec n nft 'delete element ip kube-proxy m { 1.1.1.1 }; add element ip kube-proxy m { 1.1.1.1 : drop }'"
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
        assert_eq!(drifts[0].text, "the element `2.2.2.2` is missing from set a (table ip kube-proxy)");
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
