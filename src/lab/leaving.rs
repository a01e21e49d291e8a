//! Pods that the lab shall not have any more and that still run: they are terminating.
//!
//! A pod leaves as it was: it is read again from the text that it came from. While it is there, what
//! would need its name, its address, its ports of the node, or its node as another one, has to wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};

use super::{
    Kept, load_after,
    model::{Lab, Node, NodeId, Pod, Protocol},
};

/// Those pods, the longest gone from the file first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Leaving(Vec<Group>);

/// Pods that came from the same text.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Group {
    text: String,
    kept: Kept,
    /// By full name.
    pods: BTreeMap<String, Leaver>,
    /// The lab of that text, once it has been read again.
    #[serde(skip)]
    lab: OnceLock<Option<Arc<Lab>>>,
}

/// How a pod leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Leaver {
    /// It was ready when it began.
    ready: bool,
    /// It has gone, and only who waits for that does not know yet.
    gone: bool,
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.kept, &self.pods) == (&other.text, &other.kept, &other.pods)
    }
}

impl Eq for Group {}

impl Group {
    fn lab(&self) -> Option<&Lab> {
        let read = || {
            let name = "lab".parse().ok()?;
            load_after(&self.text, &name, &self.kept).ok().map(Arc::new)
        };
        self.lab.get_or_init(read).as_deref()
    }

    /// Its pods, each with its node.
    fn each(&self) -> impl Iterator<Item = (&Pod, &Node, Leaver)> {
        let lab = self.lab();
        lab.into_iter().flat_map(|lab| &lab.pods).filter_map(move |pod| {
            let leaver = self.pods.get(&pod.full_name())?;
            Some((pod, lab?.node(pod.node), *leaver))
        })
    }
}

impl Leaving {
    /// Nobody leaves.
    pub(super) fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }

    /// The pods' full names.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|group| group.pods.keys())
    }

    /// A pod of this name leaves.
    pub(super) fn has(&self, pod: &str) -> bool {
        self.0.iter().any(|group| group.pods.contains_key(pod))
    }

    /// These pods of the lab of a text leave; each with whether it is ready.
    pub(super) fn add(&mut self, text: &str, whole: &Arc<Lab>, pods: BTreeMap<String, bool>) {
        if pods.is_empty() {
            return;
        }
        let pods = pods.into_iter().map(|(pod, ready)| (pod, Leaver { ready, gone: false })).collect();
        let lab = OnceLock::from(Some(Arc::clone(whole)));
        self.0.push(Group { text: text.to_owned(), kept: Kept::of(whole), pods, lab });
    }

    /// These have gone; what waits for that may not come yet.
    pub(super) fn are_gone(&mut self, pods: &BTreeSet<String>) {
        let all = self.0.iter_mut().flat_map(|group| &mut group.pods);
        all.filter(|(pod, _)| pods.contains(*pod)).for_each(|(_, leaver)| leaver.gone = true);
    }

    /// Nobody waits for these any more.
    pub(super) fn forget(&mut self, pods: &BTreeSet<String>) {
        self.0.iter_mut().for_each(|group| group.pods.retain(|pod, _| !pods.contains(pod)));
        self.0.retain(|group| !group.pods.is_empty());
    }

    /// Which pods of a lab can be there already, one by one.
    pub(super) fn lets(&self, lab: &Lab) -> Vec<bool> {
        let all: Vec<_> = self.0.iter().flat_map(Group::each).collect();
        let waits = |pod: &Pod| {
            let node = lab.node(pod.node);
            all.iter().any(|(leaver, its_node, _)| clash((pod, node), (leaver, its_node)))
        };
        lab.pods.iter().map(|pod| !waits(pod)).collect()
    }

    /// Adds the pods that are still there, as far as the lab has a place for them.
    pub(super) fn join(&self, lab: &mut Lab) {
        for (pod, node, leaver) in self.0.iter().flat_map(Group::each) {
            if leaver.gone || is_taken(lab, &pod.full_name()) {
                continue;
            }
            let Some(node) = place(lab, node) else { continue };
            let mut pod = Pod { node, ready: leaver.ready, terminating: true, at: 0..0, ..pod.clone() };
            pod.containers.iter_mut().for_each(|container| container.at = 0..0);
            lab.pods.push(pod);
        }
    }
}

/// Two pods cannot be there at the same time.
fn clash((one, its_node): (&Pod, &Node), (other, other_node): (&Pod, &Node)) -> bool {
    let same_node = its_node.name == other_node.name;
    let same_address = !one.host_network && !other.host_network && one.ip == other.ip;
    let same_name = one.name == other.name && one.namespace == other.namespace;
    let same_port = || !node_ports(one).is_disjoint(&node_ports(other));
    same_name || same_address || (same_node && (!is_same(its_node, other_node) || same_port()))
}

/// The ports of its node that a pod needs.
fn node_ports(pod: &Pod) -> BTreeSet<(u16, Protocol)> {
    let ports = pod.containers.iter().flat_map(|container| &container.ports);
    let port = |port: &super::model::ContainerPort| match &port.host_port {
        _ if pod.host_network => Some((port.container_port, port.protocol)),
        Some(host) => Some((host.port, port.protocol)),
        None => None,
    };
    ports.filter_map(port).collect()
}

/// Nothing has to be built anew for a node to become the other.
fn is_same(one: &Node, other: &Node) -> bool {
    (one.ip, one.pod_subnet, &one.attach) == (other.ip, other.pod_subnet, &other.attach)
}

/// Another thing of the lab has this name.
fn is_taken(lab: &Lab, name: &str) -> bool {
    lab.find(name).is_some() || lab.pods.iter().any(|pod| pod.is_called(name))
}

/// The node of that name, as it was: in the place of the one that comes, or besides. `None` if there
/// is no place for it.
fn place(lab: &mut Lab, was: &Node) -> Option<NodeId> {
    let at = lab.nodes.iter().position(|node| node.name == was.name);
    if at.is_some_and(|at| is_same(&lab.nodes[at], was)) {
        return at.map(NodeId);
    }
    let overlap = |node: &Node| {
        let (one, other) = (&node.pod_subnet, &was.pod_subnet);
        node.ip == was.ip || one.contains(&other.network()) || other.contains(&one.network())
    };
    let clashes = lab.nodes.iter().enumerate().any(|(nth, node)| Some(nth) != at && overlap(node));
    let balancer = lab.load_balancer.as_ref().is_some_and(|balancer| balancer.ip == was.ip);
    let new_pods = at.is_some_and(|at| lab.pods.iter().any(|pod| pod.node == NodeId(at)));
    if clashes || balancer || new_pods || (at.is_none() && is_taken(lab, was.name.as_str())) {
        return None;
    }
    let node = Node { at: 0..0, ..was.clone() };
    Some(NodeId(match at {
        Some(at) => {
            lab.nodes[at] = node;
            at
        }
        None => {
            lab.nodes.push(node);
            lab.nodes.len() - 1
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Overrides, load};

    const LAB: &str = r#"
        [dns]
        engine = "none"
        [[node]]
        name = "node1"
        [[node]]
        name = "node2"
        [[pod]]
        name = "web-0"
        node = "node1"
        labels = { app = "web" }
        [[pod]]
        name = "web-1"
        node = "node2"
        labels = { app = "web" }
        [[pod]]
        name = "edge"
        node = "node2"
        host_network = true
        [[service]]
        name = "web"
        selector = { app = "web" }
        ports = [{ port = 80 }]
        [[probe]]
        name = "all"
        from = "edge"
        url = "http://web/"
        expect = { backends = ["web-0", "web-1"] }
    "#;

    /// The lab with `edge` only.
    fn fewer() -> String {
        let (head, rest) = LAB.split_once("[[pod]]").unwrap();
        let (_, edge) = rest.rsplit_once("[[pod]]").unwrap();
        let (edge, _) = edge.split_once("[[service]]").unwrap();
        format!("{head}[[pod]]{edge}")
    }

    fn lab(text: &str) -> Arc<Lab> {
        Arc::new(load(text).unwrap_or_else(|problems| panic!("{problems:?}")))
    }

    /// `web-0 node1 10.244.0.2 ready`
    fn pods(lab: &Lab) -> Vec<String> {
        let words = |pod: &Pod| {
            let how = match (pod.ready, pod.terminating) {
                (true, false) => "ready",
                (true, true) => "leaves",
                (false, true) => "leaves unready",
                (false, false) => "unready",
            };
            format!("{} {} {} {how}", pod.full_name(), lab.node(pod.node).name, pod.ip)
        };
        lab.pods.iter().map(words).collect()
    }

    /// These pods of the first lab leave while the lab becomes the other.
    fn leave(which: &[&str]) -> Overrides {
        let mut overrides = Overrides::default();
        let pods = which.iter().map(|pod| ((*pod).to_owned(), *pod != "web-1")).collect();
        overrides.leave(LAB, &lab(LAB), pods);
        // As it is written down and read again.
        let text = serde_json::to_string(&overrides).unwrap();
        let read: Overrides = serde_json::from_str(&text).unwrap();
        assert_eq!(read, overrides);
        read
    }

    #[test]
    fn who_leaves_is_there_and_terminating() {
        let fewer = lab(&fewer());
        let mut overrides = leave(&["web-0", "web-1"]);
        let all =
            ["edge node2 10.30.45.12 ready", "web-0 node1 10.244.0.2 leaves", "web-1 node2 10.244.1.2 leaves unready"];
        assert_eq!(pods(&overrides.over(&fewer)), all);
        assert_eq!(pods(&overrides.settled().over(&fewer)), all[..1]);
        overrides.make_ready("web-0", false);
        assert_eq!(pods(&overrides.over(&fewer))[1], "web-0 node1 10.244.0.2 leaves unready");
        let gone = ["web-0".to_owned()].into();
        overrides.are_gone(&gone);
        overrides.make_way(&gone);
        assert_eq!(pods(&overrides.over(&fewer)), [all[0], all[2]]);
        assert_eq!(overrides.leaving(), ["web-1".to_owned()].into());
    }

    #[test]
    fn who_comes_under_the_same_name_waits() {
        let mut overrides = leave(&["web-0"]);
        let over = overrides.over(&lab(LAB));
        assert_eq!(
            pods(&over),
            ["web-1 node2 10.244.1.2 ready", "edge node2 10.30.45.12 ready", "web-0 node1 10.244.0.2 leaves"]
        );
        let expected: Vec<String> = over.probes[0].expect.backends.iter().map(|id| over.pod(*id).full_name()).collect();
        assert_eq!(expected, ["web-1"]);
        let gone = ["web-0".to_owned()].into();
        overrides.are_gone(&gone);
        assert_eq!(overrides.over(&lab(LAB)).pods.len(), 2, "not yet");
        overrides.make_way(&gone);
        assert_eq!(pods(&overrides.over(&lab(LAB))), pods(&lab(LAB)));
        assert_eq!(overrides, Overrides::default());
    }

    #[test]
    fn who_needs_the_same_waits() {
        let overrides = leave(&["web-0", "edge"]);
        let names = |more: &str| {
            let text = fewer().replace("\"edge\"", "\"other\"") + more;
            pods(&overrides.over(&lab(&text)))
                .iter()
                .map(|it| it.split(' ').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        // `other` has the ports of `edge`, on the same node.
        assert_eq!(names(""), ["web-0", "edge"]);
        assert_eq!(names("[[pod]]\nname = \"new\"\nip = \"10.244.0.2\"\n"), ["web-0", "edge"]);
        assert_eq!(names("[[pod]]\nname = \"new\"\nip = \"10.244.0.3\"\n"), ["new", "web-0", "edge"]);
    }

    #[test]
    fn a_node_stays_for_its_pods() {
        let without = LAB.replace("[[node]]\n        name = \"node2\"\n", "").replace("\"node2\"", "\"node1\"");
        let mut overrides = leave(&["web-1", "edge"]);
        let over = overrides.over(&lab(&without));
        assert_eq!(over.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["node1", "node2"]);
        assert_eq!(
            pods(&over),
            ["web-0 node1 10.244.0.2 ready", "web-1 node2 10.244.1.2 leaves unready", "edge node2 10.30.45.12 leaves"]
        );
        // Another one under the same name waits, with all its pods.
        let other = LAB.replace("name = \"node2\"", "name = \"node2\"\n        attach = \"routed\"");
        let over = overrides.over(&lab(&other));
        assert_eq!(over.node(NodeId(1)).attach, lab(LAB).node(NodeId(1)).attach);
        assert_eq!(over.pods.len(), 3);
        assert!(over.pods[1..].iter().all(|pod| pod.terminating && pod.node == NodeId(1)));
        overrides.are_gone(&["web-1".to_owned(), "edge".to_owned()].into());
        assert_eq!(overrides.over(&lab(&other)).node(NodeId(1)).attach, crate::lab::model::Attach::Routed);
        assert_eq!(overrides.over(&lab(&other)).pods.len(), 1);
    }

    #[test]
    fn without_a_place_it_cannot_stay() {
        let taken = LAB.replace("name = \"node2\"", "name = \"node3\"").replace("\"node2\"", "\"node3\"");
        let over = leave(&["web-1"]).over(&lab(&taken));
        // `node3` has the address and the subnet of `node2`.
        assert_eq!(over.nodes.len(), 2);
        assert!(over.pods.iter().all(|pod| !pod.terminating));
    }
}
