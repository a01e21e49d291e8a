//! From the input of `iptables-restore` to [`Rules`]. A word that it does not know is an error.

use ipnet::IpNet;

use super::rules::{Base, Field, Hook, Op, Rule, Rules};
use crate::lab::model::Protocol;

/// Reads a whole input.
pub(super) fn parse(text: &str) -> Result<Rules, String> {
    let mut rules = Rules::default();
    let mut table = "";
    for line in text.lines().filter(|line| !line.starts_with('#') && *line != "COMMIT") {
        let parsed = if let Some(name) = line.strip_prefix('*') {
            table = name;
            add_built_in(&mut rules, table)
        } else if let Some(chain) = line.strip_prefix(':').and_then(|chain| chain.split(' ').next()) {
            rules.chains.entry(format!("{table} {chain}")).or_default();
            Ok(())
        } else {
            append(&mut rules, table, line)
        };
        parsed.map_err(|why| format!("{why} in `{line}`"))?;
    }
    Ok(rules)
}

/// Table, chain, hook, priority.
const BUILT_IN: [(&str, &str, Hook, i32); 6] = [
    ("filter", "INPUT", Hook::Input, 0),
    ("filter", "FORWARD", Hook::Forward, 0),
    ("filter", "OUTPUT", Hook::Output, 0),
    ("nat", "PREROUTING", Hook::Prerouting, -100),
    ("nat", "OUTPUT", Hook::Output, -100),
    ("nat", "POSTROUTING", Hook::Postrouting, 100),
];

fn add_built_in(rules: &mut Rules, table: &str) -> Result<(), String> {
    if !["mangle", "filter", "nat"].contains(&table) {
        return Err(format!("unknown table {table}"));
    }
    for (_, name, hook, priority) in BUILT_IN.iter().filter(|built_in| built_in.0 == table) {
        let chain = format!("{table} {name}");
        rules.chains.entry(chain.clone()).or_default();
        rules.bases.push(Base { hook: *hook, priority: *priority, nat: table == "nat", chain });
    }
    Ok(())
}

/// `-A CHAIN RULE`
fn append(rules: &mut Rules, table: &str, line: &str) -> Result<(), String> {
    let rest = line.strip_prefix("-A ").ok_or("neither a rule nor a chain")?;
    let (chain, text) = rest.split_once(' ').ok_or("a rule without words")?;
    let rule = Rule { text: text.to_owned(), ops: ops(table, text)? };
    rules.chains.get_mut(&format!("{table} {chain}")).ok_or("an undeclared chain")?.push(rule);
    Ok(())
}

const MODULES: [&str; 10] =
    ["comment", "tcp", "udp", "sctp", "conntrack", "addrtype", "mark", "statistic", "recent", "icmp"];

fn ops(table: &str, text: &str) -> Result<Vec<Op>, String> {
    let mut words = words(text)?.into_iter();
    let mut ops = Vec::new();
    let mut not = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} without a value"));
        let op = match word.as_str() {
            "!" => {
                not = true;
                continue;
            }
            "-m" => {
                let module = value()?;
                if !MODULES.contains(&module.as_str()) {
                    return Err(format!("unknown match {module}"));
                }
                continue;
            }
            "--comment" | "--name" | "--seconds" => {
                value()?;
                continue;
            }
            "--mode" if value()? == "random" => continue,
            // What a rule remembers, or forgets, makes no difference to who comes the first time.
            "--set" | "--reap" | "--random-fully" => continue,
            "-p" => Op::Protocol(protocol(&value()?)?),
            "-s" => Op::Within(Field::Source, vec![net(&value()?)?]),
            "-d" => Op::Within(Field::Destination, vec![net(&value()?)?]),
            "-i" => Op::Interface(value()?),
            "--dport" => Op::Port(number(&value()?)?),
            "--dst-type" if value()? == "LOCAL" => Op::Local(Field::Destination),
            "--src-type" if value()? == "LOCAL" => Op::Local(Field::Source),
            "--ctstate" => states(&value()?)?,
            "--mark" if value()? == "0x4000/0x4000" => Op::Marked,
            "--probability" => Op::Chance(number(&value()?)?),
            "--rcheck" => Op::Remembered,
            "-j" => target(table, &value()?, &mut words)?,
            _ => return Err(format!("unknown word {word}")),
        };
        ops.push(if std::mem::take(&mut not) { Op::Not(Box::new(op)) } else { op });
    }
    Ok(ops)
}

fn target(table: &str, name: &str, words: &mut impl Iterator<Item = String>) -> Result<Op, String> {
    let mut option = |option: &str| match words.next() {
        Some(word) if word == option => words.next().ok_or_else(|| format!("{option} without a value")),
        other => Err(format!("{name} with {other:?}")),
    };
    Ok(match name {
        "ACCEPT" => Op::Accept,
        "DROP" => Op::Drop,
        "REJECT" => Op::Reject,
        "RETURN" => Op::Return,
        "MASQUERADE" => Op::Masquerade,
        "DNAT" => Op::Dnat(number(&option("--to-destination")?)?),
        "SNAT" => Op::Snat(number(&option("--to-source")?)?),
        "MARK" => match words.next().as_deref() {
            Some("--or-mark") if words.next().as_deref() == Some("0x4000") => Op::Mark,
            // Only a marked packet gets there.
            Some("--xor-mark") if words.next().as_deref() == Some("0x4000") => Op::Unmark,
            other => return Err(format!("MARK with {other:?}")),
        },
        chain if chain.starts_with("KUBE-") || chain.starts_with("NETLAB-") => Op::Jump(format!("{table} {chain}")),
        _ => return Err(format!("unknown target {name}")),
    })
}

fn states(list: &str) -> Result<Op, String> {
    let states = list.split(',').map(|state| match state {
        "NEW" => Ok(Op::New),
        "INVALID" | "RELATED" | "ESTABLISHED" => Ok(Op::Old),
        "DNAT" => Ok(Op::Translated),
        other => Err(format!("unknown state {other}")),
    });
    states.collect::<Result<Vec<Op>, String>>().map(Op::Any)
}

/// Words, of which those in quotes may have spaces.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for (i, part) in text.split('"').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    if text.matches('"').count() % 2 == 1 { Err("an open quote".to_owned()) } else { Ok(words) }
}

/// A protocol as rules spell it.
pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    all.into_iter().find(|protocol| protocol.lower() == text).ok_or_else(|| format!("unknown protocol {text}"))
}

/// A prefix, or an address for the prefix of that alone.
pub(super) fn net(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse().map(|ip: std::net::IpAddr| ip.into()))
        .map_err(|_| format!("no prefix: {text}"))
}

/// Anything that parses.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("no value: {text}"))
}
