//! A running lab is told that pods are ready or not, deleted, killed, more or fewer.

use std::sync::Arc;

use crate::{
    support::{Lab, Test, World, call::Call, process::a_moment},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: ready_or_not, a_deleted_pod_ends_what_it_does, a_pod_that_does_not_end_is_made_to,
    more_and_fewer_under_load, a_killed_server_comes_back, what_cannot_be,
    a_pod_without_its_server_is_not_ready, events_are_told_in_order;
    alone:
];

fn text(proxy: &str) -> String {
    format!(
        r#"
[cluster]
proxy = "{proxy}"

[dns]
engine = "embedded"

[[node]]
name = "node1"
ip = "10.30.45.100"

[[node]]
name = "node2"

[[pod]]
name = "web"
replicas = 2 # to be scaled
labels = {{ app = "web" }}

[[pod]]
name = "client"

[[service]]
name = "web"
type = "NodePort"
cluster_ip = "10.96.1.10"
selector = {{ app = "web" }}
ports = [{{ port = 80, node_port = 30080 }}]

[[service]]
name = "peers"
cluster_ip = "None"
selector = {{ app = "web" }}
ports = [{{ port = 80 }}]

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
"#
    )
}

impl Lab {
    fn told<const N: usize>(&self, verb: [&str; N]) -> Call {
        self.world.netlab(verb).args(["--lab", &self.name])
    }

    fn get(&self, what: &str) -> String {
        self.world.netlab(["get", what, "-o", "wide", "--lab", &self.name]).succeeds().stdout
    }

    /// Who answers for the Service, of so many requests.
    fn answers(&self, requests: u32) -> Vec<String> {
        let ask = format!("for i in $(seq {requests}); do curl -sS -m 5 http://10.96.1.10/hostname; echo; done");
        let mut names: Vec<String> =
            self.script("client", &ask).succeeds().stdout.split_whitespace().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    fn peers(&self) -> usize {
        self.exec("client", ["dig", "+short", "peers.default.svc.cluster.local"]).succeeds().stdout.lines().count()
    }
}

fn ready_or_not(world: &Arc<World>) {
    for proxy in ["iptables", "nftables", "ladder"] {
        let lab = world.up(&text(proxy));
        assert_eq!((lab.answers(30), lab.peers()), (vec!["web-0".to_owned(), "web-1".to_owned()], 2), "{proxy}");
        lab.told(["ready", "web-1=false"]).succeeds().prints("~ pod web-1: ready");
        assert_eq!((lab.answers(30), lab.peers()), (vec!["web-0".to_owned()], 1), "{proxy}");
        assert!(lab.get("endpoints").contains("(not ready)"), "{}", lab.get("endpoints"));
        lab.verify().args(["--samples", "50"]).succeeds();
        // It stays so when the file is applied, and there is nothing else to do.
        let file = world.file(&format!("{}-again.toml", lab.name), &text(proxy));
        lab.told(["apply", &file.to_string_lossy()]).succeeds().prints("nothing to do");
        lab.told(["ready", "web-1=true", "web-0=false"]).succeeds();
        assert_eq!((lab.answers(30), lab.peers()), (vec!["web-1".to_owned()], 1), "{proxy}");
        lab.down();
    }
}

/// It answers what it was asked before it was asked to end, and for two seconds more.
const SLOW: &str = r#"
import http.server, signal, threading
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"slow")
server = http.server.ThreadingHTTPServer(("", 80), Slow)
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(2, server.shutdown).start())
server.serve_forever()
"#;

fn a_deleted_pod_ends_what_it_does(world: &Arc<World>) {
    for proxy in ["iptables", "nftables"] {
        let base = text(proxy).replace(
            "replicas = 2 # to be scaled",
            &format!(
                "replicas = 1\nports = [{{ container_port = 80 }}]\ncommand = [\"python3\", \"-c\", '''{SLOW}''']"
            ),
        );
        let lab = world.up(&base);
        let delete = lab.told(["delete", "web-0"]).start();
        while !lab.get("endpoints").contains("terminating") {}
        assert!(lab.get("pods").contains("Terminating"), "{}", lab.get("pods"));
        // It is the last resort.
        lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.96.1.10/"]).succeeds().prints_exactly("slow");
        assert!(delete.done().with_code(0).stdout.contains("- pod web-0"));
        assert!(!lab.get("pods").contains("web-0"), "{}", lab.get("pods"));
        lab.script("host", "ip netns list").succeeds().does_not_print("web-0");
        lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.96.1.10/"]).fails(7);
        lab.verify().args(["--samples", "50"]).succeeds();
        // The file wants it.
        let file = world.file(&format!("{}-again.toml", lab.name), &base);
        lab.told(["apply", &file.to_string_lossy()]).succeeds().prints("+ pod web-0");
        lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.96.1.10/"]).succeeds().prints_exactly("slow");
        lab.down();
    }
}

fn a_pod_that_does_not_end_is_made_to(world: &Arc<World>) {
    let deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()";
    let lab = world.up(&format!(
        "[[pod]]\nname = \"deaf\"\nports = []\ntermination_grace_period = \"1s\"\ncommand = [\"python3\", \"-c\", '''{deaf}''']\n\
         [[pod]]\nname = \"other\"\n"
    ));
    lab.told(["delete", "deaf"]).succeeds();
    assert!(!lab.get("pods").contains("deaf"), "{}", lab.get("pods"));
    lab.script("host", "ip netns list").succeeds().does_not_print("deaf");
}

fn more_and_fewer_under_load(world: &Arc<World>) {
    for proxy in ["iptables", "nftables"] {
        let lab = world.up(&text(proxy));
        let load = lab.load(6, &["10.30.45.100:30080"]);
        for (replicas, says) in [("4", "+ pod web-3"), ("1", "- pod web-1"), ("3", "+ pod web-2")] {
            lab.told(["scale", "web", replicas]).succeeds().prints(says);
        }
        lab.told(["ready", "web-0=false"]).succeeds();
        load.has_not_failed();
        assert_eq!(lab.answers(40), ["web-1", "web-2"]);
        lab.verify().args(["--samples", "50"]).succeeds();
        lab.down();
    }
}

fn a_killed_server_comes_back(world: &Arc<World>) {
    let lab = world.up("[[pod]]\nname = \"web\"\nserver = \"python\"\n[[pod]]\nname = \"client\"\n");
    let row = || lab.get("pods").lines().find(|line| line.starts_with("web")).map(str::to_owned).unwrap_or_default();
    assert_eq!(row().split_whitespace().nth(3), Some("0"), "{}", row());
    lab.told(["kill", "web"]).succeeds();
    while row().split_whitespace().nth(3) != Some("1") {
        a_moment();
    }
    let ask = "until curl -sS -m 1 http://$0/ 2>/dev/null; do sleep 0.1; done";
    lab.exec("client", ["timeout", "10", "sh", "-c", ask, "10.244.0.2"]).succeeds().prints("Request path");
    assert_eq!(row().split_whitespace().nth(2), Some("Running"), "{}", row());
}

/// The second time it is down for ten seconds.
fn a_pod_without_its_server_is_not_ready(world: &Arc<World>) {
    let base = text("iptables").replacen("replicas = 2", "server = \"python\"\nreplicas = 2", 1);
    let lab = world.up(&base);
    let conditions = || lab.get("endpoints");
    lab.told(["kill", "web-1"]).succeeds();
    let told = |word: &str| lab.told(["events"]).succeeds().stdout.contains(word);
    while !told("Restarted") || lab.peers() != 2 {
        a_moment();
    }
    lab.told(["kill", "web-1"]).succeeds();
    while !conditions().contains("(not ready)") {}
    assert_eq!(lab.peers(), 1);
    for _ in 0..20 {
        lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.96.1.10/"]).succeeds().prints("Request path");
    }
    assert!(lab.get("pods").contains("CrashLoopBackOff"), "{}", lab.get("pods"));
    while conditions().contains("(not ready)") {
        a_moment();
    }
    assert_eq!(lab.peers(), 2);
    lab.verify().args(["--samples", "50"]).succeeds();
}

fn what_cannot_be(world: &Arc<World>) {
    let lab = world.up("[cluster]\nproxy = \"ladder\"\n[[pod]]\nname = \"web\"\nlabels = { app = \"web\" }\n\
         [[service]]\nname = \"web\"\nselector = { app = \"web\" }\nports = [{ port = 80 }]\n");
    lab.told(["ready", "nobody=true"]).fails(2).complains("there is no pod nobody in this lab");
    lab.told(["delete", "nobody"]).fails(2).complains("there is no pod nobody in this lab");
    lab.told(["kill", "web"]).fails(2).complains("web has no process that could be killed");
    lab.told(["scale", "web", "2"]).fails(2).complains("the [[pod]] web has no `replicas`");
    lab.told(["scale", "nobody", "2"]).fails(2).complains("there is no [[pod]] called nobody");
    lab.told(["ready", "web=perhaps"]).fails(2).complains("web-1=false");
    lab.told(["ready", "web=false"]).fails(2).complains("the ladder proxy cannot express");
    lab.told(["delete", "web"]).fails(2).complains("the ladder proxy cannot express");
    // Nothing of that has changed anything.
    lab.verify().args(["--samples", "50", "--only", "services"]).succeeds();
    assert!(!lab.get("endpoints").contains("terminating"), "{}", lab.get("endpoints"));
}

fn events_are_told_in_order(world: &Arc<World>) {
    let base = text("nftables").replacen("replicas = 2", "server = \"python\"\nreplicas = 2", 1);
    let lab = world.up(&base);
    let follow = lab.told(["events", "--follow", "-o", "json"]).start();
    lab.told(["ready", "web-1=false"]).succeeds();
    lab.told(["ready", "web-1=true"]).succeeds();
    lab.told(["kill", "web-0"]).succeeds();
    // Nothing but the events tells that it has been not ready, and is ready again.
    let again = |line: &str| line.contains("pod/web-0") && line.contains("is ready");
    while !lab.told(["events"]).succeeds().stdout.lines().any(again) {
        a_moment();
    }
    lab.told(["delete", "web-1"]).succeeds();
    let told = lab.told(["events", "-o", "json"]).succeeds().stdout;
    let events = |text: &str| -> Vec<String> {
        let events = text.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            assert!(word("time").ends_with('Z') && !word("message").is_empty(), "{line}");
            format!("{} {} {}", word("type"), word("reason"), word("object"))
        });
        events.collect()
    };
    let all = events(&told);
    let mut rest = all.iter();
    for wanted in [
        "Normal Started pod/web-1",
        "Warning NotReady pod/web-1",
        "Normal RulesSynced node/node1",
        "Normal Reloaded dns",
        "Normal Ready pod/web-1",
        "Normal RulesSynced node/node2",
        "Warning Killed pod/web-0",
        "Warning Died pod/web-0",
        "Normal Restarted pod/web-0",
        "Normal Ready pod/web-0",
        "Normal Terminating pod/web-1",
        "Normal RulesSynced node/node1",
        "Normal Killing pod/web-1",
        "Normal Removed pod/web-1",
    ] {
        assert!(rest.any(|event| event == wanted), "{wanted} is not there, or not in its place: {all:#?}");
    }
    lab.told(["events"]).succeeds().prints("LAST SEEN").prints("RulesSynced");
    lab.down();
    let followed = follow.done().with_code(0);
    assert_eq!(events(&followed.stdout)[..all.len()], all);
}
