//! From a Service and what is known of its pods to the endpoints that serve each class of client.
//!
//! This is the endpoint controller ([`endpoints`]) and the part of kube-proxy that all its
//! modes share ([`choose`]). It knows nothing of rules.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use crate::lab::model::{
    Lab, Labels, NodeId, Pod, PodId, Protocol, Service, ServicePort, TargetPort, TrafficDistribution, TrafficPolicy,
};
use crate::lab::name::Name;

/// One endpoint of a Service port, as an EndpointSlice has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address and the port of the pod.
    pub addr: SocketAddr,
    /// The pod behind it; `None` if it was given by hand.
    pub pod: Option<PodId>,
    /// The node that it is local to.
    pub node: Option<NodeId>,
    /// The zone of that node.
    pub zone: Option<Name>,
    /// It may take new connections.
    pub ready: bool,
    /// Its pod is ready, terminating or not.
    pub serving: bool,
    /// Its pod is being deleted.
    pub terminating: bool,
}

/// What is known of the pods; a pod that is not in it is ready and not terminating.
pub type Conditions = BTreeMap<PodId, Condition>;

/// What the lab says of its pods, and of the nodes that they are on.
pub fn conditions(lab: &Lab) -> Conditions {
    let said = lab.pod_ids().map(|id| (id, lab.pod(id)));
    said.map(|(id, pod)| (id, Condition { ready: lab.is_ready(pod), terminating: pod.terminating }))
        .filter(|(_, condition)| !condition.ready || condition.terminating)
        .collect()
}

/// What is known of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Its readiness probe succeeds.
    pub ready: bool,
    /// It is being deleted, and still runs.
    pub terminating: bool,
}

/// The endpoints that one node uses for a Service port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chosen {
    /// For traffic under the `Cluster` policy.
    pub cluster: Vec<Endpoint>,
    /// For traffic under the `Local` policy.
    pub local: Vec<Endpoint>,
    /// Some endpoint is usable on some node: without one, all addresses of the Service refuse.
    pub has_endpoints: bool,
    /// Some endpoint is usable for the ClusterIP on this node.
    pub has_internal: bool,
    /// Some endpoint is usable on this node for traffic from outside.
    pub has_external: bool,
}

impl Chosen {
    /// The endpoints that this node needs to reach: both sets, without repetition.
    pub fn reachable(&self) -> Vec<&Endpoint> {
        let mut all: Vec<&Endpoint> = self.cluster.iter().chain(&self.local).collect();
        all.sort_by_key(|endpoint| endpoint.addr.to_string());
        all.dedup_by_key(|endpoint| endpoint.addr);
        all
    }
}

/// All endpoints of a Service port, usable or not, sorted as text so that rules are stable.
pub fn endpoints(lab: &Lab, service: &Service, port: &ServicePort, conditions: &Conditions) -> Vec<Endpoint> {
    let pods = lab.pod_ids().filter(|pod| selects(service, lab.pod(*pod)));
    gathered(lab, service, port, conditions, pods, |ip, target| pod_at(lab, ip, target, port.protocol))
}

/// The pods of a lab by what Services look for: who asks for the endpoints of all Services asks here.
#[derive(Debug)]
pub struct Index<'a> {
    lab: &'a Lab,
    conditions: &'a Conditions,
    /// By namespace, and one of the labels.
    labelled: HashMap<(&'a str, &'a str, &'a str), Vec<PodId>>,
    at: HashMap<IpAddr, Vec<PodId>>,
}

impl<'a> Index<'a> {
    /// Of a lab's pods.
    pub fn of(lab: &'a Lab, conditions: &'a Conditions) -> Self {
        let mut index = Index { lab, conditions, labelled: HashMap::new(), at: HashMap::new() };
        for id in lab.pod_ids() {
            let pod = lab.pod(id);
            index.at.entry(pod.ip).or_default().push(id);
            for (key, value) in &pod.labels {
                let label = (pod.namespace.as_str(), key.as_str(), value.as_str());
                index.labelled.entry(label).or_default().push(id);
            }
        }
        index
    }

    fn labelled(&self, namespace: &'a Name, key: &'a str, value: &'a str) -> &[PodId] {
        self.labelled.get(&(namespace.as_str(), key, value)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The same as [`endpoints`], of a Service of this lab.
    pub fn endpoints(&self, service: &'a Service, port: &ServicePort) -> Vec<Endpoint> {
        let labels = service.selector.iter();
        let with = labels.map(|(key, value)| self.labelled(&service.namespace, key.as_str(), value.as_str()));
        // Those with the rarest of the labels: the others are asked of few pods then.
        let fewest = with.min_by_key(|pods| pods.len()).unwrap_or_default();
        let pods = fewest.iter().copied().filter(|pod| selects(service, self.lab.pod(*pod)));
        gathered(self.lab, service, port, self.conditions, pods, |ip, target| {
            let mut there = self.at.get(&ip)?.iter().copied();
            there.find(|pod| listens(self.lab.pod(*pod), target, port.protocol))
        })
    }
}

/// The endpoints of a Service port among these pods, and those that are given by hand.
fn gathered(
    lab: &Lab,
    service: &Service,
    port: &ServicePort,
    conditions: &Conditions,
    pods: impl Iterator<Item = PodId>,
    pod_at: impl Fn(IpAddr, u16) -> Option<PodId>,
) -> Vec<Endpoint> {
    let from_pods = pods.filter_map(|id| {
        let pod = lab.pod(id);
        let target = port.target_port.resolve(pod, port.protocol)?;
        let Condition { ready: serving, terminating } =
            conditions.get(&id).copied().unwrap_or(Condition { ready: true, terminating: false });
        Some(Endpoint {
            addr: SocketAddr::new(pod.ip, target),
            pod: Some(id),
            node: Some(pod.node),
            zone: lab.node(pod.node).zone.clone(),
            ready: service.publish_not_ready_addresses || (serving && !terminating),
            serving,
            terminating,
        })
    });
    let by_hand = service.endpoints.iter().filter_map(|manual| {
        // Nothing says what a port name stands for on a machine that is not a pod.
        let TargetPort::Number(target) = port.target_port else { return None };
        Some(Endpoint {
            addr: SocketAddr::new(manual.ip, target),
            pod: pod_at(manual.ip, target),
            node: manual.node,
            zone: manual.node.and_then(|node| lab.node(node).zone.clone()),
            ready: true,
            serving: true,
            terminating: false,
        })
    });
    let mut unique: BTreeMap<String, Endpoint> = BTreeMap::new();
    for endpoint in from_pods.chain(by_hand) {
        let key = endpoint.addr.to_string();
        // A pod's address may be used again while its last holder still terminates.
        if unique.get(&key).is_none_or(|held| held.terminating && !endpoint.terminating) {
            unique.insert(key, endpoint);
        }
    }
    unique.into_values().collect()
}

/// A Service's selector selects a pod; an empty one selects none.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    pod.namespace == service.namespace && !service.selector.is_empty() && contains(&pod.labels, &service.selector)
}

fn contains(labels: &Labels, selector: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The pod that listens at an address, so that a manual endpoint which is a pod is known as one.
pub(super) fn pod_at(lab: &Lab, ip: IpAddr, port: u16, protocol: Protocol) -> Option<PodId> {
    lab.pod_ids().find(|id| lab.pod(*id).ip == ip && listens(lab.pod(*id), port, protocol))
}

fn listens(pod: &Pod, port: u16, protocol: Protocol) -> bool {
    let mut ports = pod.containers.iter().flat_map(|container| &container.ports);
    ports.any(|declared| declared.container_port == port && declared.protocol == protocol)
}

/// What a Service asks of the choice of its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For the ClusterIP.
    pub internal: TrafficPolicy,
    /// For all other addresses.
    pub external: TrafficPolicy,
    /// There are such other addresses.
    pub externally_accessible: bool,
    /// Which of the ready endpoints are preferred.
    pub distribution: Option<TrafficDistribution>,
}

impl Policy {
    /// The same, for whoever takes any endpoint anywhere.
    pub fn without_wishes(self) -> Policy {
        let any = TrafficPolicy::Cluster;
        Policy { internal: any, external: any, distribution: None, ..self }
    }

    /// Some traffic may go to any node.
    pub fn uses_cluster(self) -> bool {
        self.internal == TrafficPolicy::Cluster || self.externally_accessible
    }

    /// Some traffic must stay on the node.
    pub fn uses_local(self) -> bool {
        self.internal == TrafficPolicy::Local || (self.external == TrafficPolicy::Local && self.externally_accessible)
    }
}

/// The endpoints that `node`, in `zone`, uses (kube-proxy's CategorizeEndpoints).
pub fn choose(endpoints: &[Endpoint], policy: Policy, node: NodeId, zone: Option<&Name>) -> Chosen {
    let is_local = |endpoint: &Endpoint| endpoint.node == Some(node);
    let is_last_resort = |endpoint: &Endpoint| endpoint.serving && endpoint.terminating;
    let pick = |test: &dyn Fn(&Endpoint) -> bool| -> Vec<Endpoint> {
        endpoints.iter().filter(|endpoint| test(endpoint)).cloned().collect()
    };

    let mut cluster = Vec::new();
    if policy.uses_cluster() {
        cluster = prefer(pick(&|endpoint| endpoint.ready), policy.distribution, node, zone);
        if cluster.is_empty() {
            cluster = pick(&is_last_resort);
        }
    }
    let mut local = Vec::new();
    if policy.uses_local() {
        local = pick(&|endpoint| endpoint.ready && is_local(endpoint));
        if local.is_empty() {
            local = pick(&|endpoint| is_last_resort(endpoint) && is_local(endpoint));
        }
    }
    let any = endpoints.iter().any(|endpoint| endpoint.ready || is_last_resort(endpoint));
    let has_endpoints = !cluster.is_empty() || (policy.uses_local() && any);
    Chosen {
        has_internal: has_endpoints && !(policy.internal == TrafficPolicy::Local && local.is_empty()),
        has_external: has_endpoints && !(policy.external == TrafficPolicy::Local && local.is_empty()),
        has_endpoints,
        cluster,
        local,
    }
}

/// Those of the ready endpoints that the hints of `trafficDistribution` are for: a level of
/// hints counts only if every endpoint has one and some endpoint is for this client.
fn prefer(
    ready: Vec<Endpoint>,
    distribution: Option<TrafficDistribution>,
    node: NodeId,
    zone: Option<&Name>,
) -> Vec<Endpoint> {
    let Some(distribution) = distribution else { return ready };
    let here = |endpoint: &Endpoint| endpoint.node == Some(node);
    let same_zone = |endpoint: &Endpoint| zone.is_some() && endpoint.zone.as_ref() == zone;
    let by_node = distribution == TrafficDistribution::PreferSameNode;
    if by_node && ready.iter().all(|endpoint| endpoint.node.is_some()) && ready.iter().any(here) {
        return ready.into_iter().filter(here).collect();
    }
    if ready.iter().all(|endpoint| endpoint.zone.is_some()) && ready.iter().any(same_zone) {
        return ready.into_iter().filter(same_zone).collect();
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::sample::{book, container_port, node, parsed, pod};

    const READY: Condition = Condition { ready: true, terminating: false };
    const LEAVING: Condition = Condition { ready: true, terminating: true };
    const FAILING: Condition = Condition { ready: false, terminating: false };
    const GONE: Condition = Condition { ready: false, terminating: true };

    /// The endpoints of the book's Service that `node` uses: those for anyone, and its own.
    fn chosen(lab: &Lab, conditions: &[Condition], policy: Policy, node: usize) -> (Chosen, String, String) {
        let conditions = conditions.iter().enumerate().map(|(i, condition)| (PodId(i), *condition)).collect();
        let service = &lab.services[0];
        let all = endpoints(lab, service, &service.ports[0], &conditions);
        let chosen = choose(&all, policy, NodeId(node), lab.nodes[node].zone.as_ref());
        let names = |endpoints: &[Endpoint]| {
            let names = endpoints.iter().filter_map(|endpoint| endpoint.pod).map(|id| lab.pod(id).full_name());
            names.collect::<Vec<_>>().join(" ")
        };
        let (cluster, local) = (names(&chosen.cluster), names(&chosen.local));
        (chosen, cluster, local)
    }

    const CLUSTER: Policy = Policy {
        internal: TrafficPolicy::Cluster,
        external: TrafficPolicy::Cluster,
        externally_accessible: true,
        distribution: None,
    };
    const LOCAL: Policy = Policy { external: TrafficPolicy::Local, ..CLUSTER };

    #[test]
    fn terminating_endpoints_are_the_last_resort_of_each_set() {
        let lab = book();
        let rows: [(&[Condition], &str, &str, bool, bool); 5] = [
            (&[READY, READY, READY], "pod1a pod1b pod2", "pod1a pod1b", true, true),
            (&[READY, LEAVING, FAILING], "pod1a", "pod1a", true, true),
            // Elsewhere one is ready; here only one that terminates is left.
            (&[GONE, LEAVING, READY], "pod2", "pod1b", true, true),
            (&[GONE, FAILING, LEAVING], "pod2", "", true, false),
            (&[GONE, FAILING, GONE], "", "", false, false),
        ];
        for (conditions, cluster, local, any, external) in rows {
            let (chosen, for_all, own) = chosen(&lab, conditions, LOCAL, 0);
            assert_eq!((for_all.as_str(), own.as_str()), (cluster, local), "{conditions:?}");
            assert_eq!((chosen.has_endpoints, chosen.has_external), (any, external), "{conditions:?}");
        }
    }

    #[test]
    fn endpoints_may_be_published_before_they_are_ready() {
        let mut lab = book();
        lab.services[0].publish_not_ready_addresses = true;
        assert_eq!(chosen(&lab, &[FAILING, GONE, READY], CLUSTER, 0).1, "pod1a pod1b pod2");
    }

    #[test]
    fn hints_count_only_where_every_endpoint_has_one() {
        let mut lab = book();
        node(&mut lab, "node3", "10.30.45.201", "192.168.3.0/24");
        let prefer = |distribution| Policy { distribution: Some(distribution), ..CLUSTER };
        let (zone, node) = (prefer(TrafficDistribution::PreferSameZone), prefer(TrafficDistribution::PreferSameNode));
        let seen = |lab: &Lab, policy| [0, 1, 2].map(|node| chosen(lab, &[], policy, node).1);
        let all = "pod1a pod1b pod2";
        assert_eq!(seen(&lab, zone), [all, all, all], "no node has a zone");
        assert_eq!(seen(&lab, node), ["pod1a pod1b", "pod2", all]);
        for (node, name) in lab.nodes.iter_mut().zip(["z1", "z2", "z2"]) {
            node.zone = Some(parsed(name));
        }
        assert_eq!(seen(&lab, zone), ["pod1a pod1b", "pod2", "pod2"]);
        assert_eq!(seen(&lab, node), ["pod1a pod1b", "pod2", "pod2"]);
        lab.nodes[0].zone = None;
        assert_eq!(seen(&lab, zone), [all, all, all], "two endpoints have no hint");
    }

    #[test]
    fn a_port_name_is_resolved_pod_by_pod() {
        let mut lab = book();
        lab.pods[1].containers[0].ports = vec![container_port("http", 9090, Protocol::Tcp)];
        lab.pods[2].containers[0].ports = vec![container_port("http", 80, Protocol::Udp)];
        lab.services[0].ports[0].target_port = TargetPort::Name(parsed("http"));
        let service = &lab.services[0];
        let all = endpoints(&lab, service, &service.ports[0], &Conditions::new());
        let addrs: Vec<String> = all.iter().map(|endpoint| endpoint.addr.to_string()).collect();
        assert_eq!(addrs, ["192.168.1.10:80", "192.168.1.20:9090"]);
    }

    #[test]
    fn an_address_that_is_used_again_is_the_living_pods() {
        let mut lab = book();
        pod(&mut lab, "again", 0, "192.168.1.10", "cs-pod");
        let (_, names, _) = chosen(&lab, &[LEAVING], CLUSTER, 0);
        assert_eq!(names, "again pod1b pod2");
    }
}
