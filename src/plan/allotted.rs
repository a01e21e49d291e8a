//! Interface indices and names of client networks: given once, and kept while a lab changes.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::step::{IfIndex, Link, Plan, Step};

/// The first index given. `lo` has 1 in every namespace; some kernels put fallback tunnel
/// devices (`tunl0`, `sit0`, …) into every new namespace, right after it.
const FIRST_INDEX: u32 = 100;

/// What has been given to whom.
#[derive(Debug, Clone)]
pub struct Allotted {
    /// By namespace and name.
    indices: BTreeMap<(String, String), IfIndex>,
    /// Never lower than any index given, so that none is given a second time.
    next: u32,
    networks: BTreeMap<IpNet, String>,
}

impl Default for Allotted {
    fn default() -> Self {
        Allotted { indices: BTreeMap::new(), next: FIRST_INDEX, networks: BTreeMap::new() }
    }
}

impl Allotted {
    /// What a plan has given.
    pub fn of(plan: &Plan) -> Self {
        let mut allotted = Allotted::default();
        let bridge = |link: &Link| link.netns == "host" && link.name.starts_with("net");
        for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
            match &step.step {
                Step::Bridge { link, .. } => allotted.note(link),
                Step::Cable { near, far, .. } => {
                    allotted.note(near);
                    allotted.note(far);
                }
                Step::Address { link, address } if bridge(link) => {
                    allotted.networks.insert(address.trunc(), link.name.clone());
                }
                _ => {}
            }
        }
        allotted
    }

    /// The same, and no index that `earlier` has given is given to anything else.
    #[must_use]
    pub fn after(mut self, earlier: &Allotted) -> Self {
        self.next = self.next.max(earlier.next);
        self
    }

    fn note(&mut self, link: &Link) {
        self.indices.insert((link.netns.clone(), link.name.clone()), link.index);
        self.next = self.next.max(link.index.0 + 1);
    }

    /// The index of a link.
    pub(super) fn index(&mut self, netns: &str, name: &str) -> IfIndex {
        *self.indices.entry((netns.to_owned(), name.to_owned())).or_insert_with(|| {
            let index = IfIndex(self.next);
            self.next += 1;
            index
        })
    }

    /// The name of the bridge of a client network.
    pub(super) fn network(&mut self, network: IpNet) -> String {
        if let Some(name) = self.networks.get(&network) {
            return name.clone();
        }
        let taken: BTreeSet<&str> = self.networks.values().map(String::as_str).collect();
        let free = (0usize..).map(|number| format!("net{number}")).find(|name| !taken.contains(name.as_str()));
        let name = free.unwrap_or_default();
        self.networks.insert(network, name.clone());
        name
    }
}
