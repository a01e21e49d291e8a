//! What a suite leaves out while nodes are powered off: whatever is asked from there, or at an address
//! that nobody has at present. And where it is in a hurry, because it is known that links are down.

use std::net::IpAddr;

use super::{Address, Probe};
use crate::lab::model::{Lab, NodeId, UserProbe};

/// The nodes that are not powered off.
pub(super) fn nodes(lab: &Lab) -> impl Iterator<Item = NodeId> + '_ {
    lab.node_ids().filter(|id| !lab.node(*id).state.stopped)
}

/// Nobody that the probe needs is powered off.
pub(super) fn is_present(lab: &Lab, probe: &Probe) -> bool {
    let to_off = match &probe.target.address {
        Address::Socket(to) | Address::Name(_, to) | Address::Asked(_, to) => is_off(lab, to.ip()),
        Address::Several(all) => all.iter().any(|to| is_off(lab, to.ip())),
        Address::Url(_) => false,
    };
    let from_off = || probe.orders.iter().any(|order| lab.find(&order.netns).is_some_and(|place| lab.is_off(place)));
    let in_vain = || asks_dns(lab, probe) && has_no_dns(lab);
    !(to_off || from_off() || in_vain())
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
        probe.orders.iter_mut().for_each(|order| order.what.hasten(HURRY_MS));
    }
}

/// The same, of a probe of the user: someone must be left who asks, and someone who may answer.
pub(super) fn present(lab: &Lab, probe: &UserProbe) -> Option<UserProbe> {
    let to_off = probe.asks.address().is_some_and(|ip| is_off(lab, ip));
    let from_off = lab.is_off(probe.from) || probe.as_pod.is_some_and(|pod| lab.is_off(lab.pod_place(pod)));
    let shares = probe.distribution.iter().filter_map(|it| it.shares.as_ref()).flatten();
    let shares_off = shares.map(|(pod, _)| *pod).any(|pod| lab.is_off(lab.pod_place(pod)));
    // The shares of others say nothing about those that are left.
    let mut probe = (!from_off && !to_off && !shares_off).then(|| probe.clone())?;
    let wanted = !probe.expect.backends.is_empty();
    probe.expect.backends.retain(|pod| !lab.is_off(lab.pod_place(*pod)));
    (!wanted || !probe.expect.backends.is_empty()).then_some(probe)
}

/// The address of a node that is powered off, or of something there.
fn is_off(lab: &Lab, ip: IpAddr) -> bool {
    let mut off = lab.nodes.iter().filter(|node| node.state.stopped);
    off.any(|node| node.ip == ip || node.pod_subnet.contains(&ip))
}

#[cfg(test)]
mod tests {
    use crate::{
        lab::model::{Lab, NodeState},
        probe::{
            order::What,
            suite::{Suite, SuiteOptions, suite},
        },
    };

    const LAB: &str = r#"
        [[node]]
        name = "node1"
        [[node]]
        name = "node2"
        [[pod]]
        name = "a"
        node = "node1"
        labels = { app = "web" }
        [[pod]]
        name = "b"
        node = "node2"
        labels = { app = "web" }
        [[service]]
        name = "web"
        type = "NodePort"
        selector = { app = "web" }
        ports = [{ port = 80 }]
        [[client]]
        name = "laptop"
        ip = "192.0.2.10/24"
        [[probe]]
        name = "both"
        from = "laptop"
        url = "http://node1:30086/"
        expect = { backends = ["a", "b"] }
        [[probe]]
        name = "there"
        from = "laptop"
        url = "http://node2:30086/"
        [[probe]]
        name = "its own"
        from = "b"
        url = "http://web/"
        [dns]
        replicas = 1
    "#;

    fn with(state: NodeState) -> (Lab, Suite) {
        let mut lab = crate::lab::load(LAB).unwrap_or_else(|problems| panic!("{problems:?}"));
        let dns = lab.pods.iter().find(|pod| pod.serves_dns()).map(|pod| pod.node);
        assert_eq!(dns, Some(crate::lab::model::NodeId(0)));
        lab.nodes[1].state = state;
        let suite = suite(&lab, &SuiteOptions::default());
        (lab, suite)
    }

    #[test]
    fn nobody_who_is_off_asks_or_is_asked() {
        let whole = with(NodeState::default()).1;
        let (lab, suite) = with(NodeState { stopped: true, ..NodeState::default() });
        assert!(suite.probes.len() > 30 && suite.probes.len() < whole.probes.len());
        for probe in &suite.probes {
            assert!(probe.orders.iter().all(|order| !["node2", "b"].contains(&order.netns.as_str())), "{}", probe.id);
            let ip = |ip: &std::net::IpAddr| super::is_off(&lab, *ip);
            assert!(!probe.target.ips().iter().any(ip), "{}", probe.id);
            assert!(probe.expect.answerers().iter().all(|answerer| answerer.name != "b"), "{}", probe.id);
        }
        let yours: Vec<&str> =
            suite.probes.iter().map(|it| it.id.as_str()).filter(|it| it.starts_with("yours/")).collect();
        assert_eq!(yours, ["yours/both"]);
    }

    #[test]
    fn names_are_left_out_without_anyone_who_knows_them() {
        let mut lab = crate::lab::load(LAB).unwrap();
        lab.nodes[0].state.stopped = true;
        let suite = suite(&lab, &SuiteOptions::default());
        let asks: Vec<&String> = suite.probes.iter().map(|it| &it.id).filter(|it| it.starts_with("names/b")).collect();
        assert!(asks.is_empty(), "{asks:?}");
        assert!(suite.probes.iter().any(|it| it.id == "negative/b/cluster-ip/kube-dns.kube-system:53"));
    }

    #[test]
    fn who_may_meet_a_link_that_is_down_is_in_a_hurry() {
        let suite = with(NodeState { unplugged: true, ..NodeState::default() }).1;
        let waits = |id: &str| {
            let probe = suite.probes.iter().find(|probe| probe.id == id).unwrap_or_else(|| panic!("no {id}"));
            match &probe.orders[0].what {
                What::Curl { timeout_ms, .. } | What::Http { timeout_ms, .. } => *timeout_ms,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(waits("pods/a/pod/b:80"), super::HURRY_MS);
        assert_eq!(waits("services/laptop/node-port/web:80@node1"), super::HURRY_MS);
        assert!(waits("nodes/node1/pod/a:80") > super::HURRY_MS);
    }
}
