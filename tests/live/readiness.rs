//! Readiness probes decide which pods are ready, and everything follows their verdicts.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    support::{Lab, Test, World, call::Call, process::a_moment},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: verdicts_move_endpoints_and_back, up_waits_for_the_first_success, many_fail_at_once,
    a_crash_is_ready_when_its_probe_says_so, replacements_prove_themselves_first,
    terminating_and_unready_pods_are_not_used, what_is_told_wins;
    alone:
];

/// How soon rules follow a verdict.
const CONTRACT: Duration = Duration::from_millis(100);
/// On a machine that does much else besides.
const AT_WORST: Duration = Duration::from_secs(5);
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lab that is told things and asked about its pods.
struct Asked<'a>(&'a Lab);

impl Asked<'_> {
    fn told<const N: usize>(&self, verb: [&str; N]) -> Call {
        self.0.world.netlab(verb).args(["--lab", &self.0.name])
    }

    fn events(&self) -> Vec<Value> {
        let text = self.told(["events", "-o", "json"]).succeeds().stdout;
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Who is ready, as `get pods` says.
    fn ready(&self) -> BTreeSet<String> {
        let text = self.told(["get", "pods"]).succeeds().stdout;
        let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row[1].split_once('/').is_some_and(|(one, all)| one == all))
            .map(|row| row[0].into())
            .collect()
    }

    /// Who are the endpoints of all Services, as the lab counts them.
    fn endpoints(&self) -> BTreeSet<String> {
        let text = self.told(["get", "endpoints", "-o", "json"]).succeeds().stdout;
        let json: Value = serde_json::from_str(&text).expect("it is JSON");
        let rows = json["items"].as_array().expect("a list").iter();
        let all = rows.flat_map(|row| row["conditions"].as_array().expect("a list"));
        all.filter(|it| it["ready"] == true).filter_map(|it| it["pod"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until pods with this name in front are as ready as they should be: they are counted so, and
    /// are endpoints, or are not.
    #[track_caller]
    fn waits_for(&self, prefix: &str, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|pod| (*pod).to_owned()).collect();
        let of = |all: BTreeSet<String>| all.into_iter().filter(|pod| pod.starts_with(prefix)).collect::<BTreeSet<_>>();
        let deadline = Instant::now() + PATIENCE;
        while of(self.ready()) != wanted || of(self.endpoints()) != wanted {
            assert!(Instant::now() < deadline, "{wanted:?} are not the ready ones: {:#?}", self.events());
            a_moment();
        }
    }

    /// Who answers a client of the Service, of so many requests.
    fn answers(&self, address: &str, requests: u32) -> BTreeSet<String> {
        let ask = format!("for i in $(seq {requests}); do curl -sS -m 5 http://{address}/hostname; echo; done");
        self.0.script("client", &ask).succeeds().stdout.split_whitespace().map(str::to_owned).collect()
    }

    fn answers_healthz_with(&self, ip: &str, code: u32) {
        let url = format!("http://{ip}/healthz?code={code}");
        self.0.exec("client", ["curl", "-sS", "-X", "POST", &url]).succeeds().prints(&format!("answers {code}"));
    }
}

/// The milliseconds from the last event with this reason, of this pod, to the rules that follow it.
fn until_rules(events: &[Value], reason: &str, pod: &str) -> Duration {
    let millis = |event: &Value| {
        // HH:MM:SS.mmm, of one day: a test that runs at midnight sees a difference of its own.
        let time = event["time"].as_str().and_then(|time| time.get(11..23)).expect("a moment").replace(':', "");
        let number = |range: std::ops::Range<usize>| time[range].parse::<u64>().expect("digits");
        number(0..2) * 3_600_000 + number(2..4) * 60_000 + number(4..6) * 1000 + number(7..10)
    };
    let object = format!("pod/{pod}");
    let at = events.iter().rposition(|it| it["reason"] == reason && it["object"] == object.as_str());
    let at = at.unwrap_or_else(|| panic!("no {reason} of {pod}: {events:#?}"));
    let rules = events[at..].iter().find(|it| it["reason"] == "RulesSynced").expect("rules follow");
    Duration::from_millis((millis(rules) + 86_400_000 - millis(&events[at])) % 86_400_000)
}

fn verdicts_move_endpoints_and_back(world: &Arc<World>) {
    for proxy in ["iptables", "nftables", "ladder"] {
        let lab = world.up(&format!(
            r#"
[cluster]
proxy = "{proxy}"

[[pod]]
name = "web-http"
ip = "10.244.0.10"
labels = {{ app = "web" }}
readiness = {{ http_get = "/healthz", period = "100ms", failure_threshold = 2 }}

[[pod]]
name = "web-tcp"
labels = {{ app = "web" }}
ports = [{{ name = "http", container_port = 80 }}]
readiness = {{ tcp_socket = "http", period = "100ms", failure_threshold = 1 }}

[[pod]]
name = "web-exec"
labels = {{ app = "web" }}
readiness = {{ exec = ["test", "!", "-e", "/run/down"], period = "200ms", failure_threshold = 1 }}

[[pod]]
name = "client"

[[service]]
name = "web"
cluster_ip = "10.96.1.10"
selector = {{ app = "web" }}
ports = [{{ port = 80 }}]

[[service]]
name = "peers"
cluster_ip = "None"
selector = {{ app = "web" }}
ports = [{{ port = 80 }}]
"#
        ));
        let asked = Asked(&lab);
        let all = ["web-exec", "web-http", "web-tcp"];
        // `up` has waited for all of them.
        assert_eq!(asked.answers("10.96.1.10", 40), all.map(str::to_owned).into(), "{proxy}");
        let mut took = Vec::new();
        for (pod, says) in [
            ("web-http", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
            ("web-tcp", "connect: connection refused"),
            ("web-exec", "Readiness probe failed: ended with exit code 1"),
        ] {
            let turn = |well: bool| match pod {
                "web-http" => asked.answers_healthz_with("10.244.0.10", if well { 200 } else { 503 }),
                "web-tcp" => {
                    // As a kernel refuses where nobody listens.
                    let rule = "INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset";
                    let change = if well { "-D" } else { "-I" };
                    drop(lab.script("web-tcp", &format!("iptables {change} {rule}")).succeeds());
                }
                _ => drop(lab.script("host", if well { "rm /run/down" } else { "touch /run/down" }).succeeds()),
            };
            turn(false);
            let others: Vec<&str> = all.into_iter().filter(|other| *other != pod).collect();
            asked.waits_for("web", &others);
            let names = lab.exec("client", ["dig", "+short", "peers.default.svc.cluster.local"]).succeeds().stdout;
            assert_eq!(names.lines().count(), 2, "{proxy}: {pod}: {names}");
            assert_eq!(asked.answers("10.96.1.10", 20), others.iter().map(|it| (*it).to_owned()).collect(), "{proxy}");
            let events = asked.events();
            let unhealthy = |it: &&Value| it["reason"] == "Unhealthy" && it["object"] == format!("pod/{pod}").as_str();
            let message = events.iter().rfind(unhealthy).and_then(|it| it["message"].as_str()).unwrap_or_default();
            assert!(message.contains(says), "{proxy}: {pod}: {message}");
            took.push(until_rules(&events, "NotReady", pod));
            if pod == "web-http" {
                // It fails its second time at this moment, and is told once more.
                took.push(until_rules(&events, "Unhealthy", pod));
                lab.verify().args(["--samples", "50", "--only", "services"]).succeeds();
                let described = asked.told(["describe", "pod/web-http"]).succeeds();
                described
                    .prints("http-get http://:80/healthz delay=0s timeout=1s period=100ms #success=1 #failure=2\n")
                    .prints("last: HTTP probe failed with statuscode: 503");
            }
            turn(true);
            asked.waits_for("web", &all);
            took.push(until_rules(&asked.events(), "Ready", pod));
        }
        assert_eq!(asked.answers("10.96.1.10", 40), all.map(str::to_owned).into(), "{proxy}");
        took.sort();
        println!("{proxy}: rules follow a verdict after {took:?}");
        assert!(took[0] <= CONTRACT && took[took.len() - 1] <= AT_WORST, "{proxy}: {took:?}");
        lab.down();
    }
}

fn up_waits_for_the_first_success(world: &Arc<World>) {
    let (sign, name) = (world.file("a-sign", "").with_file_name("go"), world.name("lab"));
    let text = format!(
        r#"
[[pod]]
name = "web"
replicas = 2
labels = {{ app = "web" }}
readiness = {{ exec = ["ls", "{}"], period = "100ms" }}

[[pod]]
name = "held"
ready = false
labels = {{ app = "held" }}
readiness = {{ exec = ["false"], period = "100ms" }}

[[service]]
name = "web"
selector = {{ app = "web" }}
ports = [{{ port = 80 }}]
"#,
        sign.display()
    );
    let file = world.file("waits.toml", &text);
    let file = file.to_string_lossy();
    let up = ["up", &file, "--name", &name];
    let failed = world.netlab(up).args(["--timeout", "10s"]).fails(4);
    let failed = failed
        .complains("not ready after 10s: web-0 (its readiness probe failed: ls: cannot access")
        .complains("web-1 (its readiness")
        .complains("--no-wait")
        .complains("netlab logs web-0");
    assert!(!failed.stderr.contains("held"), "{failed}");
    world.must_be_empty();

    let waiting = world.netlab(up).start();
    let lab = world.found(name.clone());
    let asked = Asked(&lab);
    let unproven = || world.netlab(["get", "pods", "--lab", &name]).done().stdout.contains("0/1     Running");
    while !unproven() {
        a_moment();
    }
    std::fs::write(&sign, "").expect("a file can be written");
    waiting.done().with_code(0);
    // No waiting any more: when `up` comes back, it is so.
    assert!(asked.endpoints().contains("web-1") && asked.ready().contains("web-0"), "{:?}", asked.ready());
    assert!(!asked.ready().contains("held"));
    lab.down();

    std::fs::remove_file(&sign).expect("it is there");
    world.netlab(up).args(["--no-wait"]).succeeds();
    let lab = world.found(name);
    assert!(!Asked(&lab).ready().contains("web-0"));
    lab.down();
}

/// Thirty verdicts are not thirty changes.
fn many_fail_at_once(world: &Arc<World>) {
    let lab = world.up(r#"
[cluster]
proxy = "nftables"

[[pod]]
name = "web"
replicas = 2 # thirty, a moment later
labels = { app = "web" }
readiness = { exec = ["test", "!", "-e", "/run/down"], period = "1s", timeout = "30s", failure_threshold = 1 }

[[pod]]
name = "client"

[[service]]
name = "web"
cluster_ip = "10.96.1.10"
selector = { app = "web" }
ports = [{ port = 80 }]
"#);
    let asked = Asked(&lab);
    // With so many pods neighbours are permanent, and those that are there have been found already.
    lab.script("client", "for i in 1 2 3 4 5 6; do curl -sS http://10.96.1.10/hostname; done").succeeds();
    asked.told(["scale", "web", "30"]).succeeds();
    let all: Vec<String> = (0..30).map(|number| format!("web-{number}")).collect();
    asked.waits_for("web", &all.iter().map(String::as_str).collect::<Vec<_>>());
    let before = asked.events().len();
    lab.script("host", "touch /run/down").succeeds();
    asked.waits_for("web", &[]);
    lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.96.1.10/"]).fails(7);
    let events = &asked.events()[before..];
    let count = |reason: &str, object: &str| {
        let of = |it: &&Value| it["reason"] == reason && it["object"].as_str().is_some_and(|it| it.starts_with(object));
        events.iter().filter(of).count()
    };
    let (verdicts, changes) = (count("NotReady", "pod/web"), count("RulesSynced", "node/node1"));
    assert_eq!(verdicts, 30, "{events:#?}");
    println!("{verdicts} verdicts were {changes} changes");
    assert!(changes <= 10, "{changes} changes for {verdicts} verdicts");
}

fn a_crash_is_ready_when_its_probe_says_so(world: &Arc<World>) {
    let name = world.name("lab");
    let file = world.file(
        "crash.toml",
        r#"
[[pod]]
name = "web"
ip = "10.244.0.10"
server = "python"
labels = { app = "web" }
readiness = { exec = ["test", "-e", "/run/proven"], period = "100ms", failure_threshold = 1000 }

[[pod]]
name = "client"

[[service]]
name = "web"
cluster_ip = "10.96.1.10"
selector = { app = "web" }
ports = [{ port = 80 }]
"#,
    );
    world.netlab(["up", &file.to_string_lossy(), "--name", &name, "--no-wait"]).succeeds();
    let lab = world.found(name);
    let asked = Asked(&lab);
    asked.waits_for("web", &[]);
    lab.script("host", "touch /run/proven").succeeds();
    asked.waits_for("web", &["web"]);
    // Its probe may fail for a long time before that says anything, but not after a crash.
    lab.script("host", "rm /run/proven").succeeds();
    asked.told(["kill", "web"]).succeeds();
    asked.waits_for("web", &[]);
    let again = "until curl -sS -m 1 http://10.244.0.10/ 2>/dev/null; do sleep 0.1; done";
    lab.exec("client", ["timeout", "60", "sh", "-c", again]).succeeds();
    while !asked.events().iter().any(|it| it["reason"] == "Unhealthy" && it["object"] == "pod/web") {
        a_moment();
    }
    asked.waits_for("web", &[]);
    lab.exec("client", ["curl", "-sS", "-m", "5", "http://10.96.1.10/"]).fails(7);
    lab.script("host", "touch /run/proven").succeeds();
    asked.waits_for("web", &["web"]);
}

/// Row K12, with probes that take a while: who goes stays until who comes is ready.
fn replacements_prove_themselves_first(world: &Arc<World>) {
    let text = |version: u32| {
        format!(
            r#"
[[node]]
name = "node1"
ip = "10.30.45.100"

[[node]]
name = "node2"

[[pod]]
name = "web-v{version}"
replicas = 2
labels = {{ app = "web" }}
readiness = {{ http_get = "/healthz", period = "100ms", initial_delay = "500ms" }}

[[service]]
name = "web"
type = "NodePort"
selector = {{ app = "web" }}
ports = [{{ port = 80, node_port = 30080 }}]

[[client]]
name = "laptop"
ip = "192.0.2.10/24"
"#
        )
    };
    let lab = world.up(&text(1));
    let asked = Asked(&lab);
    let load = lab.load(5, &["10.30.45.100:30080"]);
    for version in 2..4 {
        let file = world.file(&format!("v{version}.toml"), &text(version));
        asked.told(["apply", &file.to_string_lossy()]).succeeds().prints("- pod web-v").prints("+ pod web-v");
        let [first, second] = [0, 1].map(|number| format!("web-v{version}-{number}"));
        // They were waited for.
        assert_eq!(asked.ready().into_iter().filter(|it| it.starts_with("web")).collect::<Vec<_>>(), [first, second]);
    }
    load.has_not_failed();
    // Who asks a pod how it is does not keep it from ending.
    assert!(asked.events().iter().all(|it| it["reason"] != "Killed"), "{:#?}", asked.events());
    lab.verify().args(["--samples", "50", "--only", "services"]).succeeds();
    // A pod more is not waited for, and joins by itself.
    asked.told(["scale", "web-v3", "3"]).succeeds().prints("+ pod web-v3-2");
    asked.waits_for("web", &["web-v3-0", "web-v3-1", "web-v3-2"]);
    // One that is asked only once, and has answered before it is known, joins as well.
    let once = text(3).replace("replicas = 2", "replicas = 3")
        + "\n[[pod]]\nname = \"web-once\"\nlabels = { app = \"web\" }\nreadiness = { tcp_socket = 80, period = \"10m\" }\n";
    let file = world.file("once.toml", &once);
    asked.told(["apply", &file.to_string_lossy()]).succeeds().prints("+ pod web-once");
    asked.waits_for("web", &["web-once", "web-v3-0", "web-v3-1", "web-v3-2"]);
}

/// Rows K3 and K7: a pod that is being deleted and answers its probe stands in for want of a better one;
/// once it fails, nobody is there.
fn terminating_and_unready_pods_are_not_used(world: &Arc<World>) {
    // It takes no notice of SIGTERM.
    let deaf = "import http.server, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); \
                http.server.ThreadingHTTPServer((\"\", 80), http.server.SimpleHTTPRequestHandler).serve_forever()";
    for proxy in ["iptables", "nftables"] {
        let lab = world.up(&format!(
            r#"
[cluster]
proxy = "{proxy}"

[[node]]
name = "node1"
ip = "10.30.45.100"

[[node]]
name = "node2"
ip = "10.30.45.200"

[[pod]]
name = "web"
node = "node1"
labels = {{ app = "web" }}
ports = [{{ container_port = 80 }}]
command = ["python3", "-c", '''{deaf}''']
termination_grace_period = "100s"
readiness = {{ exec = ["test", "!", "-e", "/run/down"], period = "100ms", failure_threshold = 1 }}

[[pod]]
name = "client"

[[service]]
name = "web"
type = "NodePort"
cluster_ip = "10.96.1.10"
selector = {{ app = "web" }}
ports = [{{ port = 80, node_port = 30080 }}]
"#
        ));
        let asked = Asked(&lab);
        let delete = asked.told(["delete", "web"]).start();
        let conditions = || asked.told(["get", "endpoints", "-o", "wide"]).succeeds().stdout;
        let ask =
            |from: &str, to: &str| lab.exec(from, ["curl", "-sS", "-o", "/dev/null", "-m", "5", to]).done().code();
        let ways = [
            ("client", "http://10.96.1.10/"),
            ("node1", "http://10.96.1.10/"),
            ("node2", "http://10.96.1.10/"),
            ("host", "http://10.30.45.100:30080/"),
            ("host", "http://10.30.45.200:30080/"),
        ];
        let waits_for = |words: &str| {
            let deadline = Instant::now() + PATIENCE;
            while !conditions().contains(words) {
                assert!(Instant::now() < deadline, "{words} is not in\n{}", conditions());
                a_moment();
            }
        };
        waits_for("(serving terminating)");
        for (from, to) in ways {
            assert_eq!(ask(from, to), 0, "{proxy}: {from} at {to}");
        }
        lab.script("host", "touch /run/down").succeeds();
        waits_for("(terminating)");
        for (from, to) in ways {
            assert_eq!(ask(from, to), 7, "{proxy}: {from} at {to}");
        }
        lab.down();
        drop(delete.done());
    }
}

fn what_is_told_wins(world: &Arc<World>) {
    let lab = world.up(r#"
[[pod]]
name = "web-1"
ip = "10.244.0.10"
labels = { app = "web" }
readiness = { http_get = "/healthz", period = "100ms", failure_threshold = 1 }

[[pod]]
name = "client"

[[service]]
name = "web"
selector = { app = "web" }
ports = [{ port = 80 }]
"#);
    let asked = Asked(&lab);
    asked.told(["ready", "web-1=false"]).succeeds().prints("~ pod web-1: ready");
    asked.waits_for("web", &[]);
    asked.told(["ready", "web-1=auto"]).succeeds().prints("~ pod web-1: ready");
    asked.waits_for("web", &["web-1"]);
    asked.answers_healthz_with("10.244.0.10", 500);
    asked.waits_for("web", &[]);
    asked.told(["ready", "web-1=true"]).succeeds().prints("~ pod web-1: ready");
    asked.waits_for("web", &["web-1"]);
    asked.told(["ready", "web-1=auto"]).succeeds().prints("~ pod web-1: ready");
    asked.waits_for("web", &[]);
    asked.told(["ready", "web-1=maybe"]).fails(2).complains("web-1=false");
}
