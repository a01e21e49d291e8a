//! From the input of `nft -f -` to [`Rules`]. A word that it does not know is an error.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    iptables::{net, number, protocol},
    rules::{Base, Field, Hook, Op, Rule, Rules},
};

/// Reads a whole input, one statement a line as [`crate::proxy::nftables`] writes it.
pub(super) fn parse(text: &str) -> Result<Rules, String> {
    let mut reader = Reader { rules: Rules::default(), table: String::new(), object: Object::None };
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        reader.line(line).map_err(|why| format!("{why} in `{line}`"))?;
    }
    Ok(reader.rules)
}

struct Reader {
    rules: Rules,
    table: String,
    object: Object,
}

/// What the lines are about; a set's and a map's elements are read within it.
enum Object {
    None,
    Set(String),
    Map(String),
    Chain(String),
    Elements(Box<Object>),
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (&self.object, words.as_slice()) {
            (Object::None, ["add" | "delete", "table", "ip" | "ip6", _]) => {}
            (Object::None, ["table", "ip" | "ip6", name, "{"]) => self.table = (*name).to_owned(),
            (Object::None, ["set", name, "{"]) => {
                let name = self.own(name);
                self.rules.sets.insert(name.clone(), BTreeSet::new());
                self.object = Object::Set(name);
            }
            (Object::None, ["map", name, "{"]) => {
                let name = self.own(name);
                self.rules.maps.insert(name.clone(), BTreeMap::new());
                self.object = Object::Map(name);
            }
            (Object::None, ["chain", name, "{"]) => {
                let name = self.own(name);
                self.rules.chains.insert(name.clone(), Vec::new());
                self.object = Object::Chain(name);
            }
            (Object::None, ["}"]) => self.table.clear(),
            (Object::Set(_) | Object::Map(_) | Object::Chain(_), ["}"]) => self.object = Object::None,
            (Object::Set(_) | Object::Map(_), ["type", ..] | ["flags", _] | ["timeout", _]) => {}
            (Object::Set(_) | Object::Map(_), ["elements", "=", "{"]) => {
                let object = std::mem::replace(&mut self.object, Object::None);
                self.object = Object::Elements(Box::new(object));
            }
            (Object::Elements(_), ["}"]) => {
                if let Object::Elements(object) = std::mem::replace(&mut self.object, Object::None) {
                    self.object = *object;
                }
            }
            (Object::Elements(object), _) => {
                let element = line.strip_suffix(',').ok_or("an element without a comma")?;
                match &**object {
                    Object::Set(name) => {
                        self.rules.sets.entry(name.clone()).or_default().insert(element.to_owned());
                    }
                    Object::Map(name) => {
                        let (key, verdict) = element.rsplit_once(" : ").ok_or("an element without a verdict")?;
                        let key = key.split_once(" comment ").map_or(key, |(key, _)| key);
                        let op = verdict_op(&self.table, verdict)?;
                        self.rules.maps.entry(name.clone()).or_default().insert(key.to_owned(), op);
                    }
                    Object::None | Object::Chain(_) | Object::Elements(_) => {
                        return Err("misplaced elements".to_owned());
                    }
                }
            }
            (Object::Chain(chain), ["type", kind, "hook", hook, "priority", priority, "policy", "accept;"]) => {
                let hook = self::hook(hook)?;
                let priority = number(priority.trim_end_matches(';'))?;
                self.rules.bases.push(Base { hook, priority, nat: *kind == "nat", chain: chain.clone() });
            }
            (Object::Chain(chain), _) => {
                let rule = Rule { text: line.to_owned(), ops: Words::of(&self.table, line)?.ops()? };
                self.rules.chains.entry(chain.clone()).or_default().push(rule);
            }
            (Object::None | Object::Set(_) | Object::Map(_), _) => return Err("unknown words".to_owned()),
        }
        Ok(())
    }

    fn own(&self, name: &str) -> String {
        format!("{} {name}", self.table)
    }
}

fn hook(name: &str) -> Result<Hook, String> {
    Ok(match name {
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        "postrouting" => Hook::Postrouting,
        _ => return Err(format!("unknown hook {name}")),
    })
}

fn verdict_op(table: &str, text: &str) -> Result<Op, String> {
    Ok(match text.split_once(' ') {
        Some(("goto", chain)) => Op::Goto(format!("{table} {chain}")),
        Some(("jump", chain)) => Op::Jump(format!("{table} {chain}")),
        None if text == "drop" => Op::Drop,
        _ => return Err(format!("unknown verdict {text}")),
    })
}

/// A rule, taken apart: a word, a quoted text or a `{ … }` is one.
struct Words<'a> {
    table: &'a str,
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    fn of(table: &'a str, line: &'a str) -> Result<Words<'a>, String> {
        let mut words = Vec::new();
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            let end = match rest.as_bytes()[0] {
                b'{' => rest.find('}').ok_or("an open brace")? + 1,
                b'"' => rest[1..].find('"').ok_or("an open quote")? + 2,
                _ => rest.find(' ').unwrap_or(rest.len()),
            };
            words.push(&rest[..end]);
            rest = rest[end..].trim_start();
        }
        Ok(Words { table, words, next: 0 })
    }

    fn peek(&self) -> &'a str {
        self.words.get(self.next).copied().unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let word = self.peek();
        self.next += 1;
        word
    }

    /// Takes these words if they are next.
    fn skip(&mut self, words: &str) -> bool {
        let count = words.split(' ').count();
        let here = self.words.get(self.next..self.next + count);
        let found = here.is_some_and(|here| here.join(" ") == words);
        if found {
            self.next += count;
        }
        found
    }

    fn own(&self, name: &str) -> String {
        format!("{} {name}", self.table)
    }

    fn ops(mut self) -> Result<Vec<Op>, String> {
        /// What is always spelled the same.
        const PHRASES: [(&str, Op); 12] = [
            ("ct state new", Op::New),
            ("ct status dnat", Op::Translated),
            ("meta mark & 0x4000 != 0", Op::Marked),
            ("meta mark set meta mark | 0x4000", Op::Mark),
            ("meta mark set meta mark ^ 0x4000", Op::Unmark),
            ("masquerade fully-random", Op::Masquerade),
            ("fib saddr type local", Op::Local(Field::Source)),
            ("fib daddr type local", Op::Local(Field::Destination)),
            ("return", Op::Return),
            ("accept", Op::Accept),
            ("drop", Op::Drop),
            ("reject", Op::Reject),
        ];
        let mut ops = Vec::new();
        while !self.peek().is_empty() {
            if let Some((_, op)) = PHRASES.iter().find(|(phrase, _)| self.skip(phrase)) {
                ops.push(op.clone());
            } else if self.skip("comment") {
                self.take();
            } else if self.skip("update") {
                // Whom it remembers makes no difference to who comes the first time.
                self.take();
                self.take();
            } else if self.skip("jump") {
                ops.push(Op::Jump(self.own(self.peek())));
                self.take();
            } else if self.skip("goto") {
                ops.push(Op::Goto(self.own(self.peek())));
                self.take();
            } else if self.skip("iifname") {
                let not = self.skip("!=");
                let name = self.take().trim_matches('"').replace('*', "+");
                ops.push(negated(not, Op::Interface(name)));
            } else if self.skip("dnat to") {
                ops.push(Op::Dnat(number(self.take())?));
            } else if self.skip("dnat ip addr . port to") || self.skip("dnat ip6 addr . port to") {
                ops.push(self.one_of("map", |_, value| {
                    let (ip, port) = value.split_once(" . ").ok_or("no port")?;
                    Ok(Op::Dnat(std::net::SocketAddr::new(number(ip)?, number(port)?)))
                })?);
            } else if self.peek() == "numgen" {
                ops.push(self.one_of("vmap", verdict_op)?);
            } else {
                ops.extend(self.lookup()?);
            }
        }
        Ok(ops)
    }

    /// `numgen random mod N map { 0 : …, 1 : … }`
    fn one_of(&mut self, map: &str, value: impl Fn(&str, &str) -> Result<Op, String>) -> Result<Op, String> {
        if !self.skip("numgen random mod") {
            return Err("unknown choice".to_owned());
        }
        let count: usize = number(self.take())?;
        if !self.skip(map) {
            return Err("unknown choice".to_owned());
        }
        let mut ops = Vec::new();
        for (i, entry) in list(self.take()).enumerate() {
            let (key, choice) = entry.split_once(" : ").ok_or("no choice")?;
            if number::<usize>(key)? != i {
                return Err("a choice out of order".to_owned());
            }
            ops.push(value(self.table, choice)?);
        }
        if ops.len() == count { Ok(Op::OneOf(ops)) } else { Err("not as many choices as there should be".to_owned()) }
    }

    /// One field, or several, and what they are compared with or looked up in.
    fn lookup(&mut self) -> Result<Vec<Op>, String> {
        let mut ops = Vec::new();
        let mut fields = vec![self.field(&mut ops)?];
        while self.skip(".") {
            fields.push(self.field(&mut ops)?);
        }
        if self.skip("vmap") {
            let map = self.take().strip_prefix('@').ok_or("unknown map")?;
            ops.push(Op::Lookup(fields, self.own(map)));
            return Ok(ops);
        }
        let not = self.skip("!=");
        let value = self.take();
        let op = match (value.strip_prefix('@'), fields.as_slice()) {
            (Some(set), _) => Op::In(fields, self.own(set)),
            (None, [field @ (Field::Source | Field::Destination)]) => {
                let nets = list(value).map(net).collect::<Result<Vec<_>, String>>()?;
                Op::Within(*field, nets)
            }
            (None, [Field::Protocol]) => Op::Protocol(protocol(value)?),
            (None, [Field::Port]) => Op::Port(number(value)?),
            (None, _) => return Err(format!("unknown value {value}")),
        };
        ops.push(negated(not, op));
        Ok(ops)
    }

    /// A field; `tcp dport` asks for the protocol as well.
    fn field(&mut self, ops: &mut Vec<Op>) -> Result<Field, String> {
        const FIELDS: [(&str, Field); 6] = [
            ("ip saddr", Field::Source),
            ("ip6 saddr", Field::Source),
            ("ip daddr", Field::Destination),
            ("ip6 daddr", Field::Destination),
            ("meta l4proto", Field::Protocol),
            ("th dport", Field::Port),
        ];
        if let Some((_, field)) = FIELDS.iter().find(|(phrase, _)| self.skip(phrase)) {
            return Ok(*field);
        }
        let word = self.take();
        ops.push(Op::Protocol(protocol(word).map_err(|_| format!("unknown word {word}"))?));
        if self.skip("dport") { Ok(Field::Port) } else { Err(format!("unknown field of {word}")) }
    }
}

fn negated(not: bool, op: Op) -> Op {
    if not { Op::Not(Box::new(op)) } else { op }
}

/// What is in braces, or the one word that is in none.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.trim_start_matches('{').trim_end_matches('}').split(',').map(str::trim)
}
