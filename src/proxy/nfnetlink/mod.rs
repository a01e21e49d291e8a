//! From a transaction in nft's words to the nfnetlink messages that nft would send: what
//! [`sync`](super::sync) writes for people to read, the kernel can be told without the tool, which
//! first asks it for all that it has.
//!
//! Known are the words that our own rules have, in IPv4. A transaction with any other is not
//! translated at all, and is the tool's. Every message and every byte that matters is as nft 1.0.6
//! has it, so that whatever prints the rules prints the same.

mod attributes;
mod expression;
mod rule;
mod set;
#[cfg(test)]
mod tests;
mod words;

use attributes::{Head, Writer};
use rule::Rule;
use set::{Anonymous, Declared, Member, comment, lots, members, write_lot};
use words::Words;

/// The whole of a batch and its two ends, in `linux/netfilter/nfnetlink.h`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// The subsystem of nftables.
const NFTABLES: u16 = 10;
const AF_INET: u8 = 2;
const NLM_F_ACK: u16 = 4;
/// Make what is not there; and after what is there.
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Messages that the kernel carries out all together, or none of them.
#[derive(Debug)]
pub struct Batch<'a> {
    bytes: Vec<u8>,
    /// What each message is about: the number of a message is one more than its place here.
    statements: Vec<&'a str>,
}

/// The messages of nftables, in `linux/netfilter/nf_tables.h`.
#[derive(Debug, Clone, Copy)]
enum Kind {
    NewTable = 0,
    DelTable = 2,
    NewChain = 3,
    DelChain = 5,
    NewRule = 6,
    DelRule = 8,
    NewSet = 9,
    DelSet = 11,
    NewElements = 12,
    DelElements = 14,
}

impl<'a> Batch<'a> {
    /// Translates a transaction; `None` if there is something in it that only the tool knows, or nothing, to
    /// which the kernel would answer nothing.
    ///
    /// ```
    /// use netlab::proxy::nfnetlink::Batch;
    ///
    /// let batch = Batch::of("flush chain ip kube-proxy services\n").expect("it is known");
    /// assert_eq!(batch.statement(1), Some("flush chain ip kube-proxy services"));
    /// assert!(Batch::of("add rule ip kube-proxy services log\n").is_none());
    /// ```
    pub fn of(transaction: &'a str) -> Option<Self> {
        let mut draft = Draft { writer: Writer::default(), statements: Vec::new(), sets: 0 };
        draft.end(BATCH_BEGIN, 0)?;
        let mut lines = transaction.lines().filter(|line| !line.trim().is_empty()).peekable();
        while let Some(line) = lines.next() {
            draft.statement(line, if lines.peek().is_none() { Place::Last } else { Place::Before })?;
        }
        if draft.statements.is_empty() {
            return None;
        }
        let last = u32::try_from(draft.statements.len()).ok()?.checked_add(1)?;
        draft.end(BATCH_END, last)?;
        Some(Batch { bytes: draft.writer.into_bytes(), statements: draft.statements })
    }

    /// What is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The statement that the message with this number is from.
    pub fn statement(&self, number: u32) -> Option<&'a str> {
        self.statements.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    /// The number of the last message, whose end the kernel tells: after all of them, whatever it made
    /// of them.
    pub fn last(&self) -> u32 {
        u32::try_from(self.statements.len()).unwrap_or(u32::MAX)
    }
}

/// Where a statement is: the kernel answers to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Last,
}

/// A batch on its way.
struct Draft<'a> {
    writer: Writer,
    statements: Vec<&'a str>,
    sets: u32,
}

/// What most messages begin with.
#[derive(Debug, Clone, Copy)]
struct Of<'a> {
    table: &'a str,
    /// The attribute for the name, and the name.
    name: Option<(u16, &'a str)>,
}

/// Which attribute of a message has the name of a chain or set.
const CHAIN_NAME: u16 = 3;
const SET_NAME: u16 = 2;
const CHAIN_OF_RULE: u16 = 2;

impl<'a> Draft<'a> {
    /// The first or the last message.
    fn end(&mut self, kind: u16, number: u32) -> Option<()> {
        let head = Head { kind, flags: 0, number, family: 0, resource: NFTABLES };
        self.writer.message(head, |_| Some(()))
    }

    fn statement(&mut self, line: &'a str, place: Place) -> Option<()> {
        let mut words = Words::new(line);
        let (verb, what) = (words.next()?, words.next()?);
        words.expect("ip")?;
        let table = words.next()?;
        if what == "table" {
            let kind = if verb == "add" { Kind::NewTable } else { Kind::DelTable };
            let of = Of { table, name: None };
            return self.message(line, (kind, 0, place), of, |to| {
                // It has no flags.
                if verb == "add" { to.number(2, 0) } else { Some(()) }
            });
        }
        let name = words.next()?;
        let named = |attribute| Of { table, name: Some((attribute, name)) };
        match (verb, what) {
            ("flush", "chain") => self.message(line, (Kind::DelRule, 0, place), named(CHAIN_OF_RULE), |_| Some(())),
            ("delete", "chain") => self.message(line, (Kind::DelChain, 0, place), named(CHAIN_NAME), |_| Some(())),
            ("delete", "set" | "map") => self.message(line, (Kind::DelSet, 0, place), named(SET_NAME), |_| Some(())),
            ("add", "chain") => self.chain(line, place, named(CHAIN_NAME), words),
            ("add", "set" | "map") => {
                words.expect("{")?;
                let set = Declared::read(words.block()?).filter(|set| set.is_a(what))?;
                let id = self.next_set()?;
                self.message(line, (Kind::NewSet, CREATE, place), named(SET_NAME), |to| set.write(id, to))
            }
            ("add" | "delete", "element") => {
                let kind = if verb == "add" { (Kind::NewElements, CREATE) } else { (Kind::DelElements, 0) };
                let list = words.rest().strip_prefix('{')?.strip_suffix('}')?;
                self.elements(line, (kind.0, kind.1, place), named(SET_NAME), &members(list)?)
            }
            ("add", "rule") => self.rule(line, place, named(CHAIN_OF_RULE), words.rest()),
            _ => None,
        }
    }

    fn message(
        &mut self,
        line: &'a str,
        (kind, flags, place): (Kind, u16, Place),
        of: Of<'_>,
        body: impl FnOnce(&mut Writer) -> Option<()>,
    ) -> Option<()> {
        self.statements.push(line);
        let head = Head {
            kind: NFTABLES << 8 | kind as u16,
            flags: flags | if place == Place::Last { NLM_F_ACK } else { 0 },
            number: u32::try_from(self.statements.len()).ok()?,
            family: AF_INET,
            resource: 0,
        };
        self.writer.message(head, |to| {
            to.text(1, of.table)?;
            of.name.map_or(Some(()), |(attribute, name)| to.text(attribute, name))?;
            body(to)
        })
    }

    fn next_set(&mut self) -> Option<u32> {
        self.sets = self.sets.checked_add(1)?;
        Some(self.sets)
    }

    /// `add chain ip TABLE NAME { type nat hook output priority -90; policy accept; }`
    fn chain(&mut self, line: &'a str, place: Place, of: Of<'_>, mut words: Words<'a>) -> Option<()> {
        let hook = match words.next() {
            None => None,
            Some("{") => Some(Hook::read(words.block()?)?),
            Some(_) => return None,
        };
        self.message(line, (Kind::NewChain, CREATE, place), of, |to| hook.map_or(Some(()), |hook| hook.write(to)))
    }

    fn elements(
        &mut self,
        line: &'a str,
        (kind, flags, place): (Kind, u16, Place),
        of: Of<'_>,
        members: &[Member<'_>],
    ) -> Option<()> {
        let lots = lots(members);
        for (nth, lot) in lots.iter().enumerate() {
            let place = if nth + 1 == lots.len() { place } else { Place::Before };
            self.message(line, (kind, flags, place), of, |to| write_lot(lot, to))?;
        }
        Some(())
    }

    fn rule(&mut self, line: &'a str, place: Place, of: Of<'_>, text: &'a str) -> Option<()> {
        let rule = Rule::read(text, self.sets.checked_add(1)?)?;
        for set in &rule.sets {
            self.anonymous(line, of.table, set)?;
        }
        self.message(line, (Kind::NewRule, CREATE | APPEND, place), of, |to| {
            to.nested(4, |to| rule.expressions.iter().try_for_each(|it| it.write(to)))?;
            rule.comment.map_or(Some(()), |text| to.raw(7, &comment(text)))
        })
    }

    /// The set of a rule, before the rule.
    fn anonymous(&mut self, line: &'a str, table: &str, set: &Anonymous<'_>) -> Option<()> {
        self.sets = set.id();
        let of = Of { table, name: Some((SET_NAME, set.pattern())) };
        self.message(line, (Kind::NewSet, CREATE, Place::Before), of, |to| set.write(to))?;
        for lot in lots(set.members()) {
            let head = (Kind::NewElements, CREATE, Place::Before);
            self.message(line, head, of, |to| {
                to.number(4, set.id())?;
                write_lot(lot, to)
            })?;
        }
        Some(())
    }
}

/// Where in a packet's way a chain is.
#[derive(Debug)]
struct Hook<'a> {
    kind: &'a str,
    number: u32,
    priority: i32,
}

impl<'a> Hook<'a> {
    /// `type nat hook output priority -90; policy accept;`
    fn read(text: &'a str) -> Option<Self> {
        let mut words = Words::new(text.strip_suffix("; policy accept;")?);
        words.expect("type")?;
        let kind = words.next().filter(|kind| matches!(*kind, "filter" | "nat"))?;
        words.expect("hook")?;
        let hooks = ["prerouting", "input", "forward", "output", "postrouting"];
        let hook = words.next()?;
        let number = u32::try_from(hooks.iter().position(|it| *it == hook)?).ok()?;
        words.expect("priority")?;
        let priority = words.next()?.parse().ok()?;
        words.next().is_none().then_some(Hook { kind, number, priority })
    }

    fn write(&self, to: &mut Writer) -> Option<()> {
        const ACCEPT: u32 = 1;
        to.text(7, self.kind)?;
        to.number(5, ACCEPT)?;
        to.nested(4, |to| {
            to.number(1, self.number)?;
            to.raw(2, &self.priority.to_be_bytes())
        })
    }
}
