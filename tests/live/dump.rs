//! Rules as a tool prints them, or as they are rendered, without what does not matter: which chain
//! is printed first, which element, and where a line is broken.

use std::collections::{BTreeMap, BTreeSet};

use netlab::lab::model::ProxyMode;

/// All rules.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    /// Chains with their rules, in order, and sets and maps with their properties and elements.
    /// The name of a place is `TABLE CHAIN`, or `FAMILY TABLE KIND NAME`.
    places: BTreeMap<String, Vec<String>>,
    /// The sets that learn, and those that have.
    dynamic: BTreeMap<String, bool>,
}

impl Dump {
    pub(crate) fn of(mode: ProxyMode, text: &str) -> Dump {
        match mode {
            ProxyMode::Nftables => nftables(text),
            ProxyMode::Iptables | ProxyMode::Ladder => iptables(text),
        }
    }

    /// What others have made: it says so.
    pub(crate) fn foreign(&self) -> BTreeMap<String, Vec<String>> {
        self.part(is_foreign)
    }

    fn part(&self, is: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<String>> {
        let part = self.places.iter().map(|(place, lines)| {
            let lines = lines.iter().filter(|line| is(&format!("{place} {line}"))).cloned().collect::<Vec<_>>();
            (place.clone(), lines)
        });
        let of_others = |place: &str| is_foreign(place) && is(place);
        let ours = |place: &str| !is_foreign(place) && !is_built_in(place) && is(place);
        part.filter(|(place, lines)| !lines.is_empty() || of_others(place) || ours(place)).collect()
    }

    /// Ours are as wanted, and those of others are there.
    #[track_caller]
    pub(crate) fn must_be(&self, wanted: &Dump, theirs: &BTreeMap<String, Vec<String>>, after: &str) {
        assert_eq!(&self.foreign(), theirs, "what others have made, after\n{after}");
        let (there, wanted) = (self.part(|line| !is_foreign(line)), wanted.part(|line| !is_foreign(line)));
        for place in there.keys().chain(wanted.keys()) {
            assert_eq!(there.get(place), wanted.get(place), "{place}, after\n{after}");
        }
    }

    /// The places that are the same in both, but for chains that refer to a set that is not.
    pub(crate) fn unchanged(&self, new: &Dump) -> BTreeSet<String> {
        let same = |place: &String, lines: &Vec<String>| new.places.get(place) == Some(lines);
        let other_sets: Vec<String> = self
            .dynamic
            .keys()
            .filter(|place| !same(place, &self.places[*place]))
            .filter_map(|it| reference(it))
            .collect();
        let refers = |line: &String| line.split(' ').any(|word| other_sets.iter().any(|set| set == word));
        let unchanged = self.places.iter().filter(|(place, lines)| {
            !is_built_in(place) && same(place, lines) && !(place.contains(" chain ") && lines.iter().any(refers))
        });
        unchanged.map(|(place, _)| place.clone()).collect()
    }

    /// Handles, or counters, of these places are what they were.
    #[track_caller]
    pub(crate) fn must_have_kept(&self, before: &Dump, places: &BTreeSet<String>) {
        for place in places {
            assert_eq!(self.places.get(place), before.places.get(place), "{place} was written again");
        }
    }

    /// The sets that learn: table and name.
    pub(crate) fn dynamic(&self) -> impl Iterator<Item = (&str, &str)> {
        self.dynamic.keys().filter_map(|place| place.split_once(" set "))
    }

    /// The places of the sets that have learned something.
    pub(crate) fn learned(&self) -> impl Iterator<Item = String> {
        self.dynamic.iter().filter(|(_, learned)| **learned).map(|(place, _)| place.clone())
    }
}

fn is_foreign(line: &str) -> bool {
    line.contains("theirs") || line.contains("THEIRS")
}

fn is_built_in(place: &str) -> bool {
    ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].iter().any(|name| place.ends_with(name))
}

/// How a rule names a set.
fn reference(place: &str) -> Option<String> {
    place.split_once(" set ").map(|(_, name)| format!("@{name}"))
}

fn iptables(text: &str) -> Dump {
    let mut dump = Dump::default();
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':').and_then(|line| line.split(' ').next()) {
            dump.places.entry(format!("{table} {chain}")).or_default();
        } else if let Some((counters, rule)) = line.split_once("-A ").filter(|_| line.starts_with(['-', '['])) {
            let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
            dump.places.entry(format!("{table} {chain}")).or_default().push(format!("{counters}{rule}"));
        }
    }
    dump
}

fn nftables(text: &str) -> Dump {
    let mut dump = Dump::default();
    let (mut table, mut place, mut elements) = (None::<&str>, None::<String>, None::<String>);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(open) = &mut elements {
            open.push_str(line);
        } else if let Some(rest) = line.strip_prefix("elements = {") {
            elements = Some(rest.to_owned());
        }
        if let (Some(open), Some(place)) = (&elements, &place) {
            if let Some(inside) = open.strip_suffix('}') {
                let mut inside: Vec<String> = inside.split(',').map(|it| it.trim().to_owned()).collect();
                inside.retain(|element| !element.is_empty());
                inside.sort();
                match dump.dynamic.get_mut(place) {
                    Some(learned) => *learned = !inside.is_empty(),
                    None => dump.places.entry(place.clone()).or_default().extend(inside),
                }
                elements = None;
            }
            continue;
        }
        let head = line.split(" # handle").next().and_then(|line| line.strip_suffix(" {"));
        match (table, &place, head) {
            (None, _, head) => table = head.and_then(|head| head.strip_prefix("table ")),
            (Some(_), None, None) => table = None,
            (Some(table), None, Some(head)) => {
                let name = format!("{table} {head}");
                dump.places.insert(name.clone(), Vec::new());
                place = Some(name);
            }
            (_, Some(_), _) if line == "}" => place = None,
            (_, Some(place), _) => {
                if line.starts_with("flags ") && line.contains("dynamic") {
                    dump.dynamic.insert(place.clone(), false);
                }
                dump.places.entry(place.clone()).or_default().push(line.to_owned());
            }
        }
    }
    dump
}
