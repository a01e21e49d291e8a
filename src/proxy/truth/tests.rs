//! The master truth table, and what else the contract and the kernel notes say, row by row.

use super::*;
use crate::{
    lab::model::{DetectLocal, TrafficPolicy},
    proxy::sample::{self, book, parsed, words},
};

const IPT: ProxyMode = ProxyMode::Iptables;
const NFT: ProxyMode = ProxyMode::Nftables;
const LADDER: ProxyMode = ProxyMode::Ladder;

/// Rows of `from`, `to`, what is seen.
fn check(lab: &Lab, modes: &[ProxyMode], rows: &[(&str, &str, &str)]) {
    for mode in modes {
        let truth = Truth::new(lab, *mode);
        for (from, to, expected) in rows {
            let place = lab.find(from).expect("a test names places");
            let sight = truth.sight(place, parsed(to), Protocol::Tcp);
            assert_eq!(words(lab, &sight), *expected, "{mode}: {from} -> {to}");
        }
    }
}

#[test]
fn without_a_service() {
    check(
        &book(),
        &ProxyMode::ALL,
        &[
            ("pod1a", "192.168.1.20:80", "pod1b<192.168.1.10"),
            ("pod1a", "192.168.2.20:80", "pod2<192.168.1.10"),
            ("pod1a", "192.168.1.10:80", "pod1a<192.168.1.10"),
            ("pod1a", "127.0.0.1:80", "pod1a<127.0.0.1"),
            ("pod1a", "192.168.1.20:81", "refused"),
            ("pod1a", "192.168.1.77:80", "unreachable"),
            ("pod1a", "192.168.9.9:80", "dropped"),
            ("node1", "192.168.1.10:80", "pod1a<192.168.1.1"),
            ("node2", "192.168.1.10:80", "pod1a<10.30.45.200"),
            ("pod1a", "10.30.45.200:80", "refused"),
            ("pod1a", "10.30.45.1:80", "10.30.45.1:80<10.30.45.100"),
            ("pod2", "192.0.2.10:80", "192.0.2.10:80<10.30.45.200"),
            ("node1", "192.0.2.10:80", "192.0.2.10:80<10.30.45.100"),
            ("host", "192.0.2.10:80", "192.0.2.10:80<192.0.2.1"),
            ("laptop", "10.30.45.1:80", "10.30.45.1:80<192.0.2.10"),
            ("laptop", "192.168.1.10:80", "dropped"),
            ("host", "192.168.1.10:80", "unreachable"),
            ("host", "10.96.1.100:8080", "unreachable"),
            ("laptop", "10.96.1.100:8080", "dropped"),
            ("laptop", "10.30.45.100:30081", "refused"),
            ("pod1a", "8.8.8.8:53", "unreachable"),
            ("node2", "127.0.0.1:80", "refused"),
        ],
    );
}

#[test]
fn without_a_node() {
    let mut lab = book();
    lab.nodes[1].state.stopped = true;
    let left = "pod1a<192.168.1.1 pod1b<192.168.1.1";
    check(
        &lab,
        &ProxyMode::ALL,
        &[
            ("pod1a", "192.168.2.20:80", "dropped"),
            ("pod1a", "10.30.45.200:80", "dropped"),
            ("laptop", "10.30.45.200:30080", "dropped"),
            ("laptop", "10.30.45.100:30080", left),
        ],
    );
}

#[test]
fn one_that_was_given_up_believes_in_its_own_pods() {
    let mut lab = book();
    lab.nodes[1].state.unplugged = true;
    let all = "pod1a<192.168.1.1 pod1b<192.168.1.1 pod2<10.30.45.100";
    check(&lab, &[IPT, NFT], &[("laptop", "10.30.45.100:30080", all)]);
    lab.nodes[1].state.unheard = true;
    let left = "pod1a<192.168.1.1 pod1b<192.168.1.1";
    let believed = "pod1a<10.30.45.200 pod1b<10.30.45.200 pod2<192.168.2.1";
    let rows = [("laptop", "10.30.45.100:30080", left), ("node2", "10.30.45.200:30080", believed)];
    check(&lab, &[IPT, NFT], &rows);
}

#[test]
fn a_plain_service() {
    let masqueraded = "pod1a<192.168.1.1 pod1b<192.168.1.1 pod2<10.30.45.100";
    check(
        &book(),
        &[IPT, NFT],
        &[
            ("pod1a", "10.96.1.100:8080", "pod1a<192.168.1.1 pod1b<192.168.1.10 pod2<192.168.1.10"),
            ("pod2", "10.96.1.100:8080", "pod1a<192.168.2.20 pod1b<192.168.2.20 pod2<192.168.2.1"),
            ("node1", "10.96.1.100:8080", masqueraded),
            ("node2", "10.96.1.100:8080", "pod1a<10.30.45.200 pod1b<10.30.45.200 pod2<192.168.2.1"),
            ("pod1a", "10.30.45.100:30080", masqueraded),
            ("pod2", "10.30.45.100:30080", masqueraded),
            ("node1", "10.30.45.100:30080", masqueraded),
            ("node2", "10.30.45.100:30080", masqueraded),
            ("host", "10.30.45.100:30080", masqueraded),
            ("laptop", "10.30.45.100:30080", masqueraded),
            ("laptop", "10.30.45.200:30080", "pod1a<10.30.45.200 pod1b<10.30.45.200 pod2<192.168.2.1"),
            ("pod1a", "127.0.0.1:30080", "refused"),
        ],
    );
    let wrong = [("pod1a", "10.96.1.100:81"), ("node1", "10.96.1.100:81")];
    let free = [("pod1a", "10.96.9.9:80"), ("node1", "10.96.9.9:80")];
    check(&book(), &[IPT, LADDER], &wrong.map(|(from, to)| (from, to, "dropped")));
    check(&book(), &[NFT], &wrong.map(|(from, to)| (from, to, "refused")));
    check(&book(), &ProxyMode::ALL, &free.map(|(from, to)| (from, to, "dropped")));
    check(&book(), &[IPT, LADDER], &[("node1", "127.0.0.1:30080", masqueraded)]);
    check(&book(), &[IPT], &[("pod1a", "192.168.1.1:30080", masqueraded), ("node1", "127.0.0.5:30080", masqueraded)]);
    check(&book(), &[NFT], &[("pod1a", "192.168.1.1:30080", "refused"), ("node1", "127.0.0.1:30080", "refused")]);
    check(
        &book(),
        &[LADDER],
        &[("pod1a", "10.96.1.100:8080", masqueraded), ("laptop", "10.30.45.100:30080", masqueraded)],
    );
}

#[test]
fn another_protocol_on_a_live_cluster_ip() {
    let lab = book();
    let udp = |mode| sight(&lab, mode, Place::Pod(PodId(0)), parsed("10.96.1.100:8080"), Protocol::Udp);
    assert_eq!(udp(IPT), Sight::Dropped);
    assert_eq!(udp(NFT), Sight::Refused);
}

#[test]
fn external_policy_local() {
    let mut lab = book();
    lab.pods.remove(1);
    lab.services[0].external_traffic_policy = TrafficPolicy::Local;
    let all = "pod1a<192.168.1.1 pod2<10.30.45.100";
    let rows = [
        ("laptop", "10.30.45.100:30080", "pod1a<192.0.2.10"),
        ("node2", "10.30.45.100:30080", "pod1a<10.30.45.200"),
        ("pod1a", "10.30.45.100:30080", "pod1a<192.168.1.1 pod2<192.168.1.10"),
        ("node1", "10.30.45.100:30080", all),
        ("node1", "10.96.1.100:8080", all),
    ];
    check(&lab, &[IPT, NFT], &rows);
    check(&lab, &[IPT], &[("pod2", "10.30.45.100:30080", "pod1a<192.168.2.20 pod2<10.30.45.100")]);
    // The known hole of nftables mode: a pod that comes to itself through another node.
    let hole = "mixed: pod1a<192.168.2.20 refused [] lost [192.168.2.20:80]";
    check(&lab, &[NFT], &[("pod2", "10.30.45.100:30080", hole)]);
    lab.pods.remove(0);
    check(
        &lab,
        &[IPT, NFT],
        &[
            ("laptop", "10.30.45.100:30080", "dropped"),
            ("node1", "10.30.45.100:30080", "pod2<10.30.45.100"),
            ("pod2", "10.96.1.100:8080", "pod2<192.168.2.1"),
        ],
    );
    lab.cluster.detect_local = DetectLocal::None;
    check(
        &lab,
        &[IPT, NFT],
        &[("pod2", "10.30.45.100:30080", "dropped"), ("node1", "10.96.1.100:8080", "pod2<10.30.45.100")],
    );
}

#[test]
fn internal_policy_local() {
    let mut lab = book();
    lab.services[0].internal_traffic_policy = TrafficPolicy::Local;
    lab.pods.pop();
    sample::pod(&mut lab, "other", 1, "192.168.2.30", "other");
    check(
        &lab,
        &[IPT, NFT],
        &[
            ("pod1a", "10.96.1.100:8080", "pod1a<192.168.1.1 pod1b<192.168.1.10"),
            ("node1", "10.96.1.100:8080", "pod1a<192.168.1.1 pod1b<192.168.1.1"),
            ("other", "10.96.1.100:8080", "dropped"),
            ("node2", "10.96.1.100:8080", "dropped"),
            ("laptop", "10.30.45.200:30080", "pod1a<10.30.45.200 pod1b<10.30.45.200"),
        ],
    );
}

#[test]
fn without_endpoints() {
    let mut lab = book();
    lab.services[0].selector = [(parsed("app"), parsed("none"))].into();
    lab.services[0].external_ips = vec![parsed("203.0.113.250")];
    check(
        &lab,
        &[IPT, NFT],
        &[
            ("pod1a", "10.96.1.100:8080", "refused"),
            ("node1", "10.96.1.100:8080", "refused"),
            ("laptop", "10.30.45.100:30080", "refused"),
            ("pod1a", "203.0.113.250:8080", "refused"),
        ],
    );
    check(&lab, &[IPT], &[("node1", "203.0.113.250:8080", "unreachable")]);
    check(&lab, &[NFT], &[("node1", "203.0.113.250:8080", "refused")]);
    check(&lab, &[LADDER], &[("pod1a", "10.96.1.100:8080", "dropped"), ("host", "10.30.45.100:30080", "refused")]);
}

#[test]
fn masquerade_all_and_a_load_balancer_with_ranges() {
    let mut lab = book();
    lab.cluster.masquerade_all = true;
    lab.services[0].load_balancer_ips = vec![parsed("203.0.113.1")];
    lab.services[0].source_ranges = vec![parsed("192.0.2.0/24")];
    let all = "pod1a<192.168.1.1 pod1b<192.168.1.1 pod2<10.30.45.100";
    check(
        &lab,
        &[IPT, NFT],
        &[
            ("pod1a", "10.96.1.100:8080", all),
            ("pod1a", "203.0.113.1:8080", "dropped"),
            ("node1", "203.0.113.1:8080", "dropped"),
            ("host", "10.30.45.100:30080", all),
        ],
    );
    let via = |truth: &Truth<'_>, from| truth.sight_via(from, NodeId(0), parsed("203.0.113.1:8080"), Protocol::Tcp);
    for mode in [IPT, NFT] {
        let truth = Truth::new(&lab, mode);
        assert_eq!(words(&lab, &via(&truth, lab.find("laptop").expect("it is there"))), all);
        assert_eq!(words(&lab, &via(&truth, Place::Host)), "dropped");
    }
}

#[test]
fn a_host_network_endpoint_sees_who_came_to_its_node() {
    let mut lab = book();
    lab.pods.truncate(1);
    lab.pods[0].host_network = true;
    lab.pods[0].ip = parsed("10.30.45.100");
    sample::pod(&mut lab, "other", 1, "192.168.2.30", "other");
    check(
        &lab,
        &[IPT, NFT],
        &[
            ("laptop", "10.30.45.100:30080", "pod1a<192.0.2.10"),
            ("laptop", "10.30.45.200:30080", "pod1a<10.30.45.200"),
            ("node1", "10.96.1.100:8080", "pod1a<10.30.45.100|192.168.1.1"),
            ("other", "10.96.1.100:8080", "pod1a<192.168.2.30"),
            ("other", "10.30.45.100:80", "pod1a<192.168.2.30"),
        ],
    );
}

#[test]
fn every_address_is_listed() {
    let mut lab = book();
    lab.services[0].external_ips = vec![parsed("203.0.113.250")];
    let listed: Vec<String> = addresses(&lab, ServiceId(0)).iter().map(|address| address.to.to_string()).collect();
    let expected = "10.96.1.100:8080 10.30.45.100:30080 10.30.45.200:30080 127.0.0.1:30080 203.0.113.250:8080";
    assert_eq!(listed.join(" "), expected);
    lab.services[0].labels.insert(parsed("service.kubernetes.io/headless"), parsed(""));
    assert_eq!(addresses(&lab, ServiceId(0)), []);
}
