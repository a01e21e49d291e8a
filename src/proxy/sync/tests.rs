//! Each kind of change, with the exact text that comes of it, for each mode.

use std::fmt::Write as _;

use super::*;
use crate::{
    lab::model::{HostPort, Lab, NodeId, Protocol, ServiceKind, TrafficPolicy},
    proxy::{render, sample, view::view},
};

/// A change of the book's lab: what happens, and what the lab is before and after it.
struct Change {
    what: &'static str,
    before: fn(&mut Lab),
    after: fn(&mut Lab),
}

const CHANGES: [Change; 9] = [
    Change { what: "nothing", before: |_| (), after: |_| () },
    Change { what: "an endpoint leaves", before: |_| (), after: |lab| lab.pods[1].labels.clear() },
    Change { what: "the last endpoint leaves", before: |_| (), after: |lab| lab.services[0].selector = none() },
    Change { what: "the first endpoint comes", before: |lab| lab.services[0].selector = none(), after: |_| () },
    Change { what: "a Service comes", before: |_| (), after: shop },
    Change { what: "a Service goes", before: shop, after: |_| () },
    Change { what: "another node port", before: |_| (), after: |lab| lab.services[0].ports[0].node_port = Some(30081) },
    Change {
        what: "another timeout, and a local endpoint leaves",
        before: |lab| lab.services[0].session_affinity = Some(10800),
        after: |lab| {
            lab.services[0].session_affinity = Some(60);
            lab.pods[0].labels.clear();
        },
    },
    Change {
        what: "a host port, and another node",
        before: |_| (),
        after: |lab| {
            lab.pods[0].containers[0].ports[0].host_port = Some(HostPort { port: 8081, ip: None });
            sample::node(lab, "node3", "10.30.45.250", "192.168.3.0/24");
        },
    },
];

fn none() -> std::collections::BTreeMap<crate::lab::name::LabelKey, crate::lab::name::LabelValue> {
    [(sample::parsed("app"), sample::parsed("none"))].into()
}

/// A load balancer that is not for everyone, before all others in the order of the rules.
fn shop(lab: &mut Lab) {
    let service = sample::service(lab, "fenced", "10.96.1.4", "cs-pod");
    (service.kind, service.load_balancer_ips) = (ServiceKind::LoadBalancer, vec![sample::parsed("203.0.113.4")]);
    service.external_traffic_policy = TrafficPolicy::Local;
    service.source_ranges = vec![sample::parsed("192.0.2.0/24")];
    service.ports = vec![sample::port(None, Protocol::Tcp, 443, 80, Some(30004))];
}

fn rules(mode: ProxyMode, change: fn(&mut Lab)) -> String {
    let mut lab = sample::book();
    change(&mut lab);
    render(mode, &view(&lab, NodeId(0)))
}

#[test]
fn each_kind_of_change() {
    for mode in ProxyMode::ALL {
        let mut text = String::new();
        for Change { what, before, after } in CHANGES {
            let said = transaction(mode, &rules(mode, before), &rules(mode, after));
            let _ = writeln!(text, "## {what}\n{}", said.as_deref().unwrap_or("(nothing to do)\n"));
        }
        let _ = writeln!(text, "## everything goes\n{}", removal(mode, &rules(mode, |_| ())));
        sample::golden(&format!("sync.{mode}"), &text);
    }
}

#[test]
fn from_nothing_it_is_a_first_load() {
    for mode in [ProxyMode::Iptables, ProxyMode::Ladder] {
        let rules = rules(mode, shop);
        let first = transaction(mode, "", &rules).expect("there are rules");
        let sorted = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().filter(|line| !line.starts_with('#')).map(ToOwned::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&first), sorted(&rules));
    }
}

#[test]
fn the_filter_table_forgets_last() {
    let text = |what: &str| {
        let change = CHANGES.iter().find(|change| change.what == what).expect("it is in the table");
        let (before, after) = (rules(ProxyMode::Iptables, change.before), rules(ProxyMode::Iptables, change.after));
        let text = transaction(ProxyMode::Iptables, &before, &after).expect("something changes");
        let tables: Vec<String> = text.lines().filter(|line| line.starts_with('*')).map(ToOwned::to_owned).collect();
        tables.join(" ")
    };
    assert_eq!(text("the last endpoint leaves"), "*filter *nat");
    assert_eq!(text("the first endpoint comes"), "*nat *filter");
}

const SAVED: &str = "*nat\n:PREROUTING ACCEPT [1:2]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n\
    -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
    -A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-A\n-A KUBE-SVC-A -j ACCEPT\nCOMMIT\n";

#[track_caller]
fn repaired(mode: ProxyMode, found: &str, wanted: &str, text: &str) {
    assert_eq!(repair(mode, found, wanted).unwrap_or_default(), text);
}

fn repaired_saved(found: &str, text: &str) {
    repaired(ProxyMode::Iptables, found, SAVED, text);
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    repaired_saved(SAVED, "");
    let foreign = SAVED
        .replace(":KUBE-SERVICES", ":THEIRS - [0:0]\n:KUBE-SERVICES")
        .replace("-A PREROUTING -m", "-A PREROUTING -j THEIRS\n-A PREROUTING -m")
        .replace(
            "COMMIT",
            "-A THEIRS -j KUBE-SERVICES\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n-A INPUT -j ACCEPT\nCOMMIT",
        );
    repaired_saved(&foreign, "");
}

#[test]
fn a_chain_with_a_rule_of_others_is_written_again() {
    let again = "*nat\n:KUBE-SVC-A - [0:0]\n-A KUBE-SVC-A -j ACCEPT\nCOMMIT\n";
    repaired_saved(&SAVED.replace("-A KUBE-SVC-A", "-A KUBE-SVC-A -j LOG\n-A KUBE-SVC-A"), again);
    repaired_saved(&SAVED.replace("-A KUBE-SVC-A -j ACCEPT\n", ""), again);
    repaired_saved(&SAVED.replace(":KUBE-SVC-A - [0:0]\n", "").replace("-A KUBE-SVC-A -j ACCEPT\n", ""), again);
}

#[test]
fn stale_chains_go_unless_others_need_them() {
    let stale = SAVED
        .replace(":KUBE-SVC-A", ":KUBE-SVC-B - [0:0]\n:THEIRS - [0:0]\n:KUBE-SVC-A")
        .replace("COMMIT", "-A KUBE-SVC-B -j DROP\nCOMMIT")
        .replace("-A KUBE-SERVICES", "-A PREROUTING -j KUBE-SVC-B\n-A KUBE-SERVICES");
    repaired_saved(&stale, "*nat\n:KUBE-SVC-B - [0:0]\n-D PREROUTING -j KUBE-SVC-B\n-X KUBE-SVC-B\nCOMMIT\n");
    let needed = stale.replace("COMMIT", "-A THEIRS -g KUBE-SVC-B\nCOMMIT");
    repaired_saved(&needed, "*nat\n:KUBE-SVC-B - [0:0]\n-D PREROUTING -j KUBE-SVC-B\nCOMMIT\n");
}

#[test]
fn a_jump_comes_back_where_it_was() {
    let wanted = SAVED.replace("-A KUBE-SERVICES", "-A PREROUTING -j KUBE-SVC-A\n-A KUBE-SERVICES");
    let found = SAVED.replace("-A PREROUTING", "-A PREROUTING -j TRACE\n-A PREROUTING");
    let found = found.replace("-A KUBE-SERVICES", "-A PREROUTING -j ACCEPT\n-A KUBE-SERVICES");
    repaired(ProxyMode::Iptables, &found, &wanted, "*nat\n-I PREROUTING 3 -j KUBE-SVC-A\nCOMMIT\n");
}

#[test]
fn no_rules_at_all() {
    let text = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n\
                -D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
                -X KUBE-SERVICES\n-X KUBE-SVC-A\nCOMMIT\n";
    repaired(ProxyMode::Iptables, SAVED, "", text);
    repaired(ProxyMode::Ladder, SAVED, "", "");
    repaired(ProxyMode::Nftables, LISTED, "", "add table ip kube-proxy\ndelete table ip kube-proxy\n");
}

#[test]
fn a_rung_that_was_changed() {
    let rung = |to: &str| {
        format!("*nat\n-A OUTPUT -j LOG\n-A OUTPUT -m comment --comment \"a/b ClusterIP\" -j DNAT --to {to}\nCOMMIT\n")
    };
    let text = "*nat\n-D OUTPUT -m comment --comment \"a/b ClusterIP\" -j DNAT --to 2\n\
                -A OUTPUT -m comment --comment \"a/b ClusterIP\" -j DNAT --to 1\nCOMMIT\n";
    repaired(ProxyMode::Ladder, &rung("2"), &rung("1").replace("-A OUTPUT -j LOG\n", ""), text);
}

const LISTED: &str = "table ip kube-proxy {\n\tset affinity-A-a/b {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\ttimeout 3h\n\t}\n\n\
    \tmap service-ips {\n\t\ttype ipv4_addr . inet_service : verdict\n\t\telements = { 1.1.1.1 . 80 comment \"a/b\" : goto service-A-a/b,\n\
    \t\t\t     1.1.1.2 . 80 : drop }\n\t}\n\n\tchain services {\n\t\tip daddr . th dport vmap @service-ips\n\t}\n\n\
    \tchain service-A-a/b {\n\t\tip saddr @affinity-A-a/b accept\n\t}\n}\n";

fn repaired_listed(found: &str, text: &str) {
    repaired(ProxyMode::Nftables, found, LISTED, text);
}

#[test]
fn nftables_elements_and_rules() {
    repaired_listed(LISTED, "");
    let foreign = "table inet theirs {\n\tchain a/b {\n\t\tdrop\n\t}\n}\n";
    let learned = LISTED.replace("timeout 3h\n", "timeout 3h\n\t\telements = { 1.2.3.4 expires 1h }\n");
    repaired_listed(&format!("{foreign}{learned}"), "");
    let order = LISTED.replace(
        "1.1.1.1 . 80 comment \"a/b\" : goto service-A-a/b,\n\t\t\t     1.1.1.2 . 80 : drop",
        "1.1.1.2 . 80 : drop, 1.1.1.1 . 80 comment \"a/b\" : goto service-A-a/b",
    );
    assert_ne!(order, LISTED);
    repaired_listed(&order, "");
    repaired_listed(
        &LISTED
            .replace(": drop", ": accept")
            .replace("1.1.1.1 . 80 comment \"a/b\" : goto service-A-a/b", "1.1.1.3 . 80 : drop"),
        "delete element ip kube-proxy service-ips { 1.1.1.3 . 80, 1.1.1.2 . 80 }\n\
         add element ip kube-proxy service-ips { 1.1.1.2 . 80 : drop, 1.1.1.1 . 80 comment \"a/b\" : goto service-A-a/b }\n",
    );
    repaired_listed(
        &LISTED.replace("\t\tip daddr", "\t\tcounter\n\t\tip daddr"),
        "flush chain ip kube-proxy services\nadd rule ip kube-proxy services ip daddr . th dport vmap @service-ips\n",
    );
}

#[test]
fn nftables_objects() {
    let chain = "\tchain service-A-a/b {\n\t\tip saddr @affinity-A-a/b accept\n\t}\n";
    repaired_listed(
        &LISTED.replace(chain, "").replace("1.1.1.1 . 80 comment \"a/b\" : goto service-A-a/b,", ""),
        "add chain ip kube-proxy service-A-a/b\nadd rule ip kube-proxy service-A-a/b ip saddr @affinity-A-a/b accept\n\
         add element ip kube-proxy service-ips { 1.1.1.1 . 80 comment \"a/b\" : goto service-A-a/b }\n",
    );
    // A timeout is the set's own: whoever refers to the set lets go of it for a moment.
    repaired_listed(
        &LISTED.replace("timeout 3h", "timeout 1m"),
        "flush chain ip kube-proxy service-A-a/b\ndelete set ip kube-proxy affinity-A-a/b\n\
         add set ip kube-proxy affinity-A-a/b { type ipv4_addr; flags dynamic,timeout; timeout 3h; }\n\
         add rule ip kube-proxy service-A-a/b ip saddr @affinity-A-a/b accept\n",
    );
    let stale = "\tchain local-B-a/c {\n\t\tdrop\n\t}\n\n\tchain mine {\n\t\tjump services\n\t}\n}\n";
    let stale = format!("{}{stale}", LISTED.strip_suffix("}\n").expect("a table ends"));
    repaired_listed(&stale, "flush chain ip kube-proxy local-B-a/c\ndelete chain ip kube-proxy local-B-a/c\n");
    repaired_listed(&stale.replace("jump services", "jump local-B-a/c"), "flush chain ip kube-proxy local-B-a/c\n");
    repaired(
        ProxyMode::Nftables,
        "",
        "table ip netlab {\n\tchain output {\n\t\ttype nat hook output priority -90; policy accept;\n\t}\n}\n",
        "add table ip netlab\nadd chain ip netlab output { type nat hook output priority -90; policy accept; }\n",
    );
}
