//! A lab that is up becomes another, and who uses what stays notices nothing.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    support::{Lab, Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: nothing_to_do, pods_and_services_come_and_go, a_node_comes_and_goes, a_pod_is_replaced,
    every_proxy_in_turn, a_refused_change_changes_nothing, names_follow, a_rolling_replacement_fails_no_request,
    a_download_outlives_its_service, killed_in_the_middle, addresses_stay,
    a_datagram_finds_its_way_from_the_same_port, an_alias_changes, a_name_server_less;
    alone:
];

const LOAD: &str = include_str!("apply/load.py");

impl Lab {
    /// Makes it what another text says.
    pub(crate) fn apply(&self, text: &str) -> crate::support::call::Call {
        let file = self.world.file(&format!("{}-next.toml", self.name), text);
        self.world.netlab(["apply", &file.to_string_lossy(), "--lab", &self.name])
    }

    /// The ids of the processes that listen in a place.
    fn listeners(&self, place: &str) -> String {
        self.script(place, "ss -Hltnp | grep -o 'pid=[0-9]*' | sort -u").succeeds().stdout
    }
}

fn with(text: &str, more: &str) -> String {
    format!("{text}\n{more}")
}

const MORE: &str = r#"
[[pod]]
name = "extra"
replicas = 2
labels = { app = "extra" }

[[service]]
name = "more"
selector = { app = "extra" }
ports = [{ port = 80 }]
"#;

fn nothing_to_do(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    lab.apply(&book("echo.toml")).succeeds().prints("nothing to do");
    lab.apply(&with(&book("echo.toml"), "# a comment")).succeeds().prints("nothing to do");
}

fn pods_and_services_come_and_go(world: &Arc<World>) {
    let text = book("nodeport.toml");
    let lab = world.up(&text);
    let before = lab.listeners("pod1a");
    let dry = lab.apply(&with(&text, MORE)).args(["--dry-run"]).succeeds();
    assert!(dry.stdout.contains("+ pod extra-0") && dry.stdout.contains("ip netns add extra-0"), "{dry}");
    lab.apply(&with(&text, MORE)).succeeds().prints("+ pod extra-0").prints("+ service more");
    lab.verify().succeeds();
    lab.apply(&text).succeeds().prints("- pod extra-0").prints("- service more");
    lab.verify().succeeds();
    assert_eq!(lab.listeners("pod1a"), before, "the servers of what stays");
    lab.exec("host", ["ip", "netns", "list"]).succeeds().does_not_print("extra");
    lab.exec("node1", ["sh", "-c", "iptables-save | grep -c more || true"]).succeeds().prints_exactly("0\n");
}

fn a_node_comes_and_goes(world: &Arc<World>) {
    let text = book("echo.toml");
    let lab = world.up(&text);
    let more = r#"
[[node]]
name = "node3"
attach = "routed"

[[pod]]
name = "pod3"
node = "node3"
labels = { app = "cs-pod" }
"#;
    lab.apply(&with(&text, more)).succeeds().prints("+ node node3");
    lab.verify().succeeds();
    lab.apply(&text).succeeds().prints("- node node3");
    lab.verify().succeeds();
    lab.script("node1", "ip route; ip -br link").succeeds().does_not_print("node3");
}

fn a_pod_is_replaced(world: &Arc<World>) {
    let text = book("nodeport.toml");
    let lab = world.up(&text);
    let before = lab.listeners("pod2");
    let other = text.replacen("server = \"python\"", "server = \"echo\"", 1);
    lab.apply(&other).succeeds().prints("! pod pod1a, which is replaced: containers");
    lab.verify().succeeds();
    assert_eq!(lab.listeners("pod2"), before);
    lab.apply(&text).succeeds().prints("! pod pod1a, which is replaced: containers");
    lab.verify().succeeds();
}

fn every_proxy_in_turn(world: &Arc<World>) {
    let text = book("echo.toml");
    let lab = world.up(&text);
    let load = lab.load(6, &["10.30.45.100:30080", "10.30.45.200:30080"]);
    for mode in ["nftables", "ladder", "iptables", "nftables"] {
        let text = text.replace("[cluster]\n", &format!("[cluster]\nproxy = \"{mode}\"\n"));
        lab.apply(&text).succeeds().prints("~ cluster: proxy");
    }
    load.has_not_failed();
    lab.verify().succeeds();
    lab.script("node1", "iptables-save").succeeds().does_not_print("KUBE-").does_not_print("DNAT");
}

fn a_refused_change_changes_nothing(world: &Arc<World>) {
    let text = book("echo.toml");
    let lab = world.up(&text);
    let other = text.replace("[cluster]\n", "[cluster]\nservice_cidr = \"10.97.0.0/16\"\n").replace("10.96.", "10.97.");
    lab.apply(&other).fails(2).complains("`service_cidr` of [cluster] cannot change while the lab is up");
    lab.apply(&with(&text, "[[pod]]\nname = \"x\"\nnode = \"nowhere\"\n")).fails(2).complains("there is no node");
    // The kernel refuses only when most is built: the port is taken in the node's own namespace.
    let taken = r#"
[[pod]]
name = "one"
node = "node1"
host_network = true
ports = [{ container_port = 7000 }]
"#;
    lab.script(
        "node1",
        "nohup python3 -m http.server 7000 >/dev/null 2>&1 & while ! ss -Hltn | grep -q :7000; do :; done",
    )
    .succeeds();
    lab.apply(&with(&text, taken)).fails(4).complains("7000");
    lab.exec("node1", ["pkill", "-f", "http.server 7000"]).succeeds();
    lab.apply(&text).succeeds().prints("nothing to do");
    lab.verify().succeeds();
}

fn names_follow(world: &Arc<World>) {
    for engine in ["embedded", "coredns"] {
        let text = format!("{}\n[dns]\nengine = \"{engine}\"\n", book("echo.toml"));
        let lab = world.up(&text);
        let asked = |name: &str| lab.exec("pod1a", ["dig", "+short", "+search", name]).succeeds().stdout;
        assert_eq!(asked("more"), "", "{engine}");
        lab.apply(&with(&text, &MORE.replace("ports", "cluster_ip = \"10.96.7.7\"\nports"))).succeeds();
        let deadline = Instant::now() + Duration::from_secs(5);
        while asked("more") != "10.96.7.7\n" {
            // CoreDNS reads its files again some time after it was told to.
            assert!(Instant::now() < deadline, "{engine} does not know the new Service");
        }
        lab.down();
    }
}

/// Somebody who asks all the time.
pub(crate) struct Load(thread::JoinHandle<crate::support::call::Done>);

impl Lab {
    pub(crate) fn load(&self, seconds: u32, targets: &[&str]) -> Load {
        let call = self.exec("laptop", ["python3", "-c", LOAD, &seconds.to_string()]).args(targets);
        Load(thread::spawn(move || call.done()))
    }
}

impl Load {
    #[track_caller]
    pub(crate) fn has_not_failed(self) {
        let done = self.0.join().expect("it does not panic").with_code(0);
        assert!(done.stdout.contains(" 0 bad"), "{done}");
    }
}

fn a_rolling_replacement_fails_no_request(world: &Arc<World>) {
    for mode in ["iptables", "nftables"] {
        let text = |version: u32, replicas: u32| {
            format!(
                r#"
[cluster]
proxy = "{mode}"

[[node]]
name = "node1"
ip = "10.30.45.100"

[[node]]
name = "node2"

[[pod]]
name = "web-v{version}"
replicas = {replicas}
labels = {{ app = "web" }}

[[service]]
name = "web"
type = "LoadBalancer"
selector = {{ app = "web" }}
load_balancer_ips = ["203.0.113.10"]
ports = [{{ port = 80, node_port = 30080 }}]

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
"#
            )
        };
        let lab = world.up(&text(1, 3));
        let load = lab.load(8, &["10.30.45.100:30080", "203.0.113.10:80"]);
        for version in 2..6 {
            lab.apply(&text(version, 2 + version % 2)).succeeds();
        }
        load.has_not_failed();
        lab.verify().succeeds();
        lab.down();
    }
}

fn a_download_outlives_its_service(world: &Arc<World>) {
    let slow = r#"
import http.server, time
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b"x" * 1000)
            self.wfile.flush()
            time.sleep(0.1)
http.server.ThreadingHTTPServer(("", 80), Slow).serve_forever()
"#;
    let base = format!(
        r#"
[[node]]
name = "node1"
ip = "10.30.45.100"

[[pod]]
name = "slow"
labels = {{ app = "slow" }}
ports = [{{ container_port = 80 }}]
command = ["python3", "-c", '''{slow}''']

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
"#
    );
    let service = r#"
[[service]]
name = "slow"
type = "NodePort"
selector = { app = "slow" }
ports = [{ port = 80, node_port = 30080 }]
"#;
    for mode in ["iptables", "nftables"] {
        let base = format!("[cluster]\nproxy = \"{mode}\"\n{base}");
        let lab = world.up(&with(&base, service));
        let curl = lab.exec("laptop", ["curl", "-sS", "http://10.30.45.100:30080/"]);
        let download = thread::spawn(move || curl.done());
        let established = "until ss -Htn state established | grep -q ':80 '; do :; done";
        lab.script("slow", established).succeeds();
        lab.apply(&with(
            &with(&base, service),
            "[[service]]\nname = \"other\"\nselector = { app = \"slow\" }\nports = [{ port = 81 }]",
        ))
        .succeeds();
        let not_ready = base.replace("name = \"slow\"\n", "name = \"slow\"\nready = false\n");
        lab.apply(&with(&not_ready, service)).succeeds().prints("~ pod slow: ready");
        lab.apply(&not_ready).succeeds().prints("- service slow");
        let done = download.join().expect("it does not panic").with_code(0);
        assert_eq!(done.stdout.len(), 40_000, "of the download with {mode}");
        lab.down();
    }
}

/// Whatever the agent does at that moment, nothing is left of the lab.
fn killed_in_the_middle(world: &Arc<World>) {
    let text = book("nodeport.toml");
    // Pods are replaced and go, others come, and the rules are written by another proxy.
    let many = text.replace("server = \"python\"", "server = \"echo\"").replace("\"pod1b\"", "\"other\"")
        + &MORE.replace("replicas = 2", "replicas = 40");
    let many = many.replacen("[cluster]\n", "[cluster]\nproxy = \"nftables\"\n", 1);
    // The later ones come when some are terminating.
    for moment in [1, 10, 40, 90, 200, 350] {
        let lab = world.up(&text);
        let agent = lab.agent();
        let change = lab.apply(&many).start();
        // The moment is what is tried: there is nothing to wait for.
        thread::sleep(Duration::from_millis(moment));
        agent.kill();
        assert_ne!(change.done().code(), 70);
        world.must_be_empty();
    }
}

fn addresses_stay(world: &Arc<World>) {
    let lab = |first: &str| {
        format!(
            r#"
{first}
[[pod]]
name = "web"
replicas = 3
labels = {{ app = "web" }}

[[service]]
name = "web"
type = "NodePort"
selector = {{ app = "web" }}
ports = [{{ port = 80 }}]
"#
        )
    };
    let running = world.up(&lab(""));
    let shown = || {
        let get = |kind: &str| world.netlab(["get", kind, "-o", "wide", "--lab", &running.name]).succeeds().stdout;
        let all = get("pods") + &get("services");
        all.lines()
            .filter(|line| line.starts_with("web"))
            // All but how old it is.
            .map(|line| line.split_whitespace().enumerate().filter(|(nth, _)| *nth != 4).map(|(_, word)| word))
            .map(|words| words.collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    let before = shown();
    // In front of the others, where it would have got the first addresses.
    let first = "[[pod]]\nname = \"a\"\n[[service]]\nname = \"a\"\ntype = \"NodePort\"\nendpoints = []\nports = [{ port = 80 }]\n";
    running.apply(&lab(first)).succeeds();
    assert_eq!(shown(), before);
    running.verify().succeeds();
    // The next change begins from there.
    running.apply(&lab(&first.replace("\"a\"", "\"b\""))).succeeds();
    assert_eq!(shown(), before);
    running.verify().succeeds();
}

/// A UDP client that never changes its port: conntrack would lead it to where nobody is any more.
fn a_datagram_finds_its_way_from_the_same_port(world: &Arc<World>) {
    const ASK: &str = r#"
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(("", 5353))
client.settimeout(1)
for _ in range(5):
    try:
        client.sendto(b"hostname", ("10.96.1.100", 53))
        print(client.recv(100).decode())
        sys.exit()
    except OSError as error:
        last = error
sys.exit(f"nobody answers: {last}")
"#;
    let text = |mode: &str, backends: &[&str]| {
        let pods: String = backends
            .iter()
            .map(|name| {
                let ports = "ports = [{ container_port = 53, protocol = \"UDP\" }]";
                format!("[[pod]]\nname = \"{name}\"\nlabels = {{ app = \"dns\" }}\n{ports}\n")
            })
            .collect();
        format!(
            r#"
[cluster]
proxy = "{mode}"

[[pod]]
name = "client"

{pods}
[[service]]
name = "dns"
cluster_ip = "10.96.1.100"
selector = {{ app = "dns" }}
ports = [{{ port = 53, protocol = "UDP" }}]
"#
        )
        .replace(
            "selector = { app = \"dns\" }",
            if backends.is_empty() { "endpoints = []" } else { "selector = { app = \"dns\" }" },
        )
    };
    for mode in ["iptables", "nftables"] {
        let lab = world.up(&text(mode, &["one"]));
        let ask = || lab.exec("client", ["python3", "-c", ASK]);
        ask().succeeds().prints_exactly("one\n");
        lab.apply(&text(mode, &["two"])).succeeds();
        ask().succeeds().prints_exactly("two\n");
        lab.apply(&text(mode, &[])).succeeds();
        ask().fails(1);
        lab.apply(&text(mode, &["three"])).succeeds();
        ask().succeeds().prints_exactly("three\n");
        lab.apply(&text(mode, &["three", "four"])).succeeds();
        ask().succeeds().prints_exactly("three\n");
        lab.down();
    }
}

/// The next question gets the new alias: nobody keeps names of the cluster.
fn an_alias_changes(world: &Arc<World>) {
    for engine in ["embedded", "coredns"] {
        let text = |target: &str| {
            format!(
                r#"
[dns]
engine = "{engine}"

[[pod]]
name = "client"

[[service]]
name = "alias"
type = "ExternalName"
external_name = "{target}"

[[external]]
name = "one.example.org"
ip = "198.51.100.1"

[[external]]
name = "two.example.org"
ip = "198.51.100.2"
"#
            )
        };
        let lab = world.up(&text("one.example.org"));
        let asked = || lab.exec("client", ["dig", "+short", "+search", "alias"]).succeeds();
        asked().prints_exactly("one.example.org.\n198.51.100.1\n");
        lab.apply(&text("two.example.org")).succeeds().prints("~ service alias: type");
        asked().prints_exactly("two.example.org.\n198.51.100.2\n");
        lab.down();
    }
}

/// One of two name servers goes, and who asks from the same port all the time is answered by the other.
fn a_name_server_less(world: &Arc<World>) {
    const ASK: &str = "for i in $(seq 20); do dig -b 0.0.0.0#5353 +short +tries=1 +time=1 kube-dns.kube-system.svc.cluster.local; done";
    let text = |replicas: u32| format!("[[pod]]\nname = \"client\"\n[dns]\nreplicas = {replicas}\n");
    let lab = world.up(&text(2));
    let all = "10.96.0.10\n".repeat(20);
    lab.script("client", ASK).succeeds().prints_exactly(&all);
    lab.apply(&text(1)).succeeds();
    lab.script("client", ASK).succeeds().prints_exactly(&all);
    lab.verify().succeeds();
}
