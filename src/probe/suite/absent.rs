//! What a suite leaves out while nodes are powered off: whatever is asked from there, or at an address
//! that nobody has at present. And where it is in a hurry, because it is known that links are down.

use std::net::IpAddr;

use super::{Address, Probe, yours};
use crate::lab::model::{Lab, NodeId, UserProbe};

/// The nodes that are not powered off.
pub(super) fn nodes(lab: &Lab) -> impl Iterator<Item = NodeId> + '_ {
    lab.node_ids().filter(|id| !lab.node(*id).state.stopped)
}

/// Nobody that the probe needs is powered off.
pub(super) fn is_present(lab: &Lab, probe: &Probe) -> bool {
    let to_off = match &probe.target.address {
        Address::Socket(to) | Address::Name(_, to) => is_off(lab, to.ip()),
        Address::Several(all) => all.iter().any(|to| is_off(lab, to.ip())),
        Address::Url(_) => false,
    };
    let from_off = || probe.orders.iter().any(|order| lab.find(&order.netns).is_some_and(|place| lab.is_off(place)));
    !to_off && !from_off() && !(asks_dns(lab, probe) && has_no_dns(lab))
}

/// It asks the cluster's DNS, first or at all.
fn asks_dns(lab: &Lab, probe: &Probe) -> bool {
    let is_dns = |ip: IpAddr| lab.dns.as_ref().is_some_and(|dns| dns.ip == ip);
    match &probe.target.address {
        Address::Name(_, server) => is_dns(server.ip()),
        _ => probe.resolver.is_some(),
    }
}

/// All pods of the cluster's DNS are on nodes that are powered off. That nobody answers at the address of
/// its Service is asked for there.
fn has_no_dns(lab: &Lab) -> bool {
    let mut pods = lab.pods.iter().filter(|pod| pod.serves_dns()).peekable();
    pods.peek().is_some() && pods.all(|pod| lab.node(pod.node).state.stopped)
}

/// Where a cable is pulled, nobody waits for answers as long as on a good day: they come at once or not at
/// all. A packet that was lost by chance is sent again after one second.
const HURRY_MS: u32 = 1500;

/// Gives up sooner where the way may pass a link that is known to be down.
pub(super) fn hurry(lab: &Lab, probe: &mut Probe) {
    let unplugged = |name: &str| lab.nodes.iter().any(|node| node.state.unplugged && node.name.as_str() == name);
    if probe.way.iter().any(|hop| unplugged(&hop.netns)) {
        probe.orders.iter_mut().for_each(|order| order.what.hurry(HURRY_MS));
    }
}

/// The same, of a probe of the user: someone must be left who asks, and someone who may answer.
pub(super) fn present(lab: &Lab, probe: &UserProbe) -> Option<UserProbe> {
    let to_off = yours::authority(&probe.url).is_some_and(|(to, _)| is_off(lab, to.ip()));
    let mut probe = (!lab.is_off(probe.from) && !to_off).then(|| probe.clone())?;
    let wanted = !probe.expect.backends.is_empty();
    probe.expect.backends.retain(|pod| !lab.is_off(lab.pod_place(*pod)));
    (!wanted || !probe.expect.backends.is_empty()).then_some(probe)
}

/// The address of a node that is powered off, or of something there.
fn is_off(lab: &Lab, ip: IpAddr) -> bool {
    let mut off = lab.nodes.iter().filter(|node| node.state.stopped);
    off.any(|node| node.ip == ip || node.pod_subnet.contains(&ip))
}
