//! A small model of what the kernel holds: tables of chains of rules, and of sets and maps.

pub(crate) mod iptables;
pub(crate) mod nft;

use std::collections::{BTreeMap, BTreeSet};

/// All rules of a namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ruleset {
    tables: BTreeMap<String, Table>,
    made: u64,
}

/// A table.
#[derive(Debug, Clone, Default)]
struct Table {
    chains: BTreeMap<String, Chain>,
    sets: BTreeMap<String, Set>,
}

/// A chain.
#[derive(Debug, Clone, Default)]
struct Chain {
    /// Where the kernel calls it, if it does.
    hook: String,
    rules: Vec<Numbered>,
}

/// A set or a map.
#[derive(Debug, Clone, Default)]
struct Set {
    number: u64,
    properties: String,
    /// By key.
    elements: BTreeMap<String, Numbered>,
}

/// A rule or an element; a number is given once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Numbered {
    number: u64,
    text: String,
}

/// Each chain with its rules, each set with its elements.
pub(crate) type Plain = BTreeMap<String, Vec<String>>;

/// What a client of a dynamic set is called here.
const CLIENT: &str = "client";

impl Ruleset {
    fn number(&mut self, text: &str) -> Numbered {
        self.made += 1;
        Numbered { number: self.made, text: text.to_owned() }
    }

    /// Every dynamic set gets an element, as if a client had come.
    pub(crate) fn learn(&mut self) {
        let client = self.number(CLIENT);
        let sets = self.tables.values_mut().flat_map(|table| table.sets.values_mut());
        for set in sets.filter(|set| set.properties.contains("dynamic")) {
            set.elements.entry(CLIENT.to_owned()).or_insert_with(|| client.clone());
        }
    }

    /// Without numbers, and without what was learned.
    pub(crate) fn plain(&self) -> Plain {
        let texts = |it: &mut dyn Iterator<Item = &Numbered>| {
            it.map(|it| it.text.clone()).filter(|text| text != CLIENT).collect::<Vec<_>>()
        };
        let mut plain = BTreeMap::new();
        for (name, table) in &self.tables {
            for (chain, it) in &table.chains {
                plain.insert(format!("{name} chain {chain} {}", it.hook), texts(&mut it.rules.iter()));
            }
            for (set, it) in &table.sets {
                plain.insert(format!("{name} set {set} {}", it.properties), texts(&mut it.elements.values()));
            }
        }
        plain.retain(|name, rules| !rules.is_empty() || !iptables::is_built_in(name));
        plain
    }

    /// The rules of which this holds, and the others.
    pub(crate) fn split(&self, is: impl Fn(&str) -> bool) -> (Plain, Plain) {
        let (mut some, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (chain, rules) in self.plain() {
            let (yes, no): (Vec<String>, Vec<String>) = rules.into_iter().partition(|rule| is(rule));
            for (to, rules) in [(&mut some, yes), (&mut rest, no)] {
                if !rules.is_empty() {
                    to.insert(chain.clone(), rules);
                }
            }
        }
        (some, rest)
    }

    /// A chain with the same rules in both texts is the one that there was, and so is an element;
    /// but for chains that refer to a set that had to be made anew.
    pub(crate) fn touched_no_more_than_needed(&self, before: &Ruleset, old: &Ruleset, new: &Ruleset) {
        for (name, table) in &before.tables {
            let (Some(old), Some(new)) = (old.tables.get(name), new.tables.get(name)) else { continue };
            let now = self.tables.get(name).expect("a table that is wanted is there");
            let mut anew = BTreeSet::new();
            for (set, it) in &table.sets {
                let (Some(was), Some(is)) = (old.sets.get(set), new.sets.get(set)) else { continue };
                if was.properties != is.properties {
                    anew.insert(format!("@{set}"));
                    continue;
                }
                let now = &now.sets[set];
                assert_eq!(it.number, now.number, "the set {set} was made anew");
                let kept = it.elements.iter().filter(|(key, element)| {
                    let same = was.elements.get(*key).map(|it| &it.text) == is.elements.get(*key).map(|it| &it.text);
                    same || element.text == CLIENT
                });
                for (key, element) in kept {
                    assert_eq!(Some(element), now.elements.get(key), "{key} of {set}");
                }
            }
            for (chain, it) in table.chains.iter().filter(|(chain, _)| !iptables::is_built_in(chain)) {
                let (Some(was), Some(is)) = (old.chains.get(chain), new.chains.get(chain)) else { continue };
                let texts = |chain: &Chain| chain.rules.iter().map(|rule| rule.text.clone()).collect::<Vec<_>>();
                let refers = texts(is).iter().any(|rule| rule.split(' ').any(|word| anew.contains(word)));
                if texts(was) == texts(is) && !refers {
                    assert_eq!(it.rules, now.chains[chain].rules, "the chain {chain} was written again");
                }
            }
        }
    }
}
