//! Nodes are cordoned, drained, unplugged and powered off, and what must fail fails.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    support::{Lab, Test, World, call::Done},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: a_pulled_cable, a_pull_is_noticed, a_node_without_power, many_nodes, a_change_while_a_node_is_off, no_start_without_servers,
        cordoned_and_drained, what_cannot_be_done, killed_while_a_node_is_off;
    alone:
];

/// Two nodes, with a pod of each sort on each; nobody needs names here.
fn text(mode: &str) -> String {
    format!(
        r#"
[cluster]
proxy = "{mode}"

[dns]
engine = "none"

[[node]]
name = "node1"
ip = "10.30.45.100"

[[node]]
name = "node2"
ip = "10.30.45.200"

[[pod]]
name = "one"
node = "node1"
labels = {{ app = "web", only = "one" }}

[[pod]]
name = "two"
node = "node2"
server = "python"
labels = {{ app = "web" }}

[[pod]]
name = "three"
node = "node2"
ip = "10.244.1.30"

[[service]]
name = "web"
type = "NodePort"
selector = {{ app = "web" }}
ports = [{{ port = 80, node_port = 30080 }}]

[[service]]
name = "one"
type = "NodePort"
selector = {{ only = "one" }}
ports = [{{ port = 80, node_port = 30081 }}]

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
"#
    )
}

impl Lab {
    /// A verb about this lab.
    fn verb(&self, words: &str) -> crate::support::call::Call {
        self.world.netlab(words.split(' ').chain(["--lab", &self.name]))
    }

    fn listed(&self, what: &str) -> Done {
        self.verb(&format!("get {what}")).succeeds()
    }

    /// The first words of a line of what is listed.
    fn row(&self, what: &str, name: &str, words: usize) -> String {
        let listed = self.listed(what).stdout;
        let line = listed.lines().find(|line| line.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in\n{listed}"));
        line.split_whitespace().take(words).collect::<Vec<_>>().join(" ")
    }

    fn is_as_planned(&self) {
        self.world.netlab(["diff", &self.name]).succeeds().prints("the kernel has what the lab file says");
    }

    /// Asks so often that one of two endpoints would be missed once in a million times.
    fn asks(&self, place: &str, url: &str) -> crate::support::call::Call {
        let script = format!("for i in $(seq 20); do curl -sSf -m 3 -o /dev/null {url} || exit; done");
        self.script(place, &script)
    }

    fn becomes(&self, node: &str, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.row("nodes", node, 2) != format!("{node} {status}") {
            assert!(Instant::now() < deadline, "{node} never becomes {status}");
        }
    }
}

fn a_pulled_cable(world: &Arc<World>) {
    let lab = world.up(&text("iptables"));
    lab.verb("link down node2").succeeds().prints("node2 has no link to the LAN (");
    lab.verb("link down node2").succeeds().prints("node2 has no link to the LAN already");
    lab.is_as_planned();
    lab.exec("node2", ["ip", "link", "show", "eth0"]).succeeds().prints("NO-CARRIER");
    // The pods there still have each other, and nobody else has them.
    lab.exec("two", ["curl", "-sS", "-m", "3", "http://10.244.1.30/hostname"]).succeeds().prints("three");
    let refused = lab.exec("one", ["curl", "-sS", "-m", "1", "http://10.244.1.30/"]).done().code();
    assert!([7, 28].contains(&refused), "curl ends with {refused}");
    // Nobody was told, so half of what goes to the Service is lost.
    assert_eq!(lab.row("nodes", "node2", 2), "node2 Ready");
    assert!([7, 28].contains(&lab.asks("laptop", "http://10.30.45.100:30080/").done().code()));
    let (report, done) = lab.report();
    let done = done.with_code(1);
    let causes = report["causes"].as_array().expect("a list");
    let texts: Vec<&str> = causes.iter().filter_map(|cause| cause["text"].as_str()).collect();
    assert_eq!(texts, ["the link of node2 to the LAN is down: its cable was pulled"], "{done}");
    assert_eq!(causes[0]["netns"], "node2");
    lab.verb("link up node2").succeeds().prints("node2 has its link to the LAN (");
    lab.verify().succeeds();
    lab.verb("link up node2").succeeds().prints("node2 has its link to the LAN already");
    lab.is_as_planned();
}

fn a_pull_is_noticed(world: &Arc<World>) {
    for mode in ["iptables", "nftables"] {
        let lab = world.up(&text(mode));
        lab.verb("link down node2 --notice=100ms").succeeds();
        lab.becomes("node2", "NotReady");
        assert_eq!(lab.row("pods", "two", 3), "two 1/1 Running");
        lab.listed("endpoints").prints("10.244.0.2:80").does_not_print("10.244.1.2:80");
        lab.asks("laptop", "http://10.30.45.100:30080/").succeeds();
        // What changes meanwhile changes, and the cable stays where it is.
        lab.apply(&format!("{}\n[[pod]]\nname = \"more\"\n", text(mode))).succeeds();
        assert_eq!(lab.row("pods", "more", 7).rsplit(' ').next(), Some("node1"));
        lab.is_as_planned();
        // Somebody else plugs it in.
        lab.script("host", "ip link set veth-node2 up").succeeds();
        world.netlab(["diff", &lab.name]).fails(1).prints("veth-node2 is up, and its cable was pulled");
        world.netlab(["repair", "--no-verify", &lab.name]).succeeds().prints("1 difference mended");
        lab.exec("node2", ["ip", "link", "show", "eth0"]).succeeds().prints("NO-CARRIER");
        lab.is_as_planned();
        lab.verb("link up node2").succeeds();
        assert_eq!(lab.row("nodes", "node2", 2), "node2 Ready");
        lab.verb("link down node1 node2 --notice").succeeds();
        assert_eq!(lab.row("nodes", "node1", 2), "node1 NotReady");
        lab.verb("link up node1 node2").succeeds();
        lab.verify().succeeds();
        let events = lab.verb("events").succeeds();
        for reason in ["LinkDown", "NodeNotReady", "LinkUp", "NodeReady"] {
            assert!(events.stdout.contains(reason), "{reason} is not in {events}");
        }
        lab.down();
    }
}

fn a_node_without_power(world: &Arc<World>) {
    for mode in ["iptables", "nftables"] {
        let lab = world.up(&text(mode));
        let load = lab.load(8, &["10.30.45.100:30081"]);
        lab.script("node2", "ip route add blackhole 198.51.100.0/24; nohup sleep 1000 >/dev/null 2>&1 &").succeeds();
        lab.verb("node stop node2").succeeds().prints("node2 is stopped (");
        lab.verb("node stop node2").succeeds().prints("node2 is stopped already");
        assert_eq!(lab.row("nodes", "node2", 2), "node2 NotReady");
        assert_eq!(lab.row("pods", "two", 4), "two 1/1 Running 0");
        lab.exec("two", ["true"]).fails(2).complains("two is on node2, which is stopped");
        lab.asks("laptop", "http://10.30.45.100:30080/").succeeds();
        let refused = lab.exec("laptop", ["curl", "-sS", "-m", "1", "http://10.30.45.200:30080/"]).done().code();
        assert!([7, 28].contains(&refused), "curl ends with {refused}");
        lab.verb("trace laptop node2:30080").succeeds().prints("whose machine is powered off");
        lab.verb("get conntrack").succeeds();
        lab.is_as_planned();
        lab.verify().succeeds();
        lab.verb("node start node2").succeeds().prints("node2 runs (");
        lab.verify().succeeds();
        lab.verb("node start node2").succeeds().prints("node2 runs already");
        lab.is_as_planned();
        assert_eq!(lab.row("pods", "two", 4), "two 1/1 Running 1");
        assert_eq!(lab.row("pods", "three", 4), "three 1/1 Running 1");
        assert_eq!(lab.row("pods", "one", 4), "one 1/1 Running 0");
        // As after a boot.
        lab.script("node2", "ip route; ps ax").succeeds().does_not_print("198.51.100").does_not_print("sleep 1000");
        load.has_not_failed();
        lab.down();
    }
}

/// All machines of a large LAN know each other's addresses for good, but those that are not there.
fn many_nodes(world: &Arc<World>) {
    let nodes: String = (1..=18).map(|nth| format!("[[node]]\nname = \"n{nth}\"\n")).collect();
    let services =
        "[[service]]\nname = \"web\"\ntype = \"LoadBalancer\"\nselector = { app = \"web\" }\nports = [{ port = 80 }]\n";
    let pods = "[[pod]]\nname = \"web\"\nreplicas = 2\nlabels = { app = \"web\" }\n";
    let lab = world.up(&format!("[dns]\nengine = \"none\"\n{nodes}{pods}{services}"));
    // 17 others, `host` and `lb`.
    let known = |place: &str, device: &str| {
        let listed = lab.exec(place, ["ip", "neighbour", "show", "dev", device, "nud", "permanent"]).succeeds();
        listed.stdout.lines().count()
    };
    let all = |there: usize| {
        assert_eq!((known("n1", "eth0"), known("lb", "eth0"), known("host", "lan0")), (there, there, there));
    };
    all(19);
    lab.verb("link down n4").succeeds();
    all(18);
    lab.verb("node stop n5").succeeds();
    all(17);
    lab.is_as_planned();
    lab.verb("node start n5").succeeds();
    lab.verb("link up n4").succeeds();
    all(19);
    assert_eq!((known("n4", "eth0"), known("n5", "eth0")), (19, 19));
    lab.is_as_planned();
    lab.verify().succeeds();
    lab.down();
}

fn a_change_while_a_node_is_off(world: &Arc<World>) {
    let lab = world.up(&text("nftables"));
    lab.verb("link down node2").succeeds();
    lab.verb("node stop node2").succeeds();
    let more = r#"
[[pod]]
name = "extra"
replicas = 2
labels = { app = "web" }

[[pod]]
name = "there"
node = "node2"
labels = { app = "web" }
"#;
    lab.apply(&format!("{}{more}", text("nftables"))).succeeds().prints("+ pod extra-0").prints("+ pod there");
    assert_eq!(lab.row("pods", "there", 3), "there 0/1 Pending");
    assert!(lab.row("pods", "extra-0", 7).ends_with("node1") && lab.row("pods", "extra-1", 7).ends_with("node1"));
    lab.exec("node1", ["ip", "address", "add", "198.51.100.1/32", "dev", "lo"]).succeeds();
    world.netlab(["repair", &lab.name]).succeeds().prints("1 difference mended");
    // Whoever has pulled the cable has to plug it in.
    lab.verb("node start node2").succeeds();
    assert_eq!(lab.row("nodes", "node2", 2), "node2 NotReady");
    assert_eq!(lab.row("pods", "there", 4), "there 1/1 Running 0");
    lab.exec("node2", ["ip", "link", "show", "eth0"]).succeeds().prints("NO-CARRIER");
    lab.is_as_planned();
    lab.verb("link up node2").succeeds();
    lab.verify().succeeds();
    lab.apply(&text("nftables")).succeeds().prints("- pod there");
    lab.verify().succeeds();
}

/// A node on which something does not come up again stays off.
fn no_start_without_servers(world: &Arc<World>) {
    let flag = world.file("flag", "");
    let serve = format!("test -e {} && exec python3 -m http.server 80", flag.display());
    let pod = format!(
        "[[pod]]\nname = \"picky\"\nnode = \"node2\"\nports = [{{ container_port = 80 }}]\ncommand = [\"sh\", \"-c\", \"{serve}\"]\n"
    );
    let lab = world.up(&format!("{}\n{pod}", text("iptables")));
    lab.verb("node stop node2").succeeds();
    std::fs::remove_file(&flag).expect("it is there");
    lab.verb("node start node2").fails(4).complains("picky");
    assert_eq!(lab.row("nodes", "node2", 2), "node2 NotReady");
    assert_eq!(lab.row("pods", "two", 4), "two 1/1 Running 0");
    lab.is_as_planned();
    lab.verify().succeeds();
    std::fs::write(&flag, "").expect("it can be written again");
    lab.verb("node start node2").succeeds();
    assert_eq!(lab.row("pods", "two", 4), "two 1/1 Running 1");
    lab.verify().succeeds();
}

fn cordoned_and_drained(world: &Arc<World>) {
    let more = "[[pod]]\nname = \"web\"\nreplicas = 2\nlabels = { app = \"web\" }\n";
    let text = format!("{}{more}", text("iptables"));
    let lab = world.up(&text);
    // All but their age.
    let nodes = |pods: &[&str]| {
        let row = |pod: &&str| {
            lab.row("pods", pod, 7)
                .split(' ')
                .enumerate()
                .filter(|it| it.0 != 4)
                .map(|it| it.1.to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        pods.iter().map(row).collect::<Vec<_>>()
    };
    let before = nodes(&["web-0", "web-1", "one", "two"]);
    lab.verb("cordon node1").succeeds().prints("node1 is cordoned (");
    lab.verb("cordon node1").succeeds().prints("node1 is cordoned already");
    assert_eq!(lab.row("nodes", "node1", 2), "node1 Ready,SchedulingDisabled");
    lab.verb("scale web 5").succeeds();
    assert_eq!(nodes(&["web-0", "web-1", "one", "two"]), before, "what is there stays");
    let new = nodes(&["web-2", "web-3", "web-4"]);
    assert!(new.iter().all(|row| row.ends_with("node2")), "{new:?}");
    lab.apply(&format!("{text}\n[[pod]]\nname = \"late\"\n[[pod]]\nname = \"named\"\nnode = \"node1\"\n")).succeeds();
    assert!(lab.row("pods", "late", 7).ends_with("node2") && lab.row("pods", "named", 7).ends_with("node1"));
    let drained = lab.verb("drain node1").succeeds().prints("pod one stays on node1: its [[pod]] names the node");
    assert!(drained.stdout.contains("! pod web-0, which is replaced: node, ip"), "{drained}");
    assert!(lab.row("pods", "web-0", 7).ends_with("node2"));
    lab.verb("uncordon node1").succeeds().prints("node1 takes pods again (");
    lab.verb("scale web 6").succeeds();
    assert!(lab.row("pods", "web-5", 7).ends_with("node1"));
    // What cannot be asked to go comes again elsewhere all the same.
    lab.verb("node stop node2").succeeds();
    lab.verb("drain node2").succeeds().prints("pod two stays on node2");
    assert!(lab.row("pods", "web-0", 7).ends_with("node1"));
    assert_eq!(lab.row("pods", "web-0", 4), "web-0 1/1 Running 0");
    lab.verb("node start node2").succeeds();
    lab.verify().succeeds();
}

fn what_cannot_be_done(world: &Arc<World>) {
    let lab = world.up(&text("ladder")
        .replace("only = \"one\"", "only = \"two\"")
        .replace("node = \"node1\"", "node = \"node2\""));
    lab.verb("node stop node7").fails(2).complains("there is no node node7 in this lab");
    // One of two is not done either.
    lab.verb("cordon node1 node7").fails(2);
    assert_eq!(lab.row("nodes", "node1", 2), "node1 Ready");
    // The last endpoint would go, and the ladder has no rule for that.
    lab.verb("node stop node2").fails(2).complains("the ladder proxy cannot express");
    lab.verb("link down node2 --notice").fails(2).complains("the ladder proxy cannot express");
    assert_eq!(lab.row("nodes", "node2", 2), "node2 Ready");
    lab.is_as_planned();
    lab.verify().succeeds();
    lab.verb("cordon node1 node2").succeeds();
    let more = format!("{}\n[[pod]]\nname = \"nowhere\"\n", text("ladder"));
    lab.apply(&more).fails(2).complains("no node takes the pod").complains("netlab uncordon NODE");
    lab.verb("link down node2 --notice=never").fails(2);
}

/// Whatever the agent does at that moment, nothing is left of the lab.
fn killed_while_a_node_is_off(world: &Arc<World>) {
    for (first, then, moment) in [
        ("node stop node2", "node start node2", 15),
        ("link down node2 --notice", "node stop node2", 15),
        ("node stop node2", "node start node2", 40),
    ] {
        let lab = world.up(&text("iptables"));
        let agent = lab.agent();
        lab.verb(first).succeeds();
        let change = lab.verb(then).start();
        // The moment is what is tried: there is nothing to wait for.
        thread::sleep(Duration::from_millis(moment));
        agent.kill();
        assert_ne!(change.done().code(), 70);
        world.must_be_empty();
    }
    let lab = world.up(&text("iptables"));
    let agent = lab.agent();
    lab.verb("node stop node2").succeeds();
    agent.kill();
    world.must_be_empty();
}
