//! `iptables-restore --noflush`, as far as rules of ours need it.

use super::{Chain, Ruleset, Table};

/// Whether a chain, or what [`Ruleset::plain`] calls it, comes with its table.
pub(crate) fn is_built_in(chain: &str) -> bool {
    let name = chain.trim_end().rsplit(' ').next().unwrap_or_default();
    ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].contains(&name)
}

/// Takes the commands one after the other.
pub(crate) fn run(rules: &mut Ruleset, text: &str) -> Result<(), String> {
    let mut table = None::<String>;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match (&table, line.strip_prefix('*'), line) {
            (None, Some(name), _) => table = Some(name.to_owned()),
            (Some(_), None, "COMMIT") => table = None,
            (Some(name), None, line) => command(rules, name, line).map_err(|why| format!("{line}: {why}"))?,
            _ => return Err(format!("{line} has no place")),
        }
    }
    if table.is_some() { Err("no COMMIT".to_owned()) } else { Ok(()) }
}

fn command(rules: &mut Ruleset, table: &str, line: &str) -> Result<(), String> {
    let mut numbered = rules.number("");
    let table = rules.tables.entry(table.to_owned()).or_default();
    if let Some(declared) = line.strip_prefix(':') {
        let (name, rest) = declared.split_once(' ').ok_or("a declaration is short")?;
        let fine = rest == "- [0:0]" && !is_built_in(name);
        table.chains.insert(name.to_owned(), Chain::default());
        return if fine { Ok(()) } else { Err("it declares what is not ours".to_owned()) };
    }
    let (verb, rest) = line.split_once(' ').ok_or("a command is short")?;
    let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    if verb == "-X" {
        let chain = table.chains.get(name).ok_or("no such chain")?;
        if !chain.rules.is_empty() || refers(table, name) {
            return Err("it is in use".to_owned());
        }
        table.chains.remove(name);
        return Ok(());
    }
    let (position, rule) = match verb {
        "-I" => {
            rule.split_once(' ').and_then(|(at, rule)| Some((at.parse::<usize>().ok()?, rule))).ok_or("no number")?
        }
        _ => (usize::MAX, rule),
    };
    for to in target(rule).filter(|to| to.starts_with("KUBE-") || to.starts_with("NETLAB-") || *to == "THEIRS") {
        if !table.chains.contains_key(to) {
            return Err(format!("there is no {to}"));
        }
    }
    if is_built_in(name) {
        table.chains.entry(name.to_owned()).or_default();
    }
    let chain = table.chains.get_mut(name).ok_or("no such chain")?;
    rule.clone_into(&mut numbered.text);
    match verb {
        "-A" => chain.rules.push(numbered),
        "-I" if (1..=chain.rules.len() + 1).contains(&position) => chain.rules.insert(position - 1, numbered),
        "-D" => {
            let at = chain.rules.iter().position(|it| it.text == rule).ok_or("no such rule")?;
            chain.rules.remove(at);
        }
        _ => return Err("it is not known here".to_owned()),
    }
    Ok(())
}

fn target(rule: &str) -> impl Iterator<Item = &str> {
    let words: Vec<&str> = rule.split(' ').collect();
    let at = words.iter().rposition(|word| *word == "-j" || *word == "-g");
    at.and_then(|at| words.get(at + 1).copied()).into_iter()
}

fn refers(table: &Table, chain: &str) -> bool {
    table.chains.values().flat_map(|chain| &chain.rules).any(|rule| target(&rule.text).any(|to| to == chain))
}
