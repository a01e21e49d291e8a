//! Everything that a running lab can be told, or find out: what is said of only those Services that
//! change is what would be said of all rules, written down from scratch.

use super::*;
use crate::{
    lab::{
        difference::differences,
        model::{Lab, NodeState, Pod, Protocol, TrafficDistribution},
    },
    proxy::{endpoints::conditions, render, sample, view},
};

/// What happens, and the number of nodes that have other rules of nftables then.
type News = (&'static str, fn(&mut Lab), usize);

const NEWS: [News; 19] = [
    ("nothing", |_| (), 0),
    ("a pod is not ready", |lab| lab.pods[0].ready = false, 2),
    ("a pod has not proved itself", |lab| (lab.pods[0].ready, lab.pods[0].unproven) = (false, true), 2),
    ("the only pod of a Service is not ready", |lab| lab.pods[3].ready = false, 2),
    ("a pod is terminating", |lab| lab.pods[0].terminating = true, 2),
    ("the only pod of a Service is terminating", |lab| lab.pods[3].terminating = true, 0),
    ("all pods are terminating", |lab| lab.pods.iter_mut().for_each(|pod| pod.terminating = true), 2),
    ("one that was deleted still terminates", |lab| leaver(lab, 0, "192.168.1.99"), 0),
    ("a pod has another address", |lab| lab.pods[0].ip = sample::parsed("192.168.1.98"), 2),
    // The ids of all others are other ones then.
    ("a pod is gone", |lab| _ = lab.pods.remove(0), 2),
    ("a node has no power", |lab| lab.nodes[1].state = STOPPED, 1),
    ("a node is not heard of", |lab| lab.nodes[1].state.unheard = true, 2),
    ("a node without a cable is not heard of", |lab| lab.nodes[1].state = CUT_OFF, 1),
    ("a node without a cable is still heard of", |lab| lab.nodes[1].state.unplugged = true, 0),
    ("a node is cordoned", |lab| lab.nodes[1].state.cordoned = true, 0),
    ("a node is in another zone", |lab| lab.nodes[0].zone = Some(sample::parsed("east")), 2),
    ("a node has another address", |lab| lab.nodes[1].ip = sample::parsed("10.30.45.201"), 2),
    ("a node has other pods", |lab| lab.nodes[1].pod_subnet = sample::parsed("192.168.9.0/24"), 1),
    ("there is one more node", |lab| _ = sample::node(lab, "node3", "10.30.45.250", "192.168.3.0/24"), 2),
];

const STOPPED: NodeState = NodeState { stopped: true, unplugged: false, unheard: false, cordoned: false };
const CUT_OFF: NodeState = NodeState { stopped: false, unplugged: true, unheard: true, cordoned: false };

/// A pod like another one that only terminates: such are the last ones of a lab.
fn leaver(lab: &mut Lab, like: usize, ip: &str) {
    let pod = Pod { name: sample::parsed("old"), ip: sample::parsed(ip), terminating: true, ..lab.pods[like].clone() };
    lab.pods.push(pod);
}

fn lab() -> Lab {
    let mut lab = sample::everything();
    lab.nodes[0].zone = Some(sample::parsed("west"));
    lab.nodes[1].zone = Some(sample::parsed("east"));
    for (name, ip, distribution) in [
        ("near", "10.96.1.8", TrafficDistribution::PreferSameZone),
        ("here", "10.96.1.9", TrafficDistribution::PreferSameNode),
    ] {
        let service = sample::service(&mut lab, name, ip, "cs-pod");
        service.traffic_distribution = Some(distribution);
        service.ports = vec![sample::port(None, Protocol::Tcp, 80, 80, None)];
    }
    lab
}

/// What the nodes load that are on, by their names.
fn loaded(lab: &Lab, mode: ProxyMode) -> Vec<(String, Rules)> {
    let views = view::views_under(lab, &conditions(lab)).into_iter();
    let on = views.filter(|view| !lab.node(view.node).state.stopped);
    on.map(|view| (view.name.to_string(), Rules::new(mode, view))).collect()
}

#[test]
fn what_stays_is_left_out_and_nothing_else() {
    let mut other = lab();
    for (what, happens, changed) in NEWS {
        let (lab, mut next) = (self::lab(), self::lab());
        happens(&mut next);
        for mode in ProxyMode::ALL {
            check(what, &lab, &next, mode, Some(changed));
            check(&format!("undone: {what}"), &next, &lab, mode, None);
            check(&format!("after another: {what}"), &other, &next, mode, None);
        }
        other = next;
    }
}

fn check(what: &str, lab: &Lab, next: &Lab, mode: ProxyMode, changed: Option<usize>) {
    let (had, wanted) = (loaded(lab, mode), loaded(next, mode));
    let (mut memo, mut nodes) = (Memo::default(), 0);
    for (name, new) in &wanted {
        let id = next.node_ids().find(|id| next.node(*id).name.as_str() == name).expect("the node");
        assert_eq!(new.to_text(), render(mode, &view::alone(next, id)), "{what}: what {name} shares with others");
        let Some((_, old)) = had.iter().find(|(other, _)| other == name) else { continue };
        let scratch = transaction(mode, &old.to_text(), &new.to_text());
        assert_eq!(change(old, new, &mut memo), scratch, "{what}: {mode:?} of {name}");
        assert_eq!(old == new, old.to_text() == new.to_text(), "{what}: {mode:?} of {name}");
        nodes += usize::from(scratch.is_some());
    }
    if let Some(changed) = changed.filter(|_| mode == ProxyMode::Nftables) {
        assert_eq!(nodes, changed, "{what}");
        assert_eq!(differences(lab, next).is_empty(), what.ends_with("nothing"), "{what}");
    }
}
