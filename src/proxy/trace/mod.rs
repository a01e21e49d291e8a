//! From the text of the rules that were rendered, and a packet, to what they would do with it:
//! the second of the three opinions.
//!
//! The text is read into typed rules, and a rule of an unknown shape is an error, not a guess.
//! The packet is the first of a connection from a client that was never here before; it goes from
//! node to node as the lab's topology has it, and the reply must find its way back.

mod iptables;
pub mod live;
pub mod monitor;
mod nftables;
pub mod route;
mod rules;
pub mod story;
pub mod tap;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

pub use rules::{Act, Hit, Hook};
use rules::{Packet, Rules, Verdict, Way};

use super::{
    balancer::{self, Health},
    endpoints::{Conditions, conditions},
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
    /// The nodes that the packet came to, in order.
    pub stays: Vec<Stay>,
    /// How it ends.
    pub fate: Fate,
    /// Why it ends so.
    pub ending: Ending,
    /// Where it ends: the place that has it last.
    pub place: Place,
    /// What the nodes have changed, and must undo in the reply, in order.
    pub translations: Vec<Translation>,
}

/// A packet's stay at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// The node.
    pub node: NodeId,
    /// The packet as it came, or as it was made.
    pub arrived: Addresses,
    /// The packet as it left, or was left.
    pub left: Addresses,
    /// The hooks at which a rule matched, in order.
    pub steps: Vec<Step>,
}

/// The chains of one priority at a hook, and their rules that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where in the node.
    pub hook: Hook,
    /// The rules that matched.
    pub rules: Vec<Hit>,
    /// The packet before.
    pub before: Addresses,
    /// The packet afterwards.
    pub after: Addresses,
}

/// Where a packet comes from and where it is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub to: SocketAddr,
}

/// A node has given a connection another source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// The node.
    pub node: NodeId,
    /// What it had before.
    pub before: Addresses,
    /// What it has since.
    pub after: Addresses,
}

/// Why a packet's way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Something listens there, and its answer finds the way back.
    Answered,
    /// Nothing listens on the port; the kernel there says so.
    NothingListens,
    /// The last rule that matched threw it away.
    DroppedByRule,
    /// The last rule that matched refused it.
    RejectedByRule,
    /// It is from 127.0.0.1, and no other machine takes such a packet.
    Martian,
    /// It came to a blackhole route.
    Blackhole,
    /// No route, or no neighbour of that address.
    Nowhere,
    /// It comes to a place from that place's own address, which takes it for a forgery.
    OwnAddress,
    /// The reply does not pass this node, which would have to undo what it has changed.
    Bypassed(NodeId),
    /// The reply does not find the client.
    NoWayBack,
    /// It came to the load balancer, which has no healthy node to send it to.
    NoHealthyNode,
    /// It came to the load balancer, which does not serve this client.
    KeptOut,
}

/// What a client sees whose connection goes one of these ways.
pub fn sight(branches: &[Branch]) -> Sight {
    sum(branches.iter().map(|branch| branch.fate.clone()).collect())
}

impl<'a> Tracer<'a> {
    /// Reads the rules of each node, as [`super::render`] wrote them for `mode`. Its pods are as the lab
    /// file says.
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
        Ok(Tracer { lab, rules: read.collect::<Result<_, String>>()?, health: Health::of(lab, &conditions(lab)) })
    }

    /// The same, given what else is known of the pods: it decides which nodes are healthy, and so where
    /// the load balancer sends a connection.
    #[must_use]
    pub fn under(mut self, conditions: &Conditions) -> Tracer<'a> {
        self.health = Health::of(self.lab, conditions);
        self
    }

    /// The hook that calls a chain, which is named as `TABLE CHAIN`.
    pub fn hook_of(&self, chain: &str) -> Option<Hook> {
        let mut bases = self.rules.values().flat_map(|rules| &rules.bases);
        bases.find(|base| base.chain == chain).map(|base| base.hook)
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
        let start = self.start(from, to, protocol);
        let end = ways::end(self.lab, from, to.ip());
        let mut open = Vec::new();
        let mut done = Vec::new();
        match (from, end, entry) {
            (_, _, Some(node)) => open.push(self.enters(start, node)),
            (Place::Node(node), ..) => {
                for next in self.leaves(start.comes_to(node))? {
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

    /// A packet at its beginning.
    fn start(&self, from: Place, to: SocketAddr, protocol: Protocol) -> Traveller {
        let source = ways::source(self.lab, from, to.ip());
        let packet = Packet { source, to, protocol, interface: None, marked: false, translated: false };
        Traveller {
            from,
            at: from,
            packet,
            sources: [source].into(),
            share: 1.0,
            stays: Vec::new(),
            translations: Vec::new(),
        }
    }

    /// The load balancer gives the same share of connections to each healthy node.
    fn balanced(&self, start: Traveller) -> Result<Vec<Branch>, String> {
        let (to, protocol) = (start.packet.to, start.packet.protocol);
        let ends =
            |start: Traveller, fate, ending| Ok(vec![start.into_branch(fate, ending, Some(Place::LoadBalancer))]);
        let haproxy = self.lab.load_balancer.as_ref().is_some_and(|it| it.engine == BalancerEngine::Haproxy);
        let (nodes, onward) = if haproxy {
            let Some(frontend) = balancer::frontend(self.lab, to, protocol) else {
                return ends(start, Fate::Refused(to), Ending::NothingListens);
            };
            if !frontend.admits(start.packet.source) {
                return ends(start, Fate::Lost(to), Ending::KeptOut);
            }
            (self.health.passing(frontend.check), Some(frontend.node_port))
        } else {
            (self.health.nodes(to.ip()), None)
        };
        if nodes.is_empty() {
            return ends(start, Fate::Lost(to), Ending::NoHealthyNode);
        }
        let share = 1.0 / nodes.len() as f64;
        let enters = |node: &NodeId| {
            let onward = onward.map(|node_port| SocketAddr::new(self.lab.node(*node).ip, node_port));
            let traveller = match onward {
                None => start.clone(),
                Some(to) => self.start(Place::LoadBalancer, to, protocol),
            };
            self.enters(Traveller { share, ..traveller }, *node)
        };
        let mut branches = self.follow(nodes.iter().map(enters).collect(), Vec::new())?;
        if haproxy {
            branches.iter_mut().for_each(|branch| branch.fate = branch.fate.clone().behind_a_proxy());
        }
        Ok(branches)
    }

    /// Follows all that is under way to where it ends.
    fn follow(&self, mut open: Vec<Traveller>, mut done: Vec<Branch>) -> Result<Vec<Branch>, String> {
        while let Some(traveller) = open.pop() {
            if traveller.stays.len() > 100 {
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
                done.push(traveller.into_branch(fate, Ending::DroppedByRule, None));
            }
            Next::Martian(traveller) => {
                let fate = Fate::Lost(traveller.packet.to);
                done.push(traveller.into_branch(fate, Ending::Martian, None));
            }
            Next::Rejected(traveller) => {
                let fate = Fate::Refused(traveller.packet.to);
                done.push(traveller.into_branch(fate, Ending::RejectedByRule, None));
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
        traveller.comes_to(node)
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
                _ if traveller.packet.source.is_loopback() => nexts.push(Next::Martian(traveller)),
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
        let before = next.packet.addresses();
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
        let after = next.packet.addresses();
        if let Some(stay) = next.stays.last_mut() {
            if !way.rules.is_empty() {
                stay.steps.push(Step { hook, rules: way.rules, before, after });
            }
            stay.left = after;
        }
        next
    }

    /// The packet has come as far as it gets.
    fn ends(&self, traveller: Traveller, end: End) -> Branch {
        let to = traveller.packet.to;
        let outside = |sources| Fate::Served(Choice { endpoint: to, pod: None, sources });
        let (fate, ending) = match end {
            End::Blackhole => (Fate::Lost(to), Ending::Blackhole),
            // Only what starts outside the nodes goes to the load balancer.
            End::Nowhere | End::Balanced => (Fate::Unreachable(to), Ending::Nowhere),
            End::At(place) => match self.lost_on_return(&traveller, place) {
                Some(ending) => (Fate::Lost(to), ending),
                None => match ways::listener(self.lab, place, to.port(), traveller.packet.protocol) {
                    None => (Fate::Refused(to), Ending::NothingListens),
                    Some(Listener::Outside | Listener::Health) => {
                        (outside(traveller.sources.clone()), Ending::Answered)
                    }
                    Some(Listener::Pod(pod)) => {
                        let choice = Choice { endpoint: to, pod: Some(pod), sources: traveller.sources.clone() };
                        (Fate::Served(choice), Ending::Answered)
                    }
                },
            },
        };
        let place = match end {
            End::At(place) => Some(place),
            End::Blackhole | End::Nowhere | End::Balanced => None,
        };
        traveller.into_branch(fate, ending, place)
    }

    /// The reply passes every node that has changed the packet, last first, and reaches the
    /// client; or why not.
    fn lost_on_return(&self, traveller: &Traveller, place: Place) -> Option<Ending> {
        let mut at = place;
        let mut to = traveller.packet.source;
        // A machine that gets a packet from its own address off the wire drops it.
        if place != traveller.at && ways::holder(self.lab, to) == Some(place) {
            return Some(Ending::OwnAddress);
        }
        for translation in traveller.translations.iter().rev() {
            let toward = ways::holder(self.lab, to).and_then(|place| ways::node_of(self.lab, place));
            let passes = [ways::node_of(self.lab, at), toward].contains(&Some(translation.node));
            if !passes {
                return Some(Ending::Bypassed(translation.node));
            }
            (at, to) = (Place::Node(translation.node), translation.before.source);
        }
        (ways::end(self.lab, at, to) != End::At(traveller.from)).then_some(Ending::NoWayBack)
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
    stays: Vec<Stay>,
    translations: Vec<Translation>,
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
    Martian(Traveller),
    Rejected(Traveller),
}

impl Traveller {
    /// Notes what the node that it is at has changed.
    fn noted(mut self, before: &Packet) -> Traveller {
        let changed = (before.source, before.to) != (self.packet.source, self.packet.to);
        if let (Place::Node(node), true) = (self.at, changed) {
            self.translations.push(Translation { node, before: before.addresses(), after: self.packet.addresses() });
        }
        self
    }

    /// A stay at a node begins.
    fn comes_to(mut self, node: NodeId) -> Traveller {
        let arrived = self.packet.addresses();
        self.stays.push(Stay { node, arrived, left: arrived, steps: Vec::new() });
        self
    }

    /// It is over, at `place` or where it is.
    fn into_branch(self, fate: Fate, ending: Ending, place: Option<Place>) -> Branch {
        let Traveller { at, share, stays, translations, .. } = self;
        Branch { share, stays, fate, ending, place: place.unwrap_or(at), translations }
    }
}

#[cfg(test)]
mod tests;
