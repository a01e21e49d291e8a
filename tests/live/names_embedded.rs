//! The cluster's DNS that is built in, asked by the programs of the host from inside.

use std::{fmt::Write, sync::Arc};

use crate::{
    support::{Lab, Test, World, call::Call},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: both_transports_answer, every_address_of_the_host_answers, a_hundred_endpoints_need_tcp,
        pods_leave_masqueraded, an_upstream_that_is_gone, pods_say_how_they_are, malformed_questions_do_no_harm,
        slow_connections_do_no_harm, a_flood_does_not_drown_good_names;
    alone:
];

const LAB: &str = r#"
[dns]
engine = "embedded"
replicas = 2

[[node]]
name = "node1"
ip = "10.30.45.11"
pod_subnet = "10.244.1.0/24"

[[node]]
name = "node2"
ip = "10.30.45.12"
pod_subnet = "10.244.2.0/24"

[[pod]]
name = "web-0"
node = "node1"
ip = "10.244.1.10"
labels = { app = "web" }
hostname = "web-0"
subdomain = "nest"
containers = [{ server = "echo", ports = [{ name = "http", container_port = 8080 }] }]

[[pod]]
name = "web-1"
node = "node2"
ip = "10.244.2.10"
labels = { app = "web" }
containers = [{ server = "echo", ports = [{ name = "http", container_port = 8080 }] }]

[[pod]]
name = "asker"
node = "node1"

[[client]]
name = "laptop"
ip = "192.0.2.10/24"

[[service]]
name = "web"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
ports = [{ name = "http", port = 80, target_port = "http" }]

[[service]]
name = "nest"
cluster_ip = "None"
selector = { app = "web" }
ports = [{ name = "http", port = 80, target_port = "http" }]

[[service]]
name = "ext"
type = "ExternalName"
external_name = "api.ipify.org"

[[external]]
name = "api.ipify.org"
ip = ["104.26.12.205", "104.26.13.205"]
server = "my-ip"
"#;

/// The Service `kube-dns`.
const DNS: &str = "10.96.0.10";

const HOSTILE: &str = include_str!("names_embedded/hostile.py");

/// A call of `dig` that prints only the answers, sorted.
fn short(lab: &Lab, place: &str, arguments: &str) -> String {
    let script = format!("dig +short +tries=3 +time=6 {arguments} | sort");
    lab.script(place, &script).succeeds().stdout
}

/// A call of the hostile client's.
fn hostile(lab: &Lab, place: &str, what: &str, server: &str) -> Call {
    lab.exec(place, ["python3", "-", what, server]).fed(HOSTILE)
}

fn both_transports_answer(world: &Arc<World>) {
    let lab = world.up(LAB);
    let rows = [
        ("web.default.svc.cluster.local", "10.96.1.1\n"),
        ("WEB.Default.SVC.cluster.local", "10.96.1.1\n"),
        ("web.default.svc.cluster.local AAAA", ""),
        ("nest.default.svc.cluster.local", "10.244.1.10\n10.244.2.10\n"),
        ("web-0.nest.default.svc.cluster.local", "10.244.1.10\n"),
        (
            "_http._tcp.nest.default.svc.cluster.local SRV",
            "0 50 8080 10-244-2-10.nest.default.svc.cluster.local.\n0 50 8080 web-0.nest.default.svc.cluster.local.\n",
        ),
        ("10-0-0-5.default.pod.cluster.local", "10.0.0.5\n"),
        ("-x 10.96.1.1", "web.default.svc.cluster.local.\n"),
        ("dns-version.cluster.local TXT", "\"1.1.0\"\n"),
        ("api.ipify.org", "104.26.12.205\n104.26.13.205\n"),
        ("-x 104.26.13.205", "api.ipify.org.\n"),
        ("ext.default.svc.cluster.local", "104.26.12.205\n104.26.13.205\napi.ipify.org.\n"),
    ];
    for (place, transport) in [("asker", "+notcp"), ("asker", "+tcp"), ("node2", "+notcp")] {
        for (question, expected) in rows {
            let answer = short(&lab, place, &format!("@{DNS} {transport} {question}"));
            assert_eq!(answer, expected, "{question} {transport} from {place}");
        }
    }
    for (question, status, answers) in [
        ("nothing.default.svc.cluster.local", "NXDOMAIN", 0),
        ("web.default.svc.cluster.local AAAA", "NOERROR", 0),
        ("www.example.com", "NXDOMAIN", 0),
        ("cluster.local AXFR", "REFUSED", 0),
        ("-c CH version.bind TXT", "REFUSED", 0),
    ] {
        let full = lab.exec("asker", ["sh", "-ec", &format!("dig +noall +comments +onesoa @{DNS} {question} || true")]);
        let full = full.succeeds();
        if !question.ends_with("AXFR") {
            full.prints(&format!("status: {status}")).prints(&format!("ANSWER: {answers}"));
        }
    }
}

/// What is asked at one address is answered from that address; `dig` takes no other.
fn every_address_of_the_host_answers(world: &Arc<World>) {
    let lab = world.up(LAB);
    for place in ["asker", "node1", "laptop", "api.ipify.org"] {
        for server in ["10.30.45.1", "192.0.2.1"] {
            for transport in ["+notcp", "+tcp"] {
                let answer = short(&lab, place, &format!("@{server} {transport} api.ipify.org"));
                assert_eq!(answer, "104.26.12.205\n104.26.13.205\n", "{server} {transport} from {place}");
            }
        }
    }
}

fn a_hundred_endpoints_need_tcp(world: &Arc<World>) {
    let mut endpoints = String::new();
    for last in 1..=100 {
        // Writing to a string cannot fail.
        let _ = write!(endpoints, "{{ ip = \"198.51.100.{last}\" }}, ");
    }
    let crowd = format!(
        "{LAB}\n[[service]]\nname = \"crowd\"\ncluster_ip = \"None\"\nendpoints = [{endpoints}]\nports = [{{ port = 80 }}]\n"
    );
    let lab = world.up(&crowd);
    let dig = |arguments: &str| {
        let script = format!("dig @{DNS} {arguments} crowd.default.svc.cluster.local");
        lab.script("asker", &script).succeeds()
    };
    dig("+ignore +noedns").prints("flags: qr aa tc rd;").prints("ANSWER: 28,");
    dig("+ignore +bufsize=1232 +nocookie").prints("flags: qr aa tc rd;").prints("ANSWER: 73,");
    dig("+ignore +bufsize=4096").prints("flags: qr aa rd;").prints("ANSWER: 100,");
    dig("+tcp +noedns").prints("flags: qr aa rd;").prints("ANSWER: 100,");
    // Who is told that there is more, asks again by TCP.
    dig("+noedns").prints("ANSWER: 100,").prints("(TCP)");
    let firsts = "for i in $(seq 12); do dig +short +tcp @10.96.0.10 crowd.default.svc.cluster.local | head -1; done";
    let firsts = lab.script("asker", firsts).succeeds();
    let mut different: Vec<&str> = firsts.stdout.lines().collect();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 3, "the order is not by chance: {firsts}");
}

/// A pod that asks the internet for its address is told its node's, and nothing else.
fn pods_leave_masqueraded(world: &Arc<World>) {
    let lab = world.up(LAB);
    for (place, node) in [("asker", "10.30.45.11"), ("web-1", "10.30.45.12"), ("node1", "10.30.45.11")] {
        for ip in ["104.26.12.205", "104.26.13.205"] {
            lab.exec(place, ["curl", "-sS", "-m", "5", &format!("http://{ip}/any/path")])
                .succeeds()
                .prints_exactly(node);
        }
    }
}

fn an_upstream_that_is_gone(world: &Arc<World>) {
    let lab = world.up(LAB);
    let status = |name: &str| {
        let script = format!("dig @{DNS} +tries=1 +time=9 +noall +comments {name}");
        lab.script("asker", &script).succeeds()
    };
    for verdict in ["REJECT", "DROP"] {
        let rules = |what: &str| {
            let rule = |protocol| format!("iptables -w {what} INPUT -p {protocol} --dport 53 -j {verdict}");
            lab.script("host", &format!("{} && {}", rule("udp"), rule("tcp"))).succeeds();
        };
        rules("-I");
        status("www.example.com").prints("status: SERVFAIL");
        status("web.default.svc.cluster.local").prints("status: NOERROR").prints("ANSWER: 1,");
        status("nothing.default.svc.cluster.local").prints("status: NXDOMAIN");
        // That the alias is there is true without knowing what it leads to.
        status("ext.default.svc.cluster.local").prints("status: NOERROR").prints("ANSWER: 1,");
        rules("-D");
    }
    status("api.ipify.org").prints("status: NOERROR").prints("ANSWER: 2,");
}

fn pods_say_how_they_are(world: &Arc<World>) {
    let lab = world.up(LAB);
    let pods = lab.world.netlab(["get", "pods", "--lab", &lab.name, "-o", "json"]).succeeds();
    let pods: serde_json::Value = serde_json::from_str(&pods.stdout).expect("it is JSON");
    let items = pods["items"].as_array().expect("a list");
    let ips = items.iter().filter(|pod| pod["namespace"] == "kube-system").filter_map(|pod| pod["ip"].as_str());
    let ips: Vec<&str> = ips.collect();
    assert_eq!(ips.len(), 2, "{pods}");
    for ip in ips {
        lab.script("asker", &format!("dig +short @{ip} web.default.svc.cluster.local; dig +tcp @{ip} nothing.local"))
            .succeeds();
        let get = |at: &str| lab.exec("asker", ["curl", "-sS", "-m", "5", &format!("http://{ip}:{at}")]).succeeds();
        get("8080/health").prints_exactly("OK");
        get("8181/ready").prints_exactly("OK");
        get("9153/metrics")
            .prints("coredns_dns_requests_total{family=\"1\",proto=\"udp\",server=\"dns://:53\",type=\"A\",view=\"\",zone=\".\"} 1\n")
            .prints("coredns_dns_responses_total{plugin=\"\",rcode=\"NXDOMAIN\",server=\"dns://:53\",view=\"\",zone=\".\"} 1\n");
    }
    lab.exec("asker", ["curl", "-sS", "-m", "5", &format!("http://{DNS}:9153/metrics")]).succeeds().prints("# TYPE");
}

fn malformed_questions_do_no_harm(world: &Arc<World>) {
    let lab = world.up(LAB);
    for server in [DNS, "10.30.45.1"] {
        let good = if server == DNS { 0 } else { 3 };
        let then = if server == DNS { "[True, True, True]" } else { "[False, False, False]" };
        let answers = [
            ("good", good),
            ("none", 1),
            ("two", 1),
            ("chaos", 5),
            ("axfr", 5),
            ("ixfr", 5),
            ("update", 4),
            ("loop", 1),
            ("loops", 1),
            ("ahead", 1),
            ("255", 3),
            ("256", 1),
            ("half", 1),
            ("counts", 1),
            ("huge", good),
        ];
        let expected: String = answers.iter().map(|(what, code)| format!("{what} {code}\n")).collect();
        hostile(&lab, "asker", "malformed", server).succeeds().prints_exactly(&format!("{expected}then {then}\n"));
    }
}

fn slow_connections_do_no_harm(world: &Arc<World>) {
    let lab = world.up(LAB);
    let all = "several [True, True, True, True, True]\nin pieces True\nin pieces True\n".to_owned()
        + &"meanwhile True\n".repeat(6)
        + "at last True True\noversized 1\nand then True\nclosed True\n";
    hostile(&lab, "asker", "connections", DNS).succeeds().prints_exactly(&all);
}

fn a_flood_does_not_drown_good_names(world: &Arc<World>) {
    let lab = world.up(LAB);
    let flood = hostile(&lab, "web-1", "flood", DNS).start();
    hostile(&lab, "asker", "meanwhile", DNS).succeeds().prints_exactly("answered 100\n");
    flood.done().with_code(0).prints("flooded True");
    hostile(&lab, "asker", "meanwhile", DNS).succeeds().prints_exactly("answered 100\n");
}
