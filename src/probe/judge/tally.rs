//! What came of all tries of a probe, counted: who answered, who did not, and how they failed.

use std::{collections::BTreeMap, net::IpAddr};

use super::{failed, says};
use crate::probe::{
    order::{Answer, Failure, FailureKind, Outcome},
    stats,
    suite::{Answerer, Probe, Speaks},
};

/// What came of all tries of a probe, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By the name of who answered; those who may answer are all there, be it with 0.
    pub(super) answers: BTreeMap<String, u64>,
    /// Answers that do not say whose they are, where that is all right.
    pub(super) anonymous: u64,
    /// Answers of those who must not answer, by what they say they are.
    pub(super) strangers: BTreeMap<String, u64>,
    /// What was said that must not be, the first of it.
    pub(super) nonsense: Option<String>,
    /// Client addresses that must not be seen, by who saw them.
    pub(super) wrong_sources: BTreeMap<(String, IpAddr), u64>,
    /// Failures, with the words of the first of each kind.
    pub(super) failures: BTreeMap<FailureKind, (u64, String)>,
    /// All tries, but for whole requests besides them that were answered.
    pub(super) total: u64,
    /// Those.
    pub(super) whole: u64,
}

/// What of a try counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// Who answered, or that nobody did.
    Always,
    /// That nobody did; who answered does not.
    ItsFailure,
}

impl Tally {
    pub(super) fn of(answerers: &[Answerer], outcomes: &[&Outcome]) -> Tally {
        let mut tally = Tally::default();
        for answerer in answerers {
            tally.answers.insert(answerer.name.clone(), 0);
        }
        // Whole requests are made until everybody has answered one: to count them would flatter the shares.
        let whole = outcomes.iter().flat_map(|outcome| &outcome.whole).map(|one| (one, Counts::ItsFailure));
        let tries = outcomes.iter().flat_map(|outcome| &outcome.tries).map(|one| (one, Counts::Always));
        for (one, counts) in tries.chain(whole) {
            tally.total += u64::from(counts == Counts::Always || one.result.is_err());
            match &one.result {
                Ok(answer) => tally.answer(answerers, answer, counts),
                // A server that does not speak HTTP may break off; that it could is an answer.
                Err(Failure { kind: FailureKind::Broken, .. }) if may_break(answerers) => tally.anonymous += 1,
                Err(failure) => tally.failures.entry(kind(failure)).or_insert((0, failure.text.clone())).0 += 1,
            }
        }
        tally
    }

    fn answer(&mut self, answerers: &[Answerer], answer: &Answer, counts: Counts) {
        if self.nonsense.is_none() {
            self.nonsense = nonsense(answerers, answer);
        }
        match identify(answerers, answer) {
            Identity::Known(answerer) => {
                match counts {
                    Counts::Always => *self.answers.entry(answerer.name.clone()).or_default() += 1,
                    Counts::ItsFailure => self.whole += 1,
                }
                if let Some(led_to) = answer.led_to.filter(|it| *it != answerer.endpoint) {
                    let name = &answerer.name;
                    self.nonsense.get_or_insert_with(|| {
                        format!("{name} answered a connection that conntrack says was led to {led_to}")
                    });
                }
                if let Some(client) = seen(answerer, answer)
                    && !answerer.sources.is_empty()
                    && !answerer.sources.contains(&client)
                {
                    *self.wrong_sources.entry((answerer.name.clone(), client)).or_default() += 1;
                }
            }
            Identity::Anonymous => self.anonymous += 1,
            Identity::Stranger(name) => *self.strangers.entry(name).or_default() += 1,
        }
    }

    pub(super) fn answered(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.anonymous
    }

    /// Who answered, and how tries failed, in short.
    pub(super) fn seen(&self) -> Vec<String> {
        let answered = self.answers.iter().chain(&self.strangers).filter(|(_, count)| **count > 0);
        let mut seen: Vec<String> = answered.map(|(name, _)| name.clone()).collect();
        seen.extend((self.anonymous > 0).then(|| super::SOMEBODY.to_owned()));
        seen.extend(self.failures.keys().map(|kind| super::short(*kind).to_owned()));
        seen
    }

    /// The most frequent failure.
    pub(super) fn failure(&self) -> Option<FailureKind> {
        self.failures.iter().max_by_key(|(_, (count, _))| *count).map(|(kind, _)| *kind)
    }

    /// Who should have answered and did not, if so many answered that it means something.
    pub(super) fn absent(&self, probe: &Probe) -> Vec<String> {
        let answerers = probe.expect.answerers();
        let enough = self.anonymous == 0 && self.total as usize >= stats::tries_to_hit(answerers.len(), 1e-3);
        answerers
            .iter()
            .map(|answerer| answerer.name.clone())
            .filter(|name| enough && self.answers.get(name) == Some(&0))
            .collect()
    }

    pub(super) fn failures_text(&self) -> String {
        let one = |(kind, (count, text)): (&FailureKind, &(u64, String))| {
            let text = text.trim();
            let words = if text.is_empty() { String::new() } else { format!(" ({text})") };
            match self.total {
                1 => format!("{}{words}", failed(*kind)),
                _ => format!("{count} of {} tries: {}{words}", self.total, failed(*kind)),
            }
        };
        self.failures.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn answers_text(&self) -> String {
        let counts = self.answers.iter().chain(&self.strangers).filter(|(_, count)| **count > 0);
        let mut words: Vec<String> = match self.total {
            1 => counts.map(|(name, _)| name.clone()).collect(),
            _ => counts.map(|(name, count)| format!("{name} {count}")).collect(),
        };
        match (self.anonymous, self.total) {
            (0, _) => {}
            (_, 1) => words.push("a server that does not say who it is".to_owned()),
            (count, _) => words.push(format!("without a name {count}")),
        }
        match (words.is_empty(), self.total) {
            (true, _) => "nobody answered".to_owned(),
            (false, 1) => format!("answered by {}", words.join(", ")),
            (false, total) => format!("{total} tries, answered by {}", words.join(", ")),
        }
    }
}

/// Who sent an answer.
enum Identity<'a> {
    Known(&'a Answerer),
    Anonymous,
    Stranger(String),
}

/// The line by which the lesson's server names itself.
const SERVER_LINE: &str = "HTTP Server IP address:";

fn identify<'a>(answerers: &'a [Answerer], answer: &Answer) -> Identity<'a> {
    let said = answer
        .body
        .lines()
        .find_map(|line| line.trim().strip_prefix(SERVER_LINE))
        .map(|address| address.trim().to_owned());
    let by_name = answer.pod.as_ref().and_then(|pod| answerers.iter().find(|answerer| answerer.name == *pod));
    let by_line = said.as_ref().and_then(|said| {
        let ip = said.parse::<IpAddr>().ok()?;
        answerers.iter().find(|answerer| answerer.endpoint.ip() == ip)
    });
    // Who is the only one that may answer, and could not say who it is, is taken for that one.
    let only = match answerers {
        [only] if is_shy(only.speaks) && answer.pod.is_none() && said.is_none() => Some(only),
        _ => None,
    };
    if let (Some(led_to), None, "") = (answer.led_to, &answer.pod, answer.body.as_str()) {
        // Nobody has said anything: this is a connection of which only the beginning was tried.
        let led = answerers.iter().find(|answerer| answerer.endpoint == led_to);
        return led.map_or_else(|| Identity::Stranger(led_to.to_string()), Identity::Known);
    }
    // The header is what the server was told it is; the line is its own opinion, and a pod on
    // the host network or with two addresses may say something else there.
    let known = if answer.pod.is_some() { by_name } else { by_line.or(only) };
    let shy = answerers.iter().any(|answerer| answerer.speaks != Speaks::ItsName);
    match (known, &answer.pod, said) {
        (Some(answerer), _, _) => Identity::Known(answerer),
        (None, ..) if shy => Identity::Anonymous,
        (None, Some(pod), _) => Identity::Stranger(pod.clone()),
        (None, None, Some(said)) => Identity::Stranger(said),
        (None, None, None) => Identity::Stranger("a server that does not say who it is".to_owned()),
    }
}

/// It speaks a known language in which it cannot say who it is.
fn is_shy(speaks: Speaks) -> bool {
    matches!(speaks, Speaks::Names | Speaks::Metrics | Speaks::ClientAddress)
}

/// The client address that the server saw.
fn seen(answerer: &Answerer, answer: &Answer) -> Option<IpAddr> {
    let said = || answer.body.trim().parse().ok();
    answer.client.or_else(|| if answerer.speaks == Speaks::ClientAddress { said() } else { None })
}

/// What is wrong with an answer of someone whose language is known.
fn nonsense(answerers: &[Answerer], answer: &Answer) -> Option<String> {
    let all = |speaks| !answerers.is_empty() && answerers.iter().all(|answerer| answerer.speaks == speaks);
    if all(Speaks::Names) {
        let said = answer.names.as_ref()?;
        return (!said.is_of_a_cluster()).then(|| says::said(said));
    }
    if all(Speaks::Metrics) {
        return (answer.status != 200).then(|| format!("status {}", answer.status));
    }
    None
}

fn may_break(answerers: &[Answerer]) -> bool {
    answerers.iter().any(|answerer| answerer.speaks == Speaks::Anything)
}

/// A blackhole route is EINVAL to a program on the same machine, which tools have no name for.
fn kind(failure: &Failure) -> FailureKind {
    match failure.kind {
        FailureKind::Other if failure.text.contains("Invalid argument") || failure.text.contains("os error 22") => {
            FailureKind::Unreachable
        }
        kind => kind,
    }
}
