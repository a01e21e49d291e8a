//! What a running lab was told of its nodes.

use std::collections::BTreeSet;

use super::Overrides;
use crate::lab::{
    kept::Kept,
    model::{Lab, NodeState},
};

impl Overrides {
    /// What was told of a node.
    pub fn node(&self, name: &str) -> NodeState {
        self.nodes.get(name).copied().unwrap_or_default()
    }

    /// From now on a node is so.
    pub fn set_node(&mut self, name: &str, state: NodeState) {
        match state == NodeState::default() {
            true => self.nodes.remove(name),
            false => self.nodes.insert(name.to_owned(), state),
        };
    }

    /// What the things of a lab keep when it is read again: its pods stay where they are, and new ones
    /// are not placed on nodes that take none. A pod that was deleted is a new one when it comes back.
    pub fn kept(&self, whole: &Lab) -> Kept {
        let name = |node: &crate::lab::model::Node| node.name.to_string();
        let closed = |node: &&crate::lab::model::Node| !self.node(node.name.as_str()).is_schedulable();
        let closed: BTreeSet<String> = whole.nodes.iter().filter(closed).map(name).collect();
        let nowhere = closed.len() == whole.nodes.len();
        Kept::of(whole).closing(closed).evicting(|pod| !nowhere && self.deleted.contains(pod))
    }

    pub(super) fn over_nodes(&self, lab: &mut Lab) {
        for node in &mut lab.nodes {
            node.state = self.node(node.name.as_str());
        }
    }

    pub(super) fn keep_known_nodes(&mut self, whole: &Lab) {
        self.nodes.retain(|name, _| whole.nodes.iter().any(|node| node.name.as_str() == name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{load, load_after, scaled};

    const LAB: &str = r#"
        [dns]
        engine = "none"
        [[node]]
        name = "node1"
        [[node]]
        name = "node2"
        [[pod]]
        name = "web"
        replicas = 4
        [[pod]]
        name = "agent"
        host_network = true
        [[pod]]
        name = "pinned"
        node = "node2"
    "#;

    fn again(text: &str, was: &Lab, overrides: &Overrides) -> Lab {
        let lab = load_after(text, &was.name, &overrides.kept(was));
        lab.unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn places(lab: &Lab) -> Vec<String> {
        lab.pods.iter().map(|pod| format!("{} {}", pod.name, lab.node(pod.node).name)).collect()
    }

    fn cordoned(node: &str) -> Overrides {
        let mut overrides = Overrides::default();
        overrides.set_node(node, NodeState { cordoned: true, ..NodeState::default() });
        overrides
    }

    #[test]
    fn a_cordoned_node_keeps_its_pods_and_takes_no_others() {
        let lab = load(LAB).unwrap();
        let overrides = cordoned("node2");
        assert_eq!(places(&again(LAB, &lab, &overrides)), places(&lab));
        let more = scaled(LAB, "web", 8).unwrap();
        let scaled = again(&more, &lab, &overrides);
        let new: Vec<_> = places(&scaled).into_iter().filter(|it| !places(&lab).contains(it)).collect();
        assert_eq!(new, ["web-4 node1", "web-5 node1", "web-6 node1", "web-7 node1"]);
        // Whoever asks for it by name gets it.
        let named = again(&format!("{LAB}\n[[pod]]\nname = \"more\"\nnode = \"node2\"\n"), &lab, &overrides);
        assert!(places(&named).contains(&"more node2".to_owned()));
        let uncordoned = again(&more, &lab, &Overrides::default());
        assert!(places(&uncordoned).contains(&"web-5 node2".to_owned()));
    }

    #[test]
    fn the_same_holds_for_one_that_is_not_ready() {
        let lab = load(LAB).unwrap();
        let more = scaled(LAB, "web", 8).unwrap();
        for state in [
            NodeState { stopped: true, ..NodeState::default() },
            NodeState { unplugged: true, unheard: true, ..NodeState::default() },
        ] {
            let mut overrides = Overrides::default();
            overrides.set_node("node1", state);
            let scaled = again(&more, &lab, &overrides);
            assert!(places(&scaled).contains(&"web-4 node2".to_owned()), "{:?}", places(&scaled));
        }
    }

    #[test]
    fn a_deleted_pod_comes_back_elsewhere() {
        let lab = load(LAB).unwrap();
        let mut overrides = cordoned("node2");
        for pod in ["web-0", "pinned"] {
            overrides.delete(pod);
        }
        let all = ["web-0 node1", "web-1 node1", "web-2 node2", "web-3 node1", "agent node2", "pinned node2"];
        assert_eq!(places(&lab), all);
        overrides.set_node("node1", overrides.node("node2"));
        overrides.set_node("node2", NodeState::default());
        let back = again(LAB, &lab, &overrides);
        let all = ["web-0 node2", "web-1 node1", "web-2 node2", "web-3 node1", "agent node2", "pinned node2"];
        assert_eq!(places(&back), all);
    }

    #[test]
    fn a_pod_finds_no_node() {
        let lab = load(LAB).unwrap();
        let mut overrides = cordoned("node1");
        overrides.set_node("node2", NodeState { stopped: true, ..NodeState::default() });
        let more = scaled(LAB, "web", 5).unwrap();
        let problems = load_after(&more, &lab.name, &overrides.kept(&lab)).unwrap_err();
        assert_eq!(problems.0[0].message, "no node takes the pod \"web-4\": each is cordoned or not ready");
        // Those that are there stay, and what is gone already asks for no place.
        overrides.delete("web-0");
        assert_eq!(places(&again(LAB, &lab, &overrides)), places(&lab));
    }

    #[test]
    fn states_are_written_down_and_forgotten_with_their_nodes() {
        let lab = load(LAB).unwrap();
        let mut overrides = cordoned("node2");
        let text = serde_json::to_string(&overrides).unwrap();
        assert_eq!(serde_json::from_str::<Overrides>(&text).unwrap(), overrides);
        assert!(overrides.over(&lab).nodes[1].state.cordoned && !overrides.over(&lab).nodes[0].state.cordoned);
        let after = overrides.after_apply(&BTreeSet::new());
        assert_eq!(after, overrides);
        overrides.keep_known(&load("[[node]]\nname = \"other\"\n[[pod]]\nname = \"x\"\n").unwrap());
        assert_eq!(overrides, Overrides::default());
    }
}
