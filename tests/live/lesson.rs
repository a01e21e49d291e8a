//! The lesson by hand: its curls, typed in the lab's places, get its answers.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    support::{Lab, Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![shared: every_curl_of_the_lesson_is_answered_by_all_three; alone: ];

const PODS: [(&str, &str); 3] = [("pod1a", "192.168.1.10"), ("pod1b", "192.168.1.20"), ("pod2", "192.168.2.20")];
const CLUSTER_IP: &str = "10.96.1.100:8080";

fn every_curl_of_the_lesson_is_answered_by_all_three(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    let from_outside =
        [("host", "10.30.45.100:30080"), ("host", "10.30.45.200:30080"), ("laptop", "10.30.45.200:30080")];
    let from_nodes = [("node1", "127.0.0.1:30080"), ("node1", CLUSTER_IP), ("node2", CLUSTER_IP)];
    // Each backend to its own service: some of its connections come back to itself.
    let from_pods = PODS.map(|(pod, _)| (pod, CLUSTER_IP));
    for (place, address) in from_outside.into_iter().chain(from_nodes).chain(from_pods) {
        let all: BTreeSet<String> = PODS.map(|(_, ip)| ip.to_owned()).into();
        assert_eq!(answerers(&lab, place, address), all, "who answers {place} at {address}");
    }
    for ((from, _), (_, to)) in PODS.iter().flat_map(|from| PODS.map(|to| (from, to))) {
        lab.exec(from, ["curl", "-sS", "-m", "5", &format!("http://{to}/page")])
            .succeeds()
            .prints_exactly(&format!("HTTP Server IP address: {to}\nRequest path: /page\n"));
    }
}

/// Who answers 60 curls: the addresses that the lesson's two lines name.
fn answerers(lab: &Lab, place: &str, address: &str) -> BTreeSet<String> {
    let script = format!("for i in $(seq 60); do curl -sS -m 5 http://{address}/try; done");
    let done = lab.script(place, &script).succeeds();
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 120, "two lines for each try: {done}");
    let answers = lines.chunks(2).map(|answer| {
        assert_eq!(answer[1], "Request path: /try");
        answer[0].strip_prefix("HTTP Server IP address: ").expect("the lesson's first line").to_owned()
    });
    answers.collect()
}
