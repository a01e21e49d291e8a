//! `trace --live`: the kernel is heard on a real connection, agrees with the rules, and is left
//! as it was.

use std::sync::Arc;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    support::{Lab, Test, World, process::a_moment, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: kernel_and_rules_agree, a_missing_rule_is_found, nothing_is_left, nothing_is_left_when_the_caller_goes,
    several_at_once, from_a_file, wrong_ends;
    alone:
];

fn book_with(proxy: &str) -> String {
    book("nodeport.toml").replace("[cluster]\n", &format!("[cluster]\nproxy = \"{proxy}\"\n"))
}

fn traced(lab: &Lab, from: &str, to: &str) -> Value {
    let call = lab.world.netlab(["trace", "--lab", &lab.name, from, to, "--live", "-o", "json"]);
    let done = call.succeeds();
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"))
}

fn kernel_and_rules_agree(world: &Arc<World>) {
    for proxy in ["iptables", "nftables", "ladder"] {
        let lab = world.up(&book_with(proxy));
        for (from, to, passages) in [
            ("laptop", "node1:30080", 1),
            ("pod1a", "http-server-svc:8080", 1),
            ("pod2", "node1:30080", 2),
            ("node1", "127.0.0.1:30080", 1),
            ("pod1a", "pod2:80", 2),
            // Nobody listens.
            ("laptop", "node1:31111", 1),
        ] {
            let story = traced(&lab, from, to);
            let live = &story["live"];
            assert_eq!(live["agrees"], true, "{proxy}: {from} -> {to}: {}", live["verdict"]);
            let stops = live["stops"].as_array().map_or(0, Vec::len);
            assert!(stops >= passages, "{proxy}: {from} -> {to}: {live:#}");
            assert!(
                live["reply"].as_array().is_some_and(|reply| !reply.is_empty()),
                "{proxy}: {from} -> {to}: {live:#}"
            );
        }
    }
}

fn a_missing_rule_is_found(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    lab.script("node1", "iptables -t nat -F KUBE-MARK-MASQ").succeeds();
    world
        .netlab(["trace", "--lab", &lab.name, "laptop", "node1:30080", "--live"])
        .fails(1)
        .prints("the kernel differs from the rules after 4 rules of way ")
        .prints("in nat KUBE-MARK-MASQ of node1");
}

fn tables(lab: &Lab, node: &str) -> String {
    lab.exec(node, ["nft", "list", "tables"]).succeeds().stdout
}

fn nothing_is_left(world: &Arc<World>) {
    for proxy in ["iptables", "nftables"] {
        let lab = world.up(&book_with(proxy));
        let before = [tables(&lab, "node1"), tables(&lab, "node2")];
        traced(&lab, "laptop", "node1:30080");
        // Nor when nothing answers.
        world
            .netlab(["trace", "--lab", &lab.name, "pod1a", "10.96.77.7:80", "--live", "--timeout", "100ms"])
            .succeeds();
        assert_eq!([tables(&lab, "node1"), tables(&lab, "node2")], before);
        lab.script("host", "! pgrep -x nft").succeeds();
    }
}

fn nothing_is_left_when_the_caller_goes(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    let before = tables(&lab, "node1");
    let arguments = ["trace", "--lab", &lab.name, "pod1a", "10.96.77.7:80", "--live", "--timeout", "1s"];
    let calling = world.netlab(arguments).start();
    while tables(&lab, "node1") == before {
        a_moment();
    }
    calling.signal(Signal::SIGKILL);
    calling.done();
    while tables(&lab, "node1") != before {
        a_moment();
    }
}

fn several_at_once(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    let calls: Vec<_> = ["laptop", "pod1a", "pod2", "host"]
        .iter()
        .map(|from| world.netlab(["trace", "--lab", &lab.name, from, "node1:30080", "--live"]).start())
        .collect();
    for call in calls {
        call.done().with_code(0).prints("the kernel did what the rules say: way ");
    }
}

fn from_a_file(world: &Arc<World>) {
    let file = world.book("nodeport.toml");
    let file = file.to_string_lossy();
    world
        .netlab(["trace", "-f", &file, "laptop", "node1:30080", "--proxy", "nftables"])
        .succeeds()
        .prints("destination 10.30.45.100:30080 → 192.168.1.10:80")
        .prints("source 192.0.2.10 → 192.168.1.1")
        .prints("laptop gets the answer from 10.30.45.100:30080, as it asked");
    world.netlab(["trace", "-f", &file, "laptop", "node1:30080", "--live"]).fails(2).complains("--live");
}

fn wrong_ends(world: &Arc<World>) {
    let file = world.book("nodeport.toml");
    let file = file.to_string_lossy();
    for (from, to, complaint) in [
        ("nobody", "node1:30080", "there is no nobody in nodeport"),
        ("laptop", "nobody:80", "there is no node, pod, service or client nobody"),
        ("laptop", "node1", "node1 has no port"),
        ("laptop", "node1:0", "node1:0 has no port"),
        ("laptop", "node1:30080/icmp", "cannot trace the protocol icmp"),
        ("pod1a", "http-server-svc:https", "which port of http-server-svc?"),
    ] {
        world.netlab(["trace", "-f", &file, from, to]).fails(2).complains(complaint);
    }
    world.netlab(["trace", "-f", &file, "laptop", "node1:30080", "--way", "4"]).fails(2).complains("there is no way 4");
}
