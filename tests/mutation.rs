//! The probes are honest: take any class of rules away from a node of a running lab, and `verify`
//! fails. The classes that no probe can see are listed here with the reason, and no others.
//!
//! A class is a rule's text with addresses, ports, protocols and hashes struck out.

mod program;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    thread,
};

use netlab::{
    lab::{
        load,
        model::{NodeId, ProxyMode},
    },
    proxy::{render, view::view},
};
use program::{Program, Running, User};

/// How many copies of the lab share the work for each proxy: most of a failing run is waiting.
const COPIES: usize = 6;
/// The groups of probes, in the order in which they are likely to notice something at little cost.
const GROUPS: [&str; 6] = ["services", "negative", "egress", "nodes", "pods", "balance"];
/// One proxy at a time: on a busy machine packets are lost for other reasons.
static TURN: Mutex<()> = Mutex::new(());
/// Of so many good runs that are tested here, hardly ever one shall fail by chance; what a missing rule does to
/// the spread is far beyond it.
const ALPHA: &str = "0.000001";
/// What the kernel remembers of connections under other rules it must forget soon: among so
/// many, one has the same ports as a later one.
const FORGET: &str = "for it in udp_timeout udp_timeout_stream tcp_timeout_syn_sent tcp_timeout_time_wait \
     tcp_timeout_close; do echo 1 > /proc/sys/net/netfilter/nf_conntrack_$it; done";

/// Which classes no probe can see, by proxy, with the reason.
const UNSEEN: &[(ProxyMode, &str, &str)] = &[
    (IPT, "filter INPUT -j KUBE-FIREWALL", NEIGHBOUR),
    (IPT, "filter OUTPUT -j KUBE-FIREWALL", NEIGHBOUR),
    (IPT, "filter KUBE-FIREWALL -d A ! -s A -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP", NEIGHBOUR),
    (IPT, "filter FORWARD -j KUBE-FORWARD", POLICY),
    (IPT, "filter KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP", "no client here forges packets"),
    (IPT, "filter KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT", POLICY),
    (IPT, "filter KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", POLICY),
    (IPT, "filter INPUT -j KUBE-NODEPORTS", POLICY),
    (IPT, "filter KUBE-NODEPORTS -m P -p P --dport N -j ACCEPT (node port)", POLICY),
    (IPT, "filter INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL", HELD),
    (IPT, "filter FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL", SILENT),
    (IPT, "filter OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL", SILENT),
    (IPT, "filter KUBE-PROXY-FIREWALL -m P -p P -d A --dport N -j DROP", SILENT),
    (IPT, "filter KUBE-SERVICES -m P -p P -d A --dport N -j DROP", SILENT),
    (IPT, "filter KUBE-EXTERNAL-SERVICES -m P -p P -d A --dport N -j DROP", HEALTHY),
    (IPT, "filter KUBE-EXTERNAL-SERVICES -m addrtype --dst-type LOCAL -m P -p P --dport N -j REJECT", CLOSED),
    (IPT, "nat KUBE-FW-", "it only says something"),
    (IPT, "nat KUBE-POSTROUTING -j MARK --xor-mark 0x4000", "no packet here passes POSTROUTING twice"),
    (IPT, "nat NETLAB-EGRESS -d A -j RETURN (to a group)", "nobody here sends to a group"),
    (NFT, "cluster-ips-check: ip daddr { A } drop", SILENT),
    (NFT, "filter-input: ct state new jump service-endpoints-check", HELD),
    (NFT, "no-endpoint-nodeports element P A N : goto reject-chain", CLOSED),
    (NFT, "no-endpoint-services element A A P A N : drop (outer address)", HEALTHY),
    (NFT, "no-endpoint-services element A A P A N : goto reject-chain", "cluster-ips-check refuses it as well"),
];
const IPT: ProxyMode = ProxyMode::Iptables;
const NFT: ProxyMode = ProxyMode::Nftables;
const NEIGHBOUR: &str = "only a machine on the node's own network can send what it stops";
const POLICY: &str = "it matters where the policy of the built-in chain is DROP";
const SILENT: &str = "past it, the packet leaves for the gateway, which is as silent";
const HELD: &str = "it matters where the node itself holds a load balancer's address";
const HEALTHY: &str = "the load balancer sends nothing to a node that is not healthy";
const CLOSED: &str = "the node itself refuses a port on which nothing listens";

/// Every sort of rule on `node1`, and little besides.
const LAB: &str = r#"
[dns]
engine = "embedded"

[[node]]
name = "node1"
ip = "10.30.45.11"
pod_subnet = "10.244.1.0/24"

[[node]]
name = "node2"
ip = "10.30.45.12"
pod_subnet = "10.244.2.0/24"

[[client]]
name = "x"
ip = "192.0.2.10/24"

[[pod]]
name = "w1"
node = "node1"
labels = { app = "web" }
ports = [{ container_port = 80 }]

[[pod]]
name = "w2"
node = "node2"
labels = { app = "web" }
ports = [{ container_port = 80 }]

[[pod]]
name = "w3"
node = "node1"
labels = { app = "web" }
ports = [{ container_port = 80 }]

[[pod]]
name = "d2"
node = "node2"
host_network = true
labels = { app = "daemon" }
ports = [{ container_port = 9100 }]

[[service]]
name = "web"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
external_ips = ["10.30.45.11"]
ports = [{ port = 80, node_port = 30080 }]
"#;

/// What the ladder cannot express.
const MORE: &str = r#"
[[pod]]
name = "n1"
node = "node1"
labels = { app = "near" }
ports = [{ container_port = 80, host_port = 8081 }]

[[pod]]
name = "f2"
node = "node2"
labels = { app = "far" }

[[service]]
name = "near"
type = "LoadBalancer"
cluster_ip = "10.96.1.2"
selector = { app = "near" }
internal_traffic_policy = "Local"
external_traffic_policy = "Local"
load_balancer_ips = ["203.0.113.2"]
ports = [{ port = 80, node_port = 30082 }]

[[service]]
name = "far"
type = "LoadBalancer"
cluster_ip = "10.96.1.3"
selector = { app = "far" }
internal_traffic_policy = "Local"
external_traffic_policy = "Local"
load_balancer_ips = ["203.0.113.3"]
ports = [{ port = 80, node_port = 30083 }]

[[service]]
name = "fenced"
type = "LoadBalancer"
cluster_ip = "10.96.1.4"
selector = { app = "near" }
load_balancer_ips = ["203.0.113.4"]
load_balancer_source_ranges = ["192.0.2.0/24", "10.30.45.11/32"]
ports = [{ port = 80, node_port = 30084 }]

[[service]]
name = "fenced-off"
type = "LoadBalancer"
cluster_ip = "10.96.1.7"
selector = { app = "far" }
load_balancer_ips = ["203.0.113.5"]
load_balancer_source_ranges = ["192.0.2.0/24"]
ports = [{ port = 80, node_port = 30085 }]

[[service]]
name = "sticky"
cluster_ip = "10.96.1.5"
selector = { app = "web" }
session_affinity = "ClientIP"
ports = [{ port = 80 }]

[[service]]
name = "empty"
type = "LoadBalancer"
cluster_ip = "10.96.1.6"
endpoints = []
load_balancer_ips = ["203.0.113.6"]
external_ips = ["203.0.113.7"]
ports = [{ port = 80, node_port = 30086 }]
"#;

fn file(mode: ProxyMode) -> String {
    let more = if mode == ProxyMode::Ladder { "" } else { MORE };
    format!("[cluster]\nproxy = \"{mode}\"\n{LAB}{more}")
}

#[test]
fn verify_misses_no_rule_of_iptables() {
    take_away(ProxyMode::Iptables);
}

#[test]
fn verify_misses_no_rule_of_nftables() {
    take_away(ProxyMode::Nftables);
}

#[test]
fn verify_misses_no_rule_of_the_ladder() {
    take_away(ProxyMode::Ladder);
}

fn take_away(mode: ProxyMode) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = load(&file(mode)).unwrap_or_else(|problems| panic!("{problems}"));
    let text = render(mode, &view(&lab, NodeId(0)));
    let classes: BTreeSet<String> = classified(mode, &text).into_iter().filter_map(|(class, _)| class).collect();
    assert!(classes.len() >= 6, "{classes:#?}");
    let program = Program::of(User::Me);
    let queue = Mutex::new(classes.iter());
    let missed = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for copy in 0..COPIES {
            let (program, queue, missed, text) = (&program, &queue, &missed, &text);
            scope.spawn(move || {
                let name = format!("mut-{}-{copy}", &mode.as_str()[..3]);
                let running = program.up(&name, &file(mode)).unwrap_or_else(|why| panic!("{why}"));
                for node in ["node1", "node2"] {
                    let done = running.exec(node, &["sh", "-ec", FORGET]);
                    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
                }
                let before = notices(&running);
                assert!(before.is_none(), "{mode}: the lab is not good to begin with: {before:?}");
                loop {
                    let next = queue.lock().expect("nobody panics with it").next();
                    let Some(class) = next else { break };
                    let fewer = without(mode, text, class);
                    reload(&running, mode, &fewer);
                    let noticed = notices(&running);
                    let first = noticed.as_deref().and_then(|text| text.lines().next()).unwrap_or("NOTHING");
                    eprintln!("{mode}: without {class}: {first}");
                    if noticed.is_none() {
                        missed.lock().expect("nobody panics with it").insert(class.clone());
                    }
                }
                reload(&running, mode, text);
                let left = notices(&running);
                assert!(left.is_none(), "{mode}: with all rules put back: {left:?}");
            });
        }
    });
    let missed = missed.into_inner().expect("nobody panics with it");
    let known: BTreeSet<String> = UNSEEN.iter().filter(|it| it.0 == mode).map(|it| it.1.to_owned()).collect();
    let found: Vec<&String> = missed.difference(&known).collect();
    let seen: Vec<&String> = known.difference(&missed).collect();
    eprintln!("{mode}: {} classes of rules, of which {} cannot be seen", classes.len(), missed.len());
    assert!(found.is_empty() && seen.is_empty(), "{mode}: missed {found:#?}\nlisted, but noticed or gone {seen:#?}");
}

/// `verify` fails, and says so.
fn notices(running: &Running<'_>) -> Option<String> {
    GROUPS.iter().find_map(|group| {
        let options = ["--engine", "builtin", "--samples", "120", "--alpha", ALPHA, "-o", "tap", "--only", group];
        let verify = running.program.run(&[&["verify", running.name.as_str()], &options[..]].concat());
        match verify.status.code() {
            Some(0) => None,
            Some(1) => {
                let text = String::from_utf8_lossy(&verify.stdout);
                let tells = |line: &&str| line.starts_with("not ok") || line.trim_start().starts_with("happened:");
                Some(text.lines().filter(tells).collect::<Vec<_>>().join("\n"))
            }
            _ => panic!("{}: {}", running.name, String::from_utf8_lossy(&verify.stderr)),
        }
    })
}

/// Loads these rules on `node1` instead of those that are there.
fn reload(running: &Running<'_>, mode: ProxyMode, text: &str) {
    let file = running.program.write(&format!("{}.rules", running.name), text);
    let loaded = match mode {
        ProxyMode::Nftables => running.exec("node1", &["nft", "-f", &file]),
        // Without `--noflush` the rules in the built-in chains go too.
        ProxyMode::Iptables | ProxyMode::Ladder => running.exec("node1", &["iptables-restore", &file]),
    };
    assert!(loaded.status.success(), "{mode}: {}\n{text}", String::from_utf8_lossy(&loaded.stderr));
}

/// The rules but for one class.
fn without(mode: ProxyMode, text: &str, class: &str) -> String {
    let kept = classified(mode, text).into_iter().filter(|(of, _)| of.as_deref() != Some(class));
    let text: String = kept.map(|(_, line)| format!("{line}\n")).collect();
    // A set may have no elements, but no empty braces.
    text.replace("        elements = {\n        }\n", "")
}

/// The lines of a rule set, each with its class if it is a rule or an element.
fn classified(mode: ProxyMode, text: &str) -> Vec<(Option<String>, &str)> {
    match mode {
        ProxyMode::Iptables | ProxyMode::Ladder => iptables(text),
        ProxyMode::Nftables => nftables(text),
    }
}

fn iptables(text: &str) -> Vec<(Option<String>, &str)> {
    let mut table = "";
    let of = |line| {
        if let Some(name) = str::strip_prefix(line, "*") {
            table = name;
        }
        let rule = line.strip_prefix("-A ")?;
        let (rule, said) = match rule.split_once("-m comment --comment ") {
            Some((before, rest)) => {
                let (comment, after) = match rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                    Some((comment, after)) => (comment, after.trim_start()),
                    None => rest.split_once(' ').unwrap_or((rest, "")),
                };
                (format!("{before}{after}"), kind(comment))
            }
            None => (rule.to_owned(), ""),
        };
        Some(format!("{table} {}{said}", rule.split_whitespace().map(struck).collect::<Vec<_>>().join(" ")))
    };
    text.lines().map(of_each(of)).collect()
}

/// The words of a comment by which rules of the same shape differ.
fn kind(comment: &str) -> &'static str {
    let kinds = [
        ("cluster IP", " (cluster IP)"),
        ("external IP", " (external IP)"),
        ("loadbalancer IP", " (load balancer IP)"),
        ("ClusterIP", " (cluster IP)"),
        ("outer address", " (external IP)"),
        ("node port", " (node port)"),
        ("localhost", " (localhost)"),
        ("to a pod", " (to a pod)"),
        ("to a node", " (to a node)"),
        ("to a group", " (to a group)"),
    ];
    kinds.iter().find(|(words, _)| comment.ends_with(words)).map_or("", |(_, kind)| kind)
}

fn nftables(text: &str) -> Vec<(Option<String>, &str)> {
    let mut chain = String::new();
    let mut elements = false;
    let of = |line: &str| {
        let words = line.trim();
        match words.split(' ').collect::<Vec<_>>().as_slice() {
            ["add" | "delete", ..] | ["table", ..] => return None,
            ["chain" | "set" | "map", name, "{"] => {
                chain = struck(name);
                return None;
            }
            ["elements", ..] => {
                elements = true;
                return None;
            }
            ["}"] => {
                elements = false;
                return None;
            }
            ["type" | "flags" | "timeout" | "#", ..] => return None,
            _ => {}
        }
        let words = match words.split_once("comment \"") {
            Some((before, rest)) => format!("{before}{}", rest.split_once('"').map_or("", |(_, after)| after)),
            None => words.to_owned(),
        };
        let mut rule: Vec<String> = words.split_whitespace().map(struck).collect();
        if elements {
            // The kind of an address says which of a Service's it is.
            rule.retain(|word| word != ".");
            let outer = words.starts_with("203.") || words.starts_with("10.30.");
            return Some(format!("{chain} element {}{}", rule.join(" "), if outer { " (outer address)" } else { "" }));
        }
        rule.dedup();
        Some(format!("{chain}: {}", rule.join(" ")))
    };
    text.lines().map(of_each(of)).collect()
}

fn of_each<'a>(mut of: impl FnMut(&'a str) -> Option<String>) -> impl FnMut(&'a str) -> (Option<String>, &'a str) {
    move |line| (of(line), line)
}

/// A word without what differs from Service to Service.
fn struck(word: &str) -> String {
    const LONG: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];
    const NFT: [&str; 6] = ["service-", "local-", "external-", "firewall-", "endpoint-", "affinity-"];
    let bare = word.trim_start_matches('@').trim_end_matches(',');
    if let Some(prefix) = LONG.iter().find(|prefix| bare.starts_with(**prefix)) {
        return (*prefix).to_owned();
    }
    if let Some(prefix) = NFT.iter().find(|prefix| bare.starts_with(**prefix) && bare.contains('/')) {
        return (*prefix).to_owned();
    }
    match bare {
        "tcp" | "udp" => return "P".to_owned(),
        _ if bare.starts_with("0x") || bare.is_empty() => return bare.to_owned(),
        _ => {}
    }
    let is_address = |text: &str| text.chars().all(|c| c.is_ascii_digit() || ".:/".contains(c)) && text.contains('.');
    if is_address(bare) {
        return if bare.starts_with("0.") { "P(1/n)".to_owned() } else { "A".to_owned() };
    }
    if bare.chars().all(|c| c.is_ascii_digit()) { "N".to_owned() } else { bare.to_owned() }
}

#[test]
fn a_class_has_no_addresses() {
    let lab = load(&file(ProxyMode::Iptables)).unwrap_or_else(|problems| panic!("{problems}"));
    let mut count = BTreeMap::new();
    for mode in [ProxyMode::Iptables, ProxyMode::Nftables, ProxyMode::Ladder] {
        let text = render(mode, &view(&lab, NodeId(0)));
        let classes: BTreeSet<String> = classified(mode, &text).into_iter().filter_map(|(class, _)| class).collect();
        assert!(classes.iter().all(|class| !class.contains("10.96.") && !class.contains("default/")), "{classes:#?}");
        count.insert(mode, classes.len());
        eprintln!("{mode}\n{}", classes.into_iter().collect::<Vec<_>>().join("\n"));
    }
}
