//! From what failed, and how the lab differs from its plan, to the causes worth reading first.
//!
//! A difference explains a failure if it is on the way of the probe and of a kind that brings
//! about that failure. The difference that explains most comes first, then the one that explains
//! most of the rest, and so on. What no difference explains is laid to the namespace that failing
//! probes pass and passing probes do not.

pub mod advice;
mod score;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use advice::advice;

use super::{
    drift::{Drift, DriftKind},
    judge::{Fault, FaultKind},
    suite::{
        Probe,
        way::{Hop, Role},
    },
};
use score::score;

/// A place to look at, and the command that shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct LookAt {
    /// What to look at there.
    pub what: String,
    /// How.
    pub command: Option<String>,
}

/// A cause, and what fails because of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// The network namespace it is in.
    pub netns: String,
    /// What is wrong there, as a sentence without a full stop.
    pub text: String,
    /// Commands that put it right.
    pub mend: Vec<String>,
    /// Where to look.
    pub look_at: Vec<LookAt>,
    /// How it is known.
    pub evidence: Evidence,
    /// The ids of the probes that fail because of it.
    pub probes: Vec<String>,
    /// Other differences that explain the same failures as well.
    pub also: Vec<String>,
}

/// How a cause is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The kernel's state differs from the plan.
    Drift,
    /// Nothing differs, but what fails passes there.
    Pattern,
}

/// What can be said about all failures together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explanation {
    /// Best first.
    pub causes: Vec<Cause>,
    /// For each failed probe, by its id, the differences on its way, best first.
    pub on_the_way: BTreeMap<String, Vec<Drift>>,
    /// Differences that explain nothing.
    pub idle: Vec<Drift>,
}

/// A failed probe.
pub type Failed<'a> = (&'a Probe, &'a Fault);

/// A difference that scores this much less than the best one is still a possible cause.
const MARGIN: i32 = 25;
/// From this many on, differences of one kind in one namespace are one cause.
const MANY: usize = 4;
/// So many of them are named.
const NAMED: usize = 2;

/// Finds the causes of what `failed`, given what `passed` and the differences.
pub fn explain(failed: &[Failed<'_>], passed: &[&Probe], drifts: &[Drift]) -> Explanation {
    let scores: Vec<Vec<i32>> =
        failed.iter().map(|(probe, fault)| drifts.iter().map(|drift| score(probe, fault, drift)).collect()).collect();
    let on_the_way = failed
        .iter()
        .zip(&scores)
        .map(|((probe, _), scores)| {
            let mut ranked: Vec<(i32, &Drift)> =
                scores.iter().copied().zip(drifts).filter(|(score, _)| *score > 0).collect();
            ranked.sort_by_key(|(score, _)| -score);
            (probe.id.clone(), ranked.into_iter().map(|(_, drift)| drift.clone()).collect())
        })
        .collect();
    let groups = groups(drifts);
    let (mut causes, rest) = by_drift(failed, &scores, &groups, drifts);
    causes.extend(by_pattern(&rest.iter().map(|index| failed[*index]).collect::<Vec<_>>(), passed));
    let idle = drifts
        .iter()
        .enumerate()
        .filter(|(index, _)| scores.iter().all(|scores| scores[*index] <= 0))
        .map(|(_, drift)| drift.clone())
        .collect();
    Explanation { causes, on_the_way, idle }
}

/// Differences that are one cause: of one kind, in one namespace, if there are many of them.
fn groups(drifts: &[Drift]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, drift) in drifts.iter().enumerate() {
        let alike = |other: &Drift| other.netns == drift.netns && other.kind == drift.kind;
        let many = drifts.iter().filter(|other| alike(other)).count() >= MANY;
        match groups.iter_mut().find(|group| many && alike(&drifts[group[0]])) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// Covers the failures with as few causes as explain them, and says which are left.
fn by_drift(
    failed: &[Failed<'_>],
    scores: &[Vec<i32>],
    groups: &[Vec<usize>],
    drifts: &[Drift],
) -> (Vec<Cause>, BTreeSet<usize>) {
    let of_group =
        |failure: usize, group: &[usize]| group.iter().map(|drift| scores[failure][*drift]).max().unwrap_or(0);
    let best: Vec<i32> = (0..failed.len()).map(|failure| scores[failure].iter().copied().max().unwrap_or(0)).collect();
    let explains = |failure: usize, group: &[usize]| {
        let score = of_group(failure, group);
        (score > 0 && score + MARGIN >= best[failure]).then_some(score)
    };
    let mut rest: BTreeSet<usize> = (0..failed.len()).collect();
    let mut causes = Vec::new();
    loop {
        let weigh = |group: &Vec<usize>| {
            let explained: Vec<i32> = rest.iter().filter_map(|failure| explains(*failure, group)).collect();
            let kind = drifts[group[0]].kind;
            (explained.len(), explained.iter().sum::<i32>(), std::cmp::Reverse(depth(kind)))
        };
        // `max_by_key` takes the last of several; the first is the one a reader expects.
        let Some(group) = groups.iter().rev().max_by_key(|group| weigh(group)) else { break };
        let explained: Vec<usize> =
            rest.iter().copied().filter(|failure| explains(*failure, group).is_some()).collect();
        if explained.is_empty() {
            break;
        }
        let also = groups
            .iter()
            .filter(|other| *other != group)
            .filter(|other| explained.iter().all(|failure| explains(*failure, other).is_some()))
            .map(|other| sentence(other, drifts))
            .collect();
        let first = &drifts[group[0]];
        let deepest = failed[explained[0]];
        causes.push(Cause {
            netns: first.netns.clone(),
            text: describe(group, drifts),
            // A few commands out of many would mend nothing.
            mend: match group[..] {
                [only] => drifts[only].mend.iter().cloned().collect(),
                _ => Vec::new(),
            },
            look_at: advice::of_drift(deepest.0, first),
            evidence: Evidence::Drift,
            probes: explained.iter().map(|failure| failed[*failure].0.id.clone()).collect(),
            also,
        });
        rest.retain(|failure| !explained.contains(failure));
    }
    (causes, rest)
}

/// How deep in the stack a kind of thing lies: what lies deeper brings the others down with it.
fn depth(kind: DriftKind) -> usize {
    match kind {
        DriftKind::Namespace => 0,
        DriftKind::Link => 1,
        DriftKind::Address => 2,
        DriftKind::Neighbour => 3,
        DriftKind::Route => 4,
        DriftKind::Sysctl => 5,
        DriftKind::Rule => 6,
        DriftKind::Server => 7,
        DriftKind::File => 8,
    }
}

fn describe(group: &[usize], drifts: &[Drift]) -> String {
    if let [only] = group {
        return drifts[*only].text.clone();
    }
    let what = match drifts[group[0]].kind {
        DriftKind::Namespace => "namespaces",
        DriftKind::Link => "links",
        DriftKind::Address => "addresses",
        DriftKind::Neighbour => "neighbours",
        DriftKind::Route => "routes",
        DriftKind::Sysctl => "settings",
        DriftKind::Rule => "rules",
        DriftKind::Server => "servers",
        DriftKind::File => "files",
    };
    let texts = || group.iter().map(|drift| drifts[*drift].text.as_str());
    let named: Vec<&str> = texts().take(NAMED).collect();
    let table = |text: &'static str| texts().all(|other| other.contains(text)).then_some(text);
    let tables = ["(table nat)", "(table filter)", "(table mangle)"].into_iter().find_map(table);
    let place =
        tables.map(|table| format!(", all in the {} table", table.trim_matches(['(', ')']).replace("table ", "")));
    format!(
        "{} {what} differ from the plan{}: {}; and {} more",
        group.len(),
        place.unwrap_or_default(),
        named.join("; "),
        group.len() - NAMED
    )
}

fn sentence(group: &[usize], drifts: &[Drift]) -> String {
    format!("{}: {}", drifts[group[0]].netns, describe(group, drifts))
}

/// What no difference explains: the namespaces that failing probes pass and passing ones do not,
/// by Ochiai's coefficient, which testers use to find the faulty line of a program.
fn by_pattern(failed: &[Failed<'_>], passed: &[&Probe]) -> Vec<Cause> {
    let mut rest: Vec<Failed<'_>> = failed.to_vec();
    let mut causes = Vec::new();
    while let Some((netns, role)) = likeliest(&rest, passed) {
        let (here, elsewhere): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(probe, _)| passes(probe, &netns));
        let kinds: BTreeSet<FaultKind> = here.iter().map(|(_, fault)| fault.kind).collect();
        let lucky = passed.iter().filter(|probe| passes(probe, &netns)).count();
        let also =
            if lucky == 0 { "and none that passes there works".to_owned() } else { format!("{lucky} others work") };
        causes.push(Cause {
            text: format!("{}, {also}; nothing differs from the plan", pattern(role, &kinds)),
            mend: Vec::new(),
            look_at: here.first().map(|(_, fault)| fault.look_at.clone()).unwrap_or_default(),
            evidence: Evidence::Pattern,
            probes: here.iter().map(|(probe, _)| probe.id.clone()).collect(),
            also: Vec::new(),
            netns,
        });
        rest = elsewhere;
    }
    causes
}

/// The namespace that all failing probes pass, or else as many as possible, and as few others.
fn likeliest(failed: &[Failed<'_>], passed: &[&Probe]) -> Option<(String, Role)> {
    let mut hops: Vec<&Hop> = Vec::new();
    for hop in failed.iter().flat_map(|(probe, _)| &probe.way) {
        if hop.role != Role::Wire && hops.iter().all(|other| other.netns != hop.netns) {
            hops.push(hop);
        }
    }
    let suspicion = |hop: &Hop| {
        let all = failed.iter().all(|(probe, _)| passes(probe, &hop.netns));
        let is_suspect = |fault: &Fault| fault.suspects.contains(&hop.netns);
        let certain = |(probe, fault): &Failed<'_>| if is_suspect(fault) { 1.0 } else { chance(probe, &hop.netns) };
        let bad: f64 = failed.iter().map(certain).sum();
        let good: f64 = passed.iter().map(|probe| chance(probe, &hop.netns)).sum();
        let ochiai = if bad > 0.0 { bad / (failed.len() as f64 * (bad + good)).sqrt() } else { 0.0 };
        (all, ochiai)
    };
    let worse = |a: &&&Hop, b: &&&Hop| {
        let (a, b) = (suspicion(a), suspicion(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    };
    // `max_by` takes the last of several equals; the first is the one nearest to the sender.
    let best = hops.iter().rev().max_by(worse)?;
    Some((best.netns.clone(), best.role))
}

/// How likely a probe passes a namespace.
fn chance(probe: &Probe, netns: &str) -> f64 {
    let hop = probe.way.iter().find(|hop| hop.netns == netns && hop.role != Role::Wire);
    hop.map_or(0.0, |hop| hop.chance)
}

fn passes(probe: &Probe, netns: &str) -> bool {
    probe.way.iter().any(|hop| hop.netns == netns && hop.role != Role::Wire)
}

fn pattern(role: Role, kinds: &BTreeSet<FaultKind>) -> String {
    let how = match kinds.iter().collect::<Vec<_>>()[..] {
        [FaultKind::Timeout] => "gets no answer",
        [FaultKind::Refused] => "is refused",
        [FaultKind::Unreachable] => "finds no way",
        [FaultKind::WrongSource] => "is seen under a wrong address",
        [FaultKind::WrongShares] => "is spread unevenly",
        [FaultKind::Answered] => "is answered though it must not be",
        [FaultKind::Unnamed] => "cannot resolve its name",
        [FaultKind::WrongContent] => "is answered wrongly",
        [FaultKind::NotTried] => "could not be tried",
        _ => "fails",
    };
    match role {
        Role::Sender => format!("what is sent from here {how}"),
        Role::Router | Role::Wire => format!("what passes here {how}"),
        Role::Answerer => format!("what leads here {how}"),
    }
}

#[cfg(test)]
mod tests;
