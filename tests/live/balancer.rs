//! Services of the type LoadBalancer: who answers, whom the pods see, and what happens when a node
//! is gone.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    support::{Lab, Test, World, process::a_moment, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: nodes_come_and_go, haproxy_does_as_well, health_checks_answer, a_missing_route_is_found,
        a_connection_stays_with_its_node;
    alone:
];

/// The Service of which any node takes a connection to any pod.
const SHOP: &str = "http://203.0.113.10";
/// The Service of which only nodes with a pod get connections.
const API: &str = "http://203.0.113.20";

/// The lab of `labs/load-balancer.toml` with HAProxy, and without the probe that asks for the
/// client's own address, which HAProxy does not pass on.
fn with_haproxy() -> String {
    let text = book("load-balancer.toml").replace("engine = \"builtin\"", "engine = \"haproxy\"");
    let (kept, _) = text.rsplit_once("[[probe]]").expect("the lab has probes");
    kept.to_owned()
}

/// What 40 curls of the laptop print.
fn curls(lab: &Lab, url: &str) -> BTreeSet<String> {
    let script = format!("for i in $(seq 40); do curl -sS -m 5 {url}; echo; done");
    lab.script("laptop", &script).succeeds().stdout.lines().map(str::to_owned).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Waits until the laptop gets answers of exactly these pods, and of them only.
fn until_only(lab: &Lab, url: &str, expected: &[&str]) {
    let script = format!("for i in $(seq 40); do curl -s -m 1 {url} || echo none; echo; done");
    loop {
        let seen: BTreeSet<String> =
            lab.script("laptop", &script).succeeds().stdout.split_whitespace().map(str::to_owned).collect();
        if seen == names(expected) {
            return;
        }
        a_moment();
    }
}

fn nodes_come_and_go(world: &Arc<World>) {
    let lab = world.up(&book("load-balancer.toml"));
    assert_eq!(curls(&lab, &format!("{SHOP}/hostname")), names(&["shop-0", "shop-1", "shop-2", "shop-3"]));
    assert_eq!(curls(&lab, &format!("{API}/hostname")), names(&["api-1", "api-2"]));
    assert!(curls(&lab, &format!("{API}/clientip")).iter().all(|client| client.starts_with("192.0.2.10:")));
    lab.script("node2", "ip link set eth0 down").succeeds();
    until_only(&lab, &format!("{API}/hostname"), &["api-1"]);
    lab.script("node2", "ip link set eth0 up && ip route add default via 10.30.45.1").succeeds();
    until_only(&lab, &format!("{API}/hostname"), &["api-1", "api-2"]);
}

fn haproxy_does_as_well(world: &Arc<World>) {
    let lab = world.up(&with_haproxy());
    lab.verify().args(["--samples", "100"]).succeeds().prints("probes passed");
    assert!(curls(&lab, &format!("{API}/clientip")).iter().all(|client| client.starts_with("10.30.45.254:")));
    lab.script("node2", "ip link set eth0 down").succeeds();
    until_only(&lab, &format!("{API}/hostname"), &["api-1"]);
    lab.script("node1", "ip link set eth0 down").succeeds();
    until_only(&lab, &format!("{API}/hostname"), &["none"]);
}

fn health_checks_answer(world: &Arc<World>) {
    let lab = world.up(&book("load-balancer.toml"));
    let status =
        |url: &str| lab.exec("host", ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]).succeeds().stdout;
    for (node, api) in [("10.30.45.11", "200"), ("10.30.45.12", "200"), ("10.30.45.13", "503")] {
        assert_eq!(status(&format!("http://{node}:10256/healthz")), "200", "{node}");
        assert_eq!(status(&format!("http://{node}:32000/")), api, "{node}");
    }
    lab.exec("host", ["curl", "-s", "http://10.30.45.11:32000/"]).succeeds().prints_exactly(
        r#"{"service":{"namespace":"default","name":"api"},"localEndpoints":1,"serviceProxyHealthy":true}"#,
    );
}

fn a_missing_route_is_found(world: &Arc<World>) {
    let lab = world.up(&book("load-balancer.toml"));
    lab.script("lb", "ip route del 203.0.113.10").succeeds();
    let (report, done) = lab.report();
    assert_eq!(report["causes"][0]["netns"], "lb", "the leading cause in {done}");
    lab.verify().fails(1).prints("the route to 203.0.113.10 over 3 nodes is missing");
}

/// Connections through the load balancer go on while their node gets no new ones, and while nodes are added.
fn a_connection_stays_with_its_node(world: &Arc<World>) {
    let text = |nodes: &str| {
        format!(
            r#"
[dns]
engine = "none"

[[node]]
name = "node1"

[[node]]
name = "node2"
{nodes}
[[pod]]
name = "one"
node = "node1"
labels = {{ app = "edge" }}

[[pod]]
name = "two"
node = "node2"
labels = {{ app = "edge" }}

[[service]]
name = "edge"
type = "LoadBalancer"
selector = {{ app = "edge" }}
external_traffic_policy = "Local"
load_balancer_ips = ["203.0.113.20"]
ports = [{{ port = 80 }}]

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
"#
        )
    };
    let lab = world.up(&text(""));
    // Of twelve there are some with either node, but for one run in two thousand: they would all go on, too.
    let url = format!("{API}/drip?numbytes=1000&duration=8");
    let downloads: Vec<_> = (0..12).map(|_| lab.exec("laptop", ["curl", "-sS", &url]).start()).collect();
    let flows = |lab: &Lab| {
        let table = lab.exec("lb", ["nft", "list", "map", "ip", "netlab-lb", "flows"]).succeeds();
        table.stdout.matches(" expires ").count()
    };
    while flows(&lab) < downloads.len() {
        a_moment();
    }
    let name = &lab.name;
    world.netlab(["ready", "two=false", "-l", name]).succeeds();
    until_only(&lab, &format!("{API}/hostname"), &["one"]);
    lab.apply(&text("\n[[node]]\nname = \"node3\"\n")).succeeds();
    world.netlab(["ready", "two=true", "-l", name]).succeeds();
    until_only(&lab, &format!("{API}/hostname"), &["one", "two"]);
    for download in downloads {
        let done = download.done().with_code(0);
        assert_eq!(done.stdout.len(), 1000, "{done}");
    }
    world.netlab(["diff", name]).succeeds();
    lab.down();
}
