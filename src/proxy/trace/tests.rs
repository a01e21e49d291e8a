//! Two opinions on every path of a lab, which must agree: on labs made by hand and at random.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    lab::model::{
        BalancerEngine, DetectLocal, HostPort, ManualEndpoint, NodeState, ServiceKind, TrafficDistribution,
        TrafficPolicy,
    },
    proxy::{
        render,
        sample::{self, book, everything, parsed, words},
        truth::{Truth, addresses},
        view::view,
    },
};

/// Every address of a lab that is worth a try, with its port.
fn targets(lab: &Lab) -> BTreeSet<SocketAddr> {
    let mut ips: BTreeSet<IpAddr> = BTreeSet::new();
    let mut ports: BTreeSet<u16> = [80, 81, 8081].into();
    let mut all = BTreeSet::new();
    ips.extend(lab.nodes.iter().flat_map(|node| [node.ip, node.pod_gateway]));
    ips.extend(lab.pods.iter().map(|pod| pod.ip));
    ips.extend(lab.clients.iter().map(|client| client.ip.addr()));
    for unused in [
        "10.30.45.1",
        "10.30.45.77",
        "127.0.0.1",
        "127.0.0.5",
        "192.168.1.77",
        "192.168.200.1",
        "8.8.8.8",
        "10.96.77.7",
    ] {
        ips.insert(parsed(unused));
    }
    for service in lab.service_ids() {
        for address in addresses(lab, service) {
            all.insert(address.to);
            ips.insert(address.to.ip());
            ports.extend(lab.service(service).ports.iter().filter_map(|port| port.node_port));
        }
    }
    all.extend(ips.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port))));
    all
}

/// Truth and trace agree on every path of the lab; returns how many those are.
fn agree(lab: &Lab) -> usize {
    let mut paths = 0;
    for mode in ProxyMode::ALL {
        let truth = Truth::new(lab, mode);
        let texts: BTreeMap<NodeId, String> =
            lab.node_ids().map(|node| (node, render(mode, &view(lab, node)))).collect();
        let tracer = Tracer::new(lab, mode, &texts).expect("every rule is of a known shape");
        for to in targets(lab) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for from in lab.present_places() {
                    let entries: Vec<Option<NodeId>> = match from {
                        Place::Node(_) | Place::Pod(_) | Place::LoadBalancer => vec![None],
                        Place::Host | Place::Client(_) | Place::External(_) => {
                            let on = lab.node_ids().filter(|node| !lab.node(*node).state.stopped);
                            std::iter::once(None).chain(on.map(Some)).collect()
                        }
                    };
                    // Only what no one holds is ever routed to a node of someone's choice.
                    let free = !to.ip().is_loopback() && ways::holder(lab, to.ip()).is_none();
                    for entry in entries.into_iter().filter(|entry| entry.is_none() || free) {
                        let (said, branches) = match entry {
                            None => (truth.sight(from, to, protocol), tracer.trace(from, to, protocol)),
                            Some(entry) => {
                                let branches = tracer.trace_via(from, entry, to, protocol);
                                (truth.sight_via(from, entry, to, protocol), branches)
                            }
                        };
                        let branches = branches.expect("the rules are sound");
                        let traced = sight(&branches);
                        let what = || format!("{mode}: {} -> {to} {protocol} via {entry:?}", lab.netns(from));
                        if said != traced {
                            let stays: Vec<_> = branches.iter().map(|branch| &branch.stays).collect();
                            panic!(
                                "{}\ntruth: {}\ntrace: {}\n{stays:#?}",
                                what(),
                                words(lab, &said),
                                words(lab, &traced)
                            );
                        }
                        let even = 1.0 / branches.len() as f64;
                        // Nodes get the same share, whatever endpoints they have.
                        let balanced = entry.is_none() && ways::end(lab, from, to.ip()) == End::Balanced;
                        let is_even = branches.iter().all(|branch| (branch.share - even).abs() < 1e-8);
                        assert!(balanced || is_even, "{}: uneven", what());
                        let total: f64 = branches.iter().map(|branch| branch.share).sum();
                        assert!((total - 1.0).abs() < 1e-8, "{}: shares of {total}", what());
                        paths += 1;
                    }
                }
            }
        }
    }
    paths
}

#[test]
fn on_the_books_lab() {
    assert!(agree(&book()) > 1000);
}

#[test]
fn on_one_service_of_every_kind() {
    let engines = [None, Some(BalancerEngine::Builtin), Some(BalancerEngine::Haproxy), None];
    let detects = [DetectLocal::ClusterCidr, DetectLocal::NodeCidr, DetectLocal::Bridge, DetectLocal::None];
    for (detect, engine) in detects.into_iter().zip(engines) {
        let mut lab = everything();
        lab.load_balancer = engine.map(sample::balancer);
        lab.cluster.detect_local = detect;
        assert!(agree(&lab) > 10_000);
    }
}

#[test]
fn on_labs_with_a_node_less() {
    for state in [
        NodeState { stopped: true, ..NodeState::default() },
        NodeState { unplugged: true, unheard: true, ..NodeState::default() },
    ] {
        let mut lab = everything();
        lab.load_balancer = Some(sample::balancer(BalancerEngine::Builtin));
        lab.nodes[1].state = state;
        assert!(agree(&lab) > 10_000);
    }
}

#[test]
fn an_unknown_rule_is_an_error() {
    let lab = book();
    for (mode, from, to) in [
        (ProxyMode::Iptables, "-m addrtype --dst-type LOCAL", "-m addrtype --dst-type UNICAST"),
        (ProxyMode::Iptables, "-j KUBE-MARK-MASQ", "-j TEE"),
        (ProxyMode::Nftables, "vmap @service-ips", "map @service-ips"),
        (ProxyMode::Nftables, "masquerade fully-random", "masquerade persistent"),
    ] {
        let text = render(mode, &view(&lab, NodeId(0)));
        assert!(text.contains(from), "{mode} has no {from}");
        let texts = BTreeMap::from([(NodeId(0), text.replace(from, to))]);
        assert!(Tracer::new(&lab, mode, &texts).is_err(), "{mode}: {to} was not noticed");
    }
}

#[test]
fn a_ladder_of_a_third_a_third_and_the_rest_is_uneven() {
    let lab = book();
    let texts: BTreeMap<NodeId, String> = lab
        .node_ids()
        .map(|node| {
            let text = render(ProxyMode::Iptables, &view(&lab, node));
            (node, text.replace("0.5000000000", "0.3333333333"))
        })
        .collect();
    let tracer = Tracer::new(&lab, ProxyMode::Iptables, &texts).expect("the rules are known");
    let branches = tracer.trace(Place::Host, parsed("10.30.45.100:30080"), Protocol::Tcp).expect("the rules are sound");
    let mut shares: Vec<u32> = branches.iter().map(|branch| (branch.share * 9.0).round() as u32).collect();
    shares.sort_unstable();
    assert_eq!(shares, [2, 3, 4]);
}

/// The rules of `node1` without which every path of the lab is as before.
fn idle(lab: &Lab, mode: ProxyMode) -> Vec<String> {
    let texts: BTreeMap<NodeId, String> = lab.node_ids().map(|node| (node, render(mode, &view(lab, node)))).collect();
    let text = &texts[&NodeId(0)];
    let truth = Truth::new(lab, mode);
    let is_rule = |line: &str| match mode {
        ProxyMode::Iptables | ProxyMode::Ladder => line.starts_with("-A "),
        ProxyMode::Nftables => {
            let words = line.trim_start();
            let depth = line.len() - words.len();
            depth == 12
                || (depth == 8
                    && !["type ", "flags ", "timeout ", "elements ", "}"].iter().any(|w| words.starts_with(w)))
        }
    };
    let paths: Vec<(Place, SocketAddr)> =
        targets(lab).into_iter().flat_map(|to| lab.places().into_iter().map(move |from| (from, to))).collect();
    let as_before = |without: &str| {
        let mut texts = texts.clone();
        texts.insert(NodeId(0), text.lines().filter(|line| *line != without).map(|line| format!("{line}\n")).collect());
        let Ok(tracer) = Tracer::new(lab, mode, &texts) else { return false };
        paths.iter().all(|(from, to)| {
            let branches = tracer.trace(*from, *to, Protocol::Tcp);
            branches.is_ok_and(|branches| {
                let even = 1.0 / branches.len() as f64;
                truth.sight(*from, *to, Protocol::Tcp) == sight(&branches)
                    && branches.iter().all(|branch| (branch.share - even).abs() < 1e-8)
            })
        })
    };
    text.lines().filter(|line| is_rule(line) && as_before(line)).map(|line| line.trim().to_owned()).collect()
}

/// Take any rule away, and some path shows it; except for those in the golden files, which are
/// there for foreign rules and policies, for attacks, or for what this lab does not have.
#[test]
fn every_rule_is_needed() {
    for mode in ProxyMode::ALL {
        sample::golden(&format!("book.idle.{mode}"), &(idle(&book(), mode).join("\n") + "\n"));
    }
}

/// What a random Service is made of; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
struct AnyService {
    app: usize,
    kind: u8,
    internal: bool,
    external: bool,
    affinity: bool,
    outer: u8,
    ranges: bool,
    udp: bool,
    manual: u8,
    distribution: u8,
    publish: bool,
}

fn any_service() -> impl Strategy<Value = AnyService> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0..4_usize, 0..3_u8, flags, 0..4_u8, 0..6_u8, 0..4_u8).prop_map(
        |(app, kind, (internal, external, affinity, ranges, udp, publish), outer, manual, distribution)| AnyService {
            app,
            kind,
            internal,
            external,
            affinity,
            outer,
            ranges,
            udp,
            manual,
            distribution,
            publish,
        },
    )
}

/// What a random pod is made of.
#[derive(Debug, Clone)]
struct AnyPod {
    node: usize,
    app: usize,
    host_network: bool,
    deaf: bool,
    host_port: bool,
    condition: u8,
}

fn any_pod() -> impl Strategy<Value = AnyPod> {
    let rare = || prop::bool::weighted(0.15);
    (0..3_usize, 0..3_usize, rare(), rare(), rare(), 0..10_u8).prop_map(
        |(node, app, host_network, deaf, host_port, condition)| AnyPod {
            node,
            app,
            host_network,
            deaf,
            host_port,
            condition,
        },
    )
}

fn any_lab() -> impl Strategy<Value = Lab> {
    let detect = prop::sample::select(vec![
        DetectLocal::ClusterCidr,
        DetectLocal::NodeCidr,
        DetectLocal::Bridge,
        DetectLocal::None,
    ]);
    let nodes = prop::collection::vec((any::<bool>(), 0..3_u8), 1..4);
    let pods = prop::collection::vec(any_pod(), 0..7);
    let services = prop::collection::vec(any_service(), 1..4);
    let engine = prop::option::of(prop::sample::select(vec![BalancerEngine::Builtin, BalancerEngine::Haproxy]));
    let cluster = (detect, any::<bool>(), engine, any::<bool>());
    (cluster, nodes, pods, services).prop_map(|((detect, masquerade_all, engine, share), nodes, pods, services)| {
        let mut lab = sample::cluster();
        lab.load_balancer = engine.map(sample::balancer);
        (lab.cluster.detect_local, lab.cluster.masquerade_all) = (detect, masquerade_all);
        for (i, (routed, zone)) in nodes.iter().enumerate() {
            let (name, ip, subnet) =
                (format!("node{i}"), format!("10.30.45.{}", 100 + i), format!("192.168.{}.0/24", i + 1));
            let node = sample::node(&mut lab, &name, &ip, &subnet);
            if *routed {
                node.attach = Attach::Routed;
            }
            node.zone = (*zone > 0).then(|| parsed(&format!("z{zone}")));
        }
        sample::client(&mut lab, "laptop", "192.0.2.10/24");
        sample::client(&mut lab, "phone", "198.51.100.10/24");
        for (i, any) in pods.iter().enumerate() {
            let node = any.node % nodes.len();
            add_pod(&mut lab, i, node, any);
        }
        for (i, any) in services.iter().enumerate() {
            add_service(&mut lab, i, any);
        }
        // One address of two Services, of which each has a check of its own.
        if let [first, second, ..] = lab.services.as_mut_slice()
            && share
        {
            second.external_ips.clone_from(&first.external_ips);
            second.ports.iter_mut().for_each(|port| port.port = 80);
        }
        lab
    })
}

fn add_pod(lab: &mut Lab, i: usize, node: usize, any: &AnyPod) {
    let (name, app, node_ip) = (format!("pod{i}"), format!("app{}", any.app), lab.nodes[node].ip);
    let pod = sample::pod(lab, &name, node, &format!("192.168.{}.{}", node + 1, 10 + i), &app);
    (pod.ready, pod.terminating) = match any.condition {
        0 => (false, false),
        1 => (true, true),
        2 => (false, true),
        _ => (true, false),
    };
    let ports = &mut pod.containers[0].ports;
    if any.deaf {
        ports.truncate(1);
        ports[0].container_port = 8888;
    } else if any.host_port && !any.host_network {
        ports[0].host_port = Some(HostPort { port: 8081, ip: i.is_multiple_of(2).then_some(node_ip) });
    }
    if any.host_network {
        (pod.host_network, pod.ip) = (true, node_ip);
    }
}

fn add_service(lab: &mut Lab, i: usize, any: &AnyService) {
    let policy = |local: bool| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
    let app = format!("app{}", any.app);
    let node_port = (any.kind > 0).then_some(30_000 + u16::try_from(i).expect("there are few Services"));
    let pod = lab.pods.first().map(|pod| pod.ip);
    let (first, last) = (lab.nodes[0].ip, lab.nodes.len() - 1);
    let service = sample::service(lab, &format!("svc{i}"), &format!("10.96.1.{}", i + 1), &app);
    service.kind =
        [ServiceKind::ClusterIp, ServiceKind::NodePort, ServiceKind::LoadBalancer][usize::from(any.kind)].clone();
    service.internal_traffic_policy = policy(any.internal);
    service.external_traffic_policy = policy(any.external);
    service.session_affinity = any.affinity.then_some(10800);
    service.publish_not_ready_addresses = any.publish;
    service.health_check_node_port = (any.kind == 2 && any.external).then_some(31_000 + i as u16);
    if any.outer & 1 == 1 {
        service.external_ips = vec![parsed(&format!("203.0.113.{}", i + 1))];
    }
    if any.kind == 2 && any.outer & 2 == 2 {
        service.load_balancer_ips = vec![parsed(&format!("203.0.113.{}", i + 101))];
        if any.ranges {
            service.source_ranges = vec![parsed("192.0.2.0/24"), parsed("192.0.2.0/25"), first.into()];
        }
    }
    service.traffic_distribution = match any.distribution {
        0 => Some(TrafficDistribution::PreferSameNode),
        1 => Some(TrafficDistribution::PreferSameZone),
        _ => None,
    };
    let at = match any.manual {
        0 => Some(parsed("192.0.2.10")),
        1 => Some(parsed("10.30.45.77")),
        2 => pod,
        _ => None,
    };
    if let Some(ip) = at {
        let node = any.affinity.then_some(NodeId(last));
        service.selector.clear();
        service.endpoints = vec![ManualEndpoint { ip, node, at: 0..0 }];
    }
    service.ports = vec![sample::port(Some("http"), Protocol::Tcp, 8080, 80, node_port)];
    if any.udp {
        service.ports.push(sample::port(Some("dgram"), Protocol::Udp, 8080, 80, node_port));
    }
}

proptest! {
    // A failing lab is printed whole; a file of seeds would outlive the strategy that they are for.
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn on_labs_at_random(lab in any_lab()) {
        agree(&lab);
    }
}
