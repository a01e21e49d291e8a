//! The lab is broken by hand, and `verify` says what is broken, where, and how to mend it.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    support::{Lab, Test, World, world::book},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    shared: flushed_nat, no_egress_masquerade, no_service_masquerade, no_route, no_forwarding, bridge_down,
    dead_server, wrong_probability, no_route_localnet, no_hairpin_mark, dropping_forward,
    the_cause_comes_first, a_foreign_rule_that_breaks_nothing;
    alone:
];

/// How a lab is broken, and what the report must say.
struct Breakage<'a> {
    /// Where the command is typed.
    place: &'a str,
    /// What is typed.
    command: &'a str,
    /// The namespace that the report names first.
    blames: &'a str,
    /// What its first sentence says.
    says: &'a str,
    /// A group of probes that must have failed.
    fails: &'a str,
    /// Whether what the report tells to type mends it.
    mends: Mends,
}

/// Whether what the report tells to type mends it.
#[derive(PartialEq)]
enum Mends {
    /// It does.
    Yes,
    /// There is too much to mend by hand, or nothing that could be typed.
    No,
}

impl Breakage<'_> {
    fn try_on(&self, world: &Arc<World>) {
        let lab = world.up(&book("nodeport.toml"));
        lab.script(self.place, self.command).succeeds();
        let (report, done) = lab.report();
        let done = done.with_code(1);
        let cause = &report["causes"][0];
        assert_eq!(cause["netns"], self.blames, "the leading cause in {done}");
        let text = cause["text"].as_str().unwrap_or_default();
        assert!(text.contains(self.says), "{text:?} does not say {:?}", self.says);
        let groups = report["groups"].as_array().expect("a list");
        let failed = groups.iter().find(|group| group["group"] == self.fails).map(|group| group["failed"].as_u64());
        assert!(failed.flatten() > Some(0), "no probe of {} failed in {done}", self.fails);
        if self.mends == Mends::Yes {
            mend(&lab, &report);
            lab.verify().succeeds();
        }
    }
}

/// Types what the report tells.
fn mend(lab: &Lab, report: &Value) {
    for cause in report["causes"].as_array().expect("a list") {
        let commands = cause["mend"].as_array().expect("a list");
        assert!(!commands.is_empty(), "nothing to type against {cause}");
        for command in commands {
            lab.script("host", command.as_str().expect("a text")).succeeds();
        }
    }
}

fn flushed_nat(world: &Arc<World>) {
    let command = "iptables -t nat -F";
    let says = "rules of the table nat are missing";
    Breakage { place: "node1", command, blames: "node1", says, fails: "services", mends: Mends::No }.try_on(world);
}

fn no_egress_masquerade(world: &Arc<World>) {
    let command =
        r#"iptables -t nat -D NETLAB-EGRESS -m comment --comment "out of the cluster" -j MASQUERADE --random-fully"#;
    let says = "-j MASQUERADE --random-fully` is missing from NETLAB-EGRESS";
    Breakage { place: "node1", command, blames: "node1", says, fails: "egress", mends: Mends::Yes }.try_on(world);
}

fn no_service_masquerade(world: &Arc<World>) {
    let command = r#"iptables -t nat -D KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully"#;
    let says = "-j MASQUERADE --random-fully` is missing from KUBE-POSTROUTING";
    Breakage { place: "node2", command, blames: "node2", says, fails: "services", mends: Mends::Yes }.try_on(world);
}

fn no_route(world: &Arc<World>) {
    let command = "ip route delete 192.168.2.0/24";
    let says = "the route 192.168.2.0/24 via 10.30.45.200 dev eth0 is missing";
    Breakage { place: "node1", command, blames: "node1", says, fails: "pods", mends: Mends::Yes }.try_on(world);
}

fn no_forwarding(world: &Arc<World>) {
    let command = "sysctl -qw net.ipv4.ip_forward=0";
    let says = "net.ipv4.ip_forward is 0, and should be 1";
    Breakage { place: "node1", command, blames: "node1", says, fails: "pods", mends: Mends::Yes }.try_on(world);
}

fn bridge_down(world: &Arc<World>) {
    let command = "ip link set br0 down";
    let says = "the link br0 is down";
    Breakage { place: "node1", command, blames: "node1", says, fails: "pods", mends: Mends::Yes }.try_on(world);
}

fn dead_server(world: &Arc<World>) {
    // The first time it is started again at once, like any container; the second time, ten seconds later.
    let command = "server() { ss -Hltnp 'sport = :80' | grep -o 'pid=[0-9]*' | cut -d= -f2; }
        first=$(server); kill -9 $first
        while second=$(server); test -z \"$second\" -o \"$second\" = \"$first\"; do :; done
        kill -9 $second; while test -n \"$(server)\"; do :; done";
    // Services leave the pod out meanwhile.
    let says = "of pod2 was ended by SIGKILL";
    Breakage { place: "pod2", command, blames: "pod2", says, fails: "pods", mends: Mends::No }.try_on(world);
}

/// ⅓, ⅓, 1: the classic mistake.
fn wrong_probability(world: &Arc<World>) {
    let command = r#"iptables -t nat -S | grep -e '--probability 0.5' > /run/rule
        sed -i -E 's/-A (KUBE-SVC-[A-Z0-9]+)/-R \1 3/; s/0.50000000000/0.33333333349/' /run/rule
        xargs iptables -t nat < /run/rule"#;
    let says = "--probability 0.50000000000";
    Breakage { place: "node1", command, blames: "node1", says, fails: "balance", mends: Mends::Yes }.try_on(world);
}

fn no_route_localnet(world: &Arc<World>) {
    let command = "sysctl -qw net.ipv4.conf.all.route_localnet=0";
    let says = "net.ipv4.conf.all.route_localnet is 0, and should be 1";
    Breakage { place: "node1", command, blames: "node1", says, fails: "services", mends: Mends::Yes }.try_on(world);
}

fn no_hairpin_mark(world: &Arc<World>) {
    let command = "iptables -t nat -S | grep -e '-s 192.168.1.10/32' | sed s/-A/-D/ | xargs iptables -t nat";
    let says = "the rule `-s 192.168.1.10/32";
    Breakage { place: "node1", command, blames: "node1", says, fails: "services", mends: Mends::Yes }.try_on(world);
}

fn dropping_forward(world: &Arc<World>) {
    let command = "iptables -I FORWARD -j DROP";
    let says = "the rule `-j DROP` in FORWARD (table filter) is not netlab's";
    Breakage { place: "node1", command, blames: "node1", says, fails: "pods", mends: Mends::Yes }.try_on(world);
}

/// The page for people begins with the cause.
fn the_cause_comes_first(world: &Arc<World>) {
    let lab = world.up(&book("nodeport.toml"));
    lab.script("node1", "sysctl -qw net.ipv4.conf.all.route_localnet=0").succeeds();
    let done = lab.verify().fails(1);
    let cause =
        done.stdout.lines().find(|line| line.starts_with("cause")).unwrap_or_else(|| panic!("no cause in {done}"));
    assert!(cause.contains("node1: net.ipv4.conf.all.route_localnet is 0, and should be 1"), "{cause}");
}

/// A student may add a rule; it is mentioned, and nothing is blamed on it.
fn a_foreign_rule_that_breaks_nothing(world: &Arc<World>) {
    let lab = world.up(&book("echo.toml"));
    lab.script("node1", "iptables -A FORWARD -s 203.0.113.7 -j DROP").succeeds();
    lab.verify().succeeds();
}
