//! What a pod sends out of the cluster carries its node's address.

use std::net::SocketAddr;

use super::{
    Address, Bound, Group, Probe, Target, TargetKind,
    scene::{Draft, Scene, externals, near_machines, own_places},
};
use crate::lab::model::{Lab, Place, PodId, Protocol};

/// More pairs than this are not all tried.
const MOST_PAIRS: usize = 200;

pub(super) fn probes(scene: &Scene<'_>, bounds: &mut Vec<Bound>) -> Vec<Probe> {
    let pods = own_places(scene.lab);
    let machines = near_machines(scene.lab);
    let total = pods.len() * machines.len();
    let of = |index: usize| ((index % machines.len(), scene.lab.pod(pods[index / machines.len()]).node), 0);
    let taken = scene.sampled(bounds, (Group::Egress, "pairs of pod and machine outside"), (total, MOST_PAIRS), of);
    let mut probes: Vec<Probe> = taken
        .into_iter()
        .map(|index| probe(scene, pods[index / machines.len()], machines[index % machines.len()]))
        .collect();
    // The way to the lab's internet is the same for all pods of a node.
    let (senders, externals) = (one_of_each_node(scene.lab, &pods), externals(scene.lab));
    let total = senders.len() * externals.len();
    let of = |index: usize| (index / externals.len(), index % externals.len());
    let taken = scene.sampled(bounds, (Group::Egress, "pairs of node and external machine"), (total, MOST_PAIRS), of);
    probes.extend(
        taken
            .into_iter()
            .map(|index| probe(scene, senders[index / externals.len()], externals[index % externals.len()])),
    );
    probes
}

fn one_of_each_node(lab: &Lab, pods: &[PodId]) -> Vec<PodId> {
    let first = |node| pods.iter().copied().find(|pod| lab.pod(*pod).node == node);
    lab.node_ids().filter_map(first).collect()
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
