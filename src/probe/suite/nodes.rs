//! Nodes reach pods and pods reach nodes, without NAT.

use std::net::SocketAddr;

use super::{
    Address, Bound, Group, PlaceKind, Probe, Target, TargetKind, absent,
    scene::{Draft, Scene, also, is_testable, own_places, server_ports},
    states,
};
use crate::lab::model::{Lab, NodeId, Place, PodId, Protocol};

/// More pairs than this, in each direction, are not all tried.
const MOST_PAIRS: usize = 200;

pub(super) fn probes(scene: &Scene<'_>, bounds: &mut Vec<Bound>) -> Vec<Probe> {
    let lab = scene.lab;
    let nodes: Vec<NodeId> = absent::nodes(lab).collect();
    let pods: Vec<PodId> = lab.pod_ids().collect();
    let senders = own_places(lab);
    let mut probes = Vec::new();
    // Every pair of nodes is a class of its own.
    let class = |node: usize, pod: PodId| ((node, lab.pod(pod).node), 0);
    let total = nodes.len() * pods.len();
    let of = |index: usize| class(index / pods.len(), pods[index % pods.len()]);
    for index in scene.sampled(bounds, (Group::Nodes, "pairs of node and pod"), (total, MOST_PAIRS), of) {
        probes.extend(node_to_pod(scene, nodes[index / pods.len()], pods[index % pods.len()]));
    }
    let total = senders.len() * nodes.len();
    let of = |index: usize| class(index % nodes.len(), senders[index / nodes.len()]);
    for index in scene.sampled(bounds, (Group::Nodes, "pairs of pod and node"), (total, MOST_PAIRS), of) {
        probes.push(pod_to_node(scene, senders[index / nodes.len()], nodes[index % nodes.len()]));
    }
    let ways = host_port_ways(lab);
    let of = |index: usize| (PlaceKind::from(ways[index].0), ways[index].1);
    for index in scene.sampled(bounds, (Group::Nodes, "ways to host ports"), (ways.len(), MOST_PAIRS), of) {
        probes.extend(host_port(scene, ways[index]));
    }
    probes
}

fn node_to_pod(scene: &Scene<'_>, node: NodeId, pod: PodId) -> Option<Probe> {
    if scene.lab.pod(pod).host_network {
        return None;
    }
    let (port, protocol) = server_ports(scene.lab, pod).into_iter().find(|(_, protocol)| *protocol == Protocol::Tcp)?;
    let from = Place::Node(node);
    let address = SocketAddr::new(scene.lab.pod(pod).ip, port);
    let expect = scene.expect((scene.sight)(from, address, protocol), protocol);
    let target = Target {
        kind: TargetKind::Pod,
        address: Address::Socket(address),
        protocol,
        of: scene.lab.pod(pod).full_name(),
        node: None,
        service: None,
    };
    let why = "Kubernetes asks that the agents on a node reach all pods, on any node, without NAT";
    let why = also(why, states::of_pod(scene.lab, pod));
    Some(scene.probe(Draft { group: Group::Nodes, from, target, entry: None, expect, why }, 1))
}

/// Nothing listens on a node, so what shows that a pod reaches it is its refusal.
fn pod_to_node(scene: &Scene<'_>, pod: PodId, node: NodeId) -> Probe {
    let from = Place::Pod(pod);
    let address = SocketAddr::new(scene.lab.node(node).ip, closed_port(scene.lab));
    let expect = scene.expect((scene.sight)(from, address, Protocol::Tcp), Protocol::Tcp);
    let target = Target {
        kind: TargetKind::Node,
        address: Address::Socket(address),
        protocol: Protocol::Tcp,
        of: scene.lab.node(node).name.to_string(),
        node: None,
        service: None,
    };
    let why = "Kubernetes asks that every pod reaches every node without NAT; nothing listens on this port, so the \
               node itself must refuse at once";
    scene.probe(Draft { group: Group::Nodes, from, target, entry: Some(node), expect, why: why.to_owned() }, 1)
}

/// A host port, and someone who asks for it.
type HostPortWay = (Place, NodeId, SocketAddr, Protocol);

/// Every host port, from its pod, a pod beside it, a pod and a node elsewhere, its own node,
/// `host` and each client.
fn host_port_ways(lab: &Lab) -> Vec<HostPortWay> {
    let mut ways = Vec::new();
    for id in own_places(lab) {
        let pod = lab.pod(id);
        let pod_where = |wanted: &dyn Fn(NodeId) -> bool| {
            own_places(lab).into_iter().find(|other| *other != id && wanted(lab.pod(*other).node)).map(Place::Pod)
        };
        let (neighbour, elsewhere) = (pod_where(&|node| node == pod.node), pod_where(&|node| node != pod.node));
        let other_node = absent::nodes(lab).find(|node| *node != pod.node).map(Place::Node);
        let own = [Place::Pod(id), Place::Node(pod.node), Place::Host];
        let others = neighbour.into_iter().chain(elsewhere).chain(other_node);
        let from: Vec<Place> = own.into_iter().chain(others).chain(lab.client_ids().map(Place::Client)).collect();
        for declared in pod.containers.iter().flat_map(|container| &container.ports) {
            let Some(host_port) = &declared.host_port else { continue };
            let address = SocketAddr::new(host_port.ip.unwrap_or(lab.node(pod.node).ip), host_port.port);
            let reach = |from: &Place| !address.ip().is_loopback() || *from == Place::Node(pod.node);
            let from = from.iter().copied().filter(reach);
            ways.extend(from.map(|from| (from, pod.node, address, declared.protocol)));
        }
    }
    ways
}

fn host_port(scene: &Scene<'_>, (from, node, address, protocol): HostPortWay) -> Option<Probe> {
    if protocol == Protocol::Sctp {
        return None;
    }
    let expect = scene.expect((scene.sight)(from, address, protocol), protocol);
    let target = Target {
        kind: TargetKind::Node,
        address: Address::Socket(address),
        protocol,
        of: scene.lab.node(node).name.to_string(),
        node: None,
        service: None,
    };
    let why = "a host port leads to its pod for whoever asks its node; a pod of that node is masqueraded, so that it \
               may come to itself";
    is_testable(&expect, protocol).then(|| {
        scene.probe(Draft { group: Group::Nodes, from, target, entry: Some(node), expect, why: why.to_owned() }, 1)
    })
}

/// The discard port, or the first after it that no pod uses on its node.
pub(super) fn closed_port(lab: &Lab) -> u16 {
    let used = |port: u16| {
        lab.pods.iter().any(|pod| {
            let ports = pod.containers.iter().flat_map(|container| &container.ports);
            let on_node = |declared: &crate::lab::model::ContainerPort| {
                (pod.host_network && declared.container_port == port)
                    || declared.host_port.as_ref().is_some_and(|host_port| host_port.port == port)
            };
            ports.into_iter().any(on_node)
        })
    };
    // A lab has fewer ports than there are numbers; 9 would do even if it had not.
    (9..1024).find(|port| !used(*port)).unwrap_or(9)
}
