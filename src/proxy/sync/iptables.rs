//! From one set of iptables rules to another, as the input of `iptables-restore --noflush`.
//!
//! Reads what the renderers write and what `iptables-save` prints. Within a table, everything is
//! declared before a rule may lead to it, and a chain is deleted after the last rule that led to it.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    ops::Range,
};

use super::{
    difference::difference,
    ours,
    place::{self, Found},
};
use crate::lab::model::ProxyMode;

/// The table that lets through or refuses.
const FILTER: &str = "filter";

/// A table.
#[derive(Debug, Default)]
struct Table<'a> {
    name: &'a str,
    /// Those that are declared, but for the built-in ones.
    chains: Vec<Chain<'a>>,
    /// The built-in chains that have rules, each with its rules without `-A CHAIN `.
    built_in: Vec<(&'a str, Vec<&'a str>)>,
}

/// A chain that does not come with its table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain<'a> {
    name: &'a str,
    /// Its rules, as whole lines.
    body: Cow<'a, str>,
}

/// What to do with one table.
#[derive(Debug)]
struct Change<'a> {
    table: &'a str,
    /// Chains to make, or to empty.
    declared: Vec<&'a str>,
    /// Commands for built-in chains.
    commands: Vec<String>,
    /// The rules of chains that are new or empty now, as whole lines.
    bodies: Vec<&'a str>,
    /// Chains to delete.
    deleted: Vec<&'a str>,
    /// Whether it refuses what it did not refuse before, if it is the filter table.
    refuses: bool,
}

pub(super) fn transaction(old: &str, new: &str) -> Option<String> {
    let (old, new) = (parse(old), parse(new));
    let mut changes = Vec::new();
    for (old, new) in pairs(&old, &new) {
        let mut change = Change::of_chains(old, new);
        for chain in built_in_names(old, new) {
            change.command(replacements(chain, old.rules(chain), new.rules(chain)));
        }
        changes.push(change);
    }
    text(changes)
}

pub(super) fn repair(mode: ProxyMode, found: &str, wanted: &str) -> Option<String> {
    let (mut found, wanted) = (parse(found), parse(wanted));
    let mut others: HashMap<&str, Vec<Chain<'_>>> = HashMap::new();
    for table in &mut found {
        let (ours, alien) = table.chains.drain(..).partition(|chain| ours::chain(mode, chain.name));
        table.chains = ours;
        others.insert(table.name, alien);
    }
    let mut changes = Vec::new();
    for (found, wanted) in pairs(&found, &wanted) {
        let mut change = Change::of_chains(found, wanted);
        change.spare(others.get(change.table).map_or(&[], Vec::as_slice));
        for chain in built_in_names(found, wanted) {
            let rules = found.rules(chain).iter();
            let rules: Vec<Found<'_>> = rules.map(|rule| Found { rule, ours: ours::rule(mode, rule) }).collect();
            change.command(place::mend(chain, &rules, wanted.rules(chain)));
        }
        changes.push(change);
    }
    text(changes)
}

/// The tables of either, each with its counterpart, which is empty if there is none.
fn pairs<'a, 'b>(old: &'b [Table<'a>], new: &'b [Table<'a>]) -> Vec<(&'b Table<'a>, &'b Table<'a>)> {
    const NONE: &Table<'static> = &Table { name: "", chains: Vec::new(), built_in: Vec::new() };
    let counterpart = |among: &'b [Table<'a>], name: &str| among.iter().find(|table| table.name == name);
    let of_new = new.iter().map(|table| (counterpart(old, table.name).unwrap_or(NONE), table));
    let of_old = old.iter().filter(|table| counterpart(new, table.name).is_none()).map(|table| (table, NONE));
    of_new.chain(of_old).collect()
}

/// The built-in chains that have rules in either.
fn built_in_names<'a>(old: &Table<'a>, new: &Table<'a>) -> Vec<&'a str> {
    let only_old = old.built_in.iter().filter(|(name, _)| new.rules(name).is_empty());
    only_old.chain(&new.built_in).map(|(name, _)| *name).collect()
}

/// From rules in a built-in chain to others, where nothing is known of the rules between them.
///
/// A rule can be deleted by what it says, but inserted only by number, and the numbers are not
/// known: so what comes after the first new rule is deleted, and appended again.
fn replacements(chain: &str, old: &[&str], new: &[&str]) -> Vec<String> {
    if old == new {
        return Vec::new();
    }
    // A deletion hits the first rule that says so.
    let unique = old.iter().collect::<HashSet<_>>().len() == old.len();
    let (mut kept, mut commands, mut rest) = (0, Vec::new(), old.iter());
    for rule in new.iter().filter(|_| unique) {
        let mut ahead = rest.clone();
        let Some(at) = ahead.position(|it| it == rule) else { break };
        commands.extend(rest.take(at).map(|rule| format!("-D {chain} {rule}")));
        (rest, kept) = (ahead, kept + 1);
    }
    commands.extend(rest.map(|rule| format!("-D {chain} {rule}")));
    commands.extend(new[kept..].iter().map(|rule| format!("-A {chain} {rule}")));
    commands
}

impl<'a> Change<'a> {
    /// What to do with the chains that are not built-in.
    fn of_chains<'b>(old: &'b Table<'a>, new: &'b Table<'a>) -> Change<'b> {
        let table = if new.name.is_empty() { old.name } else { new.name };
        let difference = difference(&old.chains, &new.chains, |chain| chain.name);
        let written = difference.new.iter().chain(difference.changed.iter().map(|(_, new)| new));
        let more = |(old, new): &(&Chain<'_>, &Chain<'_>)| {
            let before: HashSet<&str> = old.body.lines().collect();
            new.body.lines().any(|line| !before.contains(line))
        };
        let begins =
            || difference.new.iter().any(|chain| !chain.body.is_empty()) || difference.changed.iter().any(more);
        Change {
            table,
            declared: written.clone().chain(&difference.gone).map(|chain| chain.name).collect(),
            commands: Vec::new(),
            refuses: table == FILTER && begins(),
            bodies: written.map(|chain| chain.body.as_ref()).collect(),
            deleted: difference.gone.iter().map(|chain| chain.name).collect(),
        }
    }

    fn command(&mut self, commands: Vec<String>) {
        self.refuses |= self.table == FILTER && commands.iter().any(|command| !command.starts_with("-D "));
        self.commands.extend(commands);
    }

    /// A chain that others still lead to cannot be deleted; it is emptied all the same.
    fn spare(&mut self, others: &[Chain<'_>]) {
        if self.deleted.is_empty() {
            return;
        }
        let targets: HashSet<&str> =
            others.iter().flat_map(|chain| chain.body.lines().filter_map(ours::target)).collect();
        self.deleted.retain(|name| !targets.contains(name));
    }

    fn is_empty(&self) -> bool {
        self.declared.is_empty() && self.commands.is_empty()
    }

    fn write(&self, text: &mut String) {
        let mut line = |parts: &[&str]| {
            parts.iter().for_each(|part| text.push_str(part));
            text.push('\n');
        };
        line(&["*", self.table]);
        self.declared.iter().for_each(|name| line(&[":", name, " - [0:0]"]));
        self.commands.iter().for_each(|command| line(&[command]));
        self.bodies.iter().filter(|body| !body.is_empty()).for_each(|body| line(&[body.trim_end_matches('\n')]));
        self.deleted.iter().for_each(|name| line(&["-X ", name]));
        line(&["COMMIT"]);
    }
}

/// Each table is a transaction of its own, in the order of the text. The filter table refuses what
/// the nat table leads nowhere, so it is the first to learn of that, and the last to forget it:
/// a packet in between must not pass as it is, and be remembered so.
fn text(mut changes: Vec<Change<'_>>) -> Option<String> {
    changes.retain(|change| !change.is_empty());
    changes.sort_by_key(|change| change.table == FILTER && !change.refuses);
    let mut text = String::new();
    changes.iter().for_each(|change| change.write(&mut text));
    (!text.is_empty()).then_some(text)
}

impl<'a> Table<'a> {
    /// The rules of a built-in chain.
    fn rules(&self, chain: &str) -> &[&'a str] {
        self.built_in.iter().find(|(name, _)| *name == chain).map_or(&[], |(_, rules)| rules)
    }

    fn add_built_in(&mut self, chain: &'a str, rule: &'a str) {
        match self.built_in.iter_mut().find(|(name, _)| *name == chain) {
            Some((_, rules)) => rules.push(rule),
            None => self.built_in.push((chain, vec![rule])),
        }
    }

    /// Gives the chains their rules. `runs` are rules of the same chain on end; in what a tool
    /// prints, and in what is rendered, they come in the order in which the chains are declared.
    fn fill(&mut self, text: &'a str, runs: &[(&'a str, Range<usize>)]) {
        let mut rest = runs.iter().peekable();
        for chain in &mut self.chains {
            if let Some((_, range)) = rest.next_if(|(name, _)| *name == chain.name) {
                chain.body = Cow::Borrowed(&text[range.clone()]);
            }
        }
        if rest.peek().is_none() {
            return;
        }
        let index: HashMap<&str, usize> = self.chains.iter().enumerate().map(|(at, chain)| (chain.name, at)).collect();
        self.chains.iter_mut().for_each(|chain| chain.body = Cow::Borrowed(""));
        for (name, range) in runs {
            if let Some(at) = index.get(name) {
                self.chains[*at].body += &text[range.clone()];
            }
        }
    }
}

fn parse(text: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    let mut runs: Vec<(&str, Range<usize>)> = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let rest = &text[start..];
        // Most lines are of the chain that the line before is of.
        if let Some((chain, run)) = runs.last_mut().filter(|(_, run)| run.end == start)
            && rest.strip_prefix("-A ").is_some_and(|rest| follows(rest, chain))
        {
            start += line_length(rest);
            run.end = start;
            continue;
        }
        let line = &rest[..line_length(rest)];
        let range = start..start + line.len();
        start = range.end;
        if let Some(name) = line.strip_prefix('*') {
            tables.push(Table { name: name.trim_end(), ..Table::default() });
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(rest) = line.strip_prefix("-A ") {
            let (chain, rule) = rest.trim_end().split_once(' ').unwrap_or((rest.trim_end(), ""));
            match ours::is_built_in(chain) {
                true => table.add_built_in(chain, rule),
                false => runs.push((chain, range)),
            }
        } else if let Some(declaration) = line.strip_prefix(':') {
            let name = declaration.split(' ').next().unwrap_or_default();
            if !ours::is_built_in(name) {
                table.chains.push(Chain { name, body: Cow::Borrowed("") });
            }
        } else if line.starts_with("COMMIT") {
            table.fill(text, &std::mem::take(&mut runs));
        }
    }
    tables
}

/// The length of the first line, with its end.
fn line_length(text: &str) -> usize {
    text.find('\n').map_or(text.len(), |end| end + 1)
}

/// Whether a rule, without `-A `, is of this chain.
fn follows(rest: &str, chain: &str) -> bool {
    rest.strip_prefix(chain).is_some_and(|rest| rest.starts_with([' ', '\n']))
}
