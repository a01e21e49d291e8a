//! Rules as a machine sees them: what either language says, in one typed form, and what a chain
//! of them makes of the first packet of a connection.
//!
//! Where a rule leaves something to chance, the packet goes every way, each with its share.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use serde::Serialize;

use super::Addresses;
use crate::lab::model::Protocol;

/// All rules of one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// The chains that the kernel calls, by hook and then priority.
    pub(super) bases: Vec<Base>,
    /// All chains, by `TABLE CHAIN`.
    pub(super) chains: BTreeMap<String, Vec<Rule>>,
    /// Named sets, by `TABLE SET`, of elements as nft writes them.
    pub(super) sets: BTreeMap<String, BTreeSet<String>>,
    /// Named verdict maps, by `TABLE MAP`.
    pub(super) maps: BTreeMap<String, BTreeMap<String, Op>>,
}

/// A chain that the kernel calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Base {
    pub(super) hook: Hook,
    pub(super) priority: i32,
    /// A chain of type nat sees only the first packet of a connection, and none that has its
    /// translation already.
    pub(super) nat: bool,
    pub(super) chain: String,
}

/// Where in a node's stack a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// It has come in.
    Prerouting,
    /// It is for this node.
    Input,
    /// It is for another.
    Forward,
    /// It was made here.
    Output,
    /// It is about to leave.
    Postrouting,
}

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// As it was loaded.
    pub(super) text: String,
    /// From left to right; the first match that fails ends it.
    pub(super) ops: Vec<Op>,
}

/// One thing that a rule asks or does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    /// The source, or destination, is in one of these.
    Within(Field, Vec<IpNet>),
    /// The source, or destination, is the node's own.
    Local(Field),
    Protocol(Protocol),
    Port(u16),
    /// It came in by this interface; a trailing `+` stands for any rest.
    Interface(String),
    /// It has the masquerade mark.
    Marked,
    /// Its connection is new; all that is traced here are.
    New,
    /// Its connection is in one of the states that no new one is in.
    Old,
    /// Its connection was given another destination here.
    Translated,
    /// In this share of cases.
    Chance(f64),
    /// The client has been here before; whoever is traced here has not.
    Remembered,
    /// These fields are an element of this set.
    In(Vec<Field>, String),
    /// Any but this.
    Not(Box<Op>),
    /// Either.
    Any(Vec<Op>),

    Mark,
    Unmark,
    Jump(String),
    Goto(String),
    Return,
    Accept,
    Drop,
    Reject,
    Masquerade,
    Snat(IpAddr),
    Dnat(SocketAddr),
    /// Do what this map says of these fields, if anything.
    Lookup(Vec<Field>, String),
    /// Do one of these, each with the same chance.
    OneOf(Vec<Op>),
}

/// What a packet can be looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Source,
    Destination,
    Protocol,
    Port,
}

/// A packet on its way.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) to: SocketAddr,
    pub(super) protocol: Protocol,
    /// The interface that it came in by; `None` if it was made here.
    pub(super) interface: Option<String>,
    pub(super) marked: bool,
    /// Its connection has been given another destination here.
    pub(super) translated: bool,
}

/// What a base chain decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Pass,
    Drop,
    Reject,
    /// Go on, with a destination of the packet's, which is set already.
    Dnat,
    /// Go on, with the address of the device by which it leaves.
    Masquerade,
    /// Go on, with this source.
    Snat(IpAddr),
}

/// One way through a base chain.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) packet: Packet,
    pub(super) verdict: Verdict,
    /// How often it is this one.
    pub(super) share: f64,
    /// The rules that matched, in order.
    pub(super) rules: Vec<Hit>,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The chain that it is in, as `TABLE CHAIN`.
    pub chain: String,
    /// The rule as it was loaded.
    pub text: String,
    /// What it did.
    pub act: Act,
}

/// What a rule that matched did with the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Nothing that ends the chain: it set a mark, say.
    Continue,
    /// It went on in this chain, as `TABLE CHAIN`, and comes back.
    Jump(String),
    /// It went on in this chain for good.
    Goto(String),
    /// It went back to where this chain was jumped to from.
    Return,
    /// It let the packet pass.
    Accept,
    /// It threw the packet away.
    Drop,
    /// It refused the packet.
    Reject,
    /// It gave the connection another destination.
    Dnat(SocketAddr),
    /// It gave the connection the address of the device by which it leaves as its source.
    Masquerade,
    /// It gave the connection this source.
    Snat(IpAddr),
}

impl Hook {
    /// As the tools spell it: `PREROUTING`.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::Prerouting => "PREROUTING",
            Hook::Input => "INPUT",
            Hook::Forward => "FORWARD",
            Hook::Output => "OUTPUT",
            Hook::Postrouting => "POSTROUTING",
        }
    }
}

impl Rules {
    /// The base chains of a hook, in the order in which the kernel calls them.
    pub(super) fn bases(&self, hook: Hook) -> Vec<&Base> {
        let mut bases: Vec<&Base> = self.bases.iter().filter(|base| base.hook == hook).collect();
        bases.sort();
        bases
    }

    /// Every way of a packet through a base chain.
    ///
    /// # Errors
    ///
    /// A rule leads to a chain, set or map that is not there, or in circles.
    pub(super) fn run(
        &self,
        base: &Base,
        packet: &Packet,
        is_local: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Vec<Way>, String> {
        let mut open = vec![State {
            way: Way { packet: packet.clone(), verdict: Verdict::Pass, share: 1.0, rules: Vec::new() },
            stack: vec![(base.chain.clone(), 0)],
            rule: None,
            ops: Vec::new(),
        }];
        let mut done = Vec::new();
        while let Some(state) = open.pop() {
            if state.way.rules.len() > LIMIT || open.len() > LIMIT {
                return Err(format!("the rules of {} lead in circles, or in too many ways", base.chain));
            }
            match self.step(state, is_local, &mut open)? {
                Next::Open(state) => open.push(state),
                Next::Done(way) => done.push(way),
            }
        }
        Ok(done)
    }

    /// One op, or the next rule, or the end of a chain. Ways that branch off here go to `open`.
    fn step(&self, mut state: State, is_local: &dyn Fn(IpAddr) -> bool, open: &mut Vec<State>) -> Result<Next, String> {
        let Some(op) = state.ops.pop() else {
            state.log(Act::Continue);
            return self.next_rule(state);
        };
        match op {
            Op::Chance(chance) => {
                let mut other = state.clone();
                other.way.share *= 1.0 - chance;
                other.fail();
                open.push(other);
                state.way.share *= chance;
            }
            Op::OneOf(choices) => {
                state.way.share /= choices.len() as f64;
                for choice in choices {
                    let mut other = state.clone();
                    other.ops.push(choice);
                    open.push(other);
                }
                // All of the choices wait now; this one is the first to go on.
                return open.pop().map(Next::Open).ok_or_else(|| "a choice of nothing".to_owned());
            }
            Op::Lookup(fields, map) => {
                let map = self.maps.get(&map).ok_or_else(|| format!("there is no map {map}"))?;
                match map.get(&state.way.packet.key(&fields)) {
                    Some(op) => state.ops.push(op.clone()),
                    None => state.fail(),
                }
            }
            Op::Mark => state.way.packet.marked = true,
            Op::Unmark => state.way.packet.marked = false,
            Op::Jump(chain) => {
                state.log(Act::Jump(chain.clone()));
                state.stack.push((chain, 0));
            }
            Op::Goto(chain) => {
                state.log(Act::Goto(chain.clone()));
                state.stack.pop();
                state.stack.push((chain, 0));
            }
            Op::Return => {
                state.log(Act::Return);
                state.stack.pop();
            }
            Op::Accept => return Ok(state.done(Verdict::Pass, Act::Accept)),
            Op::Drop => return Ok(state.done(Verdict::Drop, Act::Drop)),
            Op::Reject => return Ok(state.done(Verdict::Reject, Act::Reject)),
            Op::Masquerade => return Ok(state.done(Verdict::Masquerade, Act::Masquerade)),
            Op::Snat(ip) => return Ok(state.done(Verdict::Snat(ip), Act::Snat(ip))),
            Op::Dnat(to) => {
                (state.way.packet.to, state.way.packet.translated) = (to, true);
                return Ok(state.done(Verdict::Dnat, Act::Dnat(to)));
            }
            question => {
                if !self.holds(&question, &state.way.packet, is_local)? {
                    state.fail();
                }
            }
        }
        Ok(Next::Open(state))
    }

    fn next_rule(&self, mut state: State) -> Result<Next, String> {
        let Some((chain, index)) = state.stack.last_mut() else { return Ok(state.done(Verdict::Pass, Act::Continue)) };
        let rules = self.chains.get(chain).ok_or_else(|| format!("there is no chain {chain}"))?;
        match rules.get(*index) {
            Some(rule) => {
                *index += 1;
                state.rule = Some((chain.clone(), rule.text.clone()));
                state.ops = rule.ops.iter().rev().cloned().collect();
            }
            None => {
                state.stack.pop();
            }
        }
        Ok(Next::Open(state))
    }

    /// The answer to an op that asks.
    fn holds(&self, op: &Op, packet: &Packet, is_local: &dyn Fn(IpAddr) -> bool) -> Result<bool, String> {
        Ok(match op {
            Op::Within(field, nets) => nets.iter().any(|net| net.contains(&packet.address(*field))),
            Op::Local(field) => is_local(packet.address(*field)),
            Op::Protocol(protocol) => packet.protocol == *protocol,
            Op::Port(port) => packet.to.port() == *port,
            Op::Interface(pattern) => packet.interface.as_deref().is_some_and(|name| match pattern.strip_suffix('+') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            }),
            Op::Marked => packet.marked,
            Op::New => true,
            Op::Old | Op::Remembered => false,
            Op::Translated => packet.translated,
            Op::In(fields, set) => {
                let set = self.sets.get(set).ok_or_else(|| format!("there is no set {set}"))?;
                set.contains(&packet.key(fields))
            }
            Op::Not(op) => !self.holds(op, packet, is_local)?,
            Op::Any(ops) => {
                let answers = ops.iter().map(|op| self.holds(op, packet, is_local));
                answers.collect::<Result<Vec<bool>, String>>()?.contains(&true)
            }
            other => return Err(format!("{other:?} asks nothing")),
        })
    }
}

/// More rules than any packet passes, and more ways than any goes.
const LIMIT: usize = 100_000;

/// A packet between two ops.
#[derive(Debug, Clone)]
struct State {
    way: Way,
    /// The chains it is in, each with the index of its next rule.
    stack: Vec<(String, usize)>,
    /// The chain and the text of the rule it is at, until that matched or failed.
    rule: Option<(String, String)>,
    /// What is left of it, last first.
    ops: Vec<Op>,
}

enum Next {
    Open(State),
    Done(Way),
}

impl State {
    /// The rule matched.
    fn log(&mut self, act: Act) {
        self.way.rules.extend(self.rule.take().map(|(chain, text)| Hit { chain, text, act }));
    }

    /// The rule did not match.
    fn fail(&mut self) {
        self.rule = None;
        self.ops.clear();
    }

    fn done(mut self, verdict: Verdict, act: Act) -> Next {
        self.log(act);
        self.way.verdict = verdict;
        Next::Done(self.way)
    }
}

impl Packet {
    pub(super) fn addresses(&self) -> Addresses {
        Addresses { source: self.source, to: self.to }
    }

    fn address(&self, field: Field) -> IpAddr {
        match field {
            Field::Source => self.source,
            Field::Destination | Field::Protocol | Field::Port => self.to.ip(),
        }
    }

    /// What an element of a set of these fields would be.
    fn key(&self, fields: &[Field]) -> String {
        let words = fields.iter().map(|field| match field {
            Field::Source => self.source.to_string(),
            Field::Destination => self.to.ip().to_string(),
            Field::Protocol => self.protocol.lower().to_owned(),
            Field::Port => self.to.port().to_string(),
        });
        words.collect::<Vec<_>>().join(" . ")
    }
}
