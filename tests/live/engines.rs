//! Both DNS engines are asked the same questions, several hundred of them, by UDP and by TCP, with
//! the real `dig`; their answers must be the same, but for what `docs/dns.md` says.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use crate::{
    support::{Lab, Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: the_engines_say_the_same, the_engines_rewrite_alike, long_answers_are_cut_alike,
    the_quote_of_the_day;
    alone:
];

const LAB: &str = r#"
[[pod]]
name = "web"
replicas = 3
labels = { app = "web" }

[[pod]]
name = "db-0"
labels = { app = "db" }
hostname = "first"
subdomain = "db"

[[pod]]
name = "db-1"
labels = { app = "db" }
hostname = "second"
subdomain = "db"

[[pod]]
name = "late"
labels = { app = "late" }
ready = false

[[pod]]
name = "other"
namespace = "shop"
labels = { app = "web" }

[[service]]
name = "web"
selector = { app = "web" }
ports = [{ name = "http", port = 8080, target_port = 80 }, { name = "dns", port = 53, protocol = "UDP" }]

[[service]]
name = "web"
namespace = "shop"
type = "NodePort"
selector = { app = "web" }
ports = [{ port = 80 }]

[[service]]
name = "db"
cluster_ip = "None"
selector = { app = "db" }
ports = [{ name = "sql", port = 5432 }, { name = "http", port = 80 }]

[[service]]
name = "bare"
cluster_ip = "None"
selector = { app = "web" }

[[service]]
name = "late"
cluster_ip = "None"
selector = { app = "late" }
ports = [{ name = "http", port = 80 }]

[[service]]
name = "early"
cluster_ip = "None"
selector = { app = "late" }
publish_not_ready_addresses = true
ports = [{ name = "http", port = 80 }]

[[service]]
name = "empty"
endpoints = []
ports = [{ port = 80 }]

[[service]]
name = "many"
cluster_ip = "None"
endpoints = ENDPOINTS
ports = [{ name = "x", port = 80 }]

[[service]]
name = "my-ip"
type = "ExternalName"
external_name = "api.ipify.org"

[[service]]
name = "inside"
type = "ExternalName"
external_name = "web.default.svc.cluster.local"

[[service]]
name = "twice"
type = "ExternalName"
external_name = "my-ip.default.svc.cluster.local"

[[service]]
name = "nowhere"
type = "ExternalName"
external_name = "nothing.example.org"

[[external]]
name = "api.ipify.org"
ip = ["104.26.12.205", "104.26.13.205", "172.67.74.152"]

[[external]]
name = "www.example.org"
ip = "198.51.100.7"
"#;

fn text(dns: &str) -> String {
    let endpoints: Vec<String> = (1..=100).map(|n| format!("{{ ip = \"198.51.100.{n}\" }}")).collect();
    let lab =
        LAB.replace("ENDPOINTS", &format!("[{}]", endpoints.join(", "))).replace("198.51.100.7\"\n", "203.0.113.7\"\n");
    format!("{lab}\n[dns]\n{dns}\n")
}

/// Labels below which there is something, or might be.
const NAMES: &[&str] = &[
    "web.default.svc.cluster.local",
    "WeB.Default.SVC.cluster.LOCAL",
    "web.shop.svc.cluster.local",
    "db.default.svc.cluster.local",
    "first.db.default.svc.cluster.local",
    "second.db.default.svc.cluster.local",
    "third.db.default.svc.cluster.local",
    "_sql._tcp.db.default.svc.cluster.local",
    "_http._tcp.db.default.svc.cluster.local",
    "_sql._udp.db.default.svc.cluster.local",
    "_http._tcp.web.default.svc.cluster.local",
    "_dns._udp.web.default.svc.cluster.local",
    "_none._tcp.web.default.svc.cluster.local",
    "_http._tcp.web.shop.svc.cluster.local",
    "bare.default.svc.cluster.local",
    "late.default.svc.cluster.local",
    "early.default.svc.cluster.local",
    "empty.default.svc.cluster.local",
    "missing.default.svc.cluster.local",
    "a.b.missing.default.svc.cluster.local",
    "web.nowhere.svc.cluster.local",
    "default.svc.cluster.local",
    "shop.svc.cluster.local",
    "nowhere.svc.cluster.local",
    "svc.cluster.local",
    "pod.cluster.local",
    "default.pod.cluster.local",
    "cluster.local",
    "foo.cluster.local",
    "dns-version.cluster.local",
    "10-244-0-2.default.pod.cluster.local",
    "1-2-3-4.default.pod.cluster.local",
    "1-2-3-4.nowhere.pod.cluster.local",
    "not-an-ip.default.pod.cluster.local",
    "kube-dns.kube-system.svc.cluster.local",
    "_dns._udp.kube-dns.kube-system.svc.cluster.local",
    "_dns-tcp._tcp.kube-dns.kube-system.svc.cluster.local",
    "my-ip.default.svc.cluster.local",
    "x.my-ip.default.svc.cluster.local",
    "twice.default.svc.cluster.local",
    "inside.default.svc.cluster.local",
    "nowhere.default.svc.cluster.local",
    "api.ipify.org",
    "www.example.org",
    "nothing.example.org",
    "2.0.244.10.in-addr.arpa",
    "3.0.244.10.in-addr.arpa",
    "2.1.244.10.in-addr.arpa",
    "10.0.96.10.in-addr.arpa",
    "1.1.96.10.in-addr.arpa",
    "99.99.96.10.in-addr.arpa",
    "205.12.26.104.in-addr.arpa",
];
const KINDS: &[&str] = &["A", "AAAA", "SRV", "PTR", "CNAME", "TXT", "MX"];

/// What `dig` prints of each question, in an order of its own.
fn asked(lab: &Lab, options: &str, questions: &[(String, &str)]) -> BTreeMap<String, String> {
    let mut batch = String::new();
    for (name, kind) in questions {
        let _ = writeln!(
            batch,
            "@10.96.0.10 {name}. {kind} +noall +comments +answer +authority +tries=1 +time=7 {options}"
        );
    }
    let done = lab.script("web-0", &format!("dig -f - <<'END'\n{batch}END")).succeeds();
    let mut answers = BTreeMap::new();
    let parts: Vec<&str> = done.stdout.split(";; Got answer:").skip(1).collect();
    assert_eq!(parts.len(), questions.len(), "answers to {options}: {}", done.stdout);
    for ((name, kind), part) in questions.iter().zip(parts) {
        answers.insert(format!("{name} {kind}"), normal(part));
    }
    answers
}

/// Status, flags and records; sorted, and without what differs from one run of a server to the next.
fn normal(part: &str) -> String {
    let mut head = String::new();
    let mut records: Vec<String> = Vec::new();
    for line in part.lines().filter(|line| !line.trim().is_empty()) {
        if let Some((_, rest)) = line.split_once("status: ") {
            head.push_str(rest.split(',').next().unwrap_or_default());
        } else if let Some(rest) = line.strip_prefix(";; flags:") {
            let flags = rest.split(';').next().unwrap_or_default();
            // What CoreDNS has in its cache it calls its own (aa), whoever said it.
            head.push_str(&if flags.contains(" ra") { flags.replace(" aa", "") } else { flags.to_owned() });
        } else if !line.starts_with(';') {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name, _ttl, class, kind, data @ ..] = fields.as_slice() else { continue };
            // A zone's serial number is CoreDNS's own affair; the order of answers is by chance.
            let data: Vec<&str> = match *kind {
                "SOA" => data.iter().enumerate().filter(|(nth, _)| *nth != 2).map(|(_, it)| *it).collect(),
                _ => data.to_vec(),
            };
            // The plugin `file` says a name as it is in the zone, not as it was asked for.
            records.push(format!("{} {class} {kind} {}", name.to_lowercase(), data.join(" ")));
        }
    }
    records.sort();
    format!("{head}\n{}", records.join("\n"))
}

/// What the two are known to say otherwise; `docs/dns.md` says why.
fn is_known(question: &str) -> bool {
    const OTHERWISE: &[&str] = &[
        // Only names of zone files have names above them.
        "_none._tcp.web.default.svc.cluster.local",
        "_sql._udp.db.default.svc.cluster.local",
        // The alias alone, where the plugin says nothing of a target without such a record.
        "inside.default.svc.cluster.local AAAA",
    ];
    // An address has nothing but a name: the plugin passes other questions on, a zone file has no data.
    let about_an_address = question.contains(".in-addr.arpa ") && !question.ends_with(" PTR");
    about_an_address || OTHERWISE.iter().any(|name| question.starts_with(name))
}

fn the_engines_say_the_same(world: &Arc<World>) {
    let questions: Vec<(String, &str)> =
        NAMES.iter().flat_map(|name| KINDS.iter().map(move |kind| ((*name).to_owned(), *kind))).collect();
    compare(world, "", &questions, &["+notcp", "+tcp", "+notcp +noedns"]);
}

fn the_engines_rewrite_alike(world: &Arc<World>) {
    let names = ["my-ip.default.svc.cluster.local", "inside.default.svc.cluster.local", "api.ipify.org"];
    let questions: Vec<(String, &str)> =
        names.iter().flat_map(|name| ["A", "AAAA"].map(|kind| ((*name).to_owned(), kind))).collect();
    compare(world, "external_names = \"rewrite\"", &questions, &["+notcp", "+tcp"]);
}

fn compare(world: &Arc<World>, more: &str, questions: &[(String, &str)], all_options: &[&str]) {
    let [embedded, coredns] =
        ["embedded", "coredns"].map(|engine| world.up(&text(&format!("engine = \"{engine}\"\n{more}"))));
    let mut different = String::new();
    let mut count = 0;
    for options in all_options {
        let (one, other) = (asked(&embedded, options, questions), asked(&coredns, options, questions));
        for (question, answer) in &one {
            count += 1;
            if answer != &other[question] && !is_known(question) {
                let _ = writeln!(
                    different,
                    "== {question} {options}\n-- embedded: {answer}\n-- coredns: {}",
                    other[question]
                );
            }
        }
    }
    assert!(different.is_empty(), "of {count} answers these differ:\n{different}");
}

/// Which records of too many are left is by chance; how many are, is not.
fn long_answers_are_cut_alike(world: &Arc<World>) {
    let counted = |engine: &str| {
        let lab = world.up(&text(&format!("engine = \"{engine}\"")));
        ["+notcp +noedns", "+notcp +bufsize=1232 +nocookie", "+notcp +bufsize=4096 +nocookie", "+tcp"].map(|options| {
            let dig =
                format!("dig @10.96.0.10 many.default.svc.cluster.local {options} +ignore +noall +comments +answer");
            let stdout = lab.script("web-0", &dig).succeeds().stdout;
            let records = stdout.lines().filter(|line| line.contains("198.51.100.")).count();
            let flags = stdout.lines().find(|line| line.starts_with(";; flags:")).unwrap_or_default();
            (records, flags.split(';').nth(2).unwrap_or_default().contains(" tc"))
        })
    };
    let embedded = counted("embedded");
    assert_eq!(embedded, counted("coredns"));
    assert_eq!(embedded[3], (100, false), "by TCP it is whole");
    assert!(embedded[0].1, "in 512 bytes it is not");
}

/// Three Services that find each other by name, whoever tells them.
fn the_quote_of_the_day(world: &Arc<World>) {
    for engine in ["embedded", "coredns"] {
        let lab = world.up(&format!("{}\n[dns]\nengine = \"{engine}\"\n", book("quote.toml")));
        let forty = "for i in $(seq 40); do curl -s -m 5 http://10.30.45.100:31080/; done";
        let answers = lab.script("host", forty).succeeds().stdout;
        let count = |what: &str| answers.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("Quote: \""), count("Time: ")), (40, 40), "{engine}: {answers}");
        assert!(count("(says quote-0)") > 0 && count("(says quote-1)") > 0, "{engine}: {answers}");
        lab.verify().succeeds();
        lab.down();
    }
}
