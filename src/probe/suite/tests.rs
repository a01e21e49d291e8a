//! What a suite holds.

use std::collections::BTreeSet;

use super::*;
pub(crate) use crate::probe::rehearsal::book;
use crate::{
    lab::model::{PodId, Server},
    probe::{order::What, rehearsal::book_with, stats},
};

fn lines(suite: &Suite) -> Vec<String> {
    suite.probes.iter().map(|probe| probe.id.clone()).collect()
}

fn only(lab: &Lab, only: &str) -> Suite {
    suite(lab, &SuiteOptions { only: vec![only.to_owned()], ..SuiteOptions::default() })
}

#[test]
fn the_books_lab() {
    let suite = suite(&book(), &SuiteOptions::default());
    let text: String = suite
        .probes
        .iter()
        .map(|probe| {
            let expected = crate::probe::judge::expected(&probe.expect);
            let times: usize = probe.orders.iter().map(|order| order.times).sum();
            format!("{}\n    {} x{times}: {expected}\n", probe.id, probe.name())
        })
        .collect();
    crate::probe::rehearsal::golden("suite.txt", &text);
    assert!(suite.bounds.is_empty());
}

#[test]
fn ids_are_unique_and_orders_numbered() {
    for proxy in ProxyMode::ALL {
        let mut lab = book();
        lab.cluster.proxy = proxy;
        let suite = suite(&lab, &SuiteOptions::default());
        let ids = lines(&suite);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{proxy}");
        let orders = suite.orders();
        let numbers: BTreeSet<usize> = orders.iter().map(|order| order.id).collect();
        assert_eq!(numbers, (0..orders.len()).collect(), "{proxy}");
    }
}

#[test]
fn only_takes_groups_and_parts_of_names() {
    let lab = book();
    assert!(only(&lab, "pods").probes.iter().all(|probe| probe.group == Group::Pods));
    assert_eq!(only(&lab, "pods").probes.len(), 6);
    let laptop = only(&lab, "laptop →");
    assert!(!laptop.probes.is_empty() && laptop.probes.iter().all(|probe| probe.from == "laptop"));
    assert_eq!(lines(&only(&lab, "pods/pod1a/pod/pod1b")), ["pods/pod1a/pod/pod1b:80"]);
    assert!(only(&lab, "nothing of the sort").probes.is_empty());
}

#[test]
fn engines_differ_in_the_client_only() {
    let lab = book();
    let curl = suite(&lab, &SuiteOptions::default());
    let builtin = suite(&lab, &SuiteOptions { engine: Engine::Builtin, ..SuiteOptions::default() });
    assert_eq!(lines(&curl), lines(&builtin));
    assert!(curl.orders().iter().any(|order| matches!(order.what, What::Curl { .. })));
    assert!(builtin.orders().iter().all(|order| !matches!(order.what, What::Curl { .. })));
    let url = curl.orders().iter().find_map(|order| match &order.what {
        What::Curl { url, .. } => Some(url.clone()),
        _ => None,
    });
    assert_eq!(url.as_deref(), Some("http://192.168.1.20/"));
}

/// The promise of the default: each mistake is missed less than once in a thousand runs, by whichever
/// rules, and however the vantages are pooled.
#[test]
fn tests_are_large_enough_to_notice_mistakes() {
    for proxy in ProxyMode::ALL {
        let mut lab = book();
        lab.cluster.proxy = proxy;
        let suite = only(&lab, "balance");
        assert!(suite.tests() >= 2, "{proxy}");
        for probe in &suite.probes {
            let Expect::Shares(Spread { shares, .. }) = &probe.expect else { panic!("{} is no test", probe.id) };
            let total = probe.orders.iter().map(|order| order.times).sum();
            let power = stats::least_power(shares, total, suite.alpha_each());
            assert!(power >= DEFAULT_POWER, "{proxy}: {} has power {power} with {total} connections", probe.id);
        }
    }
    // Fewer are asked for, or more: as far as the test is one.
    let samples = |samples| {
        let options = SuiteOptions { samples: Some(samples), only: vec!["balance/node1".into()], ..Default::default() };
        suite(&book(), &options).probes[0].orders.iter().map(|order| order.times).sum::<usize>()
    };
    assert_eq!((samples(10), samples(300), samples(3000)), (60, 300, 3000));
}

/// Behind the load balancer each node has the same share, and its endpoints share that.
#[test]
fn the_load_balancer_is_measured() {
    use crate::lab::model::{BalancerEngine, LoadBalancer, NodeId, ServiceKind, TrafficPolicy};
    let mut lab = book();
    lab.load_balancer = Some(LoadBalancer {
        name: "lb".parse().unwrap(),
        ip: "10.30.45.254".parse().unwrap(),
        engine: BalancerEngine::Builtin,
        at: 0..0,
    });
    let service = &mut lab.services[0];
    service.kind = ServiceKind::LoadBalancer;
    service.load_balancer_ips = vec!["203.0.113.10".parse().unwrap()];
    let shares = |lab: &Lab| {
        let suite = only(lab, "balance/laptop");
        assert_eq!(lines(&suite), ["balance/laptop/load-balancer/http-server-svc:8080@203.0.113.10"]);
        let Expect::Shares(spread) = &suite.probes[0].expect else { panic!("{:?}", suite.probes[0].expect) };
        assert_eq!((spread.by.as_str(), spread.answerers.len()), ("lb", spread.shares.len()));
        spread.shares.iter().map(|share| (share * 1000.0).round()).collect::<Vec<_>>()
    };
    assert_eq!(shares(&lab), [333.0, 333.0, 333.0]);
    // Of two nodes one has two pods, the other one.
    lab.services[0].external_traffic_policy = TrafficPolicy::Local;
    lab.services[0].health_check_node_port = Some(32000);
    assert_eq!(shares(&lab), [250.0, 250.0, 500.0]);
    lab.services[0].session_affinity = Some(10800);
    assert!(only(&lab, "balance/laptop").probes.is_empty());
    assert_eq!(lab.pod(PodId(2)).node, NodeId(1));
}

#[test]
fn a_single_endpoint_gets_all() {
    let mut lab = book();
    lab.pods.truncate(1);
    let suite = only(&lab, "balance");
    assert_eq!((suite.probes.len(), suite.tests()), (2, 0));
    assert!(suite.probes.iter().all(|probe| matches!(&probe.expect, Expect::Answer(by) if by.len() == 1)));
    assert!(suite.probes.iter().all(|probe| probe.orders.iter().all(|order| order.times == 32)));
}

#[test]
fn patterns_take_and_leave_probes() {
    let lab = book();
    let with = |only: &[&str], skip: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        lines(&suite(&lab, &SuiteOptions { only: texts(only), skip: texts(skip), ..SuiteOptions::default() }))
    };
    assert_eq!(with(&["pods/pod1?/*/pod2:80"], &[]), ["pods/pod1a/pod/pod2:80", "pods/pod1b/pod/pod2:80"]);
    assert_eq!(with(&["pods"], &["pod2"]), ["pods/pod1a/pod/pod1b:80", "pods/pod1b/pod/pod1a:80"]);
    assert_eq!(with(&["pods", "egress"], &["*"]).len(), 0);
    assert_eq!(with(&["pods", "pods/pod1a"], &[]).len(), 6);
    assert!(understand("").is_err() && understand("a[").is_err() && understand("a*").is_ok());
}

#[test]
fn each_ladder_is_tested_by_itself() {
    let mut lab = book();
    assert_eq!(
        lines(&only(&lab, "balance")),
        ["balance/node1/ladder/http-server-svc:8080@node1", "balance/node2/ladder/http-server-svc:8080@node2"]
    );
    lab.cluster.proxy = ProxyMode::Ladder;
    let ladders: Vec<String> = lines(&only(&lab, "balance/node1"));
    assert_eq!(
        ladders,
        [
            "balance/node1/ladder/http-server-svc:8080@node1/output-cluster-ip",
            "balance/node1/ladder/http-server-svc:8080@node1/output-node-port",
            "balance/node1/ladder/http-server-svc:8080@node1/output-localhost",
            "balance/node1/ladder/http-server-svc:8080@node1/prerouting-cluster-ip",
            "balance/node1/ladder/http-server-svc:8080@node1/prerouting-node-port",
        ]
    );
}

#[test]
fn affinity_is_measured_as_such() {
    let mut lab = book();
    lab.services[0].session_affinity = Some(10800);
    let suite = suite(&lab, &SuiteOptions::default());
    assert_eq!(suite.tests(), 0);
    let balance: Vec<&Probe> = suite.probes.iter().filter(|probe| probe.group == Group::Balance).collect();
    assert!(!balance.is_empty() && balance.iter().all(|probe| matches!(probe.expect, Expect::Sticky(_))));
    assert!(suite.probes.iter().all(|probe| !matches!(probe.expect, Expect::Itself(_))));
}

#[test]
fn foreign_servers_are_only_asked_to_take_a_connection() {
    let lab = book_with(Server::Command(vec!["redis-server".to_owned()]));
    let suite = suite(&lab, &SuiteOptions::default());
    let pods: Vec<&Probe> = suite.probes.iter().filter(|probe| probe.group == Group::Pods).collect();
    assert_eq!(pods.len(), 6);
    assert!(pods.iter().all(|probe| probe.expect.answerers()[0].speaks == Speaks::Anything));
    assert_eq!(suite.tests(), 0);
}

/// 10 nodes with 20 pods each and 40 Services.
fn large() -> Lab {
    let mut lab = book();
    let (node, pod, service) = (lab.nodes[0].clone(), lab.pods[0].clone(), lab.services[0].clone());
    lab.nodes.clear();
    lab.pods.clear();
    lab.services.clear();
    for n in 0..10_usize {
        let mut node = node.clone();
        node.name = format!("node{n}").parse().unwrap();
        node.ip = format!("10.30.45.{}", n + 10).parse().unwrap();
        node.pod_subnet = format!("192.168.{n}.0/24").parse().unwrap();
        node.pod_gateway = format!("192.168.{n}.1").parse().unwrap();
        lab.nodes.push(node);
        for p in 0..20 {
            let mut pod = pod.clone();
            pod.name = format!("pod{n}-{p}").parse().unwrap();
            pod.node = crate::lab::model::NodeId(n);
            pod.ip = format!("192.168.{n}.{}", p + 10).parse().unwrap();
            pod.labels = [("app".parse().unwrap(), format!("app{}", p * 2 + n % 2).parse().unwrap())].into();
            lab.pods.push(pod);
        }
    }
    for s in 0..40 {
        let mut service = service.clone();
        service.name = format!("svc{s}").parse().unwrap();
        service.cluster_ip = format!("10.96.1.{}", s + 1).parse().ok();
        service.selector = [("app".parse().unwrap(), format!("app{s}").parse().unwrap())].into();
        service.ports[0].node_port = Some(30100 + s);
        lab.services.push(service);
    }
    lab
}

/// Another seed takes others, the same one the same, and `full` takes all.
#[test]
fn a_seed_chooses() {
    let lab = large();
    let with = |seed, full| {
        let only = vec!["pods".to_owned(), "negative".to_owned()];
        suite(&lab, &SuiteOptions { seed, full, only, ..SuiteOptions::default() })
    };
    assert_eq!(lines(&with(1, false)), lines(&with(1, false)));
    assert_ne!(lines(&with(1, false)), lines(&with(2, false)));
    let full = with(1, true);
    assert!(full.bounds.is_empty());
    assert_eq!(full.probes.iter().filter(|probe| probe.group == Group::Pods).count(), 39_800);
}

/// Bounded, said to be so, and nothing neglected.
#[test]
fn a_large_lab_is_sampled() {
    let lab = large();
    let suite = suite(&lab, &SuiteOptions::default());
    assert!(suite.probes.len() < 2500, "{}", suite.probes.len());
    let connections: usize = suite.orders().iter().map(|order| order.times).sum();
    assert!(connections < 120_000, "{connections}");
    let bounded: Vec<String> = suite
        .bounds
        .iter()
        .map(|bound| format!("{}: {} of {} {}", bound.group, bound.tried, bound.of, bound.what))
        .collect();
    assert_eq!(
        bounded,
        [
            "pods: 200 of 39800 pairs of pods",
            "nodes: 200 of 2000 pairs of node and pod",
            "nodes: 200 of 2000 pairs of pod and node",
            "egress: 200 of 400 pairs of pod and machine outside",
            "services: 600 of 12200 ways to Services",
            "services: 200 of 2200 ways from a backend to itself",
            "negative: 50 of 100 closed ports",
            "balance: 40 of 400 pairs of node and Service port",
        ]
    );
    let pairs: BTreeSet<(usize, usize)> = suite
        .probes
        .iter()
        .filter(|probe| probe.group == Group::Pods)
        .map(|probe| {
            let node = |name: &str| lab.pods.iter().find(|pod| pod.full_name() == name).map_or(99, |pod| pod.node.0);
            (node(&probe.from), node(&probe.target.of))
        })
        .collect();
    assert_eq!(pairs.len(), 100, "each pair of nodes is tried");
    let served: BTreeSet<&str> =
        suite.probes.iter().filter(|p| p.group == Group::Services).map(|probe| probe.target.of.as_str()).collect();
    assert_eq!(served.len(), 40, "each Service is tried");
    let balanced: BTreeSet<&str> =
        suite.probes.iter().filter(|p| p.group == Group::Balance).map(|probe| probe.from.as_str()).collect();
    assert_eq!(balanced.len(), 10, "each node is measured");
}

#[test]
fn yours_are_taken_as_they_are() {
    use crate::lab::model::{ConnectFailure, UserExpect, UserSource};
    let mut lab = book();
    let http = |ip: &str, port| yours::tests::http(ip, port);
    let yours = |name: &str, asks, expect| yours::tests::probe(name, asks, expect);
    let all = vec![PodId(0), PodId(1), PodId(2)];
    lab.probes = vec![
        yours("any", http("10.96.1.100", 8080), UserExpect::default()),
        yours("all", http("10.30.45.100", 30080), UserExpect { backends: all, ..UserExpect::default() }),
        yours(
            "any",
            http("10.30.45.100", 1),
            UserExpect { failure: Some(ConnectFailure::Refused), ..UserExpect::default() },
        ),
        yours(
            "seen",
            http("10.30.45.100", 30080),
            UserExpect { source: Some(UserSource::Itself), ..UserExpect::default() },
        ),
    ];
    let suite = only(&lab, "yours");
    assert_eq!(lines(&suite), ["yours/any", "yours/all", "yours/any-2", "yours/seen"]);
    // Three, and a fourth that must not.
    assert_eq!(suite.probes[1].orders[0].times, 73);
    assert_eq!(suite.probes[1].target.service.as_deref(), Some("default/http-server-svc"));
    assert!(matches!(&suite.probes[2].expect, Expect::Silence(_)));
    let Expect::Yours(wish) = &suite.probes[3].expect else { panic!("it is a user's") };
    let ips: Vec<String> = wish.source.iter().flat_map(|source| &source.ips).map(ToString::to_string).collect();
    assert_eq!(ips, ["192.168.1.10"]);
    // Nobody is named, but everyone who may answer is on the way.
    assert!(suite.probes[0].way.iter().any(|hop| hop.netns == "pod2"));
}
