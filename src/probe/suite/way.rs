//! From where a probe starts and where it ends to the network namespaces its packets pass.
//!
//! The way is what an explanation searches for a cause, so it errs on the side of too many hops:
//! a Service may lead to any of its backends, and the answer comes back the way the question went.

use std::net::IpAddr;

use crate::lab::model::{Lab, NodeId, Place};

/// One network namespace on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Its name.
    pub netns: String,
    /// What it does for the packets.
    pub role: Role,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
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
            way.pass(from, Role::Sender);
            Some(lab.pod(pod).node)
        }
        Place::Node(node) => Some(node),
        Place::Client(_) => {
            way.pass(from, Role::Sender);
            None
        }
        Place::Host => None,
    };
    match start {
        Some(node) => way.pass(Place::Node(node), Role::Router),
        None => way.pass(Place::Host, Role::Router),
    }
    let door = match entry {
        Some(node) => {
            if start != Some(node) {
                way.pass(Place::Host, Role::Wire);
            }
            way.pass(Place::Node(node), Role::Router);
            Some(node)
        }
        None => start,
    };
    for end in ends {
        match *end {
            Place::Pod(pod) => {
                let node = lab.pod(pod).node;
                if door != Some(node) {
                    way.pass(Place::Host, Role::Wire);
                }
                way.pass(Place::Node(node), Role::Router);
                way.pass(*end, Role::Answerer);
            }
            Place::Node(node) => {
                if door != Some(node) {
                    way.pass(Place::Host, Role::Wire);
                }
                way.pass(*end, Role::Router);
            }
            Place::Host => way.pass(Place::Host, Role::Router),
            Place::Client(_) => {
                way.pass(Place::Host, Role::Router);
                way.pass(*end, Role::Answerer);
            }
        }
    }
    way.hops
}

/// Joins two ways, each namespace with its stronger role.
pub fn join(mut way: Vec<Hop>, other: Vec<Hop>) -> Vec<Hop> {
    for hop in other {
        add(&mut way, hop);
    }
    way
}

struct Way<'a> {
    lab: &'a Lab,
    hops: Vec<Hop>,
}

impl Way<'_> {
    fn pass(&mut self, place: Place, role: Role) {
        let lab = self.lab;
        let ips = match place {
            Place::Host => vec![lab.cluster.gateway],
            Place::Node(id) => vec![lab.node(id).ip, lab.node(id).pod_gateway],
            Place::Pod(id) => vec![lab.pod(id).ip],
            Place::Client(id) => vec![lab.client(id).ip.addr()],
        };
        add(&mut self.hops, Hop { netns: lab.netns(place), role, ips });
    }
}

fn add(hops: &mut Vec<Hop>, new: Hop) {
    match hops.iter_mut().find(|hop| hop.netns == new.netns) {
        Some(hop) => hop.role = stronger(hop.role, new.role),
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
