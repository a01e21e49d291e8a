//! How a Service port's load is spread by one node.
//!
//! What is tested is a ladder: the list of rules (or the verdict map) by which a node picks an
//! endpoint. kube-proxy has one for all addresses of a Service port, so the connections of
//! several vantages go into one test. The flat rules have one for each hook and sort of address.
//! In front of the nodes the load balancer spreads connections over them; what a client sees of both
//! together is a test of its own.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use super::{
    Address, Answerer, Bound, Expect, Group, Probe, Speaks, Spread, SuiteOptions, Target, TargetKind, absent,
    scene::{Draft, Scene, also, own_places},
    services::{is_backend, port_name, rule_name, service_ports},
    states,
    way::{join, way},
};
use crate::{
    lab::model::{NodeId, Place, Protocol, ProxyMode, ServiceId},
    probe::{order::Order, stats},
    proxy::truth::{self, AddressKind, Choice, Sight},
};

/// More pairs of node and Service port than this are not all measured.
const MOST_PAIRS: usize = 40;
/// More ways through the load balancer than this are not all measured.
const MOST_FRONTS: usize = 20;
/// A test has at least this many connections for each endpoint, so that the chi-square
/// distribution is a good approximation far out in its tail.
const LEAST_EACH: f64 = 20.0;
/// A test has no more connections than this for the sake of its power, and says what that leaves.
const MOST_SAMPLES: usize = 10_000;
/// So many connections has a test of shares until it is known how many tests there are, and so how many
/// it needs.
pub(super) const AS_NEEDED: usize = 0;
/// How many connections show that affinity sticks, or that there is only one endpoint: with two endpoints, chance alone would send
/// all of them to one once in two thousand million times.
const STICKY_TRIES: usize = 32;

pub(super) fn probes(scene: &Scene<'_>, bounds: &mut Vec<Bound>) -> Vec<Probe> {
    let lab = scene.lab;
    let pairs: Vec<(NodeId, ServiceId, usize)> = service_ports(lab)
        .filter(|(service, port)| lab.service(*service).ports[*port].protocol == Protocol::Tcp)
        .flat_map(|(service, port)| absent::nodes(lab).map(move |node| (node, service, port)))
        .collect();
    let mut tests: Vec<Vec<Probe>> = pairs
        .into_iter()
        .map(|(node, service, port)| ladders(scene, node, service, port))
        .filter(|probes| !probes.is_empty())
        .collect();
    let what = (Group::Balance, "pairs of node and Service port");
    // Each node has rules of its own.
    let of = |index: usize| (tests[index][0].from.clone(), tests[index][0].target.of.clone());
    let taken = scene.sampled(bounds, what, (tests.len(), MOST_PAIRS), of);
    let mut probes: Vec<Probe> = taken.into_iter().flat_map(|index| std::mem::take(&mut tests[index])).collect();
    let mut fronts = fronts(scene);
    let what = (Group::Balance, "ways through the load balancer");
    let taken = scene.sampled(bounds, what, (fronts.len(), MOST_FRONTS), |index| (0, index));
    let mut index = 0;
    fronts.retain(|_| {
        index += 1;
        taken.binary_search(&(index - 1)).is_ok()
    });
    probes.extend(fronts);
    probes
}

/// Gives each test as many connections as it needs to notice mistakes, now that it is known how many
/// tests share the rate of false alarms. Those of the user may say themselves how many they make.
pub(super) fn size(probes: &mut [Probe], options: &SuiteOptions) {
    let tests = probes.iter().filter(|probe| probe.expect.shares().is_some()).count();
    let each = options.alpha / tests.max(1) as f64;
    // Many tests are of the same shares.
    let mut known: Vec<(Vec<f64>, usize)> = Vec::new();
    for probe in probes {
        let Some(shares) = probe.expect.shares() else { continue };
        if probe.orders.iter().all(|order| order.times != AS_NEEDED) {
            continue;
        }
        let total = match known.iter().find(|(of, _)| of == shares) {
            Some((_, total)) => *total,
            None => {
                let wanted = || stats::answers_for(shares, options.power, each, MOST_SAMPLES);
                let least = shares.iter().copied().fold(1.0, f64::min);
                let total = options.samples.unwrap_or_else(wanted).max((LEAST_EACH / least).ceil() as usize);
                known.push((shares.to_vec(), total));
                total
            }
        };
        let times = total.div_ceil(probe.orders.len().max(1));
        probe.orders.iter_mut().for_each(|order| order.times = times);
    }
}

/// A test for each way through the load balancer to more than one endpoint, from the first machine
/// outside that may use it.
fn fronts(scene: &Scene<'_>) -> Vec<Probe> {
    let lab = scene.lab;
    let mut probes = Vec::new();
    for id in lab.service_ids().filter(|id| lab.service(*id).session_affinity.is_none()) {
        let addresses = truth::addresses(lab, id)
            .into_iter()
            .filter(|address| address.protocol == Protocol::Tcp && scene.fronts.has(address.to.ip()));
        for address in addresses {
            let outside = lab.client_ids().map(Place::Client).chain([Place::Host]);
            let test = |from| Some((from, (scene.shares)(from, address.to, Protocol::Tcp)?));
            probes.extend(
                outside.into_iter().find_map(test).and_then(|(from, shares)| front(scene, id, &address, from, shares)),
            );
        }
    }
    probes
}

fn front(
    scene: &Scene<'_>,
    id: ServiceId,
    address: &truth::Address,
    from: Place,
    shares: Vec<(Choice, f64)>,
) -> Option<Probe> {
    let lab = scene.lab;
    let (choices, shares): (Vec<Choice>, Vec<f64>) = shares.into_iter().unzip();
    let answerers = scene.answerers(choices, Protocol::Tcp);
    if answerers.len() < 2 || answerers.iter().any(|answerer| answerer.speaks != Speaks::ItsName) {
        return None;
    }
    let kind = match address.kind {
        AddressKind::External => TargetKind::ExternalIp,
        _ => TargetKind::LoadBalancer,
    };
    let service = lab.service(id);
    let target = Target {
        kind,
        address: Address::Socket(address.to),
        protocol: Protocol::Tcp,
        of: port_name(service, &service.ports[address.port]),
        node: None,
        service: Some(rule_name(service)),
    };
    let why = "the load balancer gives each node that passes the health check the same share of new connections, and \
               the node each endpoint that it uses the same share of those";
    let why = also(why, states::of_answerers(lab, id, &answerers));
    let expect = Expect::Shares(Spread { by: lab.netns(Place::LoadBalancer), answerers, shares });
    let orders = vec![scene.crowd(from, address.to, AS_NEEDED)];
    Some(scene.probe_by(Draft { group: Group::Balance, from, target, entry: None, expect, why }, orders))
}

/// Which ladder of a node a connection meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ladder {
    /// The only one.
    Only,
    /// The one in OUTPUT, for this sort of address.
    Output(TargetKind),
    /// The one in PREROUTING, for this sort of address.
    Prerouting(TargetKind),
}

/// Who answers behind a ladder, and the vantages that meet it.
type Seen = (Vec<Answerer>, Vec<Sample>);

/// A test for each ladder of a node for a Service port.
fn ladders(scene: &Scene<'_>, node: NodeId, service: ServiceId, port: usize) -> Vec<Probe> {
    let mut ladders: BTreeMap<(Ladder, Vec<SocketAddr>), Seen> = BTreeMap::new();
    for sample in samples(scene, node, service, port) {
        let Sight::Served(choices) = (scene.sight)(sample.from, sample.to, Protocol::Tcp) else { continue };
        let answerers = scene.answerers(choices, Protocol::Tcp);
        if answerers.is_empty() || answerers.iter().any(|answerer| answerer.speaks != Speaks::ItsName) {
            continue;
        }
        let endpoints = answerers.iter().map(|answerer| answerer.endpoint).collect();
        let (known, samples) = ladders.entry((sample.ladder(scene), endpoints)).or_default();
        merge(known, answerers);
        samples.push(sample);
    }
    let several = ladders.len() > 1;
    let of_ladder = |((ladder, _), (answerers, samples)): ((Ladder, _), Seen)| {
        let mut probe = test(scene, (node, service, port), answerers, &samples);
        if several {
            probe.id.push_str(&match ladder {
                Ladder::Only => format!("/{}", samples[0].kind.slug()),
                Ladder::Output(kind) => format!("/output-{}", kind.slug()),
                Ladder::Prerouting(kind) => format!("/prerouting-{}", kind.slug()),
            });
        }
        probe
    };
    ladders.into_iter().map(of_ladder).collect()
}

fn test(
    scene: &Scene<'_>,
    (node, id, port): (NodeId, ServiceId, usize),
    answerers: Vec<Answerer>,
    samples: &[Sample],
) -> Probe {
    let lab = scene.lab;
    let (service, ends) = (lab.service(id), answerers.iter().filter_map(|answerer| scene.find(&answerer.name)));
    let ends: Vec<Place> = ends.collect();
    let target = Target {
        kind: TargetKind::Ladder,
        address: Address::Several(samples.iter().map(|sample| sample.to).collect()),
        protocol: Protocol::Tcp,
        of: port_name(service, &service.ports[port]),
        node: Some(lab.node(node).name.to_string()),
        service: Some(rule_name(service)),
    };
    let (expect, why) = match (service.session_affinity, answerers.len()) {
        (Some(seconds), _) => (
            Expect::Sticky(answerers),
            format!("sessionAffinity is ClientIP: for {seconds} seconds a client stays with the endpoint it met first"),
        ),
        (None, 1) => {
            (Expect::Answer(answerers), "a Service port with one endpoint leads every connection to it".to_owned())
        }
        (None, n) => {
            let whom = if states::stand_in(lab, id, &answerers) { "endpoint that is used" } else { "ready endpoint" };
            let why = format!(
                "each {whom} gets the same share of new connections: the i-th of n rules takes 1/(n-i) of what reaches it"
            );
            let why = also(&why, states::of_answerers(lab, id, &answerers));
            let by = lab.node(node).name.to_string();
            (Expect::Shares(Spread { by, answerers, shares: stats::equal(n) }), why)
        }
    };
    let times = if matches!(expect, Expect::Shares(_)) { AS_NEEDED } else { STICKY_TRIES };
    let from = Place::Node(node);
    let counted_by = matches!(expect, Expect::Shares(_)).then(|| lab.netns(from));
    let order =
        |sample: &Sample| Order { counted_by: counted_by.clone(), ..scene.crowd(sample.from, sample.to, times) };
    let orders = samples.iter().map(order).collect();
    let mut probe =
        scene.probe_by(Draft { group: Group::Balance, from, target, entry: Some(node), expect, why }, orders);
    for sample in samples {
        probe.way = join(probe.way, way(lab, sample.from, sample.entry, &ends));
    }
    probe
}

/// One vantage of a test.
#[derive(Debug, Clone, Copy)]
struct Sample {
    from: Place,
    kind: TargetKind,
    to: SocketAddr,
    entry: Option<NodeId>,
}

impl Sample {
    fn ladder(&self, scene: &Scene<'_>) -> Ladder {
        match (scene.lab.cluster.proxy, self.from) {
            (ProxyMode::Iptables | ProxyMode::Nftables, _) => Ladder::Only,
            (ProxyMode::Ladder, Place::Node(_)) => Ladder::Output(self.kind),
            (ProxyMode::Ladder, _) => Ladder::Prerouting(self.kind),
        }
    }
}

/// The vantages whose connections this node itself balances.
fn samples(scene: &Scene<'_>, node: NodeId, service: ServiceId, port: usize) -> Vec<Sample> {
    let lab = scene.lab;
    let (this, port) = (lab.service(service), &lab.service(service).ports[port]);
    let mut pods = own_places(lab);
    pods.retain(|pod| lab.pod(*pod).node == node);
    // A bystander sees the same as a backend, and needs no hairpin.
    pods.sort_by_key(|pod| is_backend(lab, service, *pod));
    let pod = pods.first().map(|pod| Place::Pod(*pod));
    let mut samples = Vec::new();
    let mut add = |from: Option<Place>, kind, ip, port, entry| {
        samples.extend(from.map(|from| Sample { from, kind, to: SocketAddr::new(ip, port), entry }));
    };
    if let Some(ip) = this.cluster_ip {
        add(Some(Place::Node(node)), TargetKind::ClusterIp, ip, port.port, None);
        add(pod, TargetKind::ClusterIp, ip, port.port, None);
    }
    if let Some(node_port) = port.node_port {
        let ip = lab.node(node).ip;
        add(Some(Place::Host), TargetKind::NodePort, ip, node_port, Some(node));
        if lab.cluster.proxy == ProxyMode::Ladder {
            // Each of these has rules of its own.
            add(Some(Place::Node(node)), TargetKind::NodePort, ip, node_port, Some(node));
            if ip.is_ipv4() {
                let ip = Ipv4Addr::LOCALHOST.into();
                add(Some(Place::Node(node)), TargetKind::Localhost, ip, node_port, Some(node));
            }
        }
    }
    if lab.cluster.proxy == ProxyMode::Ladder {
        let external = this.external_ips.iter().map(|ip| (TargetKind::ExternalIp, *ip));
        let balanced = this.load_balancer_ips.iter().map(|ip| (TargetKind::LoadBalancer, *ip));
        for (kind, ip) in external.chain(balanced) {
            add(Some(Place::Node(node)), kind, ip, port.port, None);
            add(pod, kind, ip, port.port, None);
        }
    }
    samples
}

/// The same answerers seen from elsewhere: they may see the client under other addresses.
fn merge(known: &mut Vec<Answerer>, seen: Vec<Answerer>) {
    for answerer in seen {
        match known.iter_mut().find(|other| other.endpoint == answerer.endpoint) {
            Some(other) => other.sources.extend(answerer.sources),
            None => known.push(answerer),
        }
    }
}
