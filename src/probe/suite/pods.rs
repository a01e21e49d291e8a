//! Every pod reaches every pod at its own address, and is seen by its own.

use super::{
    Address, Bound, Group, Probe, Target, TargetKind,
    scene::{Draft, Scene, also, is_testable, own_places, server_ports, spread},
    states,
};
use std::{collections::BTreeSet, net::SocketAddr};

use crate::lab::model::{Lab, Place, PodId, Protocol};

/// More pairs than this are not all tried; it takes some seconds of curl.
const MOST_PAIRS: usize = 200;

const WHY: &str =
    "Kubernetes asks of a pod network that every pod reaches every other pod at its own address, without NAT";

pub(super) fn probes(scene: &Scene<'_>, bounds: &mut Vec<Bound>) -> Vec<Probe> {
    let lab = scene.lab;
    let (pairs, of) = pairs(lab, MOST_PAIRS);
    if pairs.len() < of {
        bounds.push(Bound { group: Group::Pods, what: "pairs of pods".to_owned(), tried: pairs.len(), of });
    }
    let mut probes = Vec::new();
    for (from, to) in pairs {
        probes.extend(server_ports(lab, to).into_iter().filter_map(|port| probe(scene, from, to, port)));
    }
    probes
}

fn probe(scene: &Scene<'_>, from: PodId, to: PodId, (port, protocol): (u16, Protocol)) -> Option<Probe> {
    let from = Place::Pod(from);
    let address = SocketAddr::new(scene.lab.pod(to).ip, port);
    let expect = scene.expect((scene.sight)(from, address, protocol), protocol);
    if !is_testable(&expect, protocol) {
        return None;
    }
    let target = Target {
        kind: TargetKind::Pod,
        address: Address::Socket(address),
        protocol,
        of: scene.lab.pod(to).full_name(),
        node: None,
        service: None,
    };
    let why = also(WHY, states::of_pod(scene.lab, to));
    Some(scene.probe(Draft { group: Group::Pods, from, target, entry: None, expect, why }, 1))
}

/// The ordered pairs to try, and how many there are.
///
/// When there are too many, a pair for each pair of nodes comes first, so that no path between
/// nodes goes untried; the rest is spread over all pairs.
fn pairs(lab: &Lab, most: usize) -> (Vec<(PodId, PodId)>, usize) {
    let senders = own_places(lab);
    let others = lab.pods.len().saturating_sub(1);
    let total = senders.len() * others;
    let pair = |index: usize| {
        let (from, to) = (senders[index / others], index % others);
        (from, PodId(if to >= from.0 { to + 1 } else { to }))
    };
    if total <= most {
        return ((0..total).map(pair).collect(), total);
    }
    let mut taken = BTreeSet::new();
    let nodes = lab.nodes.len();
    for index in spread(nodes * nodes, most / 2) {
        let on = |node: usize| -> Vec<PodId> {
            lab.pod_ids().filter(|pod| lab.pod(*pod).node.0 == node && !lab.pod(*pod).host_network).collect()
        };
        let (a, b) = (on(index / nodes), on(index % nodes));
        if let (false, false) = (a.is_empty(), b.is_empty()) {
            let pair = (a[index % a.len()], b[(index + 1) % b.len()]);
            if pair.0 != pair.1 {
                taken.insert(pair);
            }
        }
    }
    for index in spread(total, most) {
        if taken.len() >= most {
            break;
        }
        taken.insert(pair(index));
    }
    (taken.into_iter().collect(), total)
}
