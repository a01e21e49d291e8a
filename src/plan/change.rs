//! From a lab that is up to the lab that it shall be: what goes, what comes, and nothing else.
//!
//! Places (nodes, pods, machines outside) are the unit: one that is described otherwise than before
//! is another one, under the same name; what is only beside it stays as it is.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::step::{Link, Plan, PlannedStep, Stage, StageName, Step};
use crate::lab::{
    model::{Attach, BalancerEngine, Container, DnsEngine, Lab, Node, Place, Pod, PodDns, PodId},
    name::Name,
};

/// What has to happen to a lab that is up.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Namespaces that end, with all that is in them.
    pub gone: BTreeSet<String>,
    /// The cables from namespaces that stay to those that end: the kernel would take them away some time
    /// later by itself.
    pub unplugged: Vec<PlannedStep>,
    /// Pods that end, by their full names; those on the host network have no namespace of their own.
    pub gone_pods: BTreeSet<String>,
    /// Pods whose servers start, as ids of the new lab. Some may have the names of pods that end.
    pub new_pods: Vec<PodId>,
    /// Settings of namespaces that stay, where they change.
    pub settings: Vec<PlannedStep>,
    /// What is undone in namespaces that stay, last first. Some of it goes by itself when a
    /// namespace at the other end does.
    pub undone: Vec<PlannedStep>,
    /// What is made, stage by stage; rules and servers are not among it.
    pub made: Vec<Stage>,
}

impl Change {
    /// Nothing has to happen to the network.
    pub fn is_nothing(&self) -> bool {
        let Change { gone, gone_pods, new_pods, settings, undone, made, unplugged: _ } = self;
        let nothing_made = made.iter().all(|stage| stage.steps.is_empty());
        gone.is_empty()
            && gone_pods.is_empty()
            && new_pods.is_empty()
            && settings.is_empty()
            && undone.is_empty()
            && nothing_made
    }
}

/// The key of `[cluster]` that cannot change while a lab is up, if the two differ there.
pub fn fixed(old: &Lab, new: &Lab) -> Option<&'static str> {
    let (one, other) = (&old.cluster, &new.cluster);
    let keys = [
        ("node_subnet", one.node_subnet == other.node_subnet),
        ("service_cidr", one.service_cidr == other.service_cidr),
        ("cluster_cidr", one.cluster_cidr == other.cluster_cidr),
        ("domain", one.domain == other.domain),
    ];
    keys.into_iter().find(|(_, same)| !same).map(|(key, _)| key)
}

/// The pods that stay by name only.
pub fn replaced(old: &Lab, new: &Lab) -> BTreeSet<String> {
    let (before, after) = (pods(old), pods(new));
    missing(&before, &after).into_iter().filter(|name| after.contains_key(name)).collect()
}

/// The pods that are not there (any more) in the other lab, or are others there.
pub fn ending(old: &Lab, new: &Lab) -> BTreeSet<String> {
    missing(&pods(old), &pods(new))
}

/// Compares a lab with what it shall be; both with their plans, of which the new one was made after
/// what the old one has allotted.
#[expect(
    clippy::mutable_key_type,
    reason = "what is written of rules when they are first read is no part of their hash"
)]
pub fn change(old: (&Lab, &Plan), new: (&Lab, &Plan)) -> Change {
    let (before, after) = (places(old.0), places(new.0));
    let gone = missing(&before, &after);
    let fresh = missing(&after, &before);
    let (pods_before, pods_after) = (pods(old.0), pods(new.0));
    let gone_pods = missing(&pods_before, &pods_after);
    let new_names = missing(&pods_after, &pods_before);
    let new_pods = new.0.pod_ids().filter(|pod| new_names.contains(&new.0.pod(*pod).full_name())).collect();

    let touches = |step: &Step, names: &BTreeSet<String>| {
        !names.is_empty() && step.namespaces().iter().any(|netns| names.contains(*netns))
    };
    let of_interest = |it: &&PlannedStep| it.step.is_wiring() || matches!(it.step, Step::Netns { .. });
    let kept: Vec<&PlannedStep> = steps(old.1).filter(of_interest).filter(|it| !touches(&it.step, &gone)).collect();
    let had: HashSet<&Step> = kept.iter().map(|it| &it.step).collect();
    let stays = steps(new.1).filter(of_interest).filter(|it| !touches(&it.step, &fresh));
    let held: HashSet<Cow<'_, Step>> = stays.map(|it| it.step.slot()).collect();
    // Where it leads is for the load balancer to say, which knows how the nodes are.
    let spread: HashSet<Cow<'_, Step>> =
        kept.iter().filter(|it| it.step.is_spread()).map(|it| it.step.slot()).collect();
    let is_kept = |step: &Step| had.contains(step) || (step.is_spread() && spread.contains(&step.slot()));
    let is_made = |it: &PlannedStep| touches(&it.step, &fresh) || (it.step.is_wiring() && !is_kept(&it.step));
    let plugged: HashSet<&Link> = steps(new.1)
        .filter(|it| is_made(it))
        .filter_map(|it| match &it.step {
            Step::Cable { near, .. } => Some(near),
            _ => None,
        })
        .collect();
    // The near end of a new cable is in a namespace that stays, and would have no carrier for some time.
    let is_new = |it: &PlannedStep| is_made(it) || matches!(&it.step, Step::Settle { link } if plugged.contains(link));
    let undone = kept.iter().rev().filter(|it| it.step.is_wiring() && !held.contains(&it.step.slot()));
    let settings = steps(new.1)
        .filter(|it| matches!(it.step, Step::Netns { .. }) && !touches(&it.step, &fresh) && !had.contains(&it.step));
    let stages = new.1.stages.iter().filter(|stage| !matches!(stage.name, StageName::Rules | StageName::Servers));
    let made = stages
        .map(|stage| Stage { name: stage.name, steps: stage.steps.iter().filter(|it| is_new(it)).cloned().collect() });
    let cables = steps(old.1).filter(|it| match &it.step {
        Step::Cable { near, far, .. } => gone.contains(&far.netns) && !gone.contains(&near.netns),
        _ => false,
    });
    Change {
        unplugged: cables.cloned().collect(),
        settings: settings.cloned().collect(),
        undone: undone.map(|it| (*it).clone()).collect(),
        made: made.collect(),
        gone,
        gone_pods,
        new_pods,
    }
}

fn steps(plan: &Plan) -> impl Iterator<Item = &PlannedStep> {
    plan.stages.iter().flat_map(|stage| &stage.steps)
}

/// The names in `one` that are not in `other`, or stand for something else there.
fn missing<T: PartialEq>(one: &BTreeMap<String, T>, other: &BTreeMap<String, T>) -> BTreeSet<String> {
    one.iter().filter(|(name, it)| other.get(*name) != Some(*it)).map(|(name, _)| name.clone()).collect()
}

/// What makes a place what it is.
#[derive(PartialEq)]
enum Kind<'a> {
    Host,
    Node(OfNode<'a>),
    Pod(OfPod<'a>),
    Client(IpNet),
    External(&'a [IpAddr]),
    LoadBalancer(Option<(IpAddr, BalancerEngine)>),
}

/// What cannot change in a node.
#[derive(PartialEq)]
struct OfNode<'a>(&'a Name, IpAddr, IpNet, &'a Attach);

/// What cannot change in a pod: all but its labels and its state. Places in the file are left out.
struct OfPod<'a> {
    node: OfNode<'a>,
    ip: IpAddr,
    host_network: bool,
    names: (&'a Option<Name>, &'a Option<Name>, &'a PodDns),
    enable_service_links: bool,
    containers: &'a [Container],
    dns_engine: Option<DnsEngine>,
}

impl PartialEq for OfPod<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
            && self.ip == other.ip
            && self.host_network == other.host_network
            && self.names == other.names
            && self.enable_service_links == other.enable_service_links
            && self.dns_engine == other.dns_engine
            && Container::are_alike(self.containers, other.containers)
    }
}

/// Every namespace, with what makes it what it is.
fn places(lab: &Lab) -> BTreeMap<String, Kind<'_>> {
    let kind = |place| match place {
        Place::Host => Kind::Host,
        Place::Node(id) => Kind::Node(node(lab.node(id))),
        Place::Pod(id) => Kind::Pod(pod(lab, lab.pod(id))),
        Place::Client(id) => Kind::Client(lab.client(id).ip),
        Place::External(id) => Kind::External(&lab.external(id).ips),
        Place::LoadBalancer => Kind::LoadBalancer(lab.load_balancer.as_ref().map(|it| (it.ip, it.engine))),
    };
    lab.present_places().into_iter().map(|place| (lab.netns(place), kind(place))).collect()
}

/// Every pod, with what makes it what it is.
fn pods(lab: &Lab) -> BTreeMap<String, OfPod<'_>> {
    let present = lab.pod_ids().filter(|id| !lab.is_off(lab.pod_place(*id))).map(|id| lab.pod(id));
    present.map(|it| (it.full_name(), pod(lab, it))).collect()
}

fn node(node: &Node) -> OfNode<'_> {
    OfNode(&node.name, node.ip, node.pod_subnet, &node.attach)
}

fn pod<'a>(lab: &'a Lab, pod: &'a Pod) -> OfPod<'a> {
    OfPod {
        node: node(lab.node(pod.node)),
        ip: pod.ip,
        host_network: pod.host_network,
        names: (&pod.hostname, &pod.subdomain, &pod.dns),
        enable_service_links: pod.enable_service_links,
        containers: &pod.containers,
        dns_engine: lab.dns.as_ref().filter(|_| pod.serves_dns()).map(|dns| dns.engine),
    }
}

impl Step {
    /// The namespaces that it is about.
    fn namespaces(&self) -> Vec<&str> {
        match self {
            Step::Cable { near, far, .. } | Step::Unplug { near, far } => vec![&near.netns, &far.netns],
            other => vec![other.netns()],
        }
    }

    /// It makes a part of the network that stays until it is undone.
    pub fn is_wiring(&self) -> bool {
        match self {
            Step::Bridge { .. }
            | Step::Cable { .. }
            | Step::Unplug { .. }
            | Step::Address { .. }
            | Step::Route { .. }
            | Step::Neighbour { .. }
            | Step::Refuse { .. }
            | Step::Spread { .. } => true,
            Step::Netns { .. }
            | Step::Loopback { .. }
            | Step::Settle { .. }
            | Step::Rules { .. }
            | Step::Serve { .. }
            | Step::ServeOutside { .. }
            | Step::ServeNames { .. }
            | Step::ServeHealth { .. }
            | Step::ServeBalancer { .. } => false,
        }
    }

    /// It leads to the nodes that are healthy.
    fn is_spread(&self) -> bool {
        matches!(self, Step::Spread { .. })
    }

    /// What it sets, whatever to: one that sets the same makes undoing it needless.
    fn slot(&self) -> Cow<'_, Step> {
        match self {
            Step::Spread { link, to, .. } => {
                Cow::Owned(Step::Spread { link: link.clone(), to: *to, gateways: Vec::new() })
            }
            other => Cow::Borrowed(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::NodeState,
        plan::{Allotted, plan, plan_after},
    };

    const LAB: &str = r#"
        [[node]]
        name = "node1"
        [[node]]
        name = "node2"
        attach = "routed"
        [[pod]]
        name = "a"
        node = "node1"
        [[pod]]
        name = "b"
        node = "node2"
        labels = { app = "b" }
        [[client]]
        name = "laptop"
        ip = "192.0.2.10/24"
        [[service]]
        name = "b"
        selector = { app = "b" }
        ports = [{ port = 80 }]
        [dns]
        engine = "none"
    "#;

    fn lab(text: &str) -> Lab {
        crate::lab::load(text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn between(old: &str, new: &str) -> (Change, Lab) {
        let (old, new) = (lab(old), lab(new));
        let before = plan(&old);
        let after = plan_after(&new, Allotted::of(&before));
        (change((&old, &before), (&new, &after)), new)
    }

    fn printed<'a>(steps: impl IntoIterator<Item = &'a PlannedStep>) -> Vec<String> {
        steps.into_iter().map(|it| it.step.to_string()).collect()
    }

    fn made(change: &Change) -> Vec<String> {
        printed(change.made.iter().flat_map(|stage| &stage.steps))
    }

    #[test]
    fn nothing_changes_nothing() {
        assert!(between(LAB, LAB).0.is_nothing());
        // Comments, and so all places in the file, are different; nothing else is.
        assert!(between(LAB, &format!("# another file\n\n{LAB}")).0.is_nothing());
    }

    #[test]
    fn labels_and_services_are_no_wiring() {
        let new = LAB.replace("app = \"b\"", "app = \"c\"").replace("port = 80", "port = 81");
        assert!(between(LAB, &new).0.is_nothing());
    }

    #[test]
    fn a_pod_in_front_of_others_changes_no_other() {
        let (change, new) = between(LAB, &format!("{LAB}\n[[pod]]\nname = \"c\"\nnode = \"node1\"\n"));
        assert!(change.gone.is_empty() && change.undone.is_empty() && change.settings.is_empty());
        assert_eq!(change.new_pods.iter().map(|pod| new.pod(*pod).full_name()).collect::<Vec<_>>(), ["c"]);
        let made = made(&change);
        assert!(made.iter().all(|line| line.contains(" c") || line.contains("veth-c")), "{made:#?}");
        let settled = made.iter().filter(|line| line.contains("link show dev")).count();
        assert_eq!(settled, 2, "both ends of its veth: {made:#?}");
        let first = format!("[[pod]]\nname = \"0\"\nnode = \"node1\"\nip = \"10.244.0.99\"\n{LAB}");
        let (change, new) = between(LAB, &first);
        assert!(change.gone.is_empty() && change.undone.is_empty(), "{change:?}");
        assert_eq!(change.new_pods.iter().map(|pod| new.pod(*pod).full_name()).collect::<Vec<_>>(), ["0"]);
    }

    #[test]
    fn a_pod_with_another_program_is_another_pod() {
        let new = LAB.replace("name = \"a\"", "name = \"a\"\n        server = \"python\"");
        let (change, new) = between(LAB, &new);
        assert_eq!(change.gone, BTreeSet::from(["a".to_owned()]));
        assert_eq!(change.gone_pods, change.gone);
        assert_eq!(change.new_pods.iter().map(|pod| new.pod(*pod).full_name()).collect::<Vec<_>>(), ["a"]);
        // Its veth goes with its namespace.
        assert!(change.undone.is_empty(), "{:?}", printed(&change.undone));
        assert!(made(&change)[0].starts_with("ip netns add a\n"), "{:?}", made(&change));
    }

    #[test]
    fn a_node_that_goes_leaves_no_routes() {
        let new = LAB
            .replace("[[node]]\n        name = \"node2\"\n        attach = \"routed\"\n", "")
            .replace("node2", "node1");
        let (change, _) = between(LAB, &new);
        // Its pod comes again on the other node.
        assert_eq!(change.gone, BTreeSet::from(["node2".to_owned(), "b".to_owned()]));
        assert_eq!(printed(&change.undone), ["ip -n node1 route add 10.244.1.0/24 via 10.30.45.12 dev eth0"]);
    }

    /// The lab, with its second node in this state.
    fn with(state: NodeState) -> Lab {
        let mut lab = lab(LAB);
        lab.nodes[1].state = state;
        lab
    }

    #[test]
    fn a_cable_is_pulled_and_plugged_in() {
        let (whole, cut) = (lab(LAB), with(NodeState { unplugged: true, ..NodeState::default() }));
        let before = plan(&whole);
        let after = plan_after(&cut, Allotted::of(&before));
        let pulled = change((&whole, &before), (&cut, &after));
        assert_eq!(made(&pulled), ["ip link set veth-node2 down"]);
        assert!(pulled.gone.is_empty() && pulled.undone.is_empty());
        let plugged = change((&cut, &after), (&whole, &before));
        assert!(plugged.gone.is_empty() && made(&plugged).is_empty());
        let undone: Vec<String> = plugged.undone.iter().map(|it| it.step.undoing()).collect();
        assert_eq!(undone, ["ip link set veth-node2 up"]);
    }

    #[test]
    fn a_node_without_power_is_nowhere_and_comes_again() {
        let (whole, off) = (lab(LAB), with(NodeState { stopped: true, unplugged: true, ..NodeState::default() }));
        let before = plan(&whole);
        let after = plan_after(&off, Allotted::of(&before));
        let stopped = change((&whole, &before), (&off, &after));
        let gone = BTreeSet::from(["node2".to_owned(), "b".to_owned()]);
        assert_eq!((&stopped.gone, &stopped.gone_pods), (&gone, &["b".to_owned()].into()));
        // The routes of others stay: they know nothing of it.
        assert!(stopped.undone.is_empty() && made(&stopped).is_empty(), "{:?}", printed(&stopped.undone));
        assert_eq!(printed(&stopped.unplugged).len(), 1);
        assert!(steps(&after).all(|it| !it.step.namespaces().contains(&"node2")));
        let cut = with(NodeState { unplugged: true, ..NodeState::default() });
        let again = plan_after(&cut, Allotted::of(&after));
        let started = change((&off, &after), (&cut, &again));
        assert!(started.gone.is_empty() && started.undone.is_empty());
        assert_eq!(started.new_pods.iter().map(|pod| cut.pod(*pod).full_name()).collect::<Vec<_>>(), ["b"]);
        let made = made(&started);
        assert!(made[0].starts_with("ip netns add node2"), "{made:#?}");
        assert!(made.contains(&"ip link set veth-node2 down".to_owned()), "{made:#?}");
    }

    #[test]
    fn no_index_is_given_twice() {
        let without = LAB.replace("[[pod]]\n        name = \"a\"\n        node = \"node1\"\n", "");
        let (one, two) = (lab(LAB), lab(&without));
        let first = plan(&one);
        let second = plan_after(&two, Allotted::of(&first));
        let third = plan_after(&one, Allotted::of(&second).after(&Allotted::of(&first)));
        let index = |plan: &Plan, name: &str| {
            steps(plan).find_map(|it| match &it.step {
                Step::Cable { near, far, .. } if far.netns == name => Some((near.index, far.index)),
                _ => None,
            })
        };
        assert_eq!(index(&first, "b"), index(&third, "b"));
        assert_eq!(index(&second, "a"), None);
        assert!(index(&third, "a") > index(&first, "laptop"), "{:?}", index(&third, "a"));
    }

    #[test]
    fn the_proxy_mode_changes_settings_only() {
        let new = format!("[cluster]\nproxy = \"nftables\"\n{LAB}");
        let (change, _) = between(LAB, &new);
        assert!(change.gone.is_empty() && change.undone.is_empty() && made(&change).is_empty());
        assert_eq!(change.settings.iter().map(|it| it.step.netns()).collect::<Vec<_>>(), ["node1", "node2"]);
    }

    #[test]
    fn networks_are_for_good() {
        let other = |cidr| format!("[cluster]\n{cidr}\n{LAB}");
        assert_eq!(fixed(&lab(LAB), &lab(&other("service_cidr = \"10.97.0.0/16\""))), Some("service_cidr"));
        assert_eq!(fixed(&lab(LAB), &lab(&other("domain = \"example.org\""))), Some("domain"));
        assert_eq!(fixed(&lab(LAB), &lab(LAB)), None);
    }
}
