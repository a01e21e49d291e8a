//! `nft -f`, as far as rules of ours need it.

use std::collections::BTreeMap;

use super::{Chain, Ruleset, Set, Table};

/// Takes the commands one after the other; a block is as many.
pub(crate) fn run(rules: &mut Ruleset, text: &str) -> Result<(), String> {
    let (mut table, mut block) = (None::<String>, None::<(String, Vec<String>)>);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(name) = &table else {
            match line.strip_prefix("table ").and_then(|rest| rest.strip_suffix(" {")) {
                Some(name) => {
                    rules.tables.entry(name.to_owned()).or_default();
                    table = Some(name.to_owned());
                }
                None => command(rules, line).map_err(|why| format!("{line}: {why}"))?,
            }
            continue;
        };
        match (&mut block, line) {
            (None, "}") => table = None,
            (None, _) => block = line.strip_suffix(" {").map(|head| (head.to_owned(), Vec::new())),
            (Some((_, lines)), "}") if lines.iter().any(|it| it == "elements = {") => {
                lines.retain(|it| it != "elements = {");
                lines.push("}".to_owned());
            }
            (Some((head, lines)), "}") => {
                for command in commands(name, head, lines) {
                    self::command(rules, &command).map_err(|why| format!("{command}: {why}"))?;
                }
                block = None;
            }
            (Some((_, lines)), _) => lines.push(line.to_owned()),
        }
    }
    dangling(rules)
}

/// A block as commands, but for rules that refer to what comes later.
fn commands(table: &str, head: &str, lines: &[String]) -> Vec<String> {
    let (kind, name) = head.split_once(' ').unwrap_or((head, ""));
    if kind == "chain" {
        let (hook, rules): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.starts_with("type "));
        let hook = hook.first().map(|hook| format!(" {{ {hook} }}")).unwrap_or_default();
        let rules = rules.into_iter().map(|rule| format!("later rule {table} {name} {rule}"));
        return [format!("add chain {table} {name}{hook}")].into_iter().chain(rules).collect();
    }
    let is_property = |line: &&String| ["type ", "flags ", "timeout "].iter().any(|start| line.starts_with(start));
    let (properties, elements): (Vec<&String>, Vec<&String>) =
        lines.iter().filter(|line| *line != "}").partition(is_property);
    let properties: Vec<&str> = properties.into_iter().map(String::as_str).collect();
    let elements: String = elements.into_iter().map(|element| format!(" {element}")).collect();
    let made = format!("add {kind} {table} {name} {{ {}; }}", properties.join("; "));
    match elements.strip_suffix(',') {
        Some(elements) => vec![made, format!("later element {table} {name} {{{elements} }}")],
        None => vec![made],
    }
}

fn command(rules: &mut Ruleset, line: &str) -> Result<(), String> {
    let mut words = line.splitn(6, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (verb, kind, family, table, name, rest) = (word(), word(), word(), word(), word(), word());
    let head = format!("{family} {table}");
    if kind == "table" {
        match verb {
            "add" => drop(rules.tables.entry(head).or_default()),
            _ => drop(rules.tables.remove(&head).ok_or("no such table")?),
        }
        return Ok(());
    }
    let mut numbers = std::iter::repeat_with({
        let mut made = rules.made;
        move || {
            made += 1;
            made
        }
    });
    rules.made += 1_000_000;
    let table = rules.tables.get_mut(&head).ok_or("no such table")?;
    let inside = rest.strip_prefix("{ ").and_then(|rest| rest.strip_suffix(" }")).unwrap_or_default();
    let mut numbered =
        |text: &str| super::Numbered { number: numbers.next().unwrap_or_default(), text: text.to_owned() };
    match (verb, kind) {
        ("add", "chain") => {
            let made = Chain { hook: inside.to_owned(), rules: Vec::new() };
            table.chains.insert(name.to_owned(), made).map_or(Ok(()), |_| Err("there is one"))?;
        }
        ("add", "set" | "map") => {
            let made = Set { number: numbered("").number, properties: inside.to_owned(), elements: BTreeMap::new() };
            table.sets.insert(name.to_owned(), made).map_or(Ok(()), |_| Err("there is one"))?;
        }
        ("add" | "later", "rule") => {
            if verb == "add" && references(rest).any(|to| !table.has(&to)) {
                return Err("it refers to nothing".to_owned());
            }
            table.chains.get_mut(name).ok_or("no such chain")?.rules.push(numbered(rest));
        }
        ("add" | "later", "element") => {
            for element in inside.split(", ") {
                if verb == "add" && references(element).any(|to| !table.has(&to)) {
                    return Err(format!("{element} refers to nothing"));
                }
                let set = table.sets.get_mut(name).ok_or("no such set")?;
                let key = element.split(" comment ").next().and_then(|it| it.split(" : ").next()).unwrap_or_default();
                let there = set.elements.insert(key.to_owned(), numbered(element));
                there.map_or(Ok(()), |_| Err(format!("{key} is there")))?;
            }
        }
        ("flush", "chain") => {
            let chain = table.chains.get_mut(name).ok_or("no such chain")?;
            chain.rules.clear();
        }
        ("delete", "element") => {
            let set = table.sets.get_mut(name).ok_or("no such set")?;
            for key in inside.split(", ") {
                set.elements.remove(key).ok_or_else(|| format!("no {key}"))?;
            }
        }
        ("delete", "chain") => {
            table.unused(name)?;
            let chain = table.chains.remove(name).ok_or("no such chain")?;
            chain.rules.is_empty().then_some(()).ok_or("it has rules")?;
        }
        ("delete", "set" | "map") => {
            table.unused(&format!("@{name}"))?;
            table.sets.remove(name).ok_or("no such set")?;
        }
        _ => return Err("it is not known here".to_owned()),
    }
    Ok(())
}

impl Table {
    /// `@` stands before a set.
    fn has(&self, name: &str) -> bool {
        match name.strip_prefix('@') {
            Some(set) => self.sets.contains_key(set),
            None => self.chains.contains_key(name),
        }
    }

    fn references(&self) -> impl Iterator<Item = String> {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        let elements = self.sets.values().flat_map(|set| set.elements.values());
        rules.chain(elements).flat_map(|it| references(&it.text))
    }

    fn unused(&self, name: &str) -> Result<(), String> {
        if self.references().any(|to| to == name) { Err("it is in use".to_owned()) } else { Ok(()) }
    }
}

/// The chains and sets that a rule or element names.
fn references(text: &str) -> impl Iterator<Item = String> {
    let words: Vec<String> = text.split(' ').map(|word| word.trim_end_matches(',').to_owned()).collect();
    let after = words.clone();
    let sets = words.into_iter().filter(|word| word.starts_with('@'));
    let verdict = |pair: &[String]| (pair[0] == "goto" || pair[0] == "jump").then(|| pair[1].clone());
    let chains: Vec<String> = after.windows(2).filter_map(verdict).collect();
    sets.chain(chains)
}

/// What was loaded as a block may refer to what came later, but not to nothing.
fn dangling(rules: &Ruleset) -> Result<(), String> {
    for table in rules.tables.values() {
        if let Some(to) = table.references().find(|to| !table.has(to)) {
            return Err(format!("there is no {to}"));
        }
    }
    Ok(())
}
