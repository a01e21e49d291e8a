//! From the text of the rules that were rendered, and a packet, to what they would do with it:
//! the second of the three opinions.
//!
//! The text is read into typed rules, and a rule of an unknown shape is an error, not a guess.
//! The packet is the first of a connection from a client that was never here before; it goes from
//! node to node as the lab's topology has it, and the reply must find its way back.

mod iptables;
mod nftables;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

pub use rules::Hook;
use rules::{Packet, Rules, Verdict, Way};

use super::{
    balancer::{self, Health},
    endpoints::Conditions,
    truth::{Choice, Fate, Sight, sum},
    ways::{self, End, Listener},
};
use crate::{
    lab::model::{Attach, BalancerEngine, Lab, NodeId, Place, Protocol, ProxyMode},
    plan::VETH_PREFIX,
};

/// The rules of every node of a lab, read back from their text.
#[derive(Debug)]
pub struct Tracer<'a> {
    lab: &'a Lab,
    rules: BTreeMap<NodeId, Rules>,
    health: Health<'a>,
}

/// One way that a connection may go.
#[derive(Debug, Clone)]
pub struct Branch {
    /// How often it is this one; those of a connection add up to 1.
    pub share: f64,
    /// What matched, in order.
    pub steps: Vec<Step>,
    /// How it ends.
    pub fate: Fate,
}

/// A stage of a packet's way, and the rules that matched there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The node.
    pub node: NodeId,
    /// Where in the node.
    pub hook: Hook,
    /// The rules that matched, each as `TABLE CHAIN: RULE`.
    pub rules: Vec<String>,
    /// The source of the packet afterwards.
    pub source: IpAddr,
    /// Its destination afterwards.
    pub to: SocketAddr,
}

/// What a client sees whose connection goes one of these ways.
pub fn sight(branches: &[Branch]) -> Sight {
    sum(branches.iter().map(|branch| branch.fate.clone()).collect())
}

impl<'a> Tracer<'a> {
    /// Reads the rules of each node, as [`super::render`] wrote them for `mode`.
    ///
    /// # Errors
    ///
    /// The first rule of an unknown shape, with its node.
    pub fn new(lab: &'a Lab, mode: ProxyMode, texts: &BTreeMap<NodeId, String>) -> Result<Tracer<'a>, String> {
        let parse = match mode {
            ProxyMode::Iptables | ProxyMode::Ladder => iptables::parse,
            ProxyMode::Nftables => nftables::parse,
        };
        let read = texts.iter().map(|(node, text)| {
            let rules = parse(text).map_err(|why| format!("{}: {why}", lab.node(*node).name))?;
            Ok((*node, rules))
        });
        Ok(Tracer { lab, rules: read.collect::<Result<_, String>>()?, health: Health::of(lab, &Conditions::new()) })
    }

    /// The same, given what is known of the pods: it decides which nodes are healthy, and so where
    /// the load balancer sends a connection.
    #[must_use]
    pub fn under(mut self, conditions: &Conditions) -> Tracer<'a> {
        self.health = Health::of(self.lab, conditions);
        self
    }

    /// Every way of a connection from `from` to `to`.
    ///
    /// # Errors
    ///
    /// The rules lead to what is not there, or in circles.
    pub fn trace(&self, from: Place, to: SocketAddr, protocol: Protocol) -> Result<Vec<Branch>, String> {
        self.walk(from, to, protocol, None)
    }

    /// Every way of a connection of a machine outside whose packets are routed to the node `entry`.
    ///
    /// # Errors
    ///
    /// The rules lead to what is not there, or in circles.
    pub fn trace_via(
        &self,
        from: Place,
        entry: NodeId,
        to: SocketAddr,
        protocol: Protocol,
    ) -> Result<Vec<Branch>, String> {
        self.walk(from, to, protocol, Some(entry))
    }

    fn walk(
        &self,
        from: Place,
        to: SocketAddr,
        protocol: Protocol,
        entry: Option<NodeId>,
    ) -> Result<Vec<Branch>, String> {
        let source = ways::source(self.lab, from, to.ip());
        let packet = Packet { source, to, protocol, interface: None, marked: false, translated: false };
        let start = Traveller {
            from,
            at: from,
            packet,
            sources: [source].into(),
            share: 1.0,
            steps: Vec::new(),
            translations: Vec::new(),
        };
        let end = ways::end(self.lab, from, to.ip());
        let mut open = Vec::new();
        let mut done = Vec::new();
        match (from, end, entry) {
            (_, _, Some(node)) => open.push(self.enters(start, node)),
            (Place::Node(_), ..) => {
                for next in self.leaves(start)? {
                    self.sort(next, &mut open, &mut done);
                }
            }
            (Place::Pod(pod), end, _) if end != End::At(from) => open.push(self.enters(start, self.lab.pod(pod).node)),
            (_, End::At(Place::Node(node)), _) => open.push(self.enters(start, node)),
            (_, End::Balanced, _) => return self.balanced(start),
            (_, end, _) => done.push(self.ends(start, end)),
        }
        self.follow(open, done)
    }

    /// The load balancer gives the same share of connections to each healthy node.
    fn balanced(&self, start: Traveller) -> Result<Vec<Branch>, String> {
        let (to, protocol) = (start.packet.to, start.packet.protocol);
        let ends = |fate| Ok(vec![Branch { share: 1.0, steps: Vec::new(), fate }]);
        let haproxy = self.lab.load_balancer.as_ref().is_some_and(|it| it.engine == BalancerEngine::Haproxy);
        let mut open = Vec::new();
        if haproxy {
            let Some(frontend) = balancer::frontend(self.lab, to, protocol) else { return ends(Fate::Refused(to)) };
            let nodes = self.health.passing(frontend.check);
            for node in nodes.iter().filter(|_| frontend.admits(start.packet.source)) {
                let mut traveller = start.clone();
                let to = SocketAddr::new(self.lab.node(*node).ip, frontend.node_port);
                let source = ways::source(self.lab, Place::LoadBalancer, to.ip());
                (traveller.from, traveller.at) = (Place::LoadBalancer, Place::LoadBalancer);
                (traveller.packet.source, traveller.packet.to) = (source, to);
                (traveller.sources, traveller.share) = ([source].into(), 1.0 / nodes.len() as f64);
                open.push(self.enters(traveller, *node));
            }
        } else {
            let nodes = self.health.nodes(to.ip());
            for node in &nodes {
                let share = 1.0 / nodes.len() as f64;
                open.push(self.enters(Traveller { share, ..start.clone() }, *node));
            }
        }
        if open.is_empty() {
            return ends(Fate::Lost(to));
        }
        let mut branches = self.follow(open, Vec::new())?;
        if haproxy {
            branches.iter_mut().for_each(|branch| branch.fate = branch.fate.clone().behind_a_proxy());
        }
        Ok(branches)
    }

    /// Follows all that is under way to where it ends.
    fn follow(&self, mut open: Vec<Traveller>, mut done: Vec<Branch>) -> Result<Vec<Branch>, String> {
        while let Some(traveller) = open.pop() {
            if traveller.steps.len() > 100 {
                return Err("the packet goes in circles".to_owned());
            }
            for next in self.passes(traveller)? {
                self.sort(next, &mut open, &mut done);
            }
        }
        Ok(done)
    }

    fn sort(&self, next: Next, open: &mut Vec<Traveller>, done: &mut Vec<Branch>) {
        match next {
            Next::Enters(traveller, node) => open.push(self.enters(traveller, node)),
            Next::Ends(traveller, end) => done.push(self.ends(traveller, end)),
            Next::Dropped(traveller) => {
                let fate = Fate::Lost(traveller.packet.to);
                done.push(Branch { share: traveller.share, steps: traveller.steps, fate });
            }
            Next::Rejected(traveller) => {
                let fate = Fate::Refused(traveller.packet.to);
                done.push(Branch { share: traveller.share, steps: traveller.steps, fate });
            }
        }
    }

    /// The packet comes in at a node.
    fn enters(&self, mut traveller: Traveller, node: NodeId) -> Traveller {
        let from_own_pod = matches!(traveller.at, Place::Pod(pod) if self.lab.pod(pod).node == node);
        traveller.packet.interface = Some(match &self.lab.node(node).attach {
            Attach::Bridge(bridge) if from_own_pod => bridge.to_string(),
            Attach::Routed if from_own_pod => format!("{VETH_PREFIX}0"),
            Attach::Bridge(_) | Attach::Routed => "uplink".to_owned(),
        });
        // What one kernel notes about a connection, another does not know.
        (traveller.packet.marked, traveller.packet.translated) = (false, false);
        traveller.at = Place::Node(node);
        traveller
    }

    /// A packet that came in goes through a node.
    fn passes(&self, traveller: Traveller) -> Result<Vec<Next>, String> {
        let before = traveller.packet.clone();
        let Passage { on, stopped: mut nexts } = self.hook(traveller, Hook::Prerouting)?;
        for traveller in on {
            let end = ways::end(self.lab, traveller.at, traveller.packet.to.ip());
            if end == End::At(traveller.at) {
                nexts.extend(self.comes_in(traveller.noted(&before), end)?);
                continue;
            }
            let Passage { on, stopped } = self.hook(traveller, Hook::Forward)?;
            nexts.extend(stopped);
            for traveller in on {
                nexts.extend(self.goes_out(traveller, &before, end)?);
            }
        }
        Ok(nexts)
    }

    /// A packet that was made on a node goes out, or back in by the loopback device.
    fn leaves(&self, traveller: Traveller) -> Result<Vec<Next>, String> {
        let before = traveller.packet.clone();
        let Passage { on, stopped: mut nexts } = self.hook(traveller, Hook::Output)?;
        for traveller in on {
            let end = ways::end(self.lab, traveller.at, traveller.packet.to.ip());
            nexts.extend(self.goes_out(traveller, &before, end)?);
        }
        Ok(nexts)
    }

    fn goes_out(&self, traveller: Traveller, before: &Packet, end: End) -> Result<Vec<Next>, String> {
        let Passage { on, stopped: mut nexts } = self.hook(traveller, Hook::Postrouting)?;
        for traveller in on.into_iter().map(|traveller| traveller.noted(before)) {
            match end {
                End::At(place) if place == traveller.at => nexts.extend(self.comes_in(traveller, end)?),
                // No other machine takes a packet from 127.0.0.1.
                _ if traveller.packet.source.is_loopback() => nexts.push(Next::Dropped(traveller)),
                // It goes to the node that has the address, or the pod.
                End::At(place) => match ways::node_of(self.lab, place) {
                    Some(node) if Place::Node(node) != traveller.at => nexts.push(Next::Enters(traveller, node)),
                    _ => nexts.push(Next::Ends(traveller, end)),
                },
                End::Blackhole | End::Nowhere | End::Balanced => nexts.push(Next::Ends(traveller, end)),
            }
        }
        Ok(nexts)
    }

    /// The packet is for the node itself.
    fn comes_in(&self, traveller: Traveller, end: End) -> Result<Vec<Next>, String> {
        let Passage { on, stopped: mut nexts } = self.hook(traveller, Hook::Input)?;
        nexts.extend(on.into_iter().map(|traveller| Next::Ends(traveller, end)));
        Ok(nexts)
    }

    /// Every way through the base chains of a hook.
    fn hook(&self, traveller: Traveller, hook: Hook) -> Result<Passage, String> {
        let Place::Node(node) = traveller.at else { return Err("only nodes have rules".to_owned()) };
        let rules = self.rules.get(&node).ok_or_else(|| format!("no rules of {}", self.lab.node(node).name))?;
        let is_local = |ip: IpAddr| ip.is_loopback() || ways::holder(self.lab, ip) == Some(Place::Node(node));
        // With each, whether it has its translation at this hook.
        let mut here = vec![(traveller, false)];
        let mut stopped = Vec::new();
        for base in rules.bases(hook) {
            let mut onward = Vec::new();
            for (traveller, translated) in here {
                if base.nat && translated {
                    onward.push((traveller, true));
                    continue;
                }
                for way in rules.run(base, &traveller.packet, &is_local)? {
                    let verdict = way.verdict;
                    let next = self.after(&traveller, node, hook, way);
                    match verdict {
                        Verdict::Drop => stopped.push(Next::Dropped(next)),
                        Verdict::Reject => stopped.push(Next::Rejected(next)),
                        Verdict::Pass => onward.push((next, translated)),
                        Verdict::Dnat | Verdict::Masquerade | Verdict::Snat(_) => onward.push((next, true)),
                    }
                }
            }
            here = onward;
        }
        Ok(Passage { on: here.into_iter().map(|(traveller, _)| traveller).collect(), stopped })
    }

    fn after(&self, traveller: &Traveller, node: NodeId, hook: Hook, way: Way) -> Traveller {
        let mut next = traveller.clone();
        next.packet = way.packet;
        next.share *= way.share;
        let masqueraded: Option<BTreeSet<IpAddr>> = match way.verdict {
            Verdict::Snat(ip) => Some([ip].into()),
            Verdict::Masquerade if ways::end(self.lab, next.at, next.packet.to.ip()) == End::At(next.at) => {
                // `lo` has no address to give; the kernel takes that of the first device that has.
                let node = self.lab.node(node);
                Some([node.ip, node.pod_gateway].into())
            }
            Verdict::Masquerade => Some([ways::egress_address(self.lab, node, next.packet.to.ip())].into()),
            Verdict::Pass | Verdict::Drop | Verdict::Reject | Verdict::Dnat => None,
        };
        if let Some(sources) = masqueraded {
            next.packet.source = sources.first().copied().unwrap_or(next.packet.source);
            next.sources = sources;
        }
        if !way.rules.is_empty() {
            let (source, to) = (next.packet.source, next.packet.to);
            next.steps.push(Step { node, hook, rules: way.rules, source, to });
        }
        next
    }

    /// The packet has come as far as it gets.
    fn ends(&self, traveller: Traveller, end: End) -> Branch {
        let to = traveller.packet.to;
        let fate = match end {
            End::Blackhole => Fate::Lost(to),
            // Only what starts outside the nodes goes to the load balancer.
            End::Nowhere | End::Balanced => Fate::Unreachable(to),
            End::At(place) if !self.returns(&traveller, place) => Fate::Lost(to),
            End::At(place) => match ways::listener(self.lab, place, to.port(), traveller.packet.protocol) {
                None => Fate::Refused(to),
                Some(Listener::Outside | Listener::Health) => {
                    Fate::Served(Choice { endpoint: to, pod: None, sources: traveller.sources })
                }
                Some(Listener::Pod(pod)) => {
                    Fate::Served(Choice { endpoint: to, pod: Some(pod), sources: traveller.sources })
                }
            },
        };
        Branch { share: traveller.share, steps: traveller.steps, fate }
    }

    /// The reply passes every node that has changed the packet, last first, and reaches the client.
    fn returns(&self, traveller: &Traveller, place: Place) -> bool {
        let mut at = place;
        let mut to = traveller.packet.source;
        // A machine that gets a packet from its own address off the wire drops it.
        if place != traveller.at && ways::holder(self.lab, to) == Some(place) {
            return false;
        }
        for translation in traveller.translations.iter().rev() {
            let toward = ways::holder(self.lab, to).and_then(|place| ways::node_of(self.lab, place));
            let passes = [ways::node_of(self.lab, at), toward].contains(&Some(translation.node));
            if !passes {
                return false;
            }
            (at, to) = (Place::Node(translation.node), translation.source);
        }
        ways::end(self.lab, at, to) == End::At(traveller.from)
    }
}

/// A packet under way, with all that is known of where it has been.
#[derive(Debug, Clone)]
struct Traveller {
    from: Place,
    at: Place,
    packet: Packet,
    /// The sources that it may have now.
    sources: BTreeSet<IpAddr>,
    share: f64,
    steps: Vec<Step>,
    translations: Vec<Translation>,
}

/// A node has given a connection another source or destination.
#[derive(Debug, Clone)]
struct Translation {
    node: NodeId,
    /// The source that it had before.
    source: IpAddr,
}

/// What is left of a packet's ways after a hook.
struct Passage {
    on: Vec<Traveller>,
    stopped: Vec<Next>,
}

/// Where a packet goes after a node, or why it does not.
enum Next {
    Enters(Traveller, NodeId),
    Ends(Traveller, End),
    Dropped(Traveller),
    Rejected(Traveller),
}

impl Traveller {
    /// Notes what the node that it is at has changed.
    fn noted(mut self, before: &Packet) -> Traveller {
        let changed = (before.source, before.to) != (self.packet.source, self.packet.to);
        if let (Place::Node(node), true) = (self.at, changed) {
            self.translations.push(Translation { node, source: before.source });
        }
        self
    }
}

#[cfg(test)]
mod tests;
