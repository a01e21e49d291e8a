//! What a comparison of rules says differs is what a repair changes, whatever has happened to the rules.

mod change;

use change::Changing;
use netlab::{
    lab::model::{NodeId, ProxyMode},
    probe::ruleset::compare,
    proxy::{render, sync::repair, view::view},
};
use proptest::prelude::*;

/// What may happen to a line.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Gone,
    Twice,
    WithTheNext,
    Foreign,
    Changed,
}

const DAMAGES: [Damage; 5] = [Damage::Gone, Damage::Twice, Damage::WithTheNext, Damage::Foreign, Damage::Changed];

/// The lines that say something by themselves: rules, elements, declared chains.
fn lines(mode: ProxyMode, text: &str) -> Vec<usize> {
    let says = |line: &str| match mode {
        ProxyMode::Nftables => {
            let line = line.trim();
            !line.is_empty()
                && !line.ends_with('{')
                && !line.contains("elements = {")
                && !line.starts_with(['}', '#'])
                && !line.starts_with("type ")
                && !line.starts_with("flags ")
                && !line.starts_with("timeout ")
        }
        _ => line.starts_with("-A ") || line.starts_with(":KUBE"),
    };
    text.lines().enumerate().filter(|(_, line)| says(line)).map(|(at, _)| at).collect()
}

fn damaged(mode: ProxyMode, text: &str, at: usize, damage: Damage) -> String {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    let is_rule = lines[at].starts_with("-A ");
    let is_last_element = |lines: &[String], at: usize| {
        at > 0 && (lines[at - 1].ends_with(',') || lines[at - 1].contains("elements = {"))
    };
    match damage {
        // A chain goes with its rules.
        Damage::Gone if lines[at].starts_with(':') => {
            let (name, _) = lines[at][1..].split_once(' ').unwrap_or_default();
            let (declared, rules) = (format!(":{name} "), format!("-A {name} "));
            let table = lines[..at].iter().rposition(|line| line.starts_with('*')).unwrap_or_default();
            let end = at + lines[at..].iter().position(|line| line == "COMMIT").unwrap_or_default();
            let mut place = 0..;
            lines.retain(|line| {
                let here = (table..end).contains(&place.next().unwrap_or_default());
                !(here && (line.starts_with(&declared) || line.starts_with(&rules)))
            });
        }
        Damage::Gone => drop(lines.remove(at)),
        // A kernel has no chain and no element twice.
        Damage::Twice if lines[at].starts_with(':') || lines[at].ends_with(',') || is_last_element(&lines, at) => {}
        Damage::Twice => lines.insert(at, lines[at].clone()),
        Damage::WithTheNext if self::lines(mode, text).contains(&(at + 1)) => lines.swap(at, at + 1),
        Damage::WithTheNext => {}
        Damage::Foreign if is_rule => {
            let chain = lines[at].split(' ').nth(1).unwrap_or_default();
            lines.insert(at, format!("-A {chain} -s 203.0.113.9/32 -j DROP"));
        }
        Damage::Foreign if mode == ProxyMode::Nftables && !lines[at].ends_with(',') && !is_last_element(&lines, at) => {
            lines.insert(at, "        ip saddr 203.0.113.9 drop".to_owned());
        }
        Damage::Foreign => {}
        Damage::Changed => lines[at] = lines[at].replacen("10.", "11.", 1),
    }
    lines.join("\n") + "\n"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_differs_is_what_is_repaired(seed: u64, lines_hit in prop::collection::vec((any::<prop::sample::Index>(), 0..DAMAGES.len()), 0..3)) {
        for mode in ProxyMode::ALL {
            let mut lab = Changing::new(seed);
            (0..3).for_each(|_| lab.step());
            let wanted = render(mode, &view(&lab.lab(), NodeId(0)));
            let mut found = wanted.clone();
            for (at, damage) in &lines_hit {
                let lines = lines(mode, &found);
                found = damaged(mode, &found, lines[at.index(lines.len())], DAMAGES[*damage]);
            }
            let drifts = compare("node1", mode, &wanted, &found);
            let ours = drifts.iter().any(|drift| !drift.foreign);
            let repair = repair(mode, &found, &wanted);
            prop_assert_eq!(ours, repair.is_some(), "{}: {:#?}\n{}", mode, drifts, repair.unwrap_or_default());
        }
    }
}
