//! From where a probe starts and where it ends to the network namespaces its packets pass.
//!
//! The way is what an explanation searches for a cause, so it errs on the side of too many hops:
//! a Service may lead to any of its backends, and the answer comes back the way the question went.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    lab::model::{Lab, NodeId, Place},
    proxy::{
        balancer::{self, Health},
        endpoints::conditions,
    },
};

/// One network namespace on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Hop {
    /// Its name.
    pub netns: String,
    /// What it does for the packets.
    pub role: Role,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// How likely a packet passes it: one of several endpoints is only met now and then.
    pub chance: f64,
}

/// What a namespace does for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It sends it, and does nothing else: a pod, a client.
    Sender,
    /// Its routes and rules decide where the packet goes: a node, or `host` between networks.
    Router,
    /// The frame crosses one of its bridges: `host` between two nodes.
    Wire,
    /// Its server answers.
    Answerer,
}

/// The way from `from`, through `entry` if the packet is addressed to a node, to any of `ends`.
pub fn way(lab: &Lab, from: Place, entry: Option<NodeId>, ends: &[Place]) -> Vec<Hop> {
    let mut way = Way { lab, hops: Vec::new() };
    let start = match from {
        Place::Pod(pod) => {
            way.pass(from, Role::Sender, 1.0);
            Some(lab.pod(pod).node)
        }
        Place::Node(node) => Some(node),
        Place::Client(_) | Place::External(_) => {
            way.pass(from, Role::Sender, 1.0);
            None
        }
        Place::Host => None,
        Place::LoadBalancer => {
            way.pass(from, Role::Sender, 1.0);
            None
        }
    };
    match start {
        Some(node) => way.pass(Place::Node(node), Role::Router, 1.0),
        None => way.pass(Place::Host, Role::Router, 1.0),
    }
    let door = match entry {
        Some(node) => {
            if start != Some(node) {
                way.pass(Place::Host, Role::Wire, 1.0);
            }
            way.pass(Place::Node(node), Role::Router, 1.0);
            Some(node)
        }
        None => start,
    };
    let chance = 1.0 / ends.len().max(1) as f64;
    for end in ends {
        match *end {
            Place::Pod(pod) => {
                let node = lab.pod(pod).node;
                if door != Some(node) {
                    way.pass(Place::Host, Role::Wire, chance);
                }
                way.pass(Place::Node(node), Role::Router, chance);
                way.pass(*end, Role::Answerer, chance);
            }
            Place::Node(node) => {
                if door != Some(node) {
                    way.pass(Place::Host, Role::Wire, chance);
                }
                way.pass(*end, Role::Router, chance);
            }
            Place::Host | Place::LoadBalancer => way.pass(*end, Role::Router, chance),
            Place::Client(_) | Place::External(_) => {
                way.pass(Place::Host, Role::Router, chance);
                way.pass(*end, Role::Answerer, chance);
            }
        }
    }
    way.hops
}

/// The same, to an address that may be the load balancer's: then it leads through the load balancer
/// and one of the nodes that are healthy.
pub fn way_to(
    (lab, fronts): (&Lab, &Fronts),
    from: Place,
    entry: Option<NodeId>,
    to: IpAddr,
    ends: &[Place],
) -> Vec<Hop> {
    let outside = !matches!(from, Place::Node(_) | Place::Pod(_));
    let Some(nodes) = fronts.0.get(&to).filter(|_| outside) else { return way(lab, from, entry, ends) };
    let mut passed = Way { lab, hops: way(lab, from, None, &[]) };
    passed.pass(Place::LoadBalancer, Role::Router, 1.0);
    for node in nodes {
        passed.pass(Place::Node(*node), Role::Router, 1.0 / nodes.len() as f64);
    }
    join(passed.hops, way(lab, from, None, ends))
}

/// The load balancer's addresses, each with the nodes that get its connections.
#[derive(Debug)]
pub struct Fronts(BTreeMap<IpAddr, Vec<NodeId>>);

impl Fronts {
    /// Those of a lab.
    pub fn of(lab: &Lab) -> Self {
        let health = Health::of(lab, &conditions(lab));
        Fronts(balancer::vips(lab).iter().map(|vip| (vip.ip, health.nodes_of(vip))).collect())
    }

    /// The address is the load balancer's.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.0.contains_key(&ip)
    }
}

/// Joins two ways, each namespace with its stronger role.
pub fn join(mut way: Vec<Hop>, other: Vec<Hop>) -> Vec<Hop> {
    for hop in other {
        add(&mut way, hop, f64::max);
    }
    way
}

/// The addresses that a place has of its own, those of its interfaces to pods and clients not all among them.
pub(super) fn addresses(lab: &Lab, place: Place) -> Vec<IpAddr> {
    match place {
        Place::Host => vec![lab.cluster.gateway],
        Place::Node(id) => vec![lab.node(id).ip, lab.node(id).pod_gateway],
        Place::Pod(id) => vec![lab.pod(id).ip],
        Place::Client(id) => vec![lab.client(id).ip.addr()],
        Place::External(id) => lab.external(id).ips.clone(),
        Place::LoadBalancer => lab.load_balancer.iter().map(|balancer| balancer.ip).collect(),
    }
}

struct Way<'a> {
    lab: &'a Lab,
    hops: Vec<Hop>,
}

impl Way<'_> {
    fn pass(&mut self, place: Place, role: Role, chance: f64) {
        let lab = self.lab;
        let ips = addresses(lab, place);
        let hop = Hop { netns: lab.netns(place), role, ips, chance };
        add(&mut self.hops, hop, |a, b| (a + b).min(1.0));
    }
}

fn add(hops: &mut Vec<Hop>, new: Hop, together: fn(f64, f64) -> f64) {
    match hops.iter_mut().find(|hop| hop.netns == new.netns) {
        Some(hop) => {
            hop.role = stronger(hop.role, new.role);
            hop.chance = together(hop.chance, new.chance);
        }
        None => hops.push(new),
    }
}

/// Of two roles of one namespace, the one in which more of it matters.
fn stronger(a: Role, b: Role) -> Role {
    let rank = |role| match role {
        Role::Wire => 0,
        Role::Sender => 1,
        Role::Answerer => 2,
        Role::Router => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::book, *};
    use crate::lab::model::{ClientId, PodId};

    fn text(hops: &[Hop]) -> String {
        hops.iter().map(|hop| format!("{}:{:?}", hop.netns, hop.role)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pod_reaches_another_node_over_the_lan() {
        let lab = book();
        assert_eq!(
            text(&way(&lab, Place::Pod(PodId(0)), None, &[Place::Pod(PodId(2))])),
            "pod1a:Sender node1:Router host:Wire node2:Router pod2:Answerer"
        );
        assert_eq!(
            text(&way(&lab, Place::Pod(PodId(0)), None, &[Place::Pod(PodId(1))])),
            "pod1a:Sender node1:Router pod1b:Answerer"
        );
    }

    #[test]
    fn a_node_port_is_entered_through_its_node() {
        let lab = book();
        assert_eq!(
            text(&way(&lab, Place::Client(ClientId(0)), Some(NodeId(0)), &[Place::Pod(PodId(2))])),
            "laptop:Sender host:Router node1:Router node2:Router pod2:Answerer"
        );
        // The sender is a backend as well.
        assert_eq!(
            text(&way(&lab, Place::Pod(PodId(2)), Some(NodeId(0)), &[Place::Pod(PodId(2))])),
            "pod2:Answerer node2:Router host:Wire node1:Router"
        );
    }
}
