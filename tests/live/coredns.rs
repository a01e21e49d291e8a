//! The cluster's DNS by the real CoreDNS, and what pods are told about names.

use std::sync::Arc;

use crate::{
    support::{Lab, Test, World, call::Done, executable, process::a_moment},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: names_are_answered, names_outside_the_cluster, names_follow_the_lab, a_killed_server_comes_back, pods_are_told_whom_to_ask,
    pods_are_told_where_services_are, an_old_coredns_is_refused, a_coredns_that_ends_at_once;
    alone:
];

const LAB: &str = r#"
[dns]
engine = "coredns"

[[pod]]
name = "web"
replicas = 2
labels = { app = "web" }

[[pod]]
name = "db"
labels = { app = "db" }
hostname = "first"
subdomain = "db"

[[pod]]
name = "late"
labels = { app = "db" }
ready = false

[[service]]
name = "shop"
selector = { app = "web" }
ports = [{ name = "http", port = 8080, target_port = 80 }]

[[service]]
name = "db"
cluster_ip = "None"
selector = { app = "db" }
ports = [{ name = "sql", port = 80 }]

[[service]]
name = "my-ip"
type = "ExternalName"
external_name = "api.ipify.org"

[[external]]
name = "api.ipify.org"
ip = ["104.26.12.205", "104.26.13.205"]

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
"#;

/// What `dig` prints of an answer in short, its lines sorted.
fn dig(lab: &Lab, words: &str) -> String {
    let done = lab.script("web-0", &format!("dig +short {words} | sort | xargs")).succeeds();
    done.stdout.trim_end().to_owned()
}

/// The status of an answer, and how many records it has.
fn status(lab: &Lab, words: &str) -> String {
    let script =
        format!("dig +noall +comments {words} | sed -nE 's/.*(status: [A-Z]+|ANSWER: [0-9]+).*/\\1/p' | xargs");
    lab.script("web-0", &script).succeeds().stdout.trim_end().to_owned()
}

fn names_are_answered(world: &Arc<World>) {
    let lab = world.up(LAB);
    for name in ["shop", "shop.default", "shop.default.svc", "shop.default.svc.cluster.local", "SHOP"] {
        lab.exec("web-0", ["getent", "hosts", name]).succeeds().prints("10.96.1.1 ");
    }
    lab.exec("db", ["curl", "-sS", "http://shop.default:8080/hostname"]).succeeds().prints("web-");
    let zone = "default.svc.cluster.local";
    let rows = [
        (format!("shop.{zone}"), "10.96.1.1"),
        (format!("db.{zone}"), "10.244.0.3"),
        (format!("first.db.{zone}"), "10.244.0.3"),
        (format!("SRV _sql._tcp.db.{zone}"), "0 100 80 first.db.default.svc.cluster.local."),
        (format!("CNAME my-ip.{zone}"), "api.ipify.org."),
        ("1-2-3-4.default.pod.cluster.local".to_owned(), "1.2.3.4"),
        ("TXT dns-version.cluster.local".to_owned(), "1.1.0"),
        ("-x 10.96.1.1".to_owned(), "shop.default.svc.cluster.local."),
        ("-x 10.244.0.3".to_owned(), "first.db.default.svc.cluster.local."),
    ];
    for (words, expected) in rows {
        assert_eq!(dig(&lab, &words), expected, "{words}");
    }
    let rows = [
        (format!("shop.{zone}"), "status: NOERROR ANSWER: 1"),
        (format!("AAAA shop.{zone}"), "status: NOERROR ANSWER: 0"),
        (format!("SRV my-ip.{zone}"), "status: NOERROR ANSWER: 0"),
        (format!("a.my-ip.{zone}"), "status: NXDOMAIN ANSWER: 0"),
        (format!("nothing.{zone}"), "status: NXDOMAIN ANSWER: 0"),
        (zone.to_owned(), "status: NOERROR ANSWER: 0"),
        ("kube-public.pod.cluster.local".to_owned(), "status: NOERROR ANSWER: 0"),
        ("nowhere.pod.cluster.local".to_owned(), "status: NXDOMAIN ANSWER: 0"),
    ];
    for (words, expected) in rows {
        assert_eq!(status(&lab, &words), expected, "{words}");
    }
    world.netlab(["logs", "coredns.kube-system", "--lab", &lab.name]).succeeds().prints("A IN shop.default.svc");
}

/// The upstream name server is on `host`.
fn names_outside_the_cluster(world: &Arc<World>) {
    let lab = world.up(LAB);
    let both = "104.26.12.205 104.26.13.205";
    assert_eq!(dig(&lab, "api.ipify.org"), both);
    assert_eq!(dig(&lab, "my-ip.default.svc.cluster.local"), format!("{both} api.ipify.org."));
    lab.exec("web-0", ["getent", "hosts", "my-ip"]).succeeds().prints("api.ipify.org");
    let lab = world.up(&LAB.replace("[dns]", "[dns]\nexternal_names = \"rewrite\""));
    assert_eq!(dig(&lab, "my-ip.default.svc.cluster.local"), both, "as by the lesson's rewrite");
}

fn names_follow_the_lab(world: &Arc<World>) {
    let lab = world.up(LAB);
    let apply = |text: &str| {
        let file = world.file("changed.toml", text);
        world.netlab(["apply", &file.to_string_lossy(), "--lab", &lab.name]).succeeds();
    };
    let more = "[[service]]\nname = \"more\"\ncluster_ip = \"10.96.1.77\"\nselector = { app = \"web\" }\nports = [{ port = 80 }]\n\
        [[service]]\nname = \"other\"\ntype = \"ExternalName\"\nexternal_name = \"shop.default.svc.cluster.local\"\n";
    assert_eq!(status(&lab, "more.default.svc.cluster.local"), "status: NXDOMAIN ANSWER: 0");
    apply(&format!("{}{more}", LAB.replace("ready = false", "")));
    assert_eq!(dig(&lab, "more.default.svc.cluster.local"), "10.96.1.77");
    assert_eq!(dig(&lab, "other.default.svc.cluster.local"), "10.96.1.1 shop.default.svc.cluster.local.");
    assert_eq!(dig(&lab, "db.default.svc.cluster.local"), "10.244.0.3 10.244.1.3", "one more is ready");
    apply(LAB);
    assert_eq!(status(&lab, "more.default.svc.cluster.local"), "status: NXDOMAIN ANSWER: 0");
    assert_eq!(status(&lab, "other.default.svc.cluster.local"), "status: NXDOMAIN ANSWER: 0");
    assert_eq!(restarts(&lab), "1/1 Running 0");
    let (laptop, without) = ("nameserver 192.0.2.1\n", "# This lab has no DNS.\n");
    let asks = |place: &str, expected: &str| {
        lab.exec(place, ["cat", "/etc/resolv.conf"]).succeeds().prints_exactly(expected);
    };
    asks("laptop", laptop);
    let parts = LAB.split("\n[[").filter(|part| !part.starts_with("external]]"));
    let without_names = parts.collect::<Vec<_>>().join("\n[[").replace("engine = \"coredns\"", "engine = \"none\"");
    apply(&without_names);
    assert!(!world.netlab(["get", "pods", "--lab", &lab.name]).succeeds().stdout.contains("coredns"));
    asks("laptop", without);
    asks("host", without);
}

fn restarts(lab: &Lab) -> String {
    let pods = lab.world.netlab(["get", "pods", "--lab", &lab.name]).succeeds().stdout;
    let line = pods.lines().find(|line| line.starts_with("coredns.")).expect("the pod is listed");
    line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" ")
}

fn a_killed_server_comes_back(world: &Arc<World>) {
    let lab = world.up(LAB);
    let kill = || lab.script("host", "kill -9 $(pgrep -x coredns)").succeeds();
    assert_eq!(restarts(&lab), "1/1 Running 0");
    kill();
    // At once, but not in no time: it has to begin, and nothing tells when it has.
    while !lab
        .exec("web-0", ["dig", "+short", "+time=1", "shop.default.svc.cluster.local"])
        .done()
        .stdout
        .contains("10.96.1.1")
    {
        a_moment();
    }
    // The agent has to see that it listens again, too.
    while restarts(&lab) != "1/1 Running 1" {
        a_moment();
    }
    kill();
    while restarts(&lab) != "0/1 CrashLoopBackOff 1" {
        a_moment();
    }
    let describe = world.netlab(["describe", "pod/coredns.kube-system", "--lab", &lab.name]).succeeds();
    describe.prints("was ended by SIGKILL; it starts again in 10 s");
    let (report, done) = lab.report();
    let first = report["causes"][0].clone();
    assert_eq!(first["netns"], "coredns.kube-system", "the leading cause in {done}");
    assert!(
        first["text"].as_str().is_some_and(|text| text.contains("the DNS server of coredns.kube-system")),
        "{done}"
    );
    let log = world.netlab(["logs", "agent", "--lab", &lab.name]).succeeds();
    log.prints("it starts again at once\n").prints("it starts again in 10 s\n");
}

fn pods_are_told_whom_to_ask(world: &Arc<World>) {
    let text = r#"
[dns]
engine = "coredns"

[[pod]]
name = "usual"

[[pod]]
name = "own"
dns_policy = "None"
dns_config = { nameservers = ["192.0.2.53"], searches = ["a.test"], options = [{ name = "ndots", value = "2" }] }

[[pod]]
name = "more"
namespace = "shop"
dns_config = { nameservers = ["192.0.2.53"], searches = ["a.test"], options = [{ name = "edns0" }] }

[[pod]]
name = "as-node"
dns_policy = "Default"

[[pod]]
name = "on-node"
node = "node1"
host_network = true
ports = [{ container_port = 8081 }]

[[pod]]
name = "on-node-too"
node = "node1"
host_network = true
dns_policy = "ClusterFirstWithHostNet"
ports = [{ container_port = 8082 }]

[[pod]]
name = "db-0"
labels = { app = "db" }
hostname = "first"
subdomain = "db"

[[service]]
name = "db"
cluster_ip = "None"
selector = { app = "db" }

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
"#;
    let lab = world.up(text);
    let file = |place: &str, file: &str| lab.exec(place, ["cat", file]).succeeds().stdout;
    let cluster =
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
    let rows = [
        ("usual", cluster),
        ("own", "search a.test\nnameserver 192.0.2.53\noptions ndots:2\n"),
        (
            "more.shop",
            "search shop.svc.cluster.local svc.cluster.local cluster.local a.test\n\
             nameserver 10.96.0.10\nnameserver 192.0.2.53\noptions ndots:5 edns0\n",
        ),
        ("as-node", "nameserver 10.30.45.1\n"),
        ("on-node", "nameserver 10.30.45.1\n"),
        ("on-node-too", cluster),
        ("coredns.kube-system", "nameserver 10.30.45.1\n"),
        ("node1", "nameserver 10.30.45.1\n"),
        ("host", "nameserver 10.30.45.1\n"),
        ("laptop", "nameserver 192.0.2.1\n"),
    ];
    for (place, expected) in rows {
        assert_eq!(file(place, "/etc/resolv.conf"), expected, "{place}");
    }
    lab.exec("db-0", ["hostname"]).succeeds().prints_exactly("first\n");
    lab.exec("on-node", ["hostname"]).succeeds().prints_exactly("node1\n");
    lab.exec("db-0", ["getent", "hosts", "first"]).succeeds().prints("first.db.default.svc.cluster.local first");
    assert!(file("on-node", "/etc/hosts").starts_with("# Kubernetes-managed hosts file (host network).\n"));
    lab.exec("on-node-too", ["getent", "hosts", "kube-dns.kube-system"]).succeeds().prints("10.96.0.10");
}

fn pods_are_told_where_services_are(world: &Arc<World>) {
    let text = r#"
[[pod]]
name = "web"
server = "python"
labels = { app = "web" }
env = { OWN = "yes", MY_SHOP_SERVICE_PORT = "mine" }

[[pod]]
name = "silent"
command = ["sh", "-c", "env; exec sleep 1000"]
enable_service_links = false

[[service]]
name = "my-shop"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [{ name = "http", port = 8080, target_port = 80 }]
"#;
    let lab = world.up(text);
    let said = |script: &str| lab.script("web", script).succeeds().stdout;
    let wanted = "grep -E '^(HOSTNAME|OWN|MY_SHOP_(SERVICE_|PORT=))' | sort";
    let all = "HOSTNAME=web\nMY_SHOP_PORT=tcp://10.96.1.1:8080\nMY_SHOP_SERVICE_HOST=10.96.1.1\n\
        MY_SHOP_SERVICE_PORT=mine\nMY_SHOP_SERVICE_PORT_HTTP=8080\nOWN=yes\n";
    assert_eq!(said(&format!("env | {wanted}")), all, "a command in the pod");
    let own = "tr '\\0' '\\n' </proc/$(pgrep -f http_server.py | head -n 1)/environ";
    assert_eq!(said(&format!("{own} | {wanted}")), all, "the pod's own program");
    let log = world.netlab(["logs", "silent", "--lab", &lab.name]).succeeds();
    assert!(!log.stdout.contains("MY_SHOP"), "{log}");
    log.prints("HOSTNAME=silent\n");
}

/// Tries to bring the lab up with a script in the place of CoreDNS.
fn with_another(world: &Arc<World>, script: &str) -> Done {
    let program = world.file("coredns", "");
    executable::script(&program, script);
    let directory = program.parent().expect("a file is in a directory").display().to_string();
    let (file, name) = (world.file("other.toml", LAB), world.name("other"));
    let up = world.program("env").args([format!("PATH={directory}:/usr/bin:/bin")]);
    up.args([world.netlab_path().to_string_lossy()]).args(["up", &file.to_string_lossy(), "--name", &name]).done()
}

fn an_old_coredns_is_refused(world: &Arc<World>) {
    with_another(world, "#!/bin/sh\necho CoreDNS-1.11.3\n")
        .with_code(3)
        .complains("coredns is CoreDNS-1.11.3, and netlab needs CoreDNS 1.12.2 or newer")
        .complains("go install github.com/coredns/coredns@v");
}

fn a_coredns_that_ends_at_once(world: &Arc<World>) {
    with_another(world, "#!/bin/sh\n[ \"$1\" = -version ] && echo CoreDNS-1.13.1 && exit\necho no luck; exit 1\n")
        .with_code(4)
        .complains("the server of coredns.kube-system ended with exit code 1: no luck")
        .complains("everything was undone");
}
