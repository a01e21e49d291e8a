//! From the ways that a [`Tracer`] finds to what a person wants to read of them: place by place,
//! with every rule that matched, every rewrite, every route, and the reply's way back.
//!
//! A [`Story`] is what `netlab trace -o json` prints, and stable: a field may be added, but none
//! renamed or removed without a new [`VERSION`].

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use super::{
    Act, Addresses, Branch, Ending, Hit, Hook, Stay, Step, Tracer, Translation,
    live::Live,
    route::{Route, Routes},
};
use crate::{
    lab::model::{Lab, NodeId, Place, Protocol, ProxyMode},
    proxy::{
        truth::Fate,
        ways::{self, End},
    },
};

/// The version of a story's form.
pub const VERSION: u32 = 1;

/// What is asked of a trace.
#[derive(Debug, Clone)]
pub struct Question {
    /// Where the connection comes from.
    pub from: Place,
    /// Where it goes.
    pub to: SocketAddr,
    /// The same, as it was said.
    pub written: String,
    /// The protocol.
    pub protocol: Protocol,
    /// Whose rules.
    pub proxy: ProxyMode,
}

/// A connection's ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// [`VERSION`].
    pub version: u32,
    /// The lab's name.
    pub lab: String,
    /// Whose rules: `iptables`, `nftables` or `ladder`.
    pub proxy: String,
    /// The network namespace that the connection comes from.
    pub from: String,
    /// The address that it starts with.
    pub source: IpAddr,
    /// Where it goes, as it was said.
    pub to: String,
    /// Where it goes.
    pub address: SocketAddr,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Every way that it may go, by the endpoint's address.
    pub ways: Vec<Way>,
    /// What the kernel did with one real connection.
    pub live: Option<Live>,
}

/// One way that a connection may go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// From 1.
    pub number: usize,
    /// How often it is this one; those of a story add up to 1.
    pub share: f64,
    /// What the client sees.
    pub outcome: Outcome,
    /// Where the packet goes in the end.
    pub endpoint: SocketAddr,
    /// Who has that address, or has the packet last.
    pub place: String,
    /// Who answers, if it is a pod.
    pub pod: Option<String>,
    /// The client addresses that the endpoint may see.
    pub client: Vec<IpAddr>,
    /// Place by place.
    pub stops: Vec<Stop>,
    /// How it ends, in words.
    pub end: String,
    /// The reply's way, place by place; empty if there is none.
    pub reply: Vec<Stop>,
    /// What the client sees, in words.
    pub sight: String,
}

/// What a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer.
    Answered,
    /// A refusal, at once.
    Refused,
    /// Nothing.
    Silence,
    /// Word that there is no way there.
    Unreachable,
}

/// A place on a packet's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// The place.
    pub place: String,
    /// What the place does with the packet.
    pub role: Role,
    /// The source, as it comes here.
    pub source: String,
    /// The destination, as it comes here.
    pub to: String,
    /// The hooks at which a rule matched, in order.
    pub hooks: Vec<HookStop>,
    /// What conntrack undoes here without any rule: only in replies.
    pub undone: Vec<Rewrite>,
    /// The route that it takes from here.
    pub route: Option<Route>,
}

/// What a place does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Makes it.
    Sends,
    /// Lets it pass, or not.
    Passes,
    /// Is meant.
    Receives,
}

/// The rules of one table at one hook that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookStop {
    /// The hook.
    pub hook: Hook,
    /// The table.
    pub table: String,
    /// The rules.
    pub rules: Vec<RuleLine>,
    /// What they changed.
    pub rewrites: Vec<Rewrite>,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleLine {
    /// Its chain.
    pub chain: String,
    /// What it asks.
    pub asks: String,
    /// What it does.
    pub does: String,
    /// What its author says of it.
    pub comment: Option<String>,
}

/// An address that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// Which.
    pub what: Side,
    /// What it was.
    pub from: String,
    /// What it is.
    pub to: String,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Tells every way of a connection.
///
/// # Errors
///
/// What [`Tracer::trace`] says.
pub fn story(lab: &Lab, tracer: &Tracer<'_>, question: &Question) -> Result<(Story, Vec<Branch>), String> {
    let mut branches = tracer.trace(question.from, question.to, question.protocol)?;
    // The same endpoint may be come to by several nodes.
    branches
        .sort_by_key(|branch| (address(&branch.fate), branch.stays.iter().map(|stay| stay.node).collect::<Vec<_>>()));
    let teller = Teller { lab, routes: Routes::of(lab), question };
    let ways = branches.iter().enumerate().map(|(i, branch)| teller.way(i + 1, branch)).collect();
    let story = Story {
        version: VERSION,
        lab: lab.name.to_string(),
        proxy: question.proxy.to_string(),
        from: lab.netns(question.from),
        source: ways::source(lab, question.from, question.to.ip()),
        to: question.written.clone(),
        address: question.to,
        protocol: question.protocol.to_string(),
        ways,
        live: None,
    };
    Ok((story, branches))
}

fn address(fate: &Fate) -> SocketAddr {
    match fate {
        Fate::Served(choice) => choice.endpoint,
        Fate::Refused(to) | Fate::Lost(to) | Fate::Unreachable(to) => *to,
    }
}

struct Teller<'a> {
    lab: &'a Lab,
    routes: Routes<'a>,
    question: &'a Question,
}

impl Teller<'_> {
    fn way(&self, number: usize, branch: &Branch) -> Way {
        let endpoint = address(&branch.fate);
        let (outcome, pod, client) = match &branch.fate {
            Fate::Served(choice) => (Outcome::Answered, choice.pod, choice.sources.iter().copied().collect()),
            Fate::Refused(_) => (Outcome::Refused, None, Vec::new()),
            Fate::Lost(_) => (Outcome::Silence, None, Vec::new()),
            Fate::Unreachable(_) => (Outcome::Unreachable, None, Vec::new()),
        };
        let pod = pod.map(|pod| self.lab.pod(pod).full_name());
        let place = self.lab.netns(self.last_place(branch, endpoint.ip()));
        let last = branch.stays.last().map_or(self.start(), |stay| stay.left);
        let end = self.end(branch, pod.as_deref().unwrap_or(&place), last);
        let reply = match branch.ending {
            Ending::Answered | Ending::NothingListens | Ending::Bypassed(_) => self.reply(branch, last),
            _ => Vec::new(),
        };
        let sight = self.sight(branch, outcome, reply.last());
        let stops = self.stops(branch);
        Way { number, share: branch.share, outcome, endpoint, place, pod, client, stops, end, reply, sight }
    }

    fn start(&self) -> Addresses {
        Addresses { source: ways::source(self.lab, self.question.from, self.question.to.ip()), to: self.question.to }
    }

    fn stops(&self, branch: &Branch) -> Vec<Stop> {
        let start = self.start();
        let mut stops = Vec::new();
        let mut at = self.question.from;
        let mut packet = start;
        let on_a_node = branch.stays.first().is_some_and(|stay| Place::Node(stay.node) == at);
        if !on_a_node {
            let stays = branch.place == at && matches!(branch.ending, Ending::Answered | Ending::NothingListens);
            let role = if stays { Role::Receives } else { Role::Sends };
            stops.push(self.stop(at, role, packet));
        }
        if let (End::Balanced, Some(first)) = (ways::end(self.lab, at, start.to.ip()), branch.stays.first()) {
            self.transit(&mut stops, at, Place::LoadBalancer, packet);
            stops.retain(|_| at != Place::LoadBalancer);
            stops.push(self.balancer(at, packet, first.node));
            at = Place::LoadBalancer;
        }
        for stay in &branch.stays {
            let node = Place::Node(stay.node);
            self.transit(&mut stops, at, node, packet);
            let role = if node == self.question.from && at == node { Role::Sends } else { Role::Passes };
            let mut stop = self.stop(node, role, stay.arrived);
            stop.hooks = stay.steps.iter().map(hook_stop).collect();
            let forwards = !ended_at_a_rule(branch.ending) || Some(stay) != branch.stays.last() || routed(stay);
            stop.route = self.routes.route(node, stay.left.to.ip()).filter(|_| forwards);
            stops.push(stop);
            (at, packet) = (node, stay.left);
        }
        if branch.place != at {
            self.transit(&mut stops, at, branch.place, packet);
            stops.push(self.stop(branch.place, Role::Receives, packet));
        } else if self.last_place(branch, packet.to.ip()) != at {
            let place = self.last_place(branch, packet.to.ip());
            stops.push(self.stop(place, Role::Passes, packet));
        }
        stops
    }

    /// The place whose routing table ends it: what has nowhere to go goes to `host` first, if
    /// that is where the default route leads.
    fn last_place(&self, branch: &Branch, to: IpAddr) -> Place {
        let homeless = matches!(branch.ending, Ending::Blackhole | Ending::Nowhere);
        let route = self.routes.route(branch.place, to).filter(|_| homeless);
        let gateway = route.and_then(|route| route.gateway).and_then(|name| self.lab.find(&name));
        gateway.unwrap_or(branch.place)
    }

    /// The load balancer sends a connection on to a node.
    fn balancer(&self, from: Place, packet: Addresses, node: NodeId) -> Stop {
        let node = self.lab.node(node);
        let role = if from == Place::LoadBalancer { Role::Sends } else { Role::Passes };
        let mut stop = self.stop(Place::LoadBalancer, role, packet);
        stop.route = stop.route.map(|route| {
            let to = packet.to.ip().to_string();
            Route { to, via: Some(node.ip), gateway: Some(node.name.to_string()), ..route }
        });
        stop
    }

    fn transit(&self, stops: &mut Vec<Stop>, from: Place, to: Place, packet: Addresses) {
        let between = self.routes.between(from, to).into_iter().filter(|place| *place == Place::Host);
        stops.extend(between.map(|place| self.stop(place, Role::Passes, packet)));
    }

    fn stop(&self, place: Place, role: Role, packet: Addresses) -> Stop {
        Stop {
            place: self.lab.netns(place),
            role,
            source: packet.source.to_string(),
            to: packet.to.to_string(),
            hooks: Vec::new(),
            undone: Vec::new(),
            route: if role == Role::Receives { None } else { self.routes.route(place, packet.to.ip()) },
        }
    }

    /// Back from where the packet ended, through all that must undo what it has changed.
    fn reply(&self, branch: &Branch, last: Addresses) -> Vec<Stop> {
        let mut stops = Vec::new();
        let mut open: Vec<&Translation> = branch.translations.iter().collect();
        let (mut at, mut source, mut to) = (branch.place, last.to, last.source);
        let mut role = Role::Sends;
        // Bounded by what there is to undo: each turn but the last undoes something.
        loop {
            let undo = open.last().filter(|translation| Place::Node(translation.node) == at).copied();
            let mut stop = self.reply_stop(at, role, source, to);
            if let Some(Translation { before, after, .. }) = undo {
                open.pop();
                if before.source != after.source {
                    stop.undone.push(rewrite(Side::Destination, after.source, before.source));
                }
                if before.to != after.to {
                    stop.undone.push(rewrite(Side::Source, after.to, before.to));
                }
                (source, to) = (before.to, before.source);
            }
            let toward = match to.is_loopback() {
                true => at,
                false => ways::holder(self.lab, to).unwrap_or(self.question.from),
            };
            let next = self.routes.between(at, toward).first().copied().unwrap_or(toward);
            let over = next == at;
            stop.route = self.routes.route(at, to).filter(|_| !over || branch.place != at);
            if over && role == Role::Passes {
                stop.role = Role::Receives;
                stop.route = None;
            }
            stops.push(stop);
            if over {
                return stops;
            }
            (at, role) = (next, Role::Passes);
        }
    }

    fn reply_stop(&self, place: Place, role: Role, source: SocketAddr, to: IpAddr) -> Stop {
        let (place, source, to) = (self.lab.netns(place), source.to_string(), to.to_string());
        Stop { place, role, source, to, hooks: Vec::new(), undone: Vec::new(), route: None }
    }

    fn end(&self, branch: &Branch, who: &str, last: Addresses) -> String {
        let Addresses { source, to } = last;
        match branch.ending {
            Ending::Answered => match &branch.fate {
                Fate::Served(choice) => format!("{who} answers; to it, the client is {}", list(&choice.sources)),
                _ => format!("{who} answers"),
            },
            Ending::NothingListens => format!(
                "nothing listens on port {} of {who}, whose kernel says so with {}",
                to.port(),
                match self.question.protocol {
                    Protocol::Tcp => "a TCP reset",
                    Protocol::Udp => "an ICMP port-unreachable",
                    Protocol::Sctp => "an ABORT",
                }
            ),
            Ending::DroppedByRule => format!("{who} throws it away: the last rule above"),
            Ending::RejectedByRule => format!("{who} refuses it, with an ICMP port-unreachable: the last rule above"),
            Ending::Martian => format!("it cannot leave {who}: no other machine takes a packet from {source}"),
            Ending::Blackhole if ways::holder(self.lab, to.ip()).is_some_and(|place| self.lab.is_off(place)) => {
                format!("no one answers for {}, whose machine is powered off", to.ip())
            }
            Ending::Blackhole => format!("no one has {}, and the route there is a blackhole", to.ip()),
            Ending::Nowhere => format!("{who} has no route to {}, or no neighbour has that address", to.ip()),
            Ending::OwnAddress => format!(
                "{who} gets a packet from its own address {source}, takes it for a forgery and drops it: no rule masquerades it"
            ),
            Ending::Bypassed(node) => {
                let node = &self.lab.node(node).name;
                format!("{who} replies straight to {source}, past {node}, which would have to undo its translation")
            }
            Ending::NoWayBack => format!("{who} has no way back to {source}"),
            Ending::NoHealthyNode => format!("{who} has nobody to send it to: no node passes its health check"),
            Ending::KeptOut => format!("{who} does not serve {source}: it is not in loadBalancerSourceRanges"),
        }
    }

    fn sight(&self, branch: &Branch, outcome: Outcome, reply: Option<&Stop>) -> String {
        let from = self.lab.netns(self.question.from);
        let asked = self.question.to;
        match outcome {
            Outcome::Answered => format!("{from} gets the answer from {asked}, as it asked"),
            Outcome::Refused => format!("{from} sees ECONNREFUSED, at once"),
            Outcome::Silence => match (branch.ending, reply) {
                (Ending::Bypassed(_), Some(stop)) => {
                    format!(
                        "{from} gets a packet from {}, which it never asked, and waits for {asked}: silence",
                        stop.source
                    )
                }
                _ => format!("{from} sees nothing at all, until it gives up: a timeout"),
            },
            Outcome::Unreachable => format!("{from} sees ENETUNREACH or EHOSTUNREACH"),
        }
    }
}

/// The packet had been routed by the time that it was stopped.
fn routed(stay: &Stay) -> bool {
    stay.steps.last().is_some_and(|step| matches!(step.hook, Hook::Forward | Hook::Input | Hook::Postrouting))
}

fn ended_at_a_rule(ending: Ending) -> bool {
    matches!(ending, Ending::DroppedByRule | Ending::RejectedByRule)
}

fn list(sources: &BTreeSet<IpAddr>) -> String {
    sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

fn rewrite(what: Side, from: impl ToString, to: impl ToString) -> Rewrite {
    Rewrite { what, from: from.to_string(), to: to.to_string() }
}

fn hook_stop(step: &Step) -> HookStop {
    let table = step.rules.first().map_or("", |hit| split(&hit.chain).0).to_owned();
    let mut rewrites = Vec::new();
    if step.before.to != step.after.to {
        rewrites.push(rewrite(Side::Destination, step.before.to, step.after.to));
    }
    if step.before.source != step.after.source {
        rewrites.push(rewrite(Side::Source, step.before.source, step.after.source));
    }
    HookStop { hook: step.hook, table, rules: step.rules.iter().map(rule_line).collect(), rewrites }
}

/// `TABLE CHAIN`, taken apart.
pub(super) fn split(chain: &str) -> (&str, &str) {
    chain.split_once(' ').unwrap_or(("", chain))
}

fn rule_line(hit: &Hit) -> RuleLine {
    let (asks, comment) = if hit.text.starts_with('-') { iptables_rule(&hit.text) } else { nft_rule(&hit.text) };
    let (asks, does) = match &hit.act {
        Act::Continue => match asks.split_once("-j ").or_else(|| asks.split_once("meta mark set ")) {
            Some((asks, does)) if hit.text.starts_with('-') => (asks.to_owned(), does.to_owned()),
            Some((asks, does)) => (asks.to_owned(), format!("meta mark set {does}")),
            None => (asks, "go on".to_owned()),
        },
        act => (without_verdict(&asks), act_text(act)),
    };
    RuleLine { chain: split(&hit.chain).1.to_owned(), asks: asks.trim().to_owned(), does, comment }
}

fn act_text(act: &Act) -> String {
    match act {
        Act::Continue => "go on".to_owned(),
        Act::Jump(chain) => format!("jump {}", split(chain).1),
        Act::Goto(chain) => format!("goto {}", split(chain).1),
        Act::Return => "return".to_owned(),
        Act::Accept => "accept".to_owned(),
        Act::Drop => "drop".to_owned(),
        Act::Reject => "reject".to_owned(),
        Act::Dnat(to) => format!("DNAT to {to}"),
        Act::Masquerade => "masquerade".to_owned(),
        Act::Snat(ip) => format!("SNAT to {ip}"),
    }
}

/// What the rule asks, less what it does: that is told apart.
fn without_verdict(asks: &str) -> String {
    const VERDICTS: [&str; 12] = [
        "-j ",
        "jump ",
        "goto ",
        "return",
        "accept",
        "drop",
        "reject",
        "dnat to ",
        "dnat ip addr",
        "dnat ip6 addr",
        "masquerade",
        "snat ",
    ];
    let words: Vec<&str> = asks.split(' ').collect();
    let is_verdict = |rest: &str| VERDICTS.iter().any(|verdict| rest.starts_with(verdict));
    let end = (0..words.len()).find(|i| is_verdict(&words[*i..].join(" "))).unwrap_or(words.len());
    words[..end].join(" ")
}

/// A rule of iptables without the loading of modules, and its comment.
fn iptables_rule(text: &str) -> (String, Option<String>) {
    let mut comment = None;
    let mut kept: Vec<&str> = Vec::new();
    let mut words = quoted_words(text).into_iter();
    while let Some(word) = words.next() {
        match word {
            "-m" => {
                words.next();
            }
            "--comment" => comment = words.next().map(short_comment),
            // It is the only mode that rules of ours have.
            "--mode" => {
                words.next();
            }
            _ => kept.push(word),
        }
    }
    (kept.join(" "), comment)
}

/// A rule of nft without its comment, and that; a long list of choices is cut.
pub(super) fn nft_rule(text: &str) -> (String, Option<String>) {
    let (rule, comment) = match text.split_once(" comment \"") {
        Some((rule, comment)) => (rule, Some(short_comment(comment.trim_end_matches('"')))),
        None => (text, None),
    };
    let choices = rule.split_once("numgen random mod ").and_then(|(_, rest)| rest.split(' ').next());
    let chance = choices.map(|choices| format!("one of {choices}, by chance"));
    let rule = match (choices, rule.find('{')) {
        (Some(_), Some(brace)) => format!("{}{{ … }}", &rule[..brace]),
        _ => rule.to_owned(),
    };
    (rule, comment.or(chance))
}

/// A comment up to what it says to those who write rules.
fn short_comment(comment: &str) -> String {
    comment.split("; NOTE").next().unwrap_or(comment).to_owned()
}

/// Words, of which those in quotes may have spaces.
fn quoted_words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (i, part) in text.split('"').enumerate() {
        if i % 2 == 1 { words.push(part) } else { words.extend(part.split_whitespace()) }
    }
    words
}
