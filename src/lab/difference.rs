//! Two labs → what is different, thing by thing and key by key, as a person would say it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::model::{
    Client, Common, Container, External, Lab, ManualEndpoint, Node, Pod, PodId, Service, ServicePort, UserExpect,
    UserProbe, UserSource,
};

/// One thing that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is: `pod`, `service`, `cluster`, …
    pub kind: String,
    /// Its name; empty for what there is only one of.
    pub name: String,
    /// What becomes of it.
    pub how: How,
}

/// What becomes of a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// It stays, and these keys of it change.
    Changed(Vec<String>),
    /// These keys of it change, for which it goes and comes again.
    Replaced(Vec<String>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { kind, name, how } = self;
        let sign = match how {
            How::Added => '+',
            How::Removed => '-',
            How::Changed(_) => '~',
            How::Replaced(_) => '!',
        };
        write!(f, "{sign} {kind}")?;
        if !name.is_empty() {
            write!(f, " {name}")?;
        }
        match how {
            How::Added | How::Removed => Ok(()),
            How::Changed(keys) => write!(f, ": {}", keys.join(", ")),
            How::Replaced(keys) => write!(f, ", which is replaced: {}", keys.join(", ")),
        }
    }
}

/// A thing's keys, each with its value as a text.
type Keys = Vec<(&'static str, String)>;

/// Things of one kind, by name.
struct Things {
    kind: &'static str,
    /// Keys that it cannot change and stay.
    fixed: &'static [&'static str],
    all: BTreeMap<String, Keys>,
}

/// Everything that is different between a lab and what it shall be.
pub fn differences(old: &Lab, new: &Lab) -> Vec<Difference> {
    // Of a big lab most things are as they were, which is sooner seen than said. Where nodes have come or
    // gone, ids do not tell any more.
    let same_nodes = old.nodes.len() == new.nodes.len()
        && old.nodes.iter().zip(&new.nodes).all(|(one, other)| one.name == other.name);
    let pods = unlike(&old.pods, &new.pods, Pod::full_name, |one, other| same_nodes && one.is_like(other));
    let services = unlike(
        &old.services,
        &new.services,
        |it| it.full_name(),
        |one, other| Common::is_same(one, other) || same_nodes && one.is_like(other),
    );
    let (old, new) = (things(old, pods.0, &services.0), things(new, pods.1, &services.1));
    old.into_iter().zip(new).flat_map(|(old, new)| old.against(&new)).collect()
}

/// Two lists of things with names, each without those that are alike in both.
fn unlike<'t, T>(
    old: &'t [T],
    new: &'t [T],
    name: impl Fn(&T) -> String,
    alike: impl Fn(&T, &T) -> bool,
) -> (Vec<&'t T>, Vec<&'t T>) {
    let same = |(one, other): &(&T, &T)| alike(one, other);
    let head = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut left: BTreeMap<String, &T> = old.iter().map(|it| (name(it), it)).collect();
    let mut fresh = Vec::new();
    for it in new {
        let name = name(it);
        match left.get(&name) {
            Some(before) if alike(before, it) => _ = left.remove(&name),
            _ => fresh.push(it),
        }
    }
    (left.into_values().collect(), fresh)
}

impl Things {
    fn of<'t, T: 't>(
        kind: &'static str,
        fixed: &'static [&'static str],
        all: impl IntoIterator<Item = &'t T>,
        name: impl Fn(&T) -> String,
        keys: impl Fn(&T) -> Keys,
    ) -> Self {
        Things { kind, fixed, all: all.into_iter().map(|thing| (name(thing), keys(thing))).collect() }
    }

    fn against(&self, new: &Things) -> Vec<Difference> {
        let difference = |name: &String, how| Difference { kind: self.kind.to_owned(), name: name.clone(), how };
        let gone = self.all.keys().filter(|name| !new.all.contains_key(*name));
        let mut all: Vec<Difference> = gone.map(|name| difference(name, How::Removed)).collect();
        for (name, keys) in &new.all {
            let Some(before) = self.all.get(name) else {
                all.push(difference(name, How::Added));
                continue;
            };
            let other = before.iter().zip(keys).filter(|(one, other)| one != other).map(|(_, (key, _))| *key);
            let other: Vec<&str> = other.collect();
            if other.is_empty() {
                continue;
            }
            let replaced = other.iter().any(|key| self.fixed.contains(key));
            let keys = other.into_iter().map(str::to_owned).collect();
            all.push(difference(name, if replaced { How::Replaced(keys) } else { How::Changed(keys) }));
        }
        all
    }
}

/// The kinds of things in the order in which they are told; the same for all labs.
fn things(lab: &Lab, pods: Vec<&Pod>, services: &[&Common<Service>]) -> Vec<Things> {
    let only = |kind, fixed, keys: Keys| Things { kind, fixed, all: [(String::new(), keys)].into() };
    let external = |it: &External| it.name.to_string();
    vec![
        only("cluster", &["node_subnet", "service_cidr", "cluster_cidr", "domain"], cluster(lab)),
        only("dns", &[], dns(lab)),
        only("load_balancer", &["name", "ip", "engine"], balancer(lab)),
        Things::of("node", &["ip", "pod_subnet", "attach"], &lab.nodes, |it| it.name.to_string(), node),
        Things::of("pod", POD, pods, Pod::full_name, |it| pod(lab, it)),
        Things::of("service", &[], services.iter().map(|it| &***it), Service::full_name, |it| service(lab, it)),
        Things::of("client", &["ip"], &lab.clients, |it| it.name.to_string(), client),
        Things::of("external", &["ip"], &lab.externals, external, of_external),
        Things::of("probe", &[], &lab.probes, |it| it.name.clone(), |it| probe(lab, it)),
    ]
}

/// What a pod cannot change.
const POD: &[&str] = &[
    "ip",
    "node",
    "host_network",
    "containers",
    "readiness",
    "hostname",
    "subdomain",
    "dns_policy",
    "enable_service_links",
];

fn text(value: impl fmt::Debug) -> String {
    format!("{value:?}")
}

fn cluster(lab: &Lab) -> Keys {
    let it = &lab.cluster;
    vec![
        ("node_subnet", text(it.node_subnet)),
        ("service_cidr", text(it.service_cidr)),
        ("cluster_cidr", text(it.cluster_cidr)),
        ("domain", text(&it.domain)),
        ("proxy", text(it.proxy)),
        ("detect_local", text(it.detect_local)),
        ("masquerade_all", text(it.masquerade_all)),
    ]
}

fn dns(lab: &Lab) -> Keys {
    let it = lab.dns.as_ref();
    vec![
        ("engine", text(it.map(|it| it.engine))),
        ("upstream", text(it.map(|it| &it.upstream))),
        ("ttl", text(it.map(|it| it.ttl))),
        ("pods", text(it.map(|it| it.pod_records))),
        ("external_names", text(it.map(|it| it.external_names))),
    ]
}

fn balancer(lab: &Lab) -> Keys {
    let it = lab.load_balancer.as_ref();
    vec![
        ("name", text(it.map(|it| &it.name))),
        ("ip", text(it.map(|it| it.ip))),
        ("engine", text(it.map(|it| it.engine))),
    ]
}

fn node(it: &Node) -> Keys {
    vec![
        ("ip", text(it.ip)),
        ("pod_subnet", text(it.pod_subnet)),
        ("attach", text(&it.attach)),
        ("zone", text(&it.zone)),
        ("cordoned", text(it.state.cordoned)),
        ("link", text(it.state.unplugged)),
        ("power", text(it.state.stopped)),
        ("status", text(it.state.is_ready())),
    ]
}

fn pod(lab: &Lab, it: &Pod) -> Keys {
    let container = |it: &Container| text((&it.name, &it.server, &it.ports, &it.env));
    vec![
        ("node", text(&lab.node(it.node).name)),
        ("ip", text(it.ip)),
        ("host_network", text(it.host_network)),
        ("labels", text(&it.labels)),
        ("containers", text(it.containers.iter().map(container).collect::<Vec<_>>())),
        ("readiness", text(it.containers.iter().map(|it| &it.readiness).collect::<Vec<_>>())),
        ("ready", text(it.ready)),
        ("terminating", text(it.terminating)),
        ("termination_grace_period", text(it.termination_grace_period)),
        ("hostname", text(&it.hostname)),
        ("subdomain", text(&it.subdomain)),
        ("dns_policy", text(&it.dns)),
        ("enable_service_links", text(it.enable_service_links)),
    ]
}

fn service(lab: &Lab, it: &Service) -> Keys {
    let port = |it: &ServicePort| text((&it.name, it.protocol, it.port, &it.target_port, it.node_port));
    let endpoint = |it: &ManualEndpoint| text((it.ip, it.node.map(|node| &lab.node(node).name)));
    vec![
        ("type", text(&it.kind)),
        ("labels", text(&it.labels)),
        ("cluster_ip", text(it.cluster_ip)),
        ("selector", text(&it.selector)),
        ("endpoints", text(it.endpoints.iter().map(endpoint).collect::<Vec<_>>())),
        ("ports", text(it.ports.iter().map(port).collect::<Vec<_>>())),
        ("session_affinity", text(it.session_affinity)),
        ("internal_traffic_policy", text(it.internal_traffic_policy)),
        ("external_traffic_policy", text(it.external_traffic_policy)),
        ("external_ips", text(&it.external_ips)),
        ("load_balancer_ips", text(&it.load_balancer_ips)),
        ("load_balancer_source_ranges", text(&it.source_ranges)),
        ("health_check_node_port", text(it.health_check_node_port)),
        ("publish_not_ready_addresses", text(it.publish_not_ready_addresses)),
        ("traffic_distribution", text(it.traffic_distribution)),
    ]
}

fn client(it: &Client) -> Keys {
    vec![("ip", text(it.ip))]
}

fn of_external(it: &External) -> Keys {
    vec![("ip", text(&it.ips)), ("server", text(it.server)), ("ports", text(&it.ports))]
}

fn probe(lab: &Lab, it: &UserProbe) -> Keys {
    // Numbers of pods change with the pods before them; names do not.
    let name = |pod: &PodId| lab.pod(*pod).full_name();
    let expect = UserExpect { backends: Vec::new(), source: None, ..it.expect.clone() };
    let backends: Vec<String> = it.expect.backends.iter().map(name).collect();
    let source = it.expect.source.map(|source| match source {
        UserSource::Place(place) => lab.netns(place),
        other => text(other),
    });
    let distribution = it.distribution.as_ref().map(|it| {
        let shares = it.shares.as_ref();
        (it.connections, shares.map(|all| all.iter().map(|(pod, share)| (name(pod), *share)).collect::<Vec<_>>()))
    });
    vec![
        ("from", text((lab.netns(it.from), it.as_pod.as_ref().map(name)))),
        (it.asks.key(), text(&it.asks)),
        ("expect", text((expect, backends, source))),
        ("distribution", text(distribution)),
        ("within", text(it.within)),
        ("timeout", text(it.timeout)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = r#"
        [[node]]
        name = "node1"
        [[pod]]
        name = "web"
        replicas = 2
        labels = { app = "web" }
        [[service]]
        name = "shop"
        selector = { app = "web" }
        ports = [{ port = 80 }]
        [[client]]
        name = "laptop"
        ip = "192.0.2.10/24"
        [dns]
        engine = "none"
    "#;

    fn told(new: &str) -> Vec<String> {
        let lab = |text: &str| super::super::load(text).unwrap_or_else(|problems| panic!("{problems:?}"));
        differences(&lab(LAB), &lab(new)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn places_in_the_file_do_not_matter() {
        assert!(told(LAB).is_empty());
        assert!(told(&format!("# a comment\n{LAB}")).is_empty());
    }

    #[test]
    fn things_come_go_and_change() {
        assert_eq!(told(&LAB.replace("replicas = 2", "replicas = 3")), ["+ pod web-2"]);
        assert_eq!(told(&LAB.replace("replicas = 2", "replicas = 1")), ["- pod web-1"]);
        assert_eq!(told(&LAB.replace("port = 80", "port = 81")), ["~ service shop: ports"]);
        assert_eq!(
            told(&LAB.replace("app = \"web\" }\n        [[s", "tier = \"web\", app = \"web\" }\n        [[s")),
            ["~ pod web-0: labels", "~ pod web-1: labels"]
        );
        assert_eq!(told(&LAB.replace("2.10/24", "2.11/24")), ["! client laptop, which is replaced: ip"]);
        assert_eq!(told(&format!("[cluster]\nproxy = \"nftables\"\n{LAB}")), ["~ cluster: proxy"]);
        assert_eq!(
            told(&LAB.replace("name = \"web\"", "name = \"web\"\n        server = \"python\"")),
            ["! pod web-0, which is replaced: containers", "! pod web-1, which is replaced: containers"]
        );
    }
}
