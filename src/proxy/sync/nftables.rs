//! From one set of nftables rules to another, as the input of `nft -f -`.
//!
//! References go before what they refer to, and come after it: chains that change or end are
//! flushed, elements deleted, then sets, maps and chains; then new ones are made, and last come the
//! rules and elements that refer to them.

use std::collections::HashSet;

use super::{
    difference::{Difference, difference},
    nft_text::{Element, Object, Table, parse},
    ours,
};

/// What to do with one table that was there before, or is new.
#[derive(Debug, Default)]
struct Change<'a> {
    table: &'a str,
    /// Chains to empty.
    flushed: Vec<&'a str>,
    /// Keys of maps and sets.
    removed: Vec<(&'a str, Vec<&'a str>)>,
    /// Sets, maps and chains to delete.
    deleted: Vec<Object<'a>>,
    /// Sets, maps and chains to make.
    made: Vec<Object<'a>>,
    /// Chains of which all rules are to be written.
    written: Vec<Object<'a>>,
    /// Elements of maps and sets.
    added: Vec<(&'a str, Vec<&'a str>)>,
}

pub(super) fn transaction(old: &str, new: &str) -> Option<String> {
    let (old, new) = (parse(old), parse(new));
    text(&old, &new, |_| &[])
}

/// Each table is made anew, whatever was there.
pub(super) fn first(rules: &str) -> String {
    let tables = parse(rules);
    let mut whole = String::new();
    for table in &tables {
        whole.push_str(&format!("add table {0}\ndelete table {0}\n", table.head));
    }
    whole.push_str(&text(&[], &tables, |_| &[]).unwrap_or_default());
    whole
}

pub(super) fn repair(found: &str, wanted: &str) -> Option<String> {
    let (mut found, wanted) = (parse(found), parse(wanted));
    found.retain(|table| ours::table(table.head));
    let mut others: Vec<(&str, Vec<Object<'_>>)> = Vec::new();
    for table in &mut found {
        let Some(wanted) = wanted.iter().find(|it| it.head == table.head) else { continue };
        let heads: HashSet<&str> = wanted.objects.iter().map(|object| object.head).collect();
        let is_ours = |it: &Object<'_>| heads.contains(it.head) || ours::comes_and_goes(it.head);
        let (ours, alien) = table.objects.iter().partition(|it| is_ours(it));
        table.objects = ours;
        others.push((table.head, alien));
    }
    text(&found, &wanted, |table| others.iter().find(|it| it.0 == table).map_or(&[], |it| &it.1))
}

fn text<'a, 'o>(old: &[Table<'a>], new: &[Table<'a>], others: impl Fn(&str) -> &'o [Object<'a>]) -> Option<String>
where
    'a: 'o,
{
    let mut text = String::new();
    for table in old.iter().filter(|table| new.iter().all(|it| it.head != table.head)) {
        // Whoever has deleted it already has done no harm.
        text.push_str(&format!("add table {0}\ndelete table {0}\n", table.head));
    }
    for table in new {
        let before = old.iter().find(|it| it.head == table.head);
        if before.is_none() {
            text.push_str(&format!("add table {}\n", table.head));
        }
        let objects = before.map_or(&[][..], |it| &it.objects);
        let mut change = Change::between(table.head, objects, &table.objects);
        change.spare(others(table.head));
        change.write(&mut text);
    }
    (!text.is_empty()).then_some(text)
}

impl<'a> Change<'a> {
    fn between(table: &'a str, old: &[Object<'a>], new: &[Object<'a>]) -> Self {
        let mut change = Change { table, ..Change::default() };
        let Difference { gone, new: fresh, changed } = difference(old, new, |object| object.head);
        gone.into_iter().for_each(|object| change.delete(object));
        let mut again = HashSet::new();
        for (old, new) in changed {
            if old.is_chain() && old.hook() == new.hook() {
                if !old.rules().eq(new.rules()) {
                    change.rewrite(new);
                }
            } else if !old.is_chain() && old.properties().eq(new.properties()) {
                change.elements(old, new);
            } else {
                // Neither a hook nor a timeout can be changed in place, on every kernel.
                change.delete(old);
                change.make(new);
                again.insert(new.name());
            }
        }
        fresh.into_iter().for_each(|object| change.make(object));
        if !again.is_empty() {
            change.let_go(&again, new);
        }
        change
    }

    /// A set can be deleted only while no rule refers to it, so rules that do are written again.
    fn let_go(&mut self, sets: &HashSet<&str>, new: &[Object<'a>]) {
        let written: HashSet<&str> = self.written.iter().map(|chain| chain.head).collect();
        let refers = |rule: &str| words_after(rule, '@').any(|set| sets.contains(set));
        let chains = new.iter().filter(|it| it.is_chain() && !written.contains(it.head));
        let chains: Vec<Object<'a>> = chains.filter(|chain| chain.rules().any(refers)).copied().collect();
        chains.iter().for_each(|chain| self.rewrite(chain));
    }

    fn delete(&mut self, object: &Object<'a>) {
        if object.is_chain() {
            self.flushed.push(object.name());
        }
        self.deleted.push(*object);
    }

    fn make(&mut self, object: &Object<'a>) {
        self.made.push(*object);
        if object.is_chain() {
            self.written.push(*object);
        } else if !object.is_dynamic() {
            let elements = object.elements().into_iter().map(|element| element.text).collect();
            self.added.push((object.name(), elements));
        }
    }

    fn rewrite(&mut self, chain: &Object<'a>) {
        self.flushed.push(chain.name());
        self.written.push(*chain);
    }

    fn elements(&mut self, old: &Object<'a>, new: &Object<'a>) {
        if new.is_dynamic() {
            return;
        }
        let (before, after) = (old.elements(), new.elements());
        let Difference { gone, new: fresh, changed } = difference(&before, &after, |element| element.key);
        // A map does not take another value for a key that it has, even if both are in one transaction.
        let removed = gone.iter().chain(changed.iter().map(|(old, _)| old)).map(|element: &&Element<'a>| element.key);
        let added = changed.iter().map(|(_, new)| new).chain(&fresh).map(|element| element.text);
        self.removed.push((new.name(), removed.collect()));
        self.added.push((new.name(), added.collect()));
    }

    /// A chain that others still refer to cannot be deleted; it is emptied all the same.
    fn spare(&mut self, others: &[Object<'_>]) {
        let rules = || others.iter().flat_map(|it| it.lines());
        let refers = |line: &str, name: &str| line.split([' ', ',']).any(|word| word.trim_start_matches('@') == name);
        if !others.is_empty() {
            self.deleted.retain(|object| !rules().any(|line| refers(line, object.name())));
        }
    }

    fn write(&self, text: &mut String) {
        let table = self.table;
        let mut line = |words: std::fmt::Arguments<'_>| {
            text.push_str(&words.to_string());
            text.push('\n');
        };
        self.flushed.iter().for_each(|chain| line(format_args!("flush chain {table} {chain}")));
        for (of, keys) in self.removed.iter().filter(|(_, keys)| !keys.is_empty()) {
            line(format_args!("delete element {table} {of} {{ {} }}", keys.join(", ")));
        }
        // A map refers to chains, and no chain to itself any more.
        let (chains, sets): (Vec<&Object<'_>>, Vec<&Object<'_>>) = self.deleted.iter().partition(|it| it.is_chain());
        for object in sets.iter().chain(&chains) {
            let (kind, name) = object.head.split_once(' ').unwrap_or((object.head, ""));
            line(format_args!("delete {kind} {table} {name}"));
        }
        for object in &self.made {
            let (kind, name) = object.head.split_once(' ').unwrap_or((object.head, ""));
            match (object.is_chain(), object.hook()) {
                (true, None) => line(format_args!("add {kind} {table} {name}")),
                (true, Some(hook)) => line(format_args!("add {kind} {table} {name} {{ {hook} }}")),
                (false, _) => {
                    let properties: Vec<&str> = object.properties().collect();
                    line(format_args!("add {kind} {table} {name} {{ {}; }}", properties.join("; ")));
                }
            }
        }
        for chain in &self.written {
            chain.rules().for_each(|rule| line(format_args!("add rule {table} {} {rule}", chain.name())));
        }
        for (of, elements) in self.added.iter().filter(|(_, elements)| !elements.is_empty()) {
            line(format_args!("add element {table} {of} {{ {} }}", elements.join(", ")));
        }
    }
}

/// The words that begin with this sign, without it.
fn words_after(rule: &str, sign: char) -> impl Iterator<Item = &str> {
    rule.split(' ').filter_map(move |word| word.strip_prefix(sign))
}
