//! From what the kernel told of one real connection to the same form that the rules' own story
//! has, and a verdict: whether the kernel went one of the ways that the rules say.

use std::net::SocketAddr;

use serde::Serialize;

use super::{
    Act, Branch, Hook, Tracer,
    monitor::{self, Header, Seen, Visit},
    story::{HookStop, Question, Rewrite, Role, RuleLine, Side, Stop, Way, nft_rule, split},
    tap::{TABLE, Tapped},
};
use crate::{lab::model::Lab, probe::order::FailureKind, proxy::ways};

/// What the kernel did with one real connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Live {
    /// The port that the connection came from.
    pub port: u16,
    /// What the client saw, in words.
    pub sight: String,
    /// The nodes that its first packet passed.
    pub stops: Vec<Stop>,
    /// The nodes that the first packet of the reply passed.
    pub reply: Vec<Stop>,
    /// The way of the rules that it went, or came nearest to.
    pub way: Option<usize>,
    /// It went that way to the end.
    pub agrees: bool,
    /// The same in words.
    pub verdict: String,
}

/// Holds what was heard against the ways of the rules.
pub fn live(
    lab: &Lab,
    tracer: &Tracer<'_>,
    question: &Question,
    ways: &[Way],
    branches: &[Branch],
    tapped: &Tapped,
) -> Live {
    let mut ear = Ear { tracer, nodes: Vec::new() };
    for (node, lines) in &tapped.heard {
        ear.nodes.push((node.clone(), monitor::visits(lines.iter().map(String::as_str))));
    }
    let start = |header: &Header| header.source.port() == tapped.port && header.to == question.to;
    let own = ways::node_of(lab, question.from).map(|node| lab.node(node).name.to_string());
    let forth = ear.walk(own.as_deref(), &start, &[]);
    let back = match forth.last() {
        Some(Passage { node, last, .. }) => {
            let sought = |header: &Header| header.ends() == (last.to, last.source);
            let undone: Vec<_> = forth.iter().map(|passage| (passage.first.to, passage.first.source)).collect();
            ear.walk(Some(node), &sought, &undone)
        }
        None => Vec::new(),
    };
    let (way, agrees, verdict) = verdict(lab, ways, branches, &forth, tapped);
    let mut stops: Vec<Stop> = forth.iter().map(|passage| passage.stop(Direction::Forth)).collect();
    stops.extend(forth.last().and_then(|passage| passage.receiver(lab)));
    Live {
        port: tapped.port,
        sight: format!("{} saw: {}", lab.netns(question.from), sight(tapped)),
        stops,
        reply: back.iter().map(|passage| passage.stop(Direction::Back)).collect(),
        way,
        agrees,
        verdict,
    }
}

fn sight(tapped: &Tapped) -> String {
    match &tapped.result.result {
        Ok(answer) => {
            let who = answer.pod.as_deref().unwrap_or("a server that does not say its name");
            let client = answer.client.map_or(String::new(), |ip| format!("; to it, the client is {ip}"));
            format!("{who} answered{client}")
        }
        Err(failure) => failure.text.clone(),
    }
}

struct Ear<'a> {
    tracer: &'a Tracer<'a>,
    nodes: Vec<(String, Vec<Visit>)>,
}

/// Where a packet comes from and where it goes.
type Ends = (SocketAddr, SocketAddr);

/// A packet's way through one node.
struct Passage {
    node: String,
    visits: Vec<(Hook, Visit)>,
    /// The packet as it came.
    first: Header,
    /// The packet as it left, as far as it was seen.
    last: Header,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forth,
    Back,
}

impl Header {
    fn ends(&self) -> Ends {
        (self.source, self.to)
    }
}

impl Ear<'_> {
    /// Follows the packet that is `sought` from node to node. Where a node has changed nothing,
    /// the next one sees the same packet: the search begins at the node that it must pass first.
    fn walk(&self, first: Option<&str>, sought: &dyn Fn(&Header) -> bool, undone: &[Ends]) -> Vec<Passage> {
        let mut passages: Vec<Passage> = Vec::new();
        let (own, others): (Vec<_>, Vec<_>) = self.nodes.iter().partition(|(node, _)| Some(node.as_str()) == first);
        let mut next = own.into_iter().chain(others).find_map(|(node, visits)| {
            let at = visits.iter().position(|visit| is_entry(visit) && sought(&visit.header))?;
            Some((node, visits, at))
        });
        while let Some((node, visits, at)) = next {
            let passage = self.passage(node, &visits[at..], undone);
            let left = passage.last.clone();
            let outside = passage.visits.is_empty() || passages.len() > self.nodes.len() + 1;
            passages.push(passage);
            if outside {
                break;
            }
            next = self.nodes.iter().find_map(|(other, visits)| {
                let at = visits.iter().position(|visit| {
                    let ends = visit.header.ends();
                    // A packet may come to a node twice, but not as the same; that is another try.
                    let been = |Passage { node, first, .. }: &Passage| {
                        (node, first.ends(), &first.came_in) == (other, ends, &visit.header.came_in)
                    };
                    is_entry(visit)
                        && visit.header.came_in.is_some()
                        && ends == left.ends()
                        && !passages.iter().any(been)
                })?;
                Some((other, visits, at))
            });
        }
        passages
    }

    /// The visits of one packet, from its entry on.
    fn passage(&self, node: &str, visits: &[Visit], undone: &[Ends]) -> Passage {
        let first = visits[0].header.clone();
        let mut passage = Passage { node: node.to_owned(), visits: Vec::new(), last: first.clone(), first };
        let mut id = visits[0].id.clone();
        for (i, visit) in visits.iter().enumerate() {
            // The last chains see other addresses: the kernel's mark is the same within a hook, and
            // what a reply's become is known.
            let ends = visit.header.ends();
            let same = visit.header.source == passage.first.source || visit.id == id || undone.contains(&ends);
            if i > 0 && is_entry(visit) && visit.id == id {
                // The kernel has given the mark to another packet.
                id.clear();
            }
            let is_new = !passage.visits.iter().any(|(_, seen)| seen.chain == visit.chain);
            if !same || !is_new || (i > 0 && is_entry(visit)) {
                continue;
            }
            id.clone_from(&visit.id);
            passage.last = visit.header.clone();
            let hook = self.hook(visit);
            passage.visits.push((hook, visit.clone()));
            if visit.chain == own("postrouting") || visit.chain == own("input") {
                break;
            }
        }
        passage
    }

    fn hook(&self, visit: &Visit) -> Hook {
        let known = self.tracer.hook_of(&visit.chain);
        known.unwrap_or_else(|| match (visit.chain.as_str(), &visit.header.came_in, &visit.header.goes_out) {
            (chain, ..) if chain == own("postrouting") => Hook::Postrouting,
            (chain, ..) if chain == own("input") => Hook::Input,
            (_, Some(_), Some(_)) => Hook::Forward,
            (_, None, Some(_)) => Hook::Output,
            _ => Hook::Prerouting,
        })
    }
}

fn own(chain: &str) -> String {
    format!("{TABLE} {chain}")
}

fn is_own(visit: &Visit) -> bool {
    split(&visit.chain).0 == TABLE
}

fn is_entry(visit: &Visit) -> bool {
    visit.chain == own("prerouting") || visit.chain == own("output")
}

impl Passage {
    fn stop(&self, direction: Direction) -> Stop {
        let mut stop = Stop {
            place: self.node.clone(),
            role: if self.first.came_in.is_none() { Role::Sends } else { Role::Passes },
            source: self.first.source.to_string(),
            to: self.first.to.to_string(),
            hooks: Vec::new(),
            undone: Vec::new(),
            route: None,
        };
        let mut hooks: Vec<HookStop> = Vec::new();
        for (i, (hook, visit)) in self.visits.iter().enumerate() {
            let after = self.visits.get(i + 1).map_or(&self.last, |(_, next)| &next.header);
            let rewrites = rewrites(&visit.header, after);
            if is_own(visit) || (visit.hits.is_empty() && rewrites.is_empty()) {
                continue;
            }
            let table = split(&visit.chain).0.to_owned();
            let rewrites = if direction == Direction::Forth { rewrites } else { Vec::new() };
            hooks.push(HookStop { hook: *hook, table, rules: visit.hits.iter().map(line).collect(), rewrites });
        }
        stop.hooks = hooks;
        if direction == Direction::Back {
            stop.undone = rewrites(&self.first, &self.last);
        }
        stop.route = self.last.goes_out.clone().map(|device| super::route::Route {
            to: self.last.to.ip().to_string(),
            via: None,
            gateway: None,
            device: Some(device),
        });
        stop
    }

    /// The place that the packet was sent on to, where that is no node: it tells nothing itself.
    fn receiver(&self, lab: &Lab) -> Option<Stop> {
        self.last.goes_out.as_ref()?;
        let place = ways::holder(lab, self.last.to.ip()).map(|place| lab.netns(place))?;
        (place != self.node).then(|| Stop {
            place,
            role: Role::Receives,
            source: self.last.source.to_string(),
            to: self.last.to.to_string(),
            hooks: Vec::new(),
            undone: Vec::new(),
            route: None,
        })
    }

    /// The rules that matched, in the terms of both sides.
    fn trail(&self) -> Vec<Mark> {
        // What comes back in by the loopback device is known already: conntrack asks the
        // translating chains once, and the rules' own story has it come in once.
        let visits = self.visits.iter().filter(|(hook, visit)| {
            let again = *hook == Hook::Prerouting && visit.header.came_in.as_deref() == Some("lo");
            !is_own(visit) && !again
        });
        let marks = visits.flat_map(|(_, visit)| {
            visit.hits.iter().map(|seen| Mark {
                node: self.node.clone(),
                chain: seen.chain.clone(),
                does: seen.verdict.clone(),
            })
        });
        marks.collect()
    }
}

fn rewrites(before: &Header, after: &Header) -> Vec<Rewrite> {
    let pairs = [(Side::Destination, before.to, after.to), (Side::Source, before.source, after.source)];
    let changed = pairs.into_iter().filter(|(_, before, after)| before != after);
    changed.map(|(what, from, to)| Rewrite { what, from: from.to_string(), to: to.to_string() }).collect()
}

fn line(seen: &Seen) -> RuleLine {
    let (text, comment) = nft_rule(&seen.text);
    // What changes a packet says more than the verdict that goes with it.
    const CHANGES: [&str; 5] = ["dnat ", "snat ", "masquerade", "reject", "meta mark set "];
    let change = CHANGES.iter().filter_map(|change| text.find(change)).max().filter(|_| !leads_on(&seen.verdict));
    let (asks, does) = match change {
        Some(at) => (text[..at].to_owned(), text[at..].to_owned()),
        None => (text.strip_suffix(&seen.verdict).unwrap_or(&text).to_owned(), seen.verdict.clone()),
    };
    let does = if does == "continue" { "go on".to_owned() } else { does };
    let asks = asks.trim().to_owned();
    RuleLine { chain: split(&seen.chain).1.to_owned(), asks, does, comment }
}

fn leads_on(verdict: &str) -> bool {
    ["jump ", "goto ", "return"].iter().any(|word| verdict.starts_with(word))
}

/// A rule that matched, in words that the rules' text and the kernel have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    node: String,
    chain: String,
    does: String,
}

fn trail_of(lab: &Lab, branch: &Branch) -> Vec<Mark> {
    let mut marks = Vec::new();
    for stay in &branch.stays {
        for hit in stay.steps.iter().flat_map(|step| &step.rules) {
            let does = match &hit.act {
                Act::Continue => "continue".to_owned(),
                Act::Jump(chain) => format!("jump {}", split(chain).1),
                Act::Goto(chain) => format!("goto {}", split(chain).1),
                Act::Return => "return".to_owned(),
                Act::Accept | Act::Dnat(_) | Act::Masquerade | Act::Snat(_) => "accept".to_owned(),
                Act::Drop | Act::Reject => "drop".to_owned(),
            };
            marks.push(Mark { node: lab.node(stay.node).name.to_string(), chain: hit.chain.clone(), does });
        }
    }
    marks
}

fn verdict(
    lab: &Lab,
    ways: &[Way],
    branches: &[Branch],
    forth: &[Passage],
    tapped: &Tapped,
) -> (Option<usize>, bool, String) {
    if forth.is_empty() && branches.iter().any(|branch| !branch.stays.is_empty()) {
        return (None, false, "the kernel told nothing of this connection".to_owned());
    }
    let seen: Vec<Mark> = forth.iter().flat_map(Passage::trail).collect();
    let went = forth.last().map(|passage| passage.last.to);
    // How far each way is the kernel's: rules first, and of ways through the same rules (one
    // rule of nftables chooses among all endpoints) the one to the same endpoint.
    let common = |branch: &Branch| {
        let trail = trail_of(lab, branch);
        let same = trail.iter().zip(&seen).take_while(|(one, other)| one == other).count();
        (same, same == trail.len() && same == seen.len(), trail)
    };
    let ends_there = |way: &Way| went.is_none_or(|went| went == way.endpoint);
    let best = ways.iter().zip(branches).map(|(way, branch)| (way, common(branch)));
    let best =
        best.max_by_key(|(way, (same, whole, _))| (*same, *whole, ends_there(way), std::cmp::Reverse(way.number)));
    let Some((way, (same, whole, trail))) = best else {
        return (None, false, "the rules know no way at all".to_owned());
    };
    let name = format!("way {} ({}, {:.1} %)", way.number, way.pod.as_deref().unwrap_or(&way.place), way.share * 100.0);
    if !whole {
        let kernel = seen.get(same).map_or("nothing more".to_owned(), mark_text);
        let rules = trail.get(same).map_or("nothing more".to_owned(), mark_text);
        let verdict = format!(
            "the kernel differs from the rules after {same} rules of {name}: it has {kernel}, the rules have {rules}"
        );
        return (Some(way.number), false, verdict);
    }
    if let Some(went) = went.filter(|_| !ends_there(way)) {
        let verdict = format!("the kernel went through the rules of {name}, but to {went} and not to {}", way.endpoint);
        return (Some(way.number), false, verdict);
    }
    if let Some(text) = other_sight(way, tapped) {
        return (Some(way.number), false, format!("the kernel went through the rules of {name}, but {text}"));
    }
    (Some(way.number), true, format!("the kernel did what the rules say: {name}"))
}

/// What the client saw is not what the way says.
fn other_sight(way: &Way, tapped: &Tapped) -> Option<String> {
    use super::story::Outcome;
    let expected = match (&tapped.result.result, way.outcome) {
        (Ok(answer), Outcome::Answered) => {
            let other_pod = answer.pod.as_ref().zip(way.pod.as_ref()).filter(|(one, other)| one != other);
            if let Some((who, pod)) = other_pod {
                return Some(format!("{who} answered and not {pod}"));
            }
            let other = answer.client.filter(|ip| !way.client.contains(ip));
            return other.map(|ip| format!("the client appeared as {ip}"));
        }
        (Err(failure), outcome) => match outcome {
            Outcome::Answered => None,
            Outcome::Refused => Some(failure.kind == FailureKind::Refused),
            Outcome::Silence => Some(failure.kind == FailureKind::Timeout),
            Outcome::Unreachable => Some(failure.kind == FailureKind::Unreachable),
        },
        (Ok(_), _) => None,
    };
    (expected != Some(true)).then(|| format!("the client saw something else: {}", sight(tapped)))
}

fn mark_text(mark: &Mark) -> String {
    format!("`{}` in {} of {}", mark.does, mark.chain, mark.node)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        lab::{
            self,
            model::{Protocol, ProxyMode},
        },
        probe::order::{Answer, Try},
        proxy::{self, trace::story::story, view::view},
    };

    /// What was recorded, held against the rules of the book's lab.
    fn held(proxy: ProxyMode, from: &str, to: &str, recorded: &str) -> Live {
        let lab = lab::load(include_str!("../../../labs/nodeport.toml")).expect("it is a good lab");
        let texts: BTreeMap<_, _> =
            lab.node_ids().map(|node| (node, proxy::render(proxy, &view(&lab, node)))).collect();
        let tracer = Tracer::new(&lab, proxy, &texts).expect("every rule is of a known shape");
        let question = Question {
            from: lab.find(from).expect("a test names places"),
            to: to.parse().expect("a test says addresses"),
            written: to.to_owned(),
            protocol: Protocol::Tcp,
            proxy,
        };
        let (story, branches) = story(&lab, &tracer, &question).expect("the rules are sound");
        let visits = monitor::visits(recorded.lines());
        let answer = Answer { status: 200, pod: None, client: None, ..Answer::default() };
        let tapped = Tapped {
            port: visits[0].header.source.port(),
            result: Try { result: Ok(answer), micros: 1 },
            heard: vec![
                ("node1".to_owned(), recorded.lines().map(str::to_owned).collect()),
                ("node2".to_owned(), Vec::new()),
            ],
        };
        live(&lab, &tracer, &question, &story.ways, &branches, &tapped)
    }

    const NODE_PORT: &str = "10.30.45.100:30080";
    const IPTABLES: &str = include_str!("recorded/laptop-node-port.iptables.node1.txt");
    const NFTABLES: &str = include_str!("recorded/laptop-node-port.nftables.node1.txt");
    const LADDER: &str = include_str!("recorded/node-localhost.ladder.node1.txt");

    #[test]
    fn recorded_connections_went_as_the_rules_say() {
        for (proxy, from, to, recorded) in [
            (ProxyMode::Iptables, "laptop", NODE_PORT, IPTABLES),
            (ProxyMode::Nftables, "laptop", NODE_PORT, NFTABLES),
            (ProxyMode::Ladder, "node1", "127.0.0.1:30080", LADDER),
        ] {
            let live = held(proxy, from, to, recorded);
            assert!(live.agrees, "{live:#?}");
            assert!(live.verdict.starts_with("the kernel did what the rules say: way "), "{}", live.verdict);
            let rewrites: Vec<Side> =
                live.stops[0].hooks.iter().flat_map(|hook| &hook.rewrites).map(|rewrite| rewrite.what).collect();
            assert_eq!(rewrites, [Side::Destination, Side::Source], "{live:#?}");
            assert_eq!(live.reply[0].undone.len(), 2, "{live:#?}");
        }
    }

    #[test]
    fn a_missing_rule_is_the_first_difference() {
        let without: Vec<&str> = IPTABLES.lines().filter(|line| !line.contains("KUBE-MARK-MASQ")).collect();
        let live = held(ProxyMode::Iptables, "laptop", NODE_PORT, &without.join("\n"));
        assert!(!live.agrees);
        assert!(
            live.verdict.contains("after 3 rules") && live.verdict.contains("the rules have `jump KUBE-MARK-MASQ`"),
            "{}",
            live.verdict
        );
    }

    #[test]
    fn a_connection_that_nothing_was_heard_of_is_no_agreement() {
        let strange = IPTABLES.replace("tcp dport 30080", "tcp dport 30081");
        let live = held(ProxyMode::Iptables, "laptop", NODE_PORT, &strange);
        assert_eq!((live.agrees, live.verdict.as_str()), (false, "the kernel told nothing of this connection"));
    }
}
