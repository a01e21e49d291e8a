//! `verify` asks names: of a lab in which everything that has one is right, and of the same lab once
//! something is broken.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    support::{Lab, Test, World},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: every_name_is_right, either_client_says_the_same, no_rule_for_the_dns, a_node_that_drops_questions,
    no_internet, a_name_that_means_something_else, a_server_without_names;
    alone:
];

/// Services of every sort, and machines on the lab's internet.
const LAB: &str = include_str!("../../src/probe/suite/names/lab.toml");

/// `verify` with some of its groups alone: the rest is other tests' business.
fn report(lab: &Lab, options: &[&str]) -> (Value, i32) {
    let done = lab.verify().args(["-o", "json"]).args(options).done();
    let report = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"));
    (report, done.code())
}

/// The ids of the probes that failed.
fn failed(report: &Value) -> Vec<&str> {
    let probes = report["probes"].as_array().expect("a list").iter();
    probes.filter(|probe| probe["result"] == "failed").filter_map(|probe| probe["id"].as_str()).collect()
}

fn group<'a>(report: &'a Value, name: &str) -> &'a Value {
    let groups = report["groups"].as_array().expect("a list");
    groups.iter().find(|group| group["group"] == name).unwrap_or_else(|| panic!("no group {name} in {groups:?}"))
}

fn every_name_is_right(world: &Arc<World>) {
    for proxy in ["iptables", "nftables", "ladder"] {
        let lab = world.up(&format!("{LAB}\n[cluster]\nproxy = \"{proxy}\"\n"));
        let (report, code) = report(&lab, &[]);
        assert_eq!((failed(&report), code), (Vec::new(), 0), "{proxy}");
        assert_eq!(group(&report, "names")["passed"], 118, "{proxy}");
    }
}

fn either_client_says_the_same(world: &Arc<World>) {
    let lab =
        world.up(&LAB.replacen("engine", "external_names = \"rewrite\"\npods = \"verified\"\nreplicas = 2\nengine", 1));
    for engine in ["curl", "builtin"] {
        let (report, code) = report(&lab, &["--engine", engine]);
        assert_eq!((failed(&report), code), (Vec::new(), 0), "{engine}");
    }
}

/// Without the rule of one node, its pods ask in vain, and the report says which rule it is.
fn no_rule_for_the_dns(world: &Arc<World>) {
    let lab = world.up(LAB);
    let command = "iptables -t nat -S KUBE-SERVICES | grep 'kube-dns:dns ' | sed s/-A/-D/ | xargs iptables -t nat";
    lab.script("node1", command).succeeds();
    let (report, code) = report(&lab, &["--only", "names"]);
    assert_eq!(code, 1);
    let causes = report["causes"].as_array().expect("a list");
    assert_eq!(causes.len(), 1, "{causes:#?}");
    let (netns, text) = (&causes[0]["netns"], causes[0]["text"].as_str().unwrap_or_default());
    assert_eq!(netns, "node1", "{text}");
    assert!(text.contains("kube-system/kube-dns:dns cluster IP") && text.contains("missing"), "{text}");
    let failed = failed(&report);
    for id in ["names/web-0/A/web", "names/web-0/url/web"] {
        assert!(failed.contains(&id), "{id} is not among {failed:#?}");
    }
    // The other node has its rule, and both have the one for TCP.
    for id in ["names/web-1/A/kube-dns.kube-system", "names/web-0/A/kube-dns.kube-system/tcp"] {
        assert!(!failed.contains(&id), "{id} is among {failed:#?}");
    }
    let mend = causes[0]["mend"][0].as_str().expect("a command");
    assert!(mend.starts_with("ip netns exec node1 iptables -t nat -I KUBE-SERVICES"), "{mend}");
}

/// A node that does not forward to the DNS pod.
fn a_node_that_drops_questions(world: &Arc<World>) {
    let lab = world.up(LAB);
    let drop = "iptables -I FORWARD -p udp --dport 53 -j DROP";
    lab.script("node1", drop).succeeds();
    let (report, code) = report(&lab, &["--only", "names"]);
    assert_eq!((code, &report["causes"][0]["netns"]), (1, &Value::from("node1")));
    let text = report["causes"][0]["text"].as_str().unwrap_or_default();
    assert!(text.contains("is not netlab's"), "{text}");
}

/// The lab's internet does not answer: names of the cluster stay, the others are a server failure.
fn no_internet(world: &Arc<World>) {
    let lab = world.up(LAB);
    lab.script("host", "iptables -I INPUT -p udp --dport 53 -j DROP; iptables -I INPUT -p tcp --dport 53 -j DROP")
        .succeeds();
    let (report, code) = report(&lab, &["--only", "names"]);
    assert_eq!(code, 1);
    let failed = failed(&report);
    for id in ["names/web-0/A/api.ipify.org", "names/node1/A/api.ipify.org", "names/db-0/A/my-ip"] {
        assert!(failed.contains(&id), "{id} is not among {failed:#?}");
    }
    for id in ["names/web-0/A/web", "names/client.shop/A/db.default", "names/web-0/url/web"] {
        assert!(!failed.contains(&id), "{id} is among {failed:#?}");
    }
}

/// A resolver that hears a lie: the answer and what it should be are told.
fn a_name_that_means_something_else(world: &Arc<World>) {
    let lab = world.up(LAB);
    // What leads to the DNS leads to the name server of the lab's internet, which knows no Service.
    let command = "iptables -t nat -I PREROUTING -d 10.96.0.10 -p udp --dport 53 -j DNAT --to 10.30.45.1:53";
    lab.script("node2", command).succeeds();
    let (report, code) = report(&lab, &["--only", "names/web-1"]);
    assert_eq!(code, 1);
    let probes = report["probes"].as_array().expect("a list");
    let probe = probes.iter().find(|probe| probe["id"] == "names/web-1/A/db.default").expect("it is asked");
    assert_eq!(probe["happened"], "db.default: NXDOMAIN", "{probe:#}");
    assert_eq!(probe["expected"], "A 10.244.0.4, A 10.244.1.3 (TTL 30)");
    let done = lab.script("web-1", "dig +search +short db.default A").succeeds();
    assert_eq!(done.stdout, "", "what the report says to try shows it too");
}

/// Whoever has the address of a DNS pod and speaks HTTP is no name server.
fn a_server_without_names(world: &Arc<World>) {
    let lab = world.up(LAB);
    let command = "iptables -t nat -I PREROUTING -d 10.96.0.10 -p tcp --dport 9153 -j DNAT --to 10.244.0.2:80";
    lab.script("node1", command).succeeds();
    let (report, code) = report(&lab, &["--only", "kube-dns.kube-system:9153"]);
    assert_eq!(code, 1);
    assert_eq!(failed(&report), ["services/web-0/cluster-ip/kube-dns.kube-system:9153"]);
}
