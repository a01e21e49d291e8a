//! What `netlab verify` reports, chooses and measures, with real packets.

use std::{fs, sync::Arc};

use serde_json::Value;

use crate::{
    support::{Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: reports_go_to_files_and_to_github, a_failure_points_to_the_file, runs_and_failures_are_counted,
    a_hundred_tests_of_a_good_lab, servers_are_not_counted_on, conntrack_is_held_against_answers, what_is_pasted_runs;
    alone: old_connections_cost_no_second
];

/// Several reports at once, each of what was asked for.
fn reports_go_to_files_and_to_github(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    // The user that runs it can write there, as it is that user's own.
    let folder = world.program("mktemp").args(["-d", "/tmp/netlab-reports-XXXXXX"]).succeeds().stdout.trim().to_owned();
    let file = |name: &str| format!("{folder}/{name}");
    let (junit, json, summary) = (file("report.xml"), file("report.json"), file("summary.md"));
    let mut call =
        lab.verify().args(["--engine", "builtin", "--only", "pods", "--only", "balance", "--skip", "*/coredns*"]);
    call =
        call.args(["-o", "tap", "--output-file", &format!("junit={junit}"), "--output-file", &format!("json={json}")]);
    call.command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    let done = call.succeeds().prints("TAP version 14\n1..");
    let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(read(&junit).contains("<testsuite name=\"pods\""), "{}", read(&junit));
    assert!(read(&summary).starts_with("### netlab verify "), "{}", read(&summary));
    assert!(!done.stderr.contains("::error"), "{done}");
    let report: Value = serde_json::from_str(&read(&json)).expect("it is JSON");
    let probes = report["probes"].as_array().expect("a list");
    assert!(
        probes.iter().all(|probe| probe["result"] == "passed" && probe["seen"] != Value::Array(vec![])),
        "{report}"
    );
    assert!(probes.iter().any(|probe| probe["line"].is_u64()), "{report}");
    let validator = jsonschema::draft202012::new(&netlab::report::schema()).expect("it is a schema");
    let wrong: Vec<String> = validator.iter_errors(&report).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    fs::remove_dir_all(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    lab.verify().args(["--output-file", "junit=/nonexistent/x"]).fails(2).complains("cannot write /nonexistent/x");
}

/// Has a pod refuse whoever asks it.
const REFUSE: &str = "iptables -I INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset";

/// An annotation stands at the line of the Service.
fn a_failure_points_to_the_file(world: &Arc<World>) {
    let text = book("echo.toml");
    let lab = world.up(&text);
    ["pod1a", "pod1b", "pod2"].iter().for_each(|pod| drop(lab.script(pod, REFUSE).succeeds()));
    let mut call = lab.verify().args(["--engine", "builtin", "--only", "services/laptop/*:8080@node?", "--fail-fast"]);
    call.command.env("GITHUB_ACTIONS", "true");
    let done = call.fails(1).prints("another probe has failed before");
    let line = text.lines().position(|line| line == "[[service]]").expect("there is one") + 1;
    assert!(done.stderr.contains(&format!(",line={line}::expected: an answer from ")), "{done}");
    assert!(done.stderr.starts_with("::error title=laptop "), "{done}");
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
}

/// A probe that is lucky now and then is flaky, and one that never is has failed in every run.
fn runs_and_failures_are_counted(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    lab.script("pod2", REFUSE).succeeds();
    let done = lab.verify().args(["--engine", "builtin", "--repeat", "12", "-o", "json", "--only"]);
    let done = done.args(["services/node1/cluster-ip/*:8080", "--only", "pods/pod1a/pod/pod2:80"]).fails(1);
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"));
    assert_eq!(report["runs"], 12, "{report}");
    let failed = |id: &str| {
        let mut probes = report["probes"].as_array().expect("a list").iter();
        let probe = probes.find(|probe| probe["id"] == id).unwrap_or_else(|| panic!("no {id} in {report}"));
        probe["failed_runs"].as_u64().expect("a number")
    };
    assert_eq!(failed("pods/pod1a/pod/pod2:80"), 12, "{report}");
    // One of three endpoints is dead: that all of twelve connections meet it, or none, is rare, and no mistake.
    let service = failed("services/node1/cluster-ip/http-server-svc:8080");
    let flaky = report["flaky"].as_array().expect("a list").len();
    assert_eq!(flaky, usize::from(service > 0 && service < 12), "{report}");
    lab.verify().args(["--only", "pods", "--skip", "*"]).fails(2).complains("no probe of");
    lab.verify().args(["--only", "a["]).fails(2).complains("no pattern");
}

/// A hundred real tests in a good lab at a rate of false alarms of a twentieth: five are to be expected, and
/// more than eighteen come about in less than one of a million such hundreds.
fn a_hundred_tests_of_a_good_lab(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    let options =
        ["--engine", "builtin", "--only", "balance/node1", "--repeat", "100", "--samples", "60", "-o", "json"];
    let done = world.netlab(["verify", &lab.name, "--alpha", "0.05"]).args(options).done();
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"));
    assert_eq!(report["distributions"][0]["connections"], 60, "{report}");
    let probe = &report["probes"][0];
    let failed = probe["failed_runs"].as_u64().expect("a number");
    assert!(failed <= 18, "{failed} of 100 tests of a good lab failed");
    assert_eq!(done.code(), i32::from(failed > 0), "{done}");
}

/// Hundreds of connections are led to each server, and it hears of few.
fn servers_are_not_counted_on(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    // Of the line with the numbers: connections that somebody here has accepted.
    let opened = || {
        let of = |pod: &str| lab.script(pod, "awk '/^Tcp: [0-9]/ { print $7 }' /proc/self/net/snmp").succeeds().stdout;
        ["pod1a", "pod1b", "pod2"].map(|pod| of(pod).trim().parse::<u64>().expect("a number"))
    };
    let before = opened();
    let report = lab.verify().args(["--only", "balance", "-o", "json"]).succeeds().stdout;
    let report: Value = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error} in {report}"));
    let tests = report["distributions"].as_array().expect("a list");
    let observed = |nth: usize| tests.iter().filter_map(|it| it["shares"][nth]["observed"].as_u64()).sum::<u64>();
    for (nth, (after, before)) in opened().into_iter().zip(before).enumerate() {
        let (heard, led) = (after - before, observed(nth));
        // Each of six places has heard it say who it is; that takes a few requests more, by chance.
        assert!((6..led / 2).contains(&heard), "server {nth} heard of {heard} connections, and was led {led}");
    }
}

/// Where connections do not end where their first node has led them, that node's conntrack is not believed.
fn conntrack_is_held_against_answers(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    let astray = "iptables -t nat -I PREROUTING -p tcp -d 192.168.2.20 --dport 80 -j DNAT --to-destination 192.168.1.10\n\
                  iptables -t nat -I POSTROUTING -p tcp -d 192.168.1.10 --dport 80 -j MASQUERADE";
    lab.script("node2", astray).succeeds();
    let done = lab.verify().args(["--only", "balance/node1"]).fails(1);
    done.prints("pod1a answered a connection that conntrack says was led to 192.168.2.20:80");
}

/// The commands of `--paste` are what the probes do.
fn what_is_pasted_runs(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    let pasted = lab.verify().args(["--paste", "--only", "services/laptop/node-port/*@node?"]).succeeds().stdout;
    assert_eq!(pasted.lines().count(), 2, "{pasted}");
    let script: String = pasted.lines().map(|line| line.replacen("netlab", "\"$0\"", 1) + "\n").collect();
    let netlab = world.netlab_path().display().to_string();
    world.program("sh").args(["-ec", &script, &netlab]).succeeds().prints("HTTP Server IP address");
    lab.verify().args(["--list", "-o", "json", "--only", "pods"]).succeeds().prints("\"kind\": \"probes\"");
}

/// Asks from each port, and has the server close, so that it is the one that remembers the connection.
const REMEMBERED: &str = r#"
import socket, sys
for port in range(int(sys.argv[1]), int(sys.argv[2])):
    with socket.socket() as asking:
        asking.bind(("", port))
        asking.connect((sys.argv[3], int(sys.argv[4])))
        asking.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while asking.recv(4096):
            pass
"#;

/// A SYN from a port that a server remembers (TIME_WAIT) is answered by an ACK of the old connection. Half of
/// them are: those whose random number lies before the old ones.
fn old_connections_cost_no_second(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    // Connections are counted from these ports, the lowest first.
    lab.exec("pod1a", ["python3", "-c", REMEMBERED, "10240", "12240", "10.96.1.100", "8080"]).succeeds();
    let done = lab.verify().args(["--engine", "builtin", "--only", "balance/node1/*", "-o", "json"]).succeeds();
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {done}"));
    let slowest =
        report["probes"].as_array().and_then(|probes| probes.iter().filter_map(|it| it["micros"].as_u64()).max());
    assert!(slowest.expect("some were made") < 900_000, "{report}");
}
