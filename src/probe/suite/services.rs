//! Every Service from every kind of vantage at each of its addresses, and what must not work.

use std::net::SocketAddr;

use super::{
    Address, Answerer, Bound, Expect, Group, PlaceKind, Probe, Target, TargetKind, absent,
    scene::{Draft, Scene, also, is_testable, own_places, silence},
    states,
};
use crate::{
    lab::model::{
        BalancerEngine, Lab, LoadBalancer, NodeId, Place, PodId, Protocol, ProxyMode, Service, ServiceId, ServicePort,
    },
    probe::{order::FailureKind, stats},
    proxy::truth::{self, AddressKind, Sight},
};

/// More ways to a Service than this are not all tried.
const MOST_WAYS: usize = 600;
/// More ways from a backend to itself than this are not all tried.
const MOST_HAIRPINS: usize = 200;
/// More unanswered ways than this are not all tried.
const MOST_SILENT: usize = 150;
/// More closed ports than this are not all tried.
const MOST_CLOSED: usize = 50;
/// The probability with which a probe of a backend that asks its own Service never happens to
/// be sent to itself, and so shows nothing.
pub(super) const MISS: f64 = 1e-9;
/// More tries than this all those ways together do not get: the more endpoints a Service has, the
/// more tries each of its backends needs to meet itself.
const MOST_HAIRPIN_TRIES: usize = 20_000;
/// More tries than this an agent is not asked for in one probe.
const MOST_TRIES: usize = 2000;

/// What is seen at the end of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Somebody answers.
    Served,
    /// Somebody does, and it may be the pod that asks.
    Itself,
    /// Nobody does, or not always.
    Silent,
}

/// Every way to a Service, and what is seen there.
fn seen<'s>(scene: &'s Scene<'_>) -> &'s [(Way, Seen)] {
    scene.seen.get_or_init(|| {
        let look = |way: Way| {
            let seen = match (scene.sight)(way.from, way.to, way.port(scene.lab).protocol) {
                Sight::Served(choices) => match way.from {
                    Place::Pod(pod) if choices.iter().any(|choice| choice.pod == Some(pod)) => Seen::Itself,
                    _ => Seen::Served,
                },
                _ => Seen::Silent,
            };
            (way, seen)
        };
        ways(scene.lab).into_iter().map(look).collect()
    })
}

/// What must answer.
pub(super) fn served(scene: &Scene<'_>, bounds: &mut Vec<Bound>) -> Vec<Probe> {
    let lab = scene.lab;
    let mut probes = Vec::new();
    let expect = |way: &Way| match (scene.sight)(way.from, way.to, way.port(lab).protocol) {
        Sight::Served(choices) => Some(Expect::Answer(scene.answerers(choices, way.port(lab).protocol))),
        _ => None,
    };
    let is_open = |way: &Way| match way.port(lab).protocol {
        Protocol::Tcp => true,
        // Who answers decides whether it can be tried.
        other => expect(way).is_some_and(|expect| is_testable(&expect, other)),
    };
    let open: Vec<Way> =
        seen(scene).iter().filter(|(way, seen)| *seen != Seen::Silent && is_open(way)).map(|(way, _)| *way).collect();
    let of = |index: usize| open[index].class(lab);
    for index in scene.sampled(bounds, (Group::Services, "ways to Services"), (open.len(), MOST_WAYS), of) {
        let way = &open[index];
        let Some(expect) = expect(way) else { continue };
        // Nothing measures how datagrams are shared, so each way meets every endpoint here.
        let times = match way.port(lab).protocol {
            Protocol::Udp => tries(expect.answerers()),
            Protocol::Tcp | Protocol::Sctp => 1,
        };
        probes.push(scene.probe(way.draft(scene, Group::Services, expect), times));
    }
    let hairpins = hairpins(scene);
    let longest = hairpins.iter().map(|(_, answerers)| tries(answerers)).max().unwrap_or(1).max(1);
    let most = MOST_HAIRPINS.min(MOST_HAIRPIN_TRIES / longest);
    let of = |index: usize| hairpins[index].0.class(lab);
    let taken = scene.sampled(bounds, (Group::Services, "ways from a backend to itself"), (hairpins.len(), most), of);
    for index in taken {
        let (way, answerers) = &hairpins[index];
        let mut draft = way.draft(scene, Group::Services, Expect::Itself(answerers.clone()));
        draft.why = "a backend that reaches itself through its Service must be masqueraded (hairpin): otherwise it \
                     sees a packet from its own address and answers itself"
            .to_owned();
        // Two tries at least make it a crowd, which the built-in client serves.
        let mut probe = scene.probe(draft, tries(answerers).max(2));
        probe.id.push_str("/itself");
        // It has met itself once: more of it would show nothing more.
        let itself = lab.netns(way.from);
        probe.orders.iter_mut().for_each(|order| order.until = Some(itself.clone()));
        probes.push(probe);
    }
    probes
}

/// What must not answer.
pub(super) fn negative(scene: &Scene<'_>, bounds: &mut Vec<Bound>) -> Vec<Probe> {
    let lab = scene.lab;
    let is_silent = |(way, seen): &&(Way, Seen)| *seen == Seen::Silent && way.port(lab).protocol != Protocol::Sctp;
    let silent: Vec<Way> = seen(scene).iter().filter(is_silent).map(|(way, _)| *way).collect();
    let of = |index: usize| silent[index].class(lab);
    let taken = scene.sampled(bounds, (Group::Negative, "ways that nobody answers"), (silent.len(), MOST_SILENT), of);
    let mut probes: Vec<Probe> = taken.into_iter().map(|index| unanswered(scene, &silent[index])).collect();
    let mut closed = wrong_ports(scene);
    closed.extend(closed_node_ports(scene));
    let what = (Group::Negative, "closed ports");
    let taken = scene.sampled(bounds, what, (closed.len(), MOST_CLOSED), |index| {
        let probe = &closed[index];
        ((probe.target.kind, probe.place), probe.from.clone())
    });
    let mut index = 0;
    closed.retain(|_| {
        index += 1;
        taken.binary_search(&(index - 1)).is_ok()
    });
    probes.extend(closed);
    probes
}

fn unanswered(scene: &Scene<'_>, way: &Way) -> Probe {
    let lab = scene.lab;
    let protocol = way.port(lab).protocol;
    let sight = (scene.sight)(way.from, way.to, protocol);
    let why = way.why_not(scene, &sight);
    let expect = match (&sight, way.from, way.kind) {
        // How a packet to nowhere dies outside the cluster is not Kubernetes' business.
        (
            Sight::Dropped | Sight::Unreachable,
            Place::Host | Place::Client(_) | Place::LoadBalancer,
            TargetKind::ClusterIp,
        ) => silence(&[FailureKind::Timeout, FailureKind::Unreachable]),
        // HAProxy has taken the connection by then, and can only break it off, or say nothing.
        (Sight::Dropped, ..) if way.ends_at_haproxy(scene) => silence(&[FailureKind::Timeout, FailureKind::Broken]),
        _ => match scene.expect(sight, protocol) {
            Expect::Mixed(answerers, mut kinds) if way.ends_at_haproxy(scene) => {
                kinds.insert(FailureKind::Broken);
                Expect::Mixed(answerers, kinds)
            }
            expect => expect,
        },
    };
    let mut draft = way.draft(scene, Group::Negative, expect);
    draft.why = why;
    scene.probe(draft, 1)
}

/// One way to a Service port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) from: Place,
    pub(super) service: ServiceId,
    pub(super) port: usize,
    pub(super) kind: TargetKind,
    pub(super) to: SocketAddr,
    pub(super) entry: Option<NodeId>,
}

impl Way {
    fn service<'a>(&self, lab: &'a Lab) -> &'a Service {
        lab.service(self.service)
    }

    pub(super) fn port<'a>(&self, lab: &'a Lab) -> &'a ServicePort {
        &self.service(lab).ports[self.port]
    }

    /// What makes it another path than others; and the Service port.
    fn class(&self, lab: &Lab) -> ((TargetKind, PlaceKind, bool, bool), (ServiceId, usize)) {
        let node = match self.from {
            Place::Pod(pod) => Some(lab.pod(pod).node),
            Place::Node(node) => Some(node),
            Place::Host | Place::Client(_) | Place::LoadBalancer | Place::External(_) => None,
        };
        let backend = matches!(self.from, Place::Pod(pod) if is_backend(lab, self.service, pod));
        let here = self.entry.is_some() && self.entry == node;
        ((self.kind, PlaceKind::from(self.from), backend, here), (self.service, self.port))
    }

    pub(super) fn draft(&self, scene: &Scene<'_>, group: Group, expect: Expect) -> Draft {
        let lab = scene.lab;
        let target = Target {
            kind: self.kind,
            address: Address::Socket(self.to),
            protocol: self.port(lab).protocol,
            of: port_name(self.service(lab), self.port(lab)),
            node: self.entry.map(|node| lab.node(node).name.to_string()),
            service: Some(rule_name(self.service(lab))),
        };
        Draft { group, from: self.from, target, entry: self.entry, why: self.why(scene, expect.answerers()), expect }
    }

    fn why(&self, scene: &Scene<'_>, answerers: &[Answerer]) -> String {
        let lab = scene.lab;
        let rule = match self.kind {
            _ if states::stand_in(lab, self.service, answerers) => "an address of a Service leads to its endpoints",
            TargetKind::ClusterIp => "a ClusterIP leads from every pod and node to any ready endpoint of its Service",
            TargetKind::Localhost => {
                "a nodePort is served on the node's own 127.0.0.1 as well, for which the node routes loopback packets \
                 on (route_localnet)"
            }
            _ if self.is_balanced(scene) => {
                "the load balancer gives a connection to one of the nodes that pass their health check, and that node \
                 to an endpoint of the Service"
            }
            TargetKind::ExternalIp => "an external IP leads to any ready endpoint of its Service",
            TargetKind::LoadBalancer => "a load balancer's address leads to any ready endpoint of its Service",
            _ => "a nodePort leads, on each node, to any ready endpoint of its Service, on whatever node that is",
        };
        let kept = match self.from {
            Place::Pod(pod) => {
                // Itself it sees under its gateway's address; that is another probe's business.
                let others = answerers.iter().filter(|answerer| answerer.name != lab.pod(pod).full_name());
                others.into_iter().all(|answerer| answerer.sources.iter().eq([&lab.pod(pod).ip]))
            }
            Place::Client(client) => {
                answerers.iter().all(|answerer| answerer.sources.iter().eq([&lab.client(client).ip.addr()]))
            }
            Place::Host | Place::Node(_) | Place::LoadBalancer | Place::External(_) => false,
        };
        let source = match kept {
            _ if self.ends_at_haproxy(scene) => {
                "HAProxy ends the connection and begins its own to the node, so the client's address is lost"
            }
            true => "the client's address stays as it is",
            false => "it is masqueraded, so that the answer comes back through the same node",
        };
        also(&also(rule, states::of_answerers(lab, self.service, answerers)), Some(source))
    }

    /// It leads through the load balancer.
    fn is_balanced(&self, scene: &Scene<'_>) -> bool {
        let outside = matches!(self.from, Place::Host | Place::Client(_) | Place::LoadBalancer);
        outside && scene.fronts.has(self.to.ip())
    }

    /// It ends at HAProxy, which begins another one.
    fn ends_at_haproxy(&self, scene: &Scene<'_>) -> bool {
        let haproxy = |balancer: &LoadBalancer| balancer.engine == BalancerEngine::Haproxy;
        scene.lab.load_balancer.as_ref().is_some_and(haproxy) && self.is_balanced(scene)
    }

    /// The Service's source ranges do not hold the sender's address.
    fn is_kept_out(&self, lab: &Lab) -> bool {
        let ranges = &self.service(lab).source_ranges;
        let source = truth::source(lab, self.from, self.to.ip());
        !ranges.is_empty() && ranges.iter().all(|range| !range.contains(&source))
    }

    fn why_not(&self, scene: &Scene<'_>, sight: &Sight) -> String {
        let lab = scene.lab;
        let outside = matches!(self.from, Place::Host | Place::Client(_));
        match (self.kind, sight) {
            (TargetKind::ClusterIp, Sight::Dropped | Sight::Unreachable) if outside => {
                "a ClusterIP means something only inside the cluster; no machine outside has a way to it".to_owned()
            }
            (TargetKind::Localhost, _) => {
                format!("nodePorts are not served on 127.0.0.1 by {} rules", lab.cluster.proxy)
            }
            (TargetKind::LoadBalancer, Sight::Dropped) if self.is_kept_out(lab) => {
                "loadBalancerSourceRanges does not hold the client's address, so its packets are dropped without a word"
                    .to_owned()
            }
            (_, Sight::Dropped) if self.is_balanced(scene) => {
                "no node passes the Service's health check, so the load balancer has nobody to send packets to"
                    .to_owned()
            }
            (_, Sight::Dropped) => {
                "the traffic policy is Local and no endpoint that may be used is on this node, so packets are dropped \
                 without a word"
                    .to_owned()
            }
            _ if lab.cluster.proxy == ProxyMode::Ladder => {
                "the flat rules of the ladder do not serve this way".to_owned()
            }
            _ => "the Service has no ready endpoint, so connections are refused".to_owned(),
        }
    }
}

/// Every way from every vantage to every address of every Service port.
pub(super) fn ways(lab: &Lab) -> Vec<Way> {
    let mut ways = Vec::new();
    for service in lab.service_ids() {
        let addresses = truth::addresses(lab, service);
        for (port, from) in
            ports(lab, service).flat_map(|port| vantages(lab, service).into_iter().map(move |f| (port, f)))
        {
            let addresses = addresses.iter().filter(|address| address.port == port);
            ways.extend(addresses.filter_map(|address| way(lab, service, from, address)));
        }
    }
    ways
}

/// The way from one vantage to one address; none from elsewhere to a node's own 127.0.0.1.
fn way(lab: &Lab, service: ServiceId, from: Place, address: &truth::Address) -> Option<Way> {
    let (kind, entry) = match (address.kind, from) {
        (AddressKind::ClusterIp, _) => (TargetKind::ClusterIp, None),
        (AddressKind::NodePort(node), _) => (TargetKind::NodePort, Some(node)),
        (AddressKind::LocalhostNodePort, Place::Node(node)) if lab.node(node).ip.is_ipv4() => {
            (TargetKind::Localhost, Some(node))
        }
        (AddressKind::LocalhostNodePort, _) => return None,
        (AddressKind::External, _) => (TargetKind::ExternalIp, None),
        (AddressKind::LoadBalancer, _) => (TargetKind::LoadBalancer, None),
    };
    Some(Way { from, service, port: address.port, kind, to: address.to, entry })
}

/// Every port of every Service.
pub(super) fn service_ports(lab: &Lab) -> impl Iterator<Item = (ServiceId, usize)> + '_ {
    lab.service_ids().flat_map(|service| ports(lab, service).map(move |port| (service, port)))
}

fn ports(lab: &Lab, service: ServiceId) -> impl Iterator<Item = usize> + use<> {
    0..lab.service(service).ports.len()
}

/// For each node a pod that is no backend, if there is one; each backend; each node; `host`;
/// each client.
pub(super) fn vantages(lab: &Lab, service: ServiceId) -> Vec<Place> {
    let pods = own_places(lab);
    let bystanders = absent::nodes(lab).filter_map(|node| {
        pods.iter().copied().find(|pod| lab.pod(*pod).node == node && !is_backend(lab, service, *pod))
    });
    let backends = pods.iter().copied().filter(|pod| is_backend(lab, service, *pod));
    bystanders
        .chain(backends)
        .map(Place::Pod)
        .chain(absent::nodes(lab).map(Place::Node))
        .chain([Place::Host])
        .chain(lab.client_ids().map(Place::Client))
        .collect()
}

/// The Service selects the pod.
pub(super) fn is_backend(lab: &Lab, service: ServiceId, pod: PodId) -> bool {
    let (service, pod) = (lab.service(service), lab.pod(pod));
    !service.selector.is_empty()
        && service.namespace == pod.namespace
        && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// The ways from a backend to its own Service, with who may answer, the backend itself first.
///
/// With session affinity a backend may be bound to another one for good, so nothing is asked.
fn hairpins(scene: &Scene<'_>) -> Vec<(Way, Vec<Answerer>)> {
    let mut hairpins = Vec::new();
    for (way, _) in seen(scene).iter().filter(|(_, seen)| *seen == Seen::Itself) {
        let (Place::Pod(pod), Protocol::Tcp, None) =
            (way.from, way.port(scene.lab).protocol, way.service(scene.lab).session_affinity)
        else {
            continue;
        };
        let Sight::Served(choices) = (scene.sight)(way.from, way.to, Protocol::Tcp) else { continue };
        let name = scene.lab.pod(pod).full_name();
        let mut answerers = scene.answerers(choices, Protocol::Tcp);
        if answerers.iter().all(|answerer| answerer.speaks == super::Speaks::ItsName) {
            answerers.sort_by_key(|answerer| answerer.name != name);
            hairpins.push((*way, answerers));
        }
    }
    hairpins
}

/// How many tries meet a given one of these, but for a probability of [`MISS`].
pub(super) fn tries(answerers: &[Answerer]) -> usize {
    tries_among(answerers.len())
}

/// The same for so many.
pub(super) fn tries_among(answerers: usize) -> usize {
    stats::tries_to_hit(answerers, MISS).min(MOST_TRIES)
}

/// A ClusterIP at a port that its Service does not have.
fn wrong_ports(scene: &Scene<'_>) -> Vec<Probe> {
    let lab = scene.lab;
    let from: Vec<Place> = own_places(lab)
        .first()
        .map(|pod| Place::Pod(*pod))
        .into_iter()
        .chain(absent::nodes(lab).take(1).map(Place::Node))
        .collect();
    let mut probes = Vec::new();
    for service in lab.service_ids() {
        let Some(ip) = lab.service(service).cluster_ip else { continue };
        let Some(port) = (1..=u16::MAX).find(|port| lab.service(service).ports.iter().all(|p| p.port != *port)) else {
            continue;
        };
        for from in &from {
            let target = Target {
                kind: TargetKind::ClusterIp,
                address: Address::Socket(SocketAddr::new(ip, port)),
                protocol: Protocol::Tcp,
                of: format!("{}:{port}", lab.service(service).full_name()),
                node: None,
                service: Some(rule_name(lab.service(service))),
            };
            let why = "a ClusterIP serves the ports of its Service and no other".to_owned();
            let expect = match ((scene.sight)(*from, SocketAddr::new(ip, port), Protocol::Tcp), lab.cluster.proxy) {
                (Sight::Refused, ProxyMode::Nftables) => silence(&[FailureKind::Refused]),
                // iptables rules let such a packet go its way, and how it ends depends on the network.
                _ => silence(&[FailureKind::Refused, FailureKind::Timeout, FailureKind::Unreachable]),
            };
            probes
                .push(scene.probe(Draft { group: Group::Negative, from: *from, target, entry: None, expect, why }, 1));
        }
    }
    probes
}

/// A nodePort that no Service has: each node must refuse it.
fn closed_node_ports(scene: &Scene<'_>) -> Vec<Probe> {
    let lab = scene.lab;
    let taken = |port: u16| {
        let ports = lab.services.iter().flat_map(|service| &service.ports);
        let health = lab.services.iter().filter_map(|service| service.health_check_node_port);
        ports.filter_map(|port| port.node_port).chain(health).any(|taken| taken == port)
    };
    let any = lab.services.iter().flat_map(|service| &service.ports).any(|port| port.node_port.is_some());
    let Some(port) = (30000..=32767).rev().find(|port| any && !taken(*port)) else { return Vec::new() };
    let mut probes = Vec::new();
    for node in absent::nodes(lab) {
        for from in [Place::Host].into_iter().chain(lab.client_ids().map(Place::Client)) {
            let target = Target {
                kind: TargetKind::NodePort,
                address: Address::Socket(SocketAddr::new(lab.node(node).ip, port)),
                protocol: Protocol::Tcp,
                of: format!("nobody:{port}"),
                node: Some(lab.node(node).name.to_string()),
                service: None,
            };
            let why = "no Service has this nodePort and nothing listens there, so the node refuses".to_owned();
            let expect = silence(&[FailureKind::Refused]);
            probes.push(scene.probe(Draft { group: Group::Negative, from, target, entry: Some(node), expect, why }, 1));
        }
    }
    probes
}

/// `shop:8080`, as people write it.
pub(super) fn port_name(service: &Service, port: &ServicePort) -> String {
    format!("{}:{}", service.full_name(), port.port)
}

/// `default/shop`, as the comments of rules have it.
pub(super) fn rule_name(service: &Service) -> String {
    format!("{}/{}", service.namespace, service.name)
}
