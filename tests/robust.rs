//! Whatever the text, `load` answers: without a panic, the same each time, in bounded time.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use netlab::{diag::Colour, lab::load};
use proptest::{prelude::*, sample::Index, test_runner::FileFailurePersistence};

/// A lab that uses every key there is.
const EVERYTHING: &str = r#"
name = "everything"
[cluster]
node_subnet = "10.30.45.0/24"
service_cidr = "10.96.0.0/16"
cluster_cidr = "10.244.0.0/16"
domain = "cluster.local"
proxy = "nftables"
detect_local = "node-cidr"
masquerade_all = true
[[node]]
name = "node1"
ip = "10.30.45.100"
pod_subnet = "10.244.1.0/24"
attach = "bridge"
bridge = "br0"
zone = "z1"
[[node]]
name = "node2"
attach = "routed"
[[pod]]
name = "web"
node = "node1"
ip = "10.244.1.10"
labels = { app = "web" }
namespace = "default"
containers = [{ name = "a", server = "echo", ports = [{ name = "http", container_port = 80, protocol = "TCP", host_port = 8080, host_ip = "127.0.0.1" }] }, { command = ["sleep", "60"], env = { A = "b" } }]
[[pod]]
name = "api"
replicas = 3
labels = { app = "web" }
server = "python"
env = { B = "c" }
ports = [{ name = "http", container_port = 8080 }]
[[pod]]
name = "agent"
host_network = true
[[service]]
name = "shop"
namespace = "default"
type = "LoadBalancer"
labels = { team = "a" }
cluster_ip = "10.96.1.100"
selector = { app = "web" }
ports = [{ name = "http", protocol = "TCP", port = 8080, target_port = "http", node_port = 30080 }, { name = "u", protocol = "UDP", port = 53, target_port = 80 }]
session_affinity = "ClientIP"
session_affinity_timeout = 60
internal_traffic_policy = "Local"
external_traffic_policy = "Local"
external_ips = ["198.51.100.1"]
load_balancer_ips = ["203.0.113.9"]
load_balancer_source_ranges = ["192.0.2.0/24"]
allocate_load_balancer_node_ports = true
health_check_node_port = 30500
publish_not_ready_addresses = false
traffic_distribution = "PreferSameNode"
[[service]]
name = "outside"
cluster_ip = "None"
endpoints = [{ ip = "192.0.2.10", node = "node1" }]
[[client]]
name = "laptop"
ip = "192.0.2.10/24"
[[probe]]
name = "a probe"
from = "laptop"
url = "http://node1:30080/"
expect = { status = 200, backends = ["web", "api"], body_contains = "x" }
[[probe]]
from = "api-0"
url = "http://shop:9"
expect = { failure = "timeout" }
"#;

/// What comes of a text, as text; this also shows that it can be rendered.
fn outcome(text: &str) -> String {
    match load(text) {
        Ok(lab) => format!("{lab:?}"),
        Err(problems) => problems.render("lab.toml", text, Colour::Off),
    }
}

/// One way to break a lab file.
#[derive(Debug, Clone)]
enum Damage {
    /// Removes a line.
    Remove(Index),
    /// Writes a line again elsewhere.
    Repeat(Index, Index),
    /// Replaces a word by another of the file.
    Swap(Index, Index),
    /// Replaces a word by something nasty.
    Replace(Index, Index),
    /// Puts a character somewhere.
    Insert(Index, char),
    /// Cuts the rest off.
    Truncate(Index),
}

const NASTY: &[&str] = &[
    "\"\"",
    "0",
    "-1",
    "65536",
    "99999999999999999999",
    "\"10.244.1.1\"",
    "\"0.0.0.0/0\"",
    "\"255.255.255.255\"",
    "\"10.244.1.255/32\"",
    "\"None\"",
    "[]",
    "{}",
    "[[]]",
    "true",
    "1e9",
    "\"\\u0000\"",
    "\"host\"",
    "\"a.b\"",
    "10000",
    "\"10.0.0.0/8\"",
    "\"10.30.45.0/30\"",
    "[{}]",
    "\"::1\"",
    "\"http://x.y\"",
    "1979-05-27",
    "\"ClusterIP\"",
    "\n",
    "=",
];

fn words(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), '\n')]) {
        match (start, " \n,[]{}=".contains(c)) {
            (None, false) => start = Some(at),
            (Some(begin), true) => {
                words.push(begin..at);
                start = None;
            }
            _ => {}
        }
    }
    words
}

fn damage(text: &str, damage: &Damage) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let words = words(text);
    if lines.is_empty() || words.is_empty() {
        return text.to_owned();
    }
    let place =
        |index: &Index| (0..=index.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let replace = |word: &Index, by: &str| {
        let word = &words[word.index(words.len())];
        format!("{}{by}{}", &text[..word.start], &text[word.end..])
    };
    match damage {
        Damage::Remove(line) => {
            lines.remove(line.index(lines.len()));
            lines.join("\n")
        }
        Damage::Repeat(from, to) => {
            lines.insert(to.index(lines.len()), lines[from.index(lines.len())]);
            lines.join("\n")
        }
        Damage::Swap(word, by) => replace(word, &text[words[by.index(words.len())].clone()]),
        Damage::Replace(word, by) => replace(word, NASTY[by.index(NASTY.len())]),
        Damage::Insert(at, c) => format!("{}{c}{}", &text[..place(at)], &text[place(at)..]),
        Damage::Truncate(at) => text[..place(at)].to_owned(),
    }
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        1 => index().prop_map(Damage::Remove),
        1 => (index(), index()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        3 => (index(), index()).prop_map(|(word, by)| Damage::Swap(word, by)),
        3 => (index(), index()).prop_map(|(word, by)| Damage::Replace(word, by)),
        1 => (index(), any::<char>()).prop_map(|(at, c)| Damage::Insert(at, c)),
        1 => index().prop_map(Damage::Truncate),
    ]
}

#[test]
fn the_lab_with_every_key_is_good() {
    assert!(load(EVERYTHING).is_ok(), "{}", outcome(EVERYTHING));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/robust.proptest-regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_text_gets_an_answer(text in "(?s).{0,400}") {
        outcome(&text);
    }

    #[test]
    fn any_toml_like_text_gets_an_answer(text in "([\\[\\]{}=,.\"' \n#a-c0-9]|name|pod|\\[\\[pod\\]\\]\n|= ){0,80}") {
        outcome(&text);
    }

    #[test]
    fn a_damaged_lab_gets_the_same_answer_twice(damages in prop::collection::vec(any_damage(), 1..6)) {
        let text = damages.iter().fold(EVERYTHING.to_owned(), |text, one| damage(&text, one));
        prop_assert_eq!(outcome(&text), outcome(&text));
    }
}

fn within(limit: Duration, what: &str, text: &str) -> String {
    let start = Instant::now();
    let outcome = outcome(text);
    let took = start.elapsed();
    println!("{what}: {took:?}");
    assert!(took < limit, "{what} took {took:?}");
    outcome
}

/// What takes some milliseconds, as nothing is read of a file that is too long, however busy the machine.
const SOON: Duration = Duration::from_secs(10);
/// What takes a second or two in a debug build, however busy the machine; a step that is quadratic
/// in the size of the file would take minutes.
const LINEAR: Duration = Duration::from_secs(30);

#[test]
fn ten_megabytes_are_answered_soon() {
    let comment = "# nothing but comments\n".repeat((10 << 20) / 23);
    for (what, unit) in [
        ("pods", "[[pod]]\nname = \"web\"\n"),
        ("unknown keys", "[[x]]\ny = 1\n"),
        ("brackets", "[[[[[[[["),
        ("equal signs", "====="),
        ("one line", "a"),
        ("quotes", "\""),
        ("inline tables", "a = {"),
    ] {
        let text = unit.repeat((10 << 20) / unit.len());
        within(SOON, &format!("10 MB of {what}"), &text);
        // What is small enough to be read in full, and for all errors to be listed, is harder.
        within(LINEAR, &format!("1 MB of {what}"), &text[..1 << 20]);
        within(LINEAR, &format!("256 KB of {what}"), &text[..256 << 10]);
    }
    within(SOON, "comments", &comment);
}

#[test]
fn a_large_lab_is_loaded_soon() {
    let mut text = String::new();
    for node in 0..10 {
        let _ = write!(text, "[[node]]\nname = \"node{node}\"\npod_subnet = \"10.244.{node}.0/24\"\n");
    }
    for app in 0..100 {
        let _ = write!(text, "[[pod]]\nname = \"app{app}\"\nreplicas = 10\nlabels = {{ app = \"a{app}\" }}\n");
        let _ = write!(
            text,
            "[[service]]\nname = \"s{app}\"\nselector = {{ app = \"a{app}\" }}\nports = [{{ port = 80 }}]\n"
        );
    }
    let start = Instant::now();
    let lab = load(&text).unwrap_or_else(|problems| panic!("{}", problems.render("x", &text, Colour::Off)));
    println!("10 nodes, 1000 pods, 100 services: {:?}", start.elapsed());
    assert_eq!((lab.pods.len(), lab.services.len()), (1001, 101));
    assert!(start.elapsed() < LINEAR);
}

#[test]
fn the_largest_lab_is_loaded_soon() {
    let mut text = "[cluster]\ncluster_cidr = \"10.128.0.0/9\"\nnode_subnet = \"10.30.0.0/16\"\n".to_owned();
    for node in 0..1000 {
        let _ = write!(text, "[[node]]\nname = \"node{node}\"\n");
    }
    for pod in 0..20_000 {
        let _ = write!(text, "[[pod]]\nname = \"pod{pod}\"\nlabels = {{ app = \"a{}\" }}\n", pod % 100);
    }
    for service in 0..5000 {
        let app = service % 100;
        let _ = write!(
            text,
            "[[service]]\nname = \"s{service}\"\nselector = {{ app = \"a{app}\" }}\nports = [{{ port = 80 }}]\n"
        );
    }
    within(LINEAR, "the largest lab", &text);
    let broken = text.replace("name = \"pod", "node = \"nod\"\nname = \"pod").replace("app = \"a", "app = \"b-");
    within(LINEAR, "the largest broken lab", &broken);
}

#[test]
fn example_labs_are_read_alike_twice() {
    for entry in
        fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/labs")).unwrap_or_else(|error| panic!("labs: {error}"))
    {
        let path = entry.unwrap_or_else(|error| panic!("labs: {error}")).path();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(outcome(&text), outcome(&text));
    }
}
