//! What a pod sends out of the cluster carries its node's address.

use std::net::SocketAddr;

use super::{
    Address, Bound, Group, Probe, Target, TargetKind,
    scene::{Draft, Scene, machines, own_places},
};
use crate::lab::model::{Place, PodId, Protocol};

/// More pairs than this are not all tried.
const MOST_PAIRS: usize = 200;

pub(super) fn probes(scene: &Scene<'_>, bounds: &mut Vec<Bound>) -> Vec<Probe> {
    let pods = own_places(scene.lab);
    let machines = machines(scene.lab);
    let total = pods.len() * machines.len();
    let taken = scene.bounded(bounds, (Group::Egress, "pairs of pod and machine outside"), total, MOST_PAIRS);
    taken
        .into_iter()
        .map(|index| probe(scene, pods[index / machines.len()], machines[index % machines.len()]))
        .collect()
}

fn probe(scene: &Scene<'_>, pod: PodId, (machine, address): (Place, SocketAddr)) -> Probe {
    let node = scene.lab.node(scene.lab.pod(pod).node);
    let name = scene.lab.netns(machine);
    let target = Target {
        kind: TargetKind::Machine,
        address: Address::Socket(address),
        protocol: Protocol::Tcp,
        of: name,
        node: None,
        service: None,
    };
    let why = format!(
        "nobody outside the cluster knows the way to a pod's address, so {} masquerades what its pods send out",
        node.name
    );
    let from = Place::Pod(pod);
    let expect = scene.expect((scene.sight)(from, address, Protocol::Tcp), Protocol::Tcp);
    scene.probe(Draft { group: Group::Egress, from, target, entry: None, expect, why }, 1)
}
