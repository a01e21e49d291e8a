//! Probes of the user: `labs/probes.toml` has one of every kind, and all pass; with every expectation
//! turned wrong, each fails, with the right words.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    support::{Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![shared:
    both_clients_give_the_same_verdicts,
    wrong_expectations_fail_in_the_right_words,
    a_probe_is_tried_until_it_is_so;
    alone: ];

fn both_clients_give_the_same_verdicts(world: &Arc<World>) {
    let lab = world.up(&book("probes.toml"));
    for engine in ["curl", "builtin"] {
        lab.verify().args(["--only", "yours", "--engine", engine]).succeeds().prints("probes passed");
    }
    lab.down();
}

/// What replaces what in the lab file, the probe, and what it must say.
const TURNED: &[(&str, &str, &str, &str)] = &[
    (
        "expect = { status = 200, backends = [\"pods app=web\"] }",
        "expect = { backends = [\"web-1\"] }",
        "the Service has two backends from web-0",
        "30 tries, answered by ",
    ),
    ("body = \"hello\", headers", "body = \"bye\", headers", "a request of its own", "the body \"hello\""),
    (
        "url = \"http://web/\"\nexpect = { source = \"self\" }",
        "url = \"http://web/\"\nexpect = { source = \"laptop\" }",
        "a pod is seen as itself",
        "instead of 192.0.2.10",
    ),
    (
        "expect = { source = \"node1\" }",
        "expect = { source = \"self\" }",
        "a node port hides its client",
        "instead of 192.0.2.10",
    ),
    (
        "expect = { body_contains = \"web-\" }",
        "expect = { status = 404 }",
        "the headless Service is found by its name",
        "status 200",
    ),
    (
        "expect = { headers = { x-netlab-pod = \"api.example.com\" } }",
        "expect = { headers = { x-other = \"y\" } }",
        "the internet is found by its name from node1",
        "without the header x-other",
    ),
    (
        "svc.cluster.local./\"\nexpect = \"unresolved\"",
        "svc.cluster.local./\"\nexpect = \"timeout\"",
        "there is no such name",
        "the name could not be resolved",
    ),
    (
        "url = \"http://nobody/\"\nexpect = \"refused\"",
        "url = \"http://nobody/\"\nexpect = \"answered\"",
        "a Service without endpoints refuses from node2",
        "connection refused",
    ),
    (
        "tcp = \"node2:30080\"",
        "tcp = \"node2:30080\"\nexpect = \"refused\"",
        "the port is open from laptop",
        "answered",
    ),
    (
        "tcp = \"web-0:81\"\nexpect = \"refused\"",
        "tcp = \"web-0:81\"\nexpect = \"timeout\"",
        "the port is closed from node1",
        "connection refused",
    ),
    (
        "tcp = \"web:81\"\nexpect = \"timeout\"",
        "tcp = \"web:81\"\nexpect = \"refused\"",
        "the Service has no such port",
        "nothing came back",
    ),
    (
        "expect = { backends = [\"web\"], source = \"self\" }",
        "expect = { backends = [\"client\"] }",
        "datagrams reach every backend",
        "tries, answered by ",
    ),
    (
        "expect = { answer = \"hello\" }",
        "expect = { answer = \"bye\" }",
        "a datagram is echoed",
        "the answer \"hello\"",
    ),
    ("ping = \"node2\"", "ping = \"node2\"\nexpect = \"timeout\"", "everybody reaches node2 from host", "answered"),
    (
        "ping = \"198.51.100.99\"\nexpect = \"unreachable\"",
        "ping = \"198.51.100.99\"",
        "there is no such machine",
        "no way there",
    ),
    (
        "expect = { records = [\"10.96.0.100\"] }",
        "expect = { records = [\"10.96.0.101\"] }",
        "a Service's name stands for its ClusterIP",
        "A 10.96.0.100",
    ),
    (
        "expect = { records = [\"pods app=web\"] }",
        "expect = { records = [\"web-0\"] }",
        "a headless Service's name stands for its pods",
        "peers.default.svc.cluster.local: A ",
    ),
    ("dns = \"nowhere\"\nexpect = \"nxdomain\"", "dns = \"nowhere\"", "nobody has that name", "NXDOMAIN"),
    (
        "server = \"kube-dns.kube-system\"\nexpect = \"nxdomain\"",
        "server = \"client:5353\"\nexpect = \"nxdomain\"",
        "the cluster's DNS does not know short names",
        "connection refused",
    ),
    (
        "expect = { stdout = \"1\\n\" }",
        "expect = { stdout = \"2\\n\" }",
        "a pod has one address",
        "the output \"1\\n\"",
    ),
    ("expect = { exit_code = 3 }", "expect = { exit_code = 0 }", "a program fails as it must", "exit code 3"),
    (
        "shares = { web-0 = 0.5, web-1 = 0.5 }",
        "shares = { web-0 = 0.9, web-1 = 0.1 }",
        "load is spread as told",
        "chance alone does this with p = ",
    ),
    (
        "expect = { body = \"ok\" }\nwithin = \"5s\"",
        "expect = { body = \"no\" }\nwithin = \"500ms\"",
        "the Service comes up in time",
        "the body \"ok\", still after ",
    ),
];

fn wrong_expectations_fail_in_the_right_words(world: &Arc<World>) {
    let mut text = book("probes.toml");
    for (right, wrong, name, _) in TURNED {
        assert_eq!(text.matches(right).count(), 1, "{name}: {right:?} is in the lab once");
        text = text.replace(right, wrong);
    }
    let lab = world.up(&text);
    for engine in ["curl", "builtin"] {
        let done = lab.verify().args(["--only", "yours", "--engine", engine, "-o", "json"]).fails(1);
        let report: serde_json::Value = serde_json::from_str(&done.stdout).expect("it is JSON");
        let probes: BTreeMap<&str, &serde_json::Value> = report["probes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|probe| (probe["name"].as_str().unwrap_or_default(), probe))
            .collect();
        for (_, _, name, words) in TURNED {
            let probe = probes.get(name).unwrap_or_else(|| panic!("there is no {name}: {:?}", probes.keys()));
            let said = |key: &str| probe[key].as_str().unwrap_or_default();
            assert_eq!(said("result"), "failed", "{engine}: {probe}");
            assert!(said("happened").contains(words), "{engine}: {words:?} is not what happened: {probe}");
            assert!(!said("expected").is_empty() && said("why").contains("the lab file asks"), "{probe}");
            assert!(said("command").starts_with("netlab exec "), "{probe}");
        }
    }
    lab.down();
}

/// It fails, and passes as soon as the lab is as it must be.
fn a_probe_is_tried_until_it_is_so(world: &Arc<World>) {
    let text = r#"
        [dns]
        engine = "none"
        [[pod]]
        name = "web"
        labels = { app = "web" }
        ready = false
        [[service]]
        name = "shop"
        selector = { app = "web" }
        ports = [{ port = 80 }]
        [[probe]]
        name = "it is served"
        from = "node1"
        url = "http://shop/"
        expect = { backends = ["web"] }
        within = "60s"
    "#;
    let lab = world.up(text);
    let waiting = lab.verify().args(["--only", "it is served", "-o", "json"]).start();
    world.netlab(["ready", "web=true", "-l", &lab.name]).succeeds();
    let done = waiting.done().with_code(0);
    let report: serde_json::Value = serde_json::from_str(&done.stdout).expect("it is JSON");
    let happened = report["probes"][0]["happened"].as_str().unwrap_or_default();
    assert!(happened.starts_with("30 tries, answered by web 30"), "{happened}");
    lab.down();
}
