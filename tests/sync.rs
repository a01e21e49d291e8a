//! Changes of rules, tried on a small model of the tools: whatever happens to a lab, the one
//! transaction leads from the old rules to the new, and touches nothing else.
//!
//! The model is stricter than the tools are: it takes no command that has nothing to do, and
//! every rule and element has a number by which it is seen that it stayed. The kernel has its
//! say in `tests/live/sync.rs`.

mod change;
mod model;

use std::sync::Arc;

use change::Changing;
use model::{Ruleset, iptables, nft};
use netlab::{
    lab::model::{NodeId, ProxyMode},
    proxy::{
        Rules,
        endpoints::conditions,
        nfnetlink::Batch,
        render,
        sync::{Memo, change, first, removal, transaction},
        view::{PortView, view, views_under},
    },
};
use proptest::prelude::*;

fn rules(mode: ProxyMode, lab: &Changing) -> String {
    render(mode, &view(&lab.lab(), NodeId(0)))
}

fn all_rules(mode: ProxyMode, lab: &Changing) -> Vec<Rules> {
    let lab = lab.lab();
    views_under(&lab, &conditions(&lab)).into_iter().map(|view| Rules::new(mode, view)).collect()
}

fn run(mode: ProxyMode, rules: &mut Ruleset, text: &str) {
    let done = match mode {
        ProxyMode::Nftables => nft::run(rules, text),
        ProxyMode::Iptables | ProxyMode::Ladder => iptables::run(rules, text),
    };
    done.unwrap_or_else(|why| panic!("{mode}: {why}, in\n{text}"));
}

fn fresh(mode: ProxyMode, text: &str) -> Ruleset {
    let mut rules = Ruleset::default();
    run(mode, &mut rules, text);
    rules
}

/// Rules of others in the chains that are everybody's, before ours and after them.
const OTHERS: &str =
    "*nat\n:THEIRS - [0:0]\n-A PREROUTING -j THEIRS\n-A POSTROUTING -j THEIRS\n-A OUTPUT -j LOG\nCOMMIT\n";
const OTHERS_TOO: &str = "*nat\n-A OUTPUT -j THEIRS\n-A POSTROUTING -j LOG\nCOMMIT\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_new_rules_are_there_and_nothing_else_was_touched(seed: u64) {
        for mode in ProxyMode::ALL {
            let mut lab = Changing::new(seed);
            let mut text = rules(mode, &lab);
            let mut kernel = fresh(mode, &text);
            for _ in 0..10 {
                lab.step();
                let next = rules(mode, &lab);
                kernel.learn();
                let before = kernel.clone();
                if mode == ProxyMode::Nftables {
                    prop_assert!(Batch::of(&first(&next)).is_some(), "only the tool can load\n{}", next);
                }
                match transaction(mode, &text, &next) {
                    None => prop_assert_eq!(fresh(mode, &text).plain(), fresh(mode, &next).plain()),
                    Some(said) => {
                        let told = mode != ProxyMode::Nftables || Batch::of(&said).is_some();
                        prop_assert!(told, "only the tool can do\n{}", said);
                        run(mode, &mut kernel, &said);
                        kernel.touched_no_more_than_needed(&before, &fresh(mode, &text), &fresh(mode, &next));
                    }
                }
                prop_assert_eq!(kernel.plain(), fresh(mode, &next).plain());
                text = next;
            }
            run(mode, &mut kernel, &removal(mode, &text));
            prop_assert_eq!(kernel.plain(), Ruleset::default().plain());
        }
    }

    /// What is said of the parts of two sets of rules is what would be said of the whole texts.
    #[test]
    fn unchanged_services_need_not_be_looked_at(seed: u64) {
        for mode in ProxyMode::ALL {
            let mut lab = Changing::new(seed);
            let mut views = all_rules(mode, &lab);
            for _ in 0..10 {
                lab.step();
                let next = all_rules(mode, &lab);
                let mut memo = Memo::default();
                for (old, new) in views.iter().zip(&next) {
                    prop_assert_eq!(change(old, new, &mut memo), transaction(mode, &old.to_text(), &new.to_text()));
                    prop_assert_eq!(old == new, old.to_text() == new.to_text());
                }
                views = next;
            }
        }
    }

    #[test]
    fn rules_of_others_stay_in_the_built_in_chains(seed: u64) {
        for mode in [ProxyMode::Iptables, ProxyMode::Ladder] {
            let mut lab = Changing::new(seed);
            let mut text = rules(mode, &lab);
            let mut kernel = fresh(mode, OTHERS);
            run(mode, &mut kernel, &text);
            run(mode, &mut kernel, OTHERS_TOO);
            let others = fresh(mode, &format!("{OTHERS}{OTHERS_TOO}"));
            for _ in 0..6 {
                lab.step();
                let next = rules(mode, &lab);
                if let Some(said) = transaction(mode, &text, &next) {
                    run(mode, &mut kernel, &said);
                }
                let is_theirs = |rule: &str| rule == "-j THEIRS" || rule == "-j LOG";
                let (theirs, ours) = kernel.split(is_theirs);
                prop_assert_eq!(theirs, others.split(is_theirs).0);
                prop_assert_eq!(ours, fresh(mode, &next).split(is_theirs).1);
                text = next;
            }
            run(mode, &mut kernel, &removal(mode, &text));
            prop_assert_eq!(kernel.plain(), others.plain());
        }
    }
}

/// Ten thousand Services, of which one gets another endpoint: what that costs is printed, and
/// that it does not grow with the square is seen from a time that it cannot take.
#[test]
fn ten_thousand_services_and_one_change() {
    for mode in [ProxyMode::Iptables, ProxyMode::Nftables] {
        let text = many(mode);
        let (of, to) = match mode {
            ProxyMode::Nftables => ("1 : 10.9.77.4 . 80", "1 : 10.9.99.99 . 80"),
            _ => ("--to-destination 10.9.77.4:80", "--to-destination 10.9.99.99:80"),
        };
        let next = text.replacen(of, to, 1);
        assert_ne!(text, next);
        let start = std::time::Instant::now();
        let said = transaction(mode, &text, &next).expect("something changes");
        let took = start.elapsed();
        eprintln!("{mode}: {} bytes of rules, {} of the change, {took:?}", text.len(), said.len());
        assert!(said.lines().count() < 10, "{said}");
        assert!(took.as_secs() < 30, "{took:?}");
    }
}

/// A set of rules with ten thousand Services of two endpoints, made of one with one.
fn many(mode: ProxyMode) -> String {
    let file = "[dns]\nengine = \"none\"\n[[node]]\nname = \"node1\"\npod_subnet = \"10.9.0.0/16\"\n[[pod]]\nname = \"p\"\nreplicas = 2\n\
                labels = { app = \"a\" }\n[[service]]\nname = \"s\"\ncluster_ip = \"10.96.1.1\"\nselector = { app = \"a\" }\nports = [{ port = 80 }]\n";
    let lab = netlab::lab::load(file).unwrap_or_else(|problems| panic!("{problems}"));
    let mut view = view(&lab, NodeId(0));
    let port = view.ports[0].clone();
    view.ports = (0..10_000u32)
        .map(|at| {
            let mut port = PortView::clone(&port);
            port.name = format!("s{at}").parse().expect("a name");
            port.cluster_ip = std::net::Ipv4Addr::from(0x0a60_0000 + at).into();
            for (which, endpoint) in (0u32..).zip(port.endpoints.cluster.iter_mut()) {
                let ip = std::net::Ipv4Addr::from(0x0a09_0000 + 2 * at + 3 + which);
                endpoint.addr = std::net::SocketAddr::new(ip.into(), 80);
            }
            Arc::new(port)
        })
        .collect();
    render(mode, &view)
}
