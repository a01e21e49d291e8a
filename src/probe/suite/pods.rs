//! Every pod reaches every pod at its own address, and is seen by its own.

use super::{
    Address, Bound, Group, Probe, Target, TargetKind,
    sample::{dice, one_of, shuffle},
    scene::{Draft, Scene, also, is_testable, own_places, server_ports},
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
    let (pairs, of) = pairs(lab, scene.at_most(MOST_PAIRS), scene.options.seed);
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
/// nodes goes untried; then another one for each, and so on. There may be a million pairs, so none is
/// made that is not taken.
fn pairs(lab: &Lab, most: usize, seed: u64) -> (Vec<(PodId, PodId)>, usize) {
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
    let on = |node, pods: &mut dyn Iterator<Item = PodId>| -> Vec<PodId> {
        pods.filter(|pod| lab.pod(*pod).node == node).collect()
    };
    let nodes: Vec<(Vec<PodId>, Vec<PodId>)> =
        lab.node_ids().map(|node| (on(node, &mut senders.iter().copied()), on(node, &mut lab.pod_ids()))).collect();
    let mut classes: Vec<(&[PodId], &[PodId])> =
        nodes.iter().flat_map(|(from, _)| nodes.iter().map(move |(_, to)| (from.as_slice(), to.as_slice()))).collect();
    let mut dice = dice(seed);
    shuffle(&mut dice, &mut classes);
    let mut taken = BTreeSet::new();
    // In a class that is nearly used up it may take some throws to find another pair.
    for _ in 0..20 * most {
        for (from, to) in &classes {
            let pair = one_of(&mut dice, from).zip(one_of(&mut dice, to));
            taken.extend(pair.filter(|(from, to)| from != to && taken.len() < most).map(|(from, to)| (*from, *to)));
        }
        if taken.len() >= most {
            break;
        }
    }
    (taken.into_iter().collect(), total)
}
